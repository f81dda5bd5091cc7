/** A state directory with the journal of a bench on real files, and what its readers need. */
import { Effect, Layer } from "effect"
import { join } from "node:path"
import { Journal, journalMigrations, trustMigrations } from "../../src/Agent/Journal.ts"
import { settings } from "../../src/Agent/Settings.ts"
import { Database } from "../../src/Layers/Disk/Database.ts"
import type { HostReader } from "../../src/Layers/Host/Activator.ts"
import type { Bench } from "./agentBench.ts"
import { oldSystem } from "./agentRig.ts"

export const configOn = (stateDir: string) =>
  settings({
    controlPlaneUrl: "https://cp.example",
    machineId: "host-1",
    trustFile: "/trust.json",
    archiveSource: "/closures",
    stateDir
  })

/** A host on which everything is there, and `oldSystem` runs. */
export const wholeHost: HostReader = {
  current: Effect.succeed({ running: oldSystem, profile: oldSystem }),
  switchResult: () => Effect.succeed({ _tag: "Running" }),
  has: () => Effect.succeed(true)
}

/** Writes what the bench decided, as one start of an agent would, and closes it. */
export const writeJournal = (stateDir: string, bench: Bench) =>
  Effect.gen(function*() {
    const { commit } = yield* Journal
    commit(bench.writes)
  }).pipe(Effect.provide(Layer.fresh(
    Journal.layer("host-1", {
      journal: Database.layerFile(join(stateDir, "journal.db"), journalMigrations, { reserveBytes: 0 }),
      trust: Database.layerFile(join(stateDir, "trust-memory.db"), trustMigrations, { reserveBytes: 0 })
    })
  )))
