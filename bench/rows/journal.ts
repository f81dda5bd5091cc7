/**
 * Durable appends: an event goes through the agent's own loop (inbox, decision, one commit, reply) into its own journal. The
 * floor is a bare `node:sqlite` database in the same file system with the same table, the same pragmas and ready-made text:
 * one transaction an event, or one for 64.
 */
import { Effect, Exit, Fiber, Scope } from "effect"
import { DatabaseSync } from "node:sqlite"
import { inboxCapacity } from "../../src/Agent/Inbox.ts"
import { journalMigrations } from "../../src/Agent/Journal.ts"
import type { Write } from "../../src/Agent/Write.ts"
import * as Reducer from "../../src/Reducer.ts"
import { openRollout, probeRow } from "../support/agentJournal.ts"
import { inDirectory } from "../support/directory.ts"
import { inTurns, rowOf } from "../support/figures.ts"

/** Many short rounds: a disk that others use is slow for seconds at a time, and meets both sides of a round. */
const rounds = 25
const roundMs = 150

/** The loop over the journal, with a decision that does nothing but number and append. */
const openOurs = Effect.fnUntraced(function*(directory: string) {
  const { journal, nextSeq } = yield* openRollout(directory)
  const inbox = yield* Reducer.makeInbox<"append", number>(inboxCapacity)
  const program: Reducer.Program<number, "append", Write, never, number> = {
    initial: nextSeq,
    decide: (seq) => ({ state: seq + 1, writes: [probeRow(seq)], actions: [], answer: seq }),
    commit: journal.commit,
    publish: () => undefined,
    apply: () => undefined
  }
  yield* Reducer.run(program, inbox)
  return inbox
})

/** Events per second of so many producers, each of which waits for its answer. */
const produce = Effect.fnUntraced(function*(inbox: Reducer.Inbox<"append", number>, producers: number) {
  const begin = performance.now()
  let count = 0
  const one = Effect.gen(function*() {
    while (performance.now() - begin < roundMs) {
      yield* inbox.ask("append")
      count++
    }
  })
  const fibers = yield* Effect.all(Array.from({ length: producers }, () => Effect.forkChild(one)))
  yield* Effect.all(fibers.map(Fiber.join))
  return count / (performance.now() - begin) * 1000
})

function openFloor(file: string) {
  const db = new DatabaseSync(file)
  db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")
  for (const minor of journalMigrations.minors) db.exec(minor)
  db.exec("INSERT INTO rollouts (rollout_id, folded) VALUES ('stable@def4567a', '')")
  const insert = db.prepare(
    `INSERT INTO events (rollout, seq, attempt, kind, at, now, entry, delivery) VALUES (1, ?, 1, 'ProbeResult', ?, ?, ?, 'pending')`
  )
  const { row } = probeRow(1) as Extract<Write, { readonly _tag: "AppendRow" }>
  const text = JSON.stringify(row.entry)
  let seq = 0
  return {
    close: () => db.close(),
    /** Events per second in transactions of `group`. */
    append: (group: number) => {
      const begin = performance.now()
      let count = 0
      while (performance.now() - begin < roundMs) {
        db.exec("BEGIN IMMEDIATE")
        for (let i = 0; i < group; i++) insert.run(++seq, seq, seq, text)
        db.exec("COMMIT")
        count += group
      }
      return count / (performance.now() - begin) * 1000
    }
  }
}

export const journal = () =>
  inDirectory(async (directory) => {
    const scope = Scope.makeUnsafe()
    const inbox = await Effect.runPromise(openOurs(`${directory}/ours`).pipe(Scope.provide(scope)))
    const floor = openFloor(`${directory}/floor.db`)
    const compare = (producers: number) =>
      inTurns(rounds, {
        ours: () => Effect.runPromise(produce(inbox, producers)),
        floor: () => floor.append(producers)
      })
    // Once for the compiler.
    await compare(64)
    const one = await compare(1)
    const many = await compare(64)
    floor.close()
    await Effect.runPromise(Scope.close(scope, Exit.void))
    return [
      rowOf("journal append, durable, 1 producer", { at: "least", ratio: 0.7 }, "events/s", one),
      rowOf("journal append, durable, 64 producers", { at: "least", ratio: 0.5 }, "events/s", many)
    ]
  })
