/**
 * The start of an agent with 100,000 undelivered events: open the journal, load its state, read the event that is posted first.
 * The floor reads all rows with bare `node:sqlite` and parses them. Both with the file out of the page cache.
 */
import { Context, Effect, Layer } from "effect"
import { DatabaseSync } from "node:sqlite"
import { Journal } from "../../src/Agent/Journal.ts"
import { undelivered } from "../../src/Agent/State.ts"
import { journalFile, journalLayer, openRollout, probeRow, rolloutId } from "../support/agentJournal.ts"
import { inDirectory } from "../support/directory.ts"
import { inTurns, median, rowOf, shown } from "../support/figures.ts"
import { forget } from "../support/processes.ts"

const rounds = 5
const pending = 100_000

const fill = Effect.fnUntraced(function*(directory: string) {
  const { folded, journal, nextSeq } = yield* openRollout(directory)
  const last = nextSeq + pending - 1
  for (let seq = nextSeq; seq <= last; seq += 1000) {
    journal.commit(Array.from({ length: Math.min(1000, last - seq + 1) }, (_, i) => probeRow(seq + i)))
  }
  const record = { ...folded.record, lastEventSeq: last }
  journal.commit([{ _tag: "PutRollout", rolloutId, folded: { ...folded, record }, ackedThrough: undefined }])
}, Effect.scoped)

const start = Effect.fnUntraced(function*(directory: string) {
  const journal = Context.get(yield* Layer.build(Layer.fresh(journalLayer(directory))), Journal)
  const [first] = undelivered(journal.initial)
  const event = first === undefined ? undefined : yield* journal.event(first.rolloutId, first.seq)
  if (event === undefined) throw new Error("nothing to post")
}, Effect.scoped)

export const restart = () =>
  inDirectory(async (directory) => {
    await Effect.runPromise(fill(directory))
    const file = journalFile(directory)
    const cold = forget(file)
    const timed = async (body: () => Promise<void> | void) => {
      forget(file)
      const begin = performance.now()
      await body()
      return performance.now() - begin
    }
    const pairs = await inTurns(rounds, {
      ours: () => timed(() => Effect.runPromise(start(directory))),
      floor: () =>
        timed(() => {
          const db = new DatabaseSync(file, { readOnly: true })
          let bytes = 0
          for (const { entry } of db.prepare("SELECT entry FROM events ORDER BY id").iterate()) {
            JSON.parse(String(entry))
            bytes += String(entry).length
          }
          db.close()
          if (bytes === 0) throw new Error("nothing was read")
        })
    })
    const ms = median(pairs.map(({ ours }) => ours))
    return [
      rowOf("start with 100,000 pending rows, to the first event", { at: "most", ratio: 1.5 }, "ms", pairs, [
        `${
          cold ? "cold" : "warm: this machine has no dd with oflag=nocache"
        }; the event that is posted first is in hand ` +
        `after ${shown(ms)} ms (goal for the POST: 200 ms)`
      ])
    ]
  })
