/** A host of the archive driver in a temporary directory, with a source directory beside it. */
import { Effect, type Layer } from "effect"
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { Activator, type RealiseOutcome } from "../../src/Layers/Host/Activator.ts"
import * as ArchiveActivator from "../../src/Layers/Host/ArchiveActivator.ts"
import { temporaryDirectory } from "./directories.ts"

/** Its switches may run for two seconds; each notes its start in `runsFile`. */
export const makeHost = (over: Partial<ArchiveActivator.ArchiveActivatorConfig> = {}) =>
  Effect.map(temporaryDirectory, (root) => {
    const source = join(root, "source")
    mkdirSync(source)
    const runsFile = join(root, "runs")
    const config = ArchiveActivator.archiveActivatorConfig({
      source,
      systemDir: join(root, "system"),
      switchTimeoutMs: 2000,
      switchGraceMs: 500,
      switchEnvironment: { PATH: "/usr/bin:/bin", RUNS: runsFile },
      ...over
    })
    return { root, source, config, layer: ArchiveActivator.layer(config), runsFile }
  })

/** Lines of a file; none when there is no file. */
export const linesOf = (file: string): ReadonlyArray<string> =>
  existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : []

/** Everything in the store, markers included. */
export const tracesIn = (storeDir: string): ReadonlyArray<string> => [
  ...readdirSync(storeDir).filter((name) => name !== ".valid"),
  ...readdirSync(join(storeDir, ".valid"))
]

/** Realises with an agent of its own. */
export const realiseOn = (
  host: { readonly layer: Layer.Layer<Activator, ArchiveActivator.ActivatorSetupError> },
  closure: string
) => Effect.provide(Effect.flatMap(Activator, (activator) => activator.realise(closure)), host.layer)

export const detailOf = (outcome: RealiseOutcome): string => outcome._tag === "Ok" ? "" : outcome.detail
