/**
 * A host's whole story with real processes: it enrolls, asks in vain, renews, converges, goes back, and is revoked. Afterwards no private key
 * and no token is in any file or in any line of a log, but in the files that are named for it, which are their owner's alone.
 */
import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { chmodSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { base64, releaseSeed, seedOf } from "../support/artifacts.ts"
import { Certificates } from "../support/certificates.ts"
import { switches } from "../support/closures.ts"
import { peerWith } from "../support/controlPlanePeer.ts"
import { messageOf, reasonOf } from "../support/controlPlaneProcess.ts"
import { temporaryDirectory } from "../support/directories.ts"
import { eventuallyIs, makeFleet } from "../support/fleet.ts"
import {
  csr,
  hostKey,
  nonceOf,
  noncesJson,
  p256Key,
  revocationsJson,
  rootSeed,
  token,
  trustWithRoot
} from "../support/identities.ts"
import { openSshPrivateKey } from "../support/openssh.ts"
import { anyPrivateKey, filesBelow, leaksBelow, secretBytes, secretPem, secretsIn } from "../support/secrets.ts"
import { post } from "../support/tls.ts"

vi.setConfig({ testTimeout: 120_000 })

const host = "web-1"
const key = hostKey(host)
const hour = 3_600_000

const story = Effect.gen(function*() {
  const { authority, caFile, serverFiles } = yield* Certificates
  const now = Date.now()
  const claim = { host, key, nonce: nonceOf("a"), issuedAt: now - 1000, expiresAt: now + hour }
  const ticket = token(claim)
  const place = yield* temporaryDirectory
  const secret = (name: string, content: string) => {
    writeFileSync(join(place, name), content, { mode: 0o600 })
    return join(place, name)
  }
  const named = {
    caKey: secret("ca-key.pem", authority.key),
    serverKey: secret("server-key.pem", readFileSync(serverFiles.key, "utf8")),
    hostKey: secret("ssh_host_ed25519_key", openSshPrivateKey(key.privateKey)),
    token: secret("token.json", JSON.stringify(ticket))
  }
  const fleet = yield* makeFleet({
    hosts: [host],
    publicKeys: { [host]: key.openSsh },
    trust: trustWithRoot,
    controlPlane: {
      logLevel: "debug",
      tlsKey: named.serverKey,
      issuanceCaCert: caFile,
      issuanceCaKey: named.caKey,
      agentCertValiditySecs: 10
    }
  })
  const entry = { nonce: claim.nonce, hostname: host, expiresAt: claim.expiresAt }
  fleet.publishList("bootstrap-nonces.json", noncesJson(now - 1000, [entry]))
  const controlPlane = yield* fleet.controlPlane
  const good = yield* fleet.pack("web-good", switches.good)
  const bad = yield* fleet.pack("web-bad", switches.fails)
  const first = fleet.publish("0f3c9a01", { [host]: good })
  const agent = yield* fleet.agent(host, {
    logLevel: "debug",
    clientCert: fleet.at("host.pem"),
    clientKey: named.hostKey,
    bootstrapTokenFile: named.token
  })
  yield* agent.line((line) => messageOf(line) === "this host is enrolled")
  yield* eventuallyIs("a converged host", fleet.states(first), (states) => states[host] === "Converged")
  const anonymous = yield* peerWith(fleet.port, "nobody", undefined)
  const csrPem = csr(host, key)
  for (
    const body of [
      { token: ticket },
      { token: { ...ticket, version: ticket.signature }, csrPem },
      { token: { ...ticket, claims: ticket.signature }, csrPem },
      { token: { ...ticket, signature: [ticket.signature] }, csrPem },
      { token: ticket, csrPem: readFileSync(named.hostKey, "utf8") },
      { token: ticket, csrPem: csr("web-2", key) },
      ticket.signature
    ]
  ) {
    const { status } = yield* anonymous.call(post("/v1/enroll", JSON.stringify(body)))
    assert.include([400, 401, 422], status, JSON.stringify(body))
  }
  const second = fleet.publish("0f3c9a02", { [host]: bad })
  yield* eventuallyIs("a host that went back", fleet.states(second), (states) => states[host] === "Reverted")
  yield* agent.line((line) => messageOf(line) === "the certificate was renewed")
  fleet.publishList("revocations.json", revocationsJson(Date.now(), { [host]: Date.now() + hour }))
  yield* controlPlane.line((line) => reasonOf(line) === "certificate-revoked")
  const programs = { agent, "control plane": controlPlane }
  for (const program of Object.values(programs)) {
    assert.strictEqual((yield* fleet.end(program, "SIGTERM")).code, 0, program.errors())
  }
  const secrets = [
    anyPrivateKey,
    secretPem("the authority's key", authority.key),
    secretPem("the server's key", readFileSync(named.serverKey, "utf8")),
    secretPem("the host's key, of OpenSSH", readFileSync(named.hostKey, "utf8")),
    secretPem("the host's key", key.privateKey.export({ type: "pkcs8", format: "pem" }).toString()),
    secretBytes("the token", Buffer.from(ticket.signature, "base64")),
    secretBytes("the release key", releaseSeed),
    secretBytes("the organisation's root key", rootSeed)
  ]
  return { fleet, place, named: Object.values(named), programs, secrets }
})

describe("secrets after a host's whole story", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("no private key and no token is anywhere but in the files that are named for it", () =>
      Effect.gen(function*() {
        const { fleet, named, place, programs, secrets } = yield* story
        const journals = [fleet.at("control-plane", "journal.db"), fleet.at("state", host, "journal.db")]
        assert.includeMembers([...filesBelow(fleet.directory)], journals)
        assert.deepStrictEqual(leaksBelow(fleet.directory, secrets, []), [])
        assert.deepStrictEqual(leaksBelow(place, secrets, named), [])
        for (const directory of ["control-plane", join("state", host)]) {
          assert.strictEqual(statSync(fleet.at(directory)).mode & 0o077, 0, `${directory} is its owner's alone`)
        }
        for (const [name, { errors, log }] of Object.entries(programs)) {
          assert.isAbove(log.length, 20, name)
          assert.deepStrictEqual(
            secretsIn(log.map((line) => JSON.stringify(line)).join("\n") + errors(), secrets),
            [],
            name
          )
        }
      }))

    it.effect("a search finds a key and a token however they are written, and a named file that others may read", () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const pem = p256Key().export({ type: "pkcs8", format: "pem" }).toString()
        const seed = seedOf("a seed")
        const der = Buffer.from(pem.split("\n").slice(1, -2).join(""), "base64")
        const holds = {
          "as-it-is": pem,
          "as-json": JSON.stringify({ detail: pem }),
          "as-der": der,
          "seed": seed,
          "seed-hex": Buffer.from(seed).toString("hex"),
          "seed-text": `token ${base64(seed)}`,
          "harmless": base64(seedOf("another")),
          "named": pem
        }
        for (const [name, content] of Object.entries(holds)) writeFileSync(join(directory, name), content)
        chmodSync(join(directory, "named"), 0o644)
        const secrets = [secretPem("pem", pem), secretBytes("seed", seed)]
        assert.deepStrictEqual(
          leaksBelow(directory, secrets, [join(directory, "named")]),
          [
            "as-der: pem",
            "as-it-is: pem",
            "as-json: pem",
            "seed: seed",
            "seed-hex: seed",
            "seed-text: seed",
            "named: mode 644"
          ].map((leak) => join(directory, leak))
        )
      }))
  })
})
