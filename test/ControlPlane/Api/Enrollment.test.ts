import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TrustFileInvalid } from "../../../src/ControlPlane/Api/Api.ts"
import { MemoryDisk } from "../../../src/Layers/Disk/MemoryDisk.ts"
import { IssueFailed } from "../../../src/Layers/Net/Issuer.ts"
import type { Reason } from "../../../src/Schema/Reasons.ts"
import { postJson, suffix } from "../../support/apiRig.ts"
import { seedOf } from "../../support/artifacts.ts"
import { openJournal, start } from "../../support/controlPlane.ts"
import { csr, hostKey, nonceOf, p256Key, rootSlot, token } from "../../support/identities.ts"
import {
  day,
  h1,
  h2,
  hour,
  issuanceRig,
  noncesOf,
  type Presented,
  revocationsOf,
  unitWithKeys
} from "../../support/issuanceRig.ts"
import { utf8 } from "../../support/tls.ts"

type Rig = Effect.Success<ReturnType<typeof issuanceRig>>

const noKey = { privateKey: p256Key() }
const stranger = hostKey("stranger")

interface Refusal {
  readonly because: string
  readonly presented?: Presented
  readonly arrange?: (rig: Rig) => void
  readonly status: number
  readonly reason: Reason
  /** It costs the reducer nothing: no signature of an operator's was shown. */
  readonly unheard?: true
}

/** In the order of the checks: what is further up wins, which `the first check that fails` proves. */
const refusals: ReadonlyArray<Refusal> = [
  {
    because: "the token's version is unknown",
    presented: { body: (body) => ({ ...body, token: { ...Object(body["token"]), version: 2 } }) },
    status: 401,
    reason: "token-version",
    unheard: true
  },
  {
    because: "another root signed the token",
    presented: { seed: seedOf("another root") },
    status: 401,
    reason: "bad-signature",
    unheard: true
  },
  {
    because: "the token's claims have another shape",
    presented: { claims: { hostname: "../h1" } },
    status: 401,
    reason: "token-shape",
    unheard: true
  },
  {
    because: "the token is not valid yet",
    presented: { issuedAt: start + 1_000 },
    status: 401,
    reason: "token-not-yet-valid",
    unheard: true
  },
  {
    because: "the token has just expired",
    presented: { issuedAt: start - hour, expiresAt: start },
    status: 401,
    reason: "token-expired",
    unheard: true
  },
  {
    because: "the request is garbage",
    presented: { body: (body) => ({ ...body, csrPem: "-----BEGIN CERTIFICATE REQUEST-----" }) },
    status: 400,
    reason: "request-malformed",
    unheard: true
  },
  {
    because: "the request names another host",
    presented: { requestName: "h2" },
    status: 401,
    reason: "request-other-name",
    unheard: true
  },
  {
    because: "the request names the host in another fleet",
    presented: { requestName: "agent-h1.another.fleet" },
    status: 401,
    reason: "request-other-name",
    unheard: true
  },
  {
    because: "the request's key is not ed25519",
    presented: { requestKey: noKey },
    status: 400,
    reason: "request-key-type",
    unheard: true
  },
  {
    because: "the request's key is not the token's",
    presented: { requestKey: h2 },
    status: 401,
    reason: "request-other-key",
    unheard: true
  },
  {
    because: "no list of nonces was ever published",
    arrange: ({ plane }) => {
      const { nonces: _, ...identities } = plane.state.identities
      plane.state = { ...plane.state, identities }
    },
    status: 503,
    reason: "nonce-list-absent"
  },
  { because: "the nonce is not listed", presented: { nonce: nonceOf("b") }, status: 401, reason: "nonce-not-listed" },
  {
    because: "the nonce is listed for another host",
    presented: { host: "h2", key: h2 },
    status: 401,
    reason: "nonce-other-host"
  },
  {
    because: "the nonce's entry has expired, though the token has not",
    arrange: ({ listed, plane }) => {
      plane.offer({ _tag: "NoncesVerified", list: noncesOf([{ ...listed, expiresAt: start - 1 }]) })
    },
    status: 401,
    reason: "nonce-expired"
  },
  {
    because: "the fleet has no such host",
    presented: { host: "h9" },
    arrange: ({ listed, plane }) => {
      plane.offer({ _tag: "NoncesVerified", list: noncesOf([{ ...listed, hostname: "h9" }]) })
    },
    status: 401,
    reason: "host-not-declared"
  },
  {
    because: "the fleet declares no key for the host",
    arrange: ({ plane }) => {
      plane.offer({ _tag: "ArtifactsVerified", artifacts: unitWithKeys({}) })
    },
    status: 401,
    reason: "host-key-not-declared"
  },
  {
    because: "what the fleet declares is no ed25519 key",
    arrange: ({ plane }) => {
      plane.offer({ _tag: "ArtifactsVerified", artifacts: unitWithKeys({ h1: "ssh-rsa AAAAB3NzaC1yc2E= root@h1" }) })
    },
    status: 401,
    reason: "host-key-not-declared"
  },
  {
    because: "the fleet declares another key",
    arrange: ({ plane }) => {
      plane.offer({ _tag: "ArtifactsVerified", artifacts: unitWithKeys({ h1: h2.openSsh }) })
    },
    status: 401,
    reason: "host-key-differs"
  },
  {
    because: "the host is revoked until later, be it within this very second",
    arrange: ({ plane }) => {
      plane.now += 999
      plane.offer({ _tag: "RevocationsVerified", list: revocationsOf({ h1: start + 1 }) })
    },
    status: 503,
    reason: "certificate-revoked"
  }
]

