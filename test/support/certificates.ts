/** A throw-away authority in a temporary directory, made once per test file, and files of what it issued. */
import { Context, Effect, Layer } from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type Authority, makeAuthority, type Pem, type PemFiles, writePem } from "../../examples/certificates.ts"

export const agentSuffix = "fleet.test"

export class Certificates extends Context.Service<Certificates, {
  readonly authority: Authority
  readonly directory: string
  readonly caFile: string
  readonly serverFiles: PemFiles
  readonly write: (name: string, pem: Pem) => PemFiles
}>()("test/Certificates") {
  static readonly layer = Layer.effect(
    Certificates,
    Effect.gen(function*() {
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "nixfleet-tls-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
      )
      const authority = makeAuthority({ commonName: "test authority", now: Date.now(), agentSuffix })
      const caFile = join(directory, "ca.pem")
      writeFileSync(caFile, authority.cert)
      const write = (name: string, pem: Pem) => writePem(directory, name, pem)
      const serverFiles = write("server", authority.server())
      return Certificates.of({ authority, directory, caFile, serverFiles, write })
    })
  )
}
