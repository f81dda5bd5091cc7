import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Random, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { generateKeyPairSync, X509Certificate } from "node:crypto"
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { makeAuthority, type Validity } from "../../../examples/certificates.ts"
import { Settings, settings } from "../../../src/Agent/Settings.ts"
import { readRequest } from "../../../src/Layers/Net/Certificates.ts"
import { ClientCertificate } from "../../../src/Layers/Net/ClientCertificate.ts"
import { certRenewal } from "../../../src/Workers/Agent/CertRenewal.ts"
import { enrollment } from "../../../src/Workers/Agent/Enrollment.ts"
import { elapse, minute, second, settled } from "../../support/agentRig.ts"
import { temporaryDirectory } from "../../support/directories.ts"
import { openSshPrivateKey } from "../../support/openssh.ts"
import { type Answer, Peer, type Script } from "../../support/scriptedPeer.ts"

const hour = 60 * minute
const day = 24 * hour
const start = Date.UTC(2026, 10, 20, 12)
const authority = makeAuthority({ commonName: "Fleet CA", now: start, agentSuffix: "fleet.test" })
const renewPath = "/v1/agent/renew"
const enrollPath = "/v1/enroll"

/** An authority that certifies whatever asks, for `validity`. */
const issuing = (validity: () => Validity): Script => ({ text }) => {
  const read = readRequest(JSON.parse(text).csrPem)
  if (read._tag === "Failure") return { status: 400, body: read.failure }
  const { commonName, publicKey } = read.success
  const certPem = authority.agentForKey(commonName, publicKey, validity())
  return { status: 200, body: JSON.stringify({ certPem, notAfter: new Date(validity().notAfter).toISOString() }) }
}

interface Host {
  readonly cert: string
  readonly key: string
  readonly token: string
  /** Gives it a certificate; by default one of two hours from `start`, of its own key and in its own name. */
  readonly give: (given?: Partial<Validity> & { readonly name?: string }) => void
  readonly certificate: () => X509Certificate
}

const makeHost = Effect.gen(function*() {
  yield* TestClock.setTime(start)
  const directory = yield* temporaryDirectory
  const [cert, key, token] = ["host.pem", "ssh_host_key", "token.json"].map((name) => join(directory, name))
  const { privateKey, publicKey } = generateKeyPairSync("ed25519")
  writeFileSync(key!, openSshPrivateKey(privateKey), { mode: 0o600 })
  const host: Host = {
    cert: cert!,
    key: key!,
    token: token!,
    give: ({ name = "web-1", ...validity } = {}) =>
      writeFileSync(
        cert!,
        authority.agentForKey(name, publicKey, { notBefore: start, notAfter: start + 2 * hour, ...validity })
      ),
    certificate: () => new X509Certificate(readFileSync(cert!))
  }
  return host
})

const parts = (host: Host) =>
  ClientCertificate.layerFiles({ cert: host.cert, key: host.key, bootstrapToken: host.token })

const settingsLayer = Settings.layer(settings({
  machineId: "web-1",
  controlPlaneUrl: "https://localhost",
  trustFile: "/trust.json",
  archiveSource: undefined
}))

/** Runs the renewal beside `body`; answers how the worker ended, if it did. */
const renewing = <A, E>(
  peer: Peer,
  host: Host,
  body: (worker: Fiber.Fiber<never, unknown>) => Effect.Effect<A, E, Scope.Scope>
) =>
  Effect.gen(function*() {
    const worker = yield* Effect.forkScoped(certRenewal)
    yield* settled
    return yield* body(worker)
  }).pipe(
    Effect.provide(peer.link),
    Effect.provide(parts(host)),
    Effect.provide(settingsLayer),
    Effect.scoped,
    Random.withSeed(1)
  )

const lasting = (ms: number) => () => ({ notBefore: start, notAfter: start + ms })

