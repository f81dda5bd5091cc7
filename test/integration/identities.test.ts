import { assert, describe, layer } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { X509Certificate } from "node:crypto"
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { IssuedCertificate } from "../../src/Schema/Enrollment.ts"
import { HostsResponse, Whoami } from "../../src/Schema/OperatorViews.ts"
import type { Json } from "../../src/Trust/CanonicalJson.ts"
import { signed } from "../support/artifacts.ts"
import { agentSuffix, Certificates } from "../support/certificates.ts"
import { agentMain } from "../support/command.ts"
import { peer, peerWith, ready } from "../support/controlPlanePeer.ts"
import {
  launch,
  type LogLine,
  messageOf,
  publish,
  reasonOf,
  type Site,
  site,
  start
} from "../support/controlPlaneProcess.ts"
import { temporaryDirectory } from "../support/directories.ts"
import { eventuallyIs } from "../support/fleet.ts"
import {
  csr,
  type HostKey,
  hostKey,
  nonceOf,
  noncesJson,
  revocationsJson,
  token,
  trustWithRoot
} from "../support/identities.ts"
import { assertLines } from "../support/logLines.ts"
import { openSshPrivateKey } from "../support/openssh.ts"
import { signWrapper } from "../support/signWrapper.ts"
import { post, session, textOf } from "../support/tls.ts"

const key = hostKey("web-1")
const hour = 3_600_000

/** Publishes a list as operators do: the signature first, each file by a rename. */
function publishList({ releases }: Site, name: string, list: Json): void {
  const { bytes, signature } = signed(list)
  for (const [file, content] of [[`${name}.sig`, signature], [name, bytes]] as const) {
    writeFileSync(join(releases, `${file}.new`), content)
    renameSync(join(releases, `${file}.new`), join(releases, file))
  }
}

/** The fleet declares the host's key. */
const withKey = (file: { readonly [key: string]: Json }): { readonly [key: string]: Json } => {
  const hosts = file["hosts"] as Readonly<Record<string, { readonly [key: string]: Json }>>
  return { ...file, hosts: { ...hosts, "web-1": { ...hosts["web-1"], pubkey: key.openSsh } } }
}

/** A site with an authority, a release that declares web-1's key, and one token for it. */
const issuing = Effect.fnUntraced(function*(more: ReadonlyArray<string> = []) {
  const { authority, caFile, directory } = yield* Certificates
  const here = yield* site
  const caKey = join(directory, "ca-key.pem")
  writeFileSync(caKey, authority.key, { mode: 0o600 })
  writeFileSync(here.trustFile, JSON.stringify(trustWithRoot))
  const now = Date.now()
  const entry = { nonce: nonceOf("a"), hostname: "web-1", expiresAt: now + hour }
  publishList(here, "bootstrap-nonces.json", noncesJson(now - 1000, [entry]))
  publish(here, now - 1000, withKey)
  const args = [...here.args, "--issuance-ca-cert", caFile, "--issuance-ca-key", caKey, ...more]
  return { ...here, args, caKey, now }
})

const enrollment = (now: number, over: Partial<{ readonly key: HostKey; readonly name: string }> = {}) => {
  const own = over.key ?? key
  return post(
    "/v1/enroll",
    JSON.stringify({
      token: token({ host: "web-1", key: own, nonce: nonceOf("a"), issuedAt: now - 1000, expiresAt: now + hour }),
      csrPem: csr(over.name ?? "web-1", own)
    })
  )
}

const decodeIssued = Schema.decodeUnknownSync(Schema.fromJsonString(IssuedCertificate))
const issuedOf = (body: Uint8Array) => decodeIssued(textOf(body))

const isInForce = (target: string) => (line: LogLine) =>
  line["target"] === target && messageOf(line).includes("is in force")

const pem = (cert: string) => ({ cert, key: key.privateKey.export({ type: "pkcs8", format: "pem" }).toString() })

/** A control plane that knows its lists and its release, and a peer without a certificate. */
const running = Effect.fnUntraced(function*(args: ReadonlyArray<string>) {
  const process = yield* start(args)
  yield* process.line(isInForce("bootstrap_nonces"))
  yield* process.line(isInForce("cp_manifest_poll"))
  return { ...process, anonymous: yield* peerWith(process.port, "nobody", undefined) }
})

const renewal = post("/v1/agent/renew", JSON.stringify({ csrPem: csr("web-1", key) }))

const statusOf = Effect.map(({ status }: { readonly status: number }) => status)

