/** What operators did is durable: restart, deep check, audit (D1, house rule 2). */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { disagreements } from "../../src/ControlPlane/Disagreements.ts"
import { foldLog } from "../../src/ControlPlane/Fold.ts"
import { Touched } from "../../src/ControlPlane/fold/Touched.ts"
import { journalMigrations } from "../../src/ControlPlane/Journal.ts"
import { Database } from "../../src/Layers/Disk/Database.ts"
import { MemoryDisk } from "../../src/Layers/Disk/MemoryDisk.ts"
import { recentActionsLimit } from "../../src/Schema/Interventions.ts"
import {
  clear,
  clearClosure,
  edge,
  freeze,
  halts,
  hold,
  inForce,
  pause,
  reason,
  releaseOf,
  unfreeze,
  until,
  verdictOf,
  wide
} from "../support/actions.ts"
import { closureOf, idOf, openJournal, Plane, start } from "../support/controlPlane.ts"

/** Everything that an operator can do, some of it ended and some not. */
function story(plane: Plane): void {
  plane.publish(wide, edge)
  plane.hear(wide, edge)
  plane.act(hold("h2"))
  plane.act(freeze("edge"))
  plane.act(freeze(null))
  plane.act(unfreeze(null))
  halts(plane, "h1")
  plane.act(clear(wide))
  halts(plane, "h1")
  plane.act(clearClosure(closureOf("a1", "h1")))
  plane.act({ ...freeze(null), until: plane.now + 1000 })
  plane.pass(1000)
  plane.act(clear(wide))
  plane.act(pause(wide))
  plane.act(releaseOf("h2"))
}

describe("the journal of actions", () => {
  it.effect("a restart holds what was held, and what is stored is what the rows mean", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("control plane")
      const before = new Plane(yield* openJournal(disk))
      story(before)
      const journal = yield* openJournal(disk)
      const { initial } = journal
      assert.deepStrictEqual(disagreements(before.state, initial), [])
      assert.deepStrictEqual(
        disagreements(foldLog(initial.databaseId, yield* journal.rows, new Touched()), initial),
        []
      )
      assert.deepStrictEqual(inForce({ state: initial }), ["channel edge", "rollout stable@a1"])
      const after = new Plane(journal)
      after.now = before.now
      after.publish(wide, edge)
      assert.isUndefined(after.poll("h1"))
      assert.strictEqual(verdictOf(after, "h1")?.gate, "paused")
      assert.isUndefined(after.poll("x1"))
      assert.strictEqual(verdictOf(after, "x1")?.gate, "frozen")
      after.now = until
      after.batch({ _tag: "LeaseSweep" })
      assert.isDefined(after.poll("x1"))
    }))

  it.effect("the deep check finds a hold, and a quarantine, that is stored otherwise than the rows mean", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("control plane")
      story(new Plane(yield* openJournal(disk)))
      disk.db.exec("DELETE FROM interventions WHERE subject = 'channel edge'")
      disk.db.exec("UPDATE quarantined_closures SET lifted = 1 - lifted")
      const journal = yield* openJournal(disk)
      const { initial } = journal
      assert.deepStrictEqual(disagreements(foldLog(initial.databaseId, yield* journal.rows, new Touched()), initial), [
        `the lifted quarantine of ${closureOf("a1", "h1")} in stable@a1 is in the event log, and not stored`,
        `the quarantine of ${closureOf("a1", "h1")} in stable@a1 is stored, and not in the event log`,
        "what holds channel edge is in the event log, and not stored"
      ])
    }))

  it.effect("what was done last is read newest first, what ended by itself without an actor, and no more than asked for", () =>
    Effect.gen(function*() {
      const journal = yield* openJournal(new MemoryDisk("control plane"))
      const plane = new Plane(journal)
      plane.publish(wide)
      plane.act({ ...freeze(null), until: start + 1000 }, "bob")
      plane.pass(1000)
      assert.deepStrictEqual(yield* journal.recentActions, [
        { action: { action: "Unfreeze", channel: null, reason: "its time is over" }, actor: null, at: start + 1000 },
        { action: { action: "Freeze", channel: null, reason, until: start + 1000 }, actor: "bob", at: start }
      ])
      for (let times = 0; times < recentActionsLimit; times += 1) plane.act(hold("h1"))
      assert.lengthOf(yield* journal.recentActions, recentActionsLimit)
    }))

  it.effect("stands in the event log of its rollout", () =>
    Effect.gen(function*() {
      const journal = yield* openJournal(new MemoryDisk("control plane"))
      const plane = new Plane(journal)
      plane.publish(wide)
      plane.act(pause(wide))
      const { events } = yield* journal.eventLog({ rolloutId: idOf(wide), limit: 1000, afterSeq: 0 })
      const found = events.find(({ kind }) => kind === "operator_action")
      assert.deepStrictEqual(found?.payload, { by: "operator", actor: "alice", action: pause(wide) })
    }))

  it.effect("a journal of the version before keeps its quarantine", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("older")
      const older = { ...journalMigrations, minors: journalMigrations.minors.slice(0, 3) }
      yield* Effect.scoped(Layer.build(Layer.fresh(Database.layerMemory(disk, older))))
      disk.db.exec(
        "INSERT INTO quarantined_closures (channel, ref, closure, at, host) VALUES ('stable', 'a1', 'x', 1, 'h1')"
      )
      const { initial } = yield* openJournal(disk)
      assert.deepStrictEqual(initial.quarantine, [{ channel: "stable", ref: "a1", closure: "x", at: 1, host: "h1" }])
    }))
})
