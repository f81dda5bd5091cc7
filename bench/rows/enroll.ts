/**
 * An enrollment: CPU of the control plane for each, over what it cannot do without: the token's signature, the request with its
 * own, the certificate's. Each is of another host with its own token, so that each has its two commits. The hosts come from a dozen
 * addresses, because a control plane gives one address only its share.
 */
import { Effect } from "effect"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { rawEd25519, readRequest } from "../../src/Layers/Net/Certificates.ts"
import { openIssuer } from "../../src/Layers/Net/Issuer.ts"
import { verifyToken } from "../../src/Trust/BootstrapToken.ts"
import type { Json } from "../../src/Trust/CanonicalJson.ts"
import { signed } from "../../test/support/artifacts.ts"
import { Certificates } from "../../test/support/certificates.ts"
import { messageOf, publish, site, start } from "../../test/support/controlPlaneProcess.ts"
import { csr, hostKey, nonceOf, noncesJson, rootSlot, token, trustWithRoot } from "../../test/support/identities.ts"
import { Connection } from "../support/connection.ts"
import { cpuMsOf } from "../support/cpu.ts"
import { inTurns, rowOf, shown } from "../support/figures.ts"
import { cpuMs, nameOf } from "../support/servers.ts"

const rounds = 5
const perRound = 80
const warmUp = 120
const hosts = warmUp + rounds * perRound
const addresses = 12
const hourMs = 3_600_000

interface Enrolling {
  readonly body: string
  readonly csrPem: string
  readonly token: ReturnType<typeof token>
}

export const enroll = () =>
  Effect.gen(function*() {
    const { authority, caFile, directory } = yield* Certificates
    const now = Date.now()
    const keys = Array.from({ length: hosts }, (_, index) => [nameOf(index), hostKey(nameOf(index))] as const)
    const enrolling = keys.map(([host, key]): Enrolling => {
      const mine = token({ host, key, nonce: nonceOf(host), issuedAt: now - 1_000, expiresAt: now + hourMs })
      const csrPem = csr(host, key)
      return { token: mine, csrPem, body: JSON.stringify({ token: mine, csrPem }) }
    })

    const here = yield* site
    const caKey = join(directory, "ca-key.pem")
    writeFileSync(caKey, authority.key, { mode: 0o600 })
    writeFileSync(here.trustFile, JSON.stringify(trustWithRoot))
    const list = signed(noncesJson(
      now - 1_000,
      keys.map(([hostname]) => ({ nonce: nonceOf(hostname), hostname, expiresAt: now + hourMs }))
    ))
    writeFileSync(join(here.releases, "bootstrap-nonces.json.sig"), list.signature)
    writeFileSync(join(here.releases, "bootstrap-nonces.json"), list.bytes)
    publish(here, now - 1_000, (file) => ({ ...file, hosts: { ...Object(file["hosts"]), ...declared(keys) } }))
    const { line, port, process: { pid = 0 } } = yield* start([
      ...here.args,
      "--issuance-ca-cert",
      caFile,
      "--issuance-ca-key",
      caKey
    ])
    yield* line((found) => messageOf(found) === "a signed artifact is in force")
    const issuer = yield* openIssuer(caFile, { file: caKey })

    return yield* Effect.promise(async () => {
      const ca = readFileSync(caFile, "utf8")
      const connections = await Promise.all(Array.from({ length: addresses }, (_, index) =>
        Connection.open(port, { ca, localAddress: `127.0.1.${index + 1}` })))
      let next = 0
      /** All connections at once, each one host after the other. */
      const ask = async (count: number) => {
        const end = next + count
        await Promise.all(connections.map(async (connection) => {
          while (next < end) {
            const { body, status } = await connection.send("POST", "/v1/enroll", enrolling[next++]!.body)
            if (status !== 200) {
              throw new Error(`an enrollment was answered with ${status}: ${body}`)
            }
          }
        }))
      }
      const bare = async (count: number) => {
        for (const { csrPem, token: mine } of enrolling.slice(0, count)) {
          const request = readRequest(csrPem)
          if (!verifyToken(mine, rootSlot, Date.now()).ok || request._tag === "Failure") {
            throw new Error("not ours")
          }
          const { commonName, publicKey } = request.success
          if (rawEd25519(publicKey) === undefined) {
            throw new Error("not ed25519")
          }
          await Effect.runPromise(issuer.issue({
            subject: { commonName },
            publicKey,
            notBefore: now,
            notAfter: now + hourMs,
            usage: "client",
            names: [commonName]
          }))
        }
      }
      await ask(warmUp)
      await bare(hosts)
      let seconds = 0
      const pairs = await inTurns(rounds, {
        ours: async () => {
          const [before, began] = [cpuMs(pid), performance.now()]
          await ask(perRound)
          seconds += (performance.now() - began) / 1000
          return (cpuMs(pid) - before) / perRound
        },
        floor: async () =>
          await cpuMsOf(() =>
            bare(perRound)
          ) / perRound
      })
      for (const connection of connections) connection.close()
      return [rowOf("enrollment, CPU of the control plane", { at: "most", ratio: 2 }, "ms", pairs, [
        `${shown(rounds * perRound / seconds)} a second over ${addresses} connections, each with two durable commits`
      ])]
    })
  }).pipe(Effect.scoped, Effect.provide(Certificates.layer), Effect.runPromise)

/** Hosts that run nothing yet: they are declared, with their keys, and in no manifest. */
const declared = (
  keys: ReadonlyArray<readonly [string, ReturnType<typeof hostKey>]>
): { readonly [key: string]: Json } =>
  Object.fromEntries(keys.map(([name, { openSsh }]) => [name, {
    platform: "x86_64-linux",
    tags: [],
    channel: "stable",
    closureHash: null,
    pubkey: openSsh
  }]))