describe("identities of hosts", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect(
      "a host enrolls with its token, acts with the certificate, renews it, and is revoked on an open connection",
      () =>
        Effect.gen(function*() {
          const { write } = yield* Certificates
          const here = yield* issuing()
          const { anonymous, line, log, port } = yield* running(here.args)
          const answer = yield* anonymous.call(enrollment(here.now))
          assert.strictEqual(answer.status, 200, textOf(answer.body))
          const { certPem, notAfter } = issuedOf(answer.body)
          const certificate = new X509Certificate(certPem)
          assert.strictEqual(certificate.subject, `CN=agent-web-1.${agentSuffix}`)
          assert.strictEqual(certificate.subjectAltName, `DNS:agent-web-1.${agentSuffix}`)
          assert.deepStrictEqual(certificate.keyUsage, ["1.3.6.1.5.5.7.3.2"])
          assert.strictEqual(certificate.validToDate.getTime(), notAfter)
          assert.isBelow(Math.abs(notAfter - here.now - 30 * 24 * hour), 60_000)

          const host = yield* peerWith(port, "web-1", write("enrolled", pem(certPem)))
          assert.strictEqual((yield* host.read("/v1/whoami", Whoami)).machineId, "web-1")
          const renewed = yield* host.call(renewal)
          assert.strictEqual(renewed.status, 200, textOf(renewed.body))
          const next = yield* peerWith(port, "web-1", write("renewed", pem(issuedOf(renewed.body).certPem)))
          assert.strictEqual((yield* next.read("/v1/whoami", Whoami)).machineId, "web-1")

          const issued = log.filter((found) => found["target"] === "issuance")
          assert.deepStrictEqual(
            issued.map((found) => [found["hostname"], found["kind"]]),
            [["web-1", "enroll"], ["web-1", "renew"]]
          )
          assert.include(String(issued[0]?.["detail"]), key.fingerprint)
          assert.include(String(issued[0]?.["detail"]), certificate.serialNumber)

          // Revoked while it polls: the poll ends, and everything after it on the same connection is refused.
          const poll = yield* Effect.forkChild(
            next.get("/v1/agent/dispatch?wait=60", { lane: "poll", timeoutMs: 65_000 })
          )
          yield* Effect.sleep(300)
          publishList(here, "revocations.json", revocationsJson(Date.now(), { "web-1": Date.now() }))
          assert.strictEqual((yield* Fiber.join(poll)).status, 401)
          assert.strictEqual(yield* statusOf(next.get("/v1/whoami")), 401)
          assert.strictEqual(yield* statusOf(next.call(renewal)), 401)
          assert.strictEqual(yield* statusOf(host.get("/v1/whoami")), 401, "so is the certificate before")
          yield* line((found) => reasonOf(found) === "certificate-revoked")
          assertLines(log)
          const operator = yield* peer(port, "operator-ada", "operator")
          const revocation = Effect.map(
            operator.read("/v1/hosts", HostsResponse),
            ({ hosts }) => hosts.find(({ hostname }) => hostname === "web-1")?.revoked
          )
          assert.deepInclude(yield* revocation, { reason: "stolen", revokedBy: "ada" })

          // Believed again by a newer list, and by nothing else.
          publishList(here, "revocations.json", revocationsJson(Date.now(), {}))
          yield* ready(next.get("/v1/whoami"))
          assert.isNull(yield* revocation)
        }),
      60_000
    )

    it.effect(
      "the agent's program enrolls by itself, and renews its certificate again and again without losing a request",
      () =>
        Effect.gen(function*() {
          const { caFile } = yield* Certificates
          const here = yield* issuing(["--agent-cert-validity-secs", "10"])
          const { port } = yield* running(here.args)
          const directory = yield* temporaryDirectory
          const [keyFile, tokenFile, archive] = ["ssh_host_ed25519_key", "token.json", "archive"].map((name) =>
            join(directory, name)
          )
          const mine = {
            host: "web-1",
            key,
            nonce: nonceOf("a"),
            issuedAt: here.now - 1000,
            expiresAt: here.now + hour
          }
          writeFileSync(keyFile!, openSshPrivateKey(key.privateKey), { mode: 0o600 })
          writeFileSync(tokenFile!, JSON.stringify(token(mine)), { mode: 0o600 })
          mkdirSync(archive!)
          const options = {
            "--machine-id": "web-1",
            "--control-plane-url": `https://localhost:${port}`,
            "--ca-cert": caFile,
            "--client-cert": join(directory, "host.pem"),
            "--client-key": keyFile!,
            "--bootstrap-token-file": tokenFile!,
            "--trust-file": here.trustFile,
            "--state-dir": join(directory, "state"),
            "--driver": "archive",
            "--archive-source": archive!,
            "--heartbeat-secs": "1",
            "--manifest-poll-secs": "0.5",
            "--poll-wait-secs": "1"
          }
          const agent = yield* launch(["run", ...Object.entries(options).flat()], {}, agentMain)
          yield* agent.line((found) => messageOf(found) === "this host is enrolled")
          const operator = yield* peer(port, "operator-ada", "operator")
          yield* eventuallyIs(
            "a heartbeat",
            operator.read("/v1/hosts", HostsResponse),
            ({ hosts }) => hosts.some(({ hostname, lastCheckinAt }) => hostname === "web-1" && lastCheckinAt !== null)
          )
          const seen = new Set<string>()
          const renewed = () => agent.log.filter((found) => messageOf(found) === "the certificate was renewed").length
          while (renewed() < 3) {
            seen.add(new X509Certificate(readFileSync(options["--client-cert"])).serialNumber)
            yield* Effect.sleep(100)
          }
          assert.isAtLeast(seen.size, 3)
          assert.isNull(agent.process.exitCode)
          assert.deepStrictEqual(agent.log.filter(({ level }) => level === "warn" || level === "error"), [])
        }),
      60_000
    )

    it.effect(
      "what was decided about identities survives a kill, with nothing published any more",
      () =>
        Effect.gen(function*() {
          const { write } = yield* Certificates
          const here = yield* issuing()
          publishList(here, "revocations.json", revocationsJson(here.now, { "web-2": here.now + hour }))
          const first = yield* running(here.args)
          const answer = yield* first.anonymous.call(enrollment(here.now))
          assert.strictEqual(answer.status, 200)
          const revoked = yield* peer(first.port, "web-2", "agent")
          assert.strictEqual(yield* statusOf(revoked.get("/v1/whoami")), 401)
          first.process.kill("SIGKILL")
          yield* first.ended
          rmSync(here.releases, { recursive: true })

          const { port } = yield* start(here.args)
          const host = yield* peerWith(port, "web-1", write("kept", pem(issuedOf(answer.body).certPem)))
          yield* ready(host.get("/v1/whoami"))
          const still = yield* peer(port, "web-2", "agent")
          assert.strictEqual(yield* statusOf(still.get("/v1/whoami")), 401)
          const anonymous = yield* peerWith(port, "nobody", undefined)
          assert.strictEqual(yield* statusOf(anonymous.call(enrollment(here.now))), 200, "the lost answer")
          const other = hostKey("somebody")
          const refused = yield* anonymous.call(enrollment(here.now, { key: other }))
          assert.strictEqual(refused.status, 401, "the fleet still declares the host's own key")
        }),
      60_000
    )

    it.effect(
      "a resumed session and an open connection are judged at each request: revoked, expired",
      () =>
        Effect.gen(function*() {
          const { authority, write } = yield* Certificates
          const here = yield* issuing()
          const { line, port } = yield* running(here.args)
          const identity = authority.agent("web-1")
          const ask = (ticket?: Buffer) => session(port, authority.cert, identity, ticket, "/v1/whoami")
          const { ticket } = yield* ask()
          const resumed = yield* ask(ticket)
          assert.deepStrictEqual([resumed.resumed, resumed.status], [true, 200])
          publishList(here, "revocations.json", revocationsJson(Date.now(), { "web-1": Date.now() }))
          yield* line(isInForce("revocations"))
          const afterwards = yield* ask(ticket)
          assert.deepStrictEqual([afterwards.resumed, afterwards.status], [true, 401])

          const notAfter = Math.ceil(Date.now() / 1000) * 1000 + 1_000
          const ending = write("ending", authority.agent("web-2", { notBefore: here.now - hour, notAfter }))
          const host = yield* peerWith(port, "web-2", ending)
          assert.strictEqual(yield* statusOf(host.get("/v1/whoami")), 200)
          yield* Effect.sleep(notAfter + 50 - Date.now())
          assert.strictEqual(yield* statusOf(host.get("/v1/whoami")), 401)
        }),
      60_000
    )

    it.effect(
      "an authority behind a sign command enrolls, and one that fails can be asked again",
      () =>
        Effect.gen(function*() {
          const { authority, caFile, directory } = yield* Certificates
          const here = yield* issuing()
          const caKey = join(directory, "hsm-key.pem")
          const wrapper = join(directory, "hsm.cjs")
          writeFileSync(wrapper, signWrapper)
          const args = [...here.args.slice(0, -4), "--issuance-ca-cert", caFile]
          const command = `'${process.execPath}' '${wrapper}' '${caKey}'`
          const { anonymous, line } = yield* running([...args, "--issuance-ca-sign-command", command])
          assert.strictEqual(yield* statusOf(anonymous.call(enrollment(here.now))), 503, "its key is not there")
          yield* line((found) => reasonOf(found) === "issue-failed")
          writeFileSync(caKey, authority.key, { mode: 0o600 })
          assert.strictEqual(yield* statusOf(anonymous.call(enrollment(here.now))), 200)
        }),
      60_000
    )

    it.effect("an authority that cannot be used is a configuration error", () =>
      Effect.gen(function*() {
        const { caFile, serverFiles } = yield* Certificates
        const here = yield* site
        const { ended, log } = yield* launch([
          ...here.args,
          "--issuance-ca-cert",
          caFile,
          "--issuance-ca-key",
          serverFiles.key
        ])
        assert.strictEqual((yield* ended).code, 78)
        assert.isTrue(log.some((found) => reasonOf(found) === "issuer-unusable"))
      }), 60_000)
  })
})