describe("renewal", () => {
  it.effect("asks at half of the certificate's life, installs what comes, and asks again at half of the next", () =>
    Effect.gen(function*() {
      const host = yield* makeHost
      host.give()
      let issuedAt = start + hour
      const peer = new Peer(issuing(() => ({ notBefore: issuedAt, notAfter: issuedAt + 4 * hour })))
      yield* renewing(peer, host, () =>
        Effect.gen(function*() {
          yield* elapse(hour - minute)
          assert.deepStrictEqual(peer.times(renewPath), [])
          yield* elapse(minute)
          assert.deepStrictEqual(peer.times(renewPath), [start + hour])
          assert.strictEqual(Date.parse(host.certificate().validTo), start + 5 * hour)
          issuedAt = start + 3 * hour
          yield* elapse(2 * hour - minute)
          assert.lengthOf(peer.times(renewPath), 1)
          yield* elapse(minute)
          assert.deepStrictEqual(peer.times(renewPath), [start + hour, start + 3 * hour])
        }))
      const { csrPem } = peer.bodies(renewPath)[0] ?? {}
      assert.strictEqual(String(csrPem).split("\n")[0], "-----BEGIN CERTIFICATE REQUEST-----")
    }))

  it.effect("what decides nothing is asked again: after what the server says, or with back-off", () =>
    Effect.gen(function*() {
      const host = yield* makeHost
      host.give({ notAfter: start + 2 * minute })
      const answers: ReadonlyArray<Answer> = [
        { status: 503, headers: { "retry-after": "30" } },
        { error: "unreachable" },
        { status: 500 },
        { status: 200, body: "{}" },
        { status: 200, body: "not json" }
      ]
      const good = issuing(lasting(day))
      const peer = new Peer((request, nth) => answers[nth] ?? good(request, nth))
      yield* renewing(peer, host, () => elapse(5 * minute))
      const [first = 0, second_ = 0] = peer.times(renewPath)
      assert.deepStrictEqual([first, second_], [start + minute, start + minute + 30 * second])
      assert.lengthOf(peer.times(renewPath), answers.length + 1)
      assert.strictEqual(Date.parse(host.certificate().validTo), start + day)
    }))

  it.effect("a refusal is asked again every ten minutes, and the old certificate stays", () =>
    Effect.gen(function*() {
      const host = yield* makeHost
      host.give()
      const before = readFileSync(host.cert, "utf8")
      const peer = new Peer(() => ({ status: 401 }))
      yield* renewing(peer, host, () => elapse(hour + 21 * minute))
      assert.deepStrictEqual(peer.times(renewPath), [0, 10, 20].map((minutes) => start + hour + minutes * minute))
      assert.strictEqual(readFileSync(host.cert, "utf8"), before)
    }))

  it.effect("a certificate of another key, or none at all, is not installed", () =>
    Effect.gen(function*() {
      const host = yield* makeHost
      host.give()
      const before = readFileSync(host.cert, "utf8")
      const stranger = authority.agentForKey("web-1", generateKeyPairSync("ed25519").publicKey)
      const bodies = [stranger, "garbage", ""].map((certPem) =>
        JSON.stringify({ certPem, notAfter: "2030-01-01T00:00:00Z" })
      )
      const peer = new Peer((_, nth) => ({ status: 200, body: bodies[nth % bodies.length] ?? "" }))
      yield* renewing(peer, host, () => elapse(hour + 10 * minute))
      assert.isAbove(peer.times(renewPath).length, 3)
      assert.strictEqual(readFileSync(host.cert, "utf8"), before)
    }))

  it.effect("one that has ended for an hour of running time ends the worker", () =>
    Effect.gen(function*() {
      const host = yield* makeHost
      host.give({ notAfter: start + 10 * minute })
      const peer = new Peer(() => ({ error: "unreachable" }))
      yield* renewing(peer, host, (worker) =>
        Effect.gen(function*() {
          yield* elapse(hour + 9 * minute)
          assert.isUndefined(worker.pollUnsafe())
          yield* elapse(3 * minute)
          const exit = worker.pollUnsafe()
          assert.isTrue(exit !== undefined && Exit.isFailure(exit))
          assert.include(String(exit), "2026-11-20T12:10:00Z")
        }))
    }))

  it.effect("an unreadable certificate is looked at again, and without one there is nothing to do", () =>
    Effect.gen(function*() {
      const host = yield* makeHost
      const peer = new Peer(issuing(lasting(day)))
      yield* renewing(peer, host, () =>
        Effect.gen(function*() {
          yield* elapse(hour)
          writeFileSync(host.cert, "half a certif")
          yield* elapse(hour)
          assert.deepStrictEqual(peer.asked, [])
          host.give()
          yield* elapse(2 * minute)
          assert.lengthOf(peer.times(renewPath), 1)
        }))
    }))
})

/** Enrolls beside the passing of time; answers how it ended. */
const enrolling = (peer: Peer, host: Host, options: { readonly makeKey?: boolean; readonly ms?: number } = {}) =>
  Effect.gen(function*() {
    const running = yield* Effect.forkChild(Effect.result(enrollment(options.makeKey ?? false)))
    yield* settled
    yield* elapse(options.ms ?? 0)
    return running.pollUnsafe() === undefined ? undefined : yield* Fiber.join(running)
  }).pipe(
    Effect.provide(peer.link),
    Effect.provide(parts(host)),
    Effect.provide(settingsLayer),
    Random.withSeed(1)
  )

const token = { version: 1, claims: { hostname: "web-1" }, signature: "c2lnbmVk" }
const ended = (result: { readonly _tag: string; readonly failure?: { readonly message: string } } | undefined) =>
  result === undefined ? "waiting" : result.failure?.message ?? "enrolled"