describe("POST /v1/enroll", () => {
  it.effect("gives the host its certificate: its name and nothing else of the request, for thirty days from now", () =>
    Effect.gen(function*() {
      const rig = yield* issuanceRig()
      const { certificate, status } = yield* rig.enroll()
      assert.strictEqual(status, 200)
      if (certificate === undefined) return assert.fail("no certificate")
      assert.strictEqual(certificate.subject, `CN=agent-h1.${suffix}`)
      assert.strictEqual(certificate.subjectAltName, `DNS:agent-h1.${suffix}`)
      assert.strictEqual(certificate.validFromDate.getTime(), start)
      assert.strictEqual(certificate.validToDate.getTime(), start + 30 * day)
      assert.isTrue(certificate.checkPrivateKey(h1.privateKey))
      assert.deepStrictEqual(rig.issued(), [{
        host: "h1",
        commonName: `agent-h1.${suffix}`,
        fingerprint: h1.fingerprint,
        serial: certificate.serialNumber,
        notBefore: start,
        notAfter: start + 30 * day,
        by: { request: "enroll", nonce: nonceOf("a") }
      }])
    }))

  it.effect("takes the full common name of the host too", () =>
    Effect.gen(function*() {
      const rig = yield* issuanceRig()
      assert.strictEqual((yield* rig.enroll({ requestName: `agent-h1.${suffix}` })).status, 200)
    }))

  for (const { arrange, because, presented, reason, status, unheard } of refusals) {
    it.effect(`${status} ${reason}: ${because}`, () =>
      Effect.gen(function*() {
        const rig = yield* issuanceRig()
        arrange?.(rig)
        const before = rig.plane.log.length
        const state = rig.plane.state
        assert.deepStrictEqual(yield* rig.enroll(presented), { status, reason, certificate: undefined })
        assert.strictEqual(rig.plane.log.length, before, "nothing is on record")
        if (unheard) assert.strictEqual(rig.plane.state, state, "the reducer was not asked")
        assert.deepStrictEqual(rig.used(), [], "the token can still be used")
      }))
  }

  it.effect("the first check that fails is the one that is told", () =>
    Effect.gen(function*() {
      const wrongs: Presented = {
        body: (body) => ({ token: { ...Object(body["token"]), version: 2 }, csrPem: "x" })
      }
      const rig = yield* issuanceRig()
      assert.strictEqual((yield* rig.enroll(wrongs)).reason, "token-version")
      const request: Presented = { nonce: nonceOf("b"), body: (body) => ({ ...body, csrPem: "x" }) }
      assert.strictEqual((yield* rig.enroll(request)).reason, "request-malformed", "before the nonce is looked up")
      const list: Presented = { nonce: nonceOf("b"), host: "h3", key: stranger }
      assert.strictEqual((yield* rig.enroll(list)).reason, "nonce-not-listed", "before the fleet is")
    }))

  it.effect("the last moment of a token is one too late, the one before is not", () =>
    Effect.gen(function*() {
      const rig = yield* issuanceRig()
      yield* rig.pass(hour - 1)
      assert.strictEqual((yield* rig.enroll()).status, 200)
      yield* rig.pass(1)
      assert.strictEqual((yield* rig.enroll()).reason, "token-expired", "also for a lost answer")
    }))

  it.effect("a lost answer: the same token with the same key is answered again, and each certificate is on record", () =>
    Effect.gen(function*() {
      const rig = yield* issuanceRig()
      const answers = yield* Effect.all([rig.enroll(), rig.enroll()], { concurrency: "unbounded" })
      assert.deepStrictEqual(answers.map(({ status }) => status), [200, 200])
      assert.strictEqual(rig.used().length, 1)
      assert.deepStrictEqual(
        rig.issued().map(({ serial }) => serial).toSorted(),
        answers.map(({ certificate }) => certificate?.serialNumber ?? "").toSorted()
      )
    }))

  it.effect("409: another key is too late, whatever the fleet says meanwhile, and after a restart", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("journal")
      const rig = yield* issuanceRig({}, yield* openJournal(disk))
      assert.strictEqual((yield* rig.enroll()).status, 200)
      const refused = Effect.fnUntraced(function*(again: Rig) {
        again.plane.offer({ _tag: "ArtifactsVerified", artifacts: unitWithKeys({ h1: h2.openSsh }) })
        return (yield* again.enroll({ key: h2 })).reason
      })
      assert.strictEqual(yield* refused(rig), "nonce-used")
      const restarted = yield* issuanceRig({}, yield* openJournal(disk))
      assert.strictEqual(yield* refused(restarted), "nonce-used")
      restarted.plane.offer({ _tag: "ArtifactsVerified", artifacts: rig.unit })
      assert.strictEqual((yield* restarted.enroll()).status, 200, "the host itself may still ask again")
    }))

  it.effect("the token is used when the signer fails, and good for another try with the same key", () =>
    Effect.gen(function*() {
      let works = false
      const rig = yield* issuanceRig()
      const issuance = rig.issuance
      const failing = yield* issuanceRig({
        issuance: issuance === undefined ? undefined : {
          ...issuance,
          issue: (host, key) =>
            Effect.suspend(() =>
              works
                ? issuance.issue(host, key)
                : Effect.fail(new IssueFailed({ reason: "issue-failed", message: "no TPM" }))
            )
        }
      })
      assert.deepStrictEqual(yield* failing.enroll(), { status: 503, reason: "issue-failed", certificate: undefined })
      assert.deepStrictEqual([failing.used().length, failing.issued().length], [1, 0])
      works = true
      assert.strictEqual((yield* failing.enroll()).status, 200)
    }))

  it.effect("500: nobody can tell whose signature the token has", () =>
    Effect.gen(function*() {
      const invalid = new TrustFileInvalid({ reason: "trust-file-invalid", message: "damaged" })
      const rig = yield* issuanceRig({ tokenKeys: Effect.fail(invalid) })
      assert.deepStrictEqual(yield* rig.enroll(), { status: 500, reason: "trust-file-invalid", certificate: undefined })
      const without = yield* issuanceRig({ tokenKeys: Effect.succeed({ ...rootSlot, current: null }) })
      assert.strictEqual((yield* without.enroll()).reason, "no-trust-roots")
    }))

  it.effect("501: there is no authority here", () =>
    Effect.gen(function*() {
      const rig = yield* issuanceRig({ issuance: undefined })
      assert.strictEqual((yield* rig.enroll()).reason, "issuance-not-configured")
      assert.strictEqual((yield* rig.renew()).reason, "issuance-not-configured")
    }))

  it.effect("503: the queue is full; nothing is used up", () =>
    Effect.gen(function*() {
      const rig = yield* issuanceRig()
      const busy = yield* issuanceRig({
        inbox: {
          event: () => Effect.die("unused"),
          heartbeat: () => Effect.die("unused"),
          issuance: () => Effect.succeed({ _tag: "Busy" }),
          action: () => Effect.die("unused"),
          offer: () => false
        }
      })
      assert.strictEqual((yield* busy.enroll()).status, 503)
      assert.deepStrictEqual(rig.used(), [])
    }))

  const parts = { host: "h1", key: h1, nonce: nonceOf("a"), issuedAt: start, expiresAt: start + hour }
  const good = { token: token(parts), csrPem: csr("h1", h1) }
  const text = JSON.stringify(good)
  const bodies: ReadonlyArray<readonly [what: string, body: string, status: number]> = [
    ["nothing", "", 400],
    ["half of it", text.slice(0, text.length >> 1), 400],
    ["a key twice", `{"csrPem":"x",${text.slice(1)}`, 400],
    ["a claim twice", text.replace(`"nonce"`, `"hostname":"h2","nonce"`), 400],
    ["invalid UTF-8", "\xff", 400],
    ["a list", "[]", 422],
    ["null", "null", 422],
    ["no token", JSON.stringify({ csrPem: good.csrPem }), 422],
    ["a token that is text", JSON.stringify({ ...good, token: JSON.stringify(good.token) }), 422],
    ["a signature that is a number", JSON.stringify({ ...good, token: { ...good.token, signature: 7 } }), 422],
    ["a request that is a list", JSON.stringify({ ...good, csrPem: [good.csrPem] }), 422],
    ["a request that is too long", JSON.stringify({ ...good, csrPem: good.csrPem.padEnd(8193) }), 422],
    ["more than the route takes", " ".repeat(16_385), 413]
  ]
  for (const [what, body, status] of bodies) {
    it.effect(`${status}: ${what}`, () =>
      Effect.gen(function*() {
        const rig = yield* issuanceRig()
        const request = { ...postJson("/v1/enroll", {}), body: Uint8Array.from(Buffer.from(body, "latin1")) }
        assert.strictEqual((yield* rig.call(request)).status, status)
        assert.deepStrictEqual(rig.used(), [])
      }))
  }

  it.effect("415: another content type", () =>
    Effect.gen(function*() {
      const rig = yield* issuanceRig()
      const request = { ...postJson("/v1/enroll", {}, { "content-type": "text/plain" }), body: utf8(text) }
      assert.strictEqual((yield* rig.call(request)).status, 415)
    }))

  it.effect("one address that floods is kept waiting, and others are served", () =>
    Effect.gen(function*() {
      const rig = yield* issuanceRig()
      const flood = (from: string) =>
        Effect.forEach(Array.from({ length: 61 }), () => rig.enroll({ seed: seedOf("nobody"), from }))
      const answers = yield* flood("192.0.2.66")
      assert.deepStrictEqual(answers.map(({ status }) => status), [...Array.from({ length: 60 }, () => 401), 503])
      assert.strictEqual((yield* rig.enroll({ from: "192.0.2.1" })).status, 200)
      const network = yield* flood("2001:db8:1:2::1")
      assert.strictEqual(network.at(-1)?.status, 503)
      assert.strictEqual((yield* rig.enroll({ from: "2001:db8:1:2:ffff::9" })).status, 503, "the same network")
      assert.strictEqual((yield* rig.enroll({ from: "2001:db8:1:3::1" })).status, 200)
      yield* rig.pass(1_000)
      assert.strictEqual((yield* rig.enroll({ from: "192.0.2.66" })).status, 200, "a second later one more")
    }))

  it.effect("all addresses together are kept within a share", () =>
    Effect.gen(function*() {
      const rig = yield* issuanceRig()
      const answers = yield* Effect.forEach(
        Array.from({ length: 601 }),
        (_, index) => rig.enroll({ seed: seedOf("nobody"), from: `198.51.100.${index % 250}` })
      )
      assert.deepStrictEqual([answers.at(-2)?.status, answers.at(-1)?.status], [401, 503])
    }))
})
