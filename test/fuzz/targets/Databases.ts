/**
 * Journals whose files were damaged: bits, pages, whole columns. A start opens them or refuses with a name; it never dies of
 * them, and what it opens can be read to the end or refused, again by a name.
 *
 * An input is the image of a database. The mutator's own damage mostly meets SQLite; what is changed inside of one JSON
 * column meets our readers.
 */
import { assert } from "@effect/vitest"
import { Effect, Layer, Result } from "effect"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as AgentJournal from "../../../src/Agent/Journal.ts"
import { carryOut } from "../../../src/Agent/Journal/Commit.ts"
import * as ControlPlaneJournal from "../../../src/ControlPlane/Journal.ts"
import { defaultLimits } from "../../../src/ControlPlane/Limits.ts"
import { Database } from "../../../src/Layers/Disk/Database.ts"
import { MemoryDisk } from "../../../src/Layers/Disk/MemoryDisk.ts"
import { makeSql, prepare } from "../../../src/Layers/Disk/Sqlite.ts"
import { Ids } from "../../../src/Layers/Ids.ts"
import { Bench, emptyState } from "../../support/agentBench.ts"
import { second } from "../../support/agentRig.ts"
import { dispatched, idOf, openJournal, Plane, type Release } from "../../support/controlPlane.ts"
import { temporaryDirectory } from "../../support/directories.ts"
import type { Random } from "../../support/random.ts"
import { textOf, utf8 } from "../../support/tls.ts"
import { mutate } from "../Mutator.ts"
import type { Source } from "../Samples.ts"
import type { Target } from "../Target.ts"

type Columns = ReadonlyArray<readonly [table: string, column: string]>

/** Mutates one value of one of these columns, or the bytes of the file. */
function damaged(image: Uint8Array, columns: Columns, dice: Random): Uint8Array {
  if (dice.chance(0.3)) return mutate(image, dice)
  const db = new DatabaseSync(":memory:")
  db.deserialize(image)
  const [table, column] = dice.pick(columns)
  const rows = db.prepare(`SELECT rowid AS id, ${column} AS value FROM ${table} WHERE ${column} IS NOT NULL`).all()
  if (rows.length > 0) {
    const { id, value } = dice.pick(rows)
    const text = textOf(mutate(utf8(String(value)), dice)).replaceAll("\0", "")
    db.prepare(`UPDATE ${table} SET ${column} = ? WHERE rowid = ?`).run(text, id ?? null)
  }
  const out = db.serialize()
  db.close()
  return out
}

/** The image is made once, when it is first needed. */
const once = (image: Effect.Effect<Uint8Array>, columns: Columns): Source => {
  let made: Uint8Array | undefined
  return Effect.fnUntraced(function*(dice) {
    made ??= yield* image
    return dice.chance(0.05) ? made : damaged(made, columns, dice)
  })
}

/** Named failures are what a damaged file should meet; anything else is a defect. */
const namesItsRefusal = <A, E extends { readonly reason: string; readonly message: string }, R>(
  opened: Effect.Effect<A, E, R>
) =>
  Effect.map(Effect.result(opened), (result) => {
    if (Result.isFailure(result)) assert.isTrue(result.failure.reason !== "" && result.failure.message !== "")
  })

// ---- the agent

const agentImage = Effect.sync(() => {
  const disk = new MemoryDisk("journal.db")
  prepare(disk.db, disk.file, AgentJournal.journalMigrations)
  const sql = makeSql(disk.db, disk.file)
  const bench = new Bench(emptyState).soak()
  bench.pass(5 * second).sample("pass")
  bench.pass(5 * second).sample("fail")
  for (const write of bench.writes) carryOut(sql, write)
  return disk.image()
})

const agentColumns: Columns = [["events", "entry"], ["rollouts", "folded"], ["rollouts", "rollout_id"]]

const agentJournal: Target = {
  name: "database-agent",
  weight: 2,
  source: once(agentImage, agentColumns),
  check: Effect.fnUntraced(function*(input) {
    const directory = yield* temporaryDirectory
    const file = join(directory, "journal.db")
    writeFileSync(file, input, { mode: 0o600 })
    const opened = Effect.gen(function*() {
      const journal = yield* AgentJournal.Journal
      yield* journal.rows
    }).pipe(Effect.provide(
      Layer.fresh(AgentJournal.Journal.layer("host-1", {
        journal: Database.layerFile(file, AgentJournal.journalMigrations, { reserveBytes: 0 }),
        trust: Database.layerMemory(new MemoryDisk("trust.db"), AgentJournal.trustMigrations)
      }))
    ))
    yield* namesItsRefusal(opened)
  })
}

// ---- the control plane

const release: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"]] }

const controlPlaneImage = Effect.scoped(Effect.gen(function*() {
  const disk = new MemoryDisk("control plane")
  const plane = new Plane(yield* openJournal(disk))
  plane.publish(release)
  plane.hear(release)
  const host = dispatched(plane, "h1")
  host.soaks(plane)
  host.rollsBack(plane)
  host.reports(plane)
  plane.act({ action: "HoldHost", host: "h1", reason: "a test", until: plane.now + 3_600_000 })
  return disk.image()
}))

const controlPlaneColumns: Columns = [
  ["event_log", "payload"],
  ["event_log", "outcome"],
  ["host_records", "record"],
  ["rollouts", "record"],
  ["rollouts", "plan"],
  ["hosts", "seen"],
  ["channels", "recovery"],
  ["quarantined_closures", "closure"],
  ["interventions", "intervention"]
]

const controlPlaneJournal: Target = {
  name: "database-control-plane",
  weight: 2,
  source: once(controlPlaneImage, controlPlaneColumns),
  check: Effect.fnUntraced(function*(input) {
    const directory = join(yield* temporaryDirectory, "state")
    mkdirSync(directory, { mode: 0o700 })
    const file = join(directory, "cp.db")
    writeFileSync(file, input, { mode: 0o600 })
    const database = Database.layerFile(file, ControlPlaneJournal.journalMigrations, { reserveBytes: 0 })
    const journal = ControlPlaneJournal.Journal.layer(defaultLimits).pipe(Layer.provide([database, Ids.layer]))
    const opened = Effect.gen(function*() {
      const { eventLog, rows } = yield* ControlPlaneJournal.Journal
      yield* eventLog({ rolloutId: idOf(release), limit: 100, afterSeq: 0 })
      yield* rows
    })
    yield* namesItsRefusal(opened.pipe(Effect.provide(Layer.fresh(journal))))
  })
}

export const databases: ReadonlyArray<Target> = [agentJournal, controlPlaneJournal]