describe("enrollment", () => {
  it.effect("a host with a good certificate asks for nothing, and its token is not even read", () =>
    Effect.gen(function*() {
      const host = yield* makeHost
      host.give()
      mkdirSync(host.token)
      const peer = new Peer()
      assert.strictEqual(ended(yield* enrolling(peer, host)), "enrolled")
      assert.deepStrictEqual(peer.asked, [])
    }))

  for (
    const [what, arrange] of [
      ["without a certificate", () => undefined],
      ["whose certificate has ended", (host: Host) => host.give({ notBefore: start - day, notAfter: start })],
      ["whose certificate cannot be read", (host: Host) => writeFileSync(host.cert, "")],
      ["whose certificate is another host's", (host: Host) => host.give({ name: "web-2" })]
    ] as const
  ) {
    it.effect(`a host ${what} presents its token, with the key that it has`, () =>
      Effect.gen(function*() {
        const host = yield* makeHost
        arrange(host)
        const key = readFileSync(host.key, "utf8")
        writeFileSync(host.token, JSON.stringify(token))
        const peer = new Peer(issuing(lasting(day)))
        assert.strictEqual(ended(yield* enrolling(peer, host, { makeKey: true })), "enrolled")
        assert.deepStrictEqual(peer.bodies(enrollPath).map((body) => body["token"]), [token])
        assert.strictEqual(host.certificate().subject, "CN=agent-web-1.fleet.test")
        assert.strictEqual(readFileSync(host.key, "utf8"), key)
      }))
  }

  it.effect("it waits for a control plane that cannot decide yet, with the same token and key", () =>
    Effect.gen(function*() {
      const host = yield* makeHost
      writeFileSync(host.token, JSON.stringify(token))
      const answers: ReadonlyArray<Answer> = [
        { status: 503, headers: { "retry-after": "30" } },
        { error: "unreachable" },
        // Signed and known to be good, and not on the list that the control plane has fetched so far.
        { status: 401, body: `{"reason":"nonce-not-listed"}` },
        { error: "cut" }
      ]
      const good = issuing(lasting(day))
      const peer = new Peer((request, nth) => answers[nth] ?? good(request, nth))
      assert.strictEqual(ended(yield* enrolling(peer, host, { ms: 29 * second })), "waiting")
      const again = new Peer((request, nth) => answers[nth] ?? good(request, nth))
      assert.strictEqual(ended(yield* enrolling(again, host, { ms: 2 * minute })), "enrolled")
      assert.strictEqual(new Set(again.bodies(enrollPath).map((body) => JSON.stringify(body["token"]))).size, 1)
    }))

  it.effect("makes a key only when it is asked to, and for its owner only", () =>
    Effect.gen(function*() {
      const host = { ...yield* makeHost, key: join(yield* temporaryDirectory, "made", "key.pem") }
      writeFileSync(host.token, JSON.stringify(token))
      const peer = new Peer(issuing(lasting(day)))
      assert.match(ended(yield* enrolling(peer, host)), /ENOENT/)
      assert.isFalse(existsSync(host.key))
      assert.strictEqual(ended(yield* enrolling(peer, host, { makeKey: true })), "enrolled")
      assert.strictEqual(statSync(host.key).mode & 0o777, 0o600)
    }))

  it.effect("a certificate that has ended, perhaps by a wrong clock, is tried again although its token is spent", () =>
    Effect.gen(function*() {
      const host = yield* makeHost
      host.give({ notBefore: 0, notAfter: start })
      writeFileSync(host.token, JSON.stringify(token))
      const refusing = new Peer(() => ({ status: 409, body: `{"reason":"nonce-used"}` }))
      const result = yield* enrolling(refusing, host)
      assert.match(ended(result), /ended at .*nonce-used/)
      assert.strictEqual(result?._tag === "Failure" ? result.failure._tag : "", "CertificateExpired")
    }))

  it.effect("what a person has to mend ends it, and says so", () =>
    Effect.gen(function*() {
      const table: ReadonlyArray<readonly [(host: Host) => void, Script, RegExp]> = [
        [
          () => undefined,
          issuing(lasting(day)),
          /there is no certificate at \S+host\.pem, and there is no bootstrap token/
        ],
        [
          (host) => host.give({ notBefore: 0, notAfter: start }),
          issuing(lasting(day)),
          /ended at .* no bootstrap token/
        ],
        [(host) => writeFileSync(host.token, "{"), issuing(lasting(day)), /the bootstrap token cannot be read/],
        [(host) => writeFileSync(host.token, "{}"), issuing(lasting(day)), /the bootstrap token cannot be read/],
        [(host) => mkdirSync(host.token), issuing(lasting(day)), /not a regular file/],
        [
          (host) => writeFileSync(host.token, JSON.stringify(token)),
          () => ({ status: 409, body: `{"reason":"nonce-used"}` }),
          /does not enroll this host: answered with status 409: {"reason":"nonce-used"}/
        ]
      ]
      for (const [arrange, script, said] of table) {
        const host = yield* makeHost
        arrange(host)
        assert.match(ended(yield* enrolling(new Peer(script), host)), said)
      }
    }))
})
