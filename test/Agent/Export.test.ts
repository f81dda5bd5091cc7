import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { writeExport } from "../../src/Agent/Export.ts"
import { journalMigrations } from "../../src/Agent/Journal.ts"
import { openReader } from "../../src/Layers/Disk/DatabaseReader.ts"
import { ExportLineJson } from "../../src/Schema/AgentExport.ts"
import { Bench } from "../support/agentBench.ts"
import { second } from "../support/agentRig.ts"
import { temporaryDirectory } from "../support/directories.ts"
import { writeJournal } from "../support/journalFiles.ts"

const decode = Schema.decodeUnknownResult(ExportLineJson)

/** The lines of a journal on which `damage` was done, each read again by its schema. */
const exported = Effect.fnUntraced(function*(damage: string, samples = 1) {
  const directory = yield* temporaryDirectory
  const bench = new Bench().soak()
  for (let count = 0; count < samples; count++) bench.pass(20 * second).sample(count % 2 === 0 ? "fail" : "pass")
  bench.accept({ _tag: "RejectedDispatch", rolloutId: "stable@02", reason: "stale", detail: "old", at: 3 })
  bench.accept({
    _tag: "HeartbeatAnswered",
    replayFrom: {},
    ackedThrough: { "stable@01": 1 },
    snapshots: [{
      rolloutId: "edge@01",
      hostname: "host-1",
      channel: "edge",
      state: "Failed",
      targetClosure: "c",
      dispatchedAt: 0,
      lastEventSeq: 9
    }]
  })
  yield* writeJournal(directory, bench)
  const file = join(directory, "journal.db")
  const db = new DatabaseSync(file)
  db.exec(damage)
  db.close()
  const parts: Array<string> = []
  const reader = yield* openReader(file, journalMigrations)
  const counted = yield* writeExport(reader!, 12, (text) => Effect.sync(() => void parts.push(text)))
  const lines = parts.join("").trimEnd().split("\n").map((line) => decode(line)).map((line) =>
    Result.isSuccess(line) ? line.success : assert.fail(line.failure.message)
  )
  return { bench, counted, lines, parts }
})

describe("an export", () => {
  it.live("holds everything that the journal holds, in the order of its writing", () =>
    Effect.gen(function*() {
      const { bench, counted, lines } = yield* exported("")
      assert.deepStrictEqual(
        lines.flatMap((line) => line.line === "row" ? [line.entry] : []),
        bench.rows().map(({ entry }) => entry)
      )
      const { bookkeeping, record } = bench.entry()
      assert.deepStrictEqual(lines.find(({ line }) => line === "record"), {
        line: "record",
        rolloutId: "stable@01",
        record,
        bookkeeping,
        ackedThrough: 1
      })
      assert.deepStrictEqual(lines.flatMap((line) => line.line === "meta" ? [line.key] : []), [
        "contact",
        "first_observed",
        "hostname",
        "journal_id"
      ])
      assert.deepStrictEqual(lines.find(({ line }) => line === "seq-floor"), {
        line: "seq-floor",
        rolloutId: "edge@01",
        seq: 9
      })
      assert.isTrue(lines.some((line) => line.line === "rejection" && line.reason === "stale"))
      assert.deepStrictEqual(counted, { records: 1, rows: bench.rows().length, unreadable: 0 })
      assert.deepStrictEqual(lines.at(-1), { line: "end", ...counted })
    }))

  it.live("is handed over in parts", () =>
    Effect.gen(function*() {
      const { counted, parts } = yield* exported("", 400)
      assert.isAbove(counted.rows, 512)
      assert.isAbove(parts.length, 2)
    }))

  it.live("saves what this program cannot read as it stands", () =>
    Effect.gen(function*() {
      const { counted, lines } = yield* exported(
        "UPDATE events SET entry = '{\"_tag\":\"Stepped\"' WHERE id = 2; UPDATE rollouts SET folded = 'null'"
      )
      assert.strictEqual(counted.unreadable, 2)
      const wheres = lines.flatMap((line) => line.line === "unreadable" ? [[line.where, line.text]] : [])
      assert.deepStrictEqual(wheres.map(([where]) => where), ["rollouts 1", "events 2"])
      assert.include(wheres[1]![1], "{\\\"_tag\\\":\\\"Stepped\\\"")
    }))

  it.live("goes on after a table that is not there", () =>
    Effect.gen(function*() {
      const { counted, lines } = yield* exported("DROP TABLE rejections")
      assert.strictEqual(counted.unreadable, 1)
      assert.isTrue(lines.some((line) => line.line === "unreadable" && line.where === "rejections"))
      assert.isAbove(counted.rows, 0)
    }))
})
