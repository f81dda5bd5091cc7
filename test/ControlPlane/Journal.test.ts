import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, HashMap, Layer } from "effect"
import { join } from "node:path"
import { foldLog } from "../../src/ControlPlane/Fold.ts"
import { Touched } from "../../src/ControlPlane/fold/Touched.ts"
import { Journal, journalMigrations } from "../../src/ControlPlane/Journal.ts"
import { defaultLimits } from "../../src/ControlPlane/Limits.ts"
import { sorted, type State } from "../../src/ControlPlane/State.ts"
import { CommitHeld } from "../../src/Layers/Disk/CommitHeld.ts"
import { Database } from "../../src/Layers/Disk/Database.ts"
import { MemoryDisk } from "../../src/Layers/Disk/MemoryDisk.ts"
import { Ids } from "../../src/Layers/Ids.ts"
import {
  Agent,
  closureOf,
  dispatched,
  idOf,
  openJournal,
  Plane,
  reference,
  type Release,
  soakMs,
  start
} from "../support/controlPlane.ts"
import { temporaryDirectory } from "../support/directories.ts"

const r1: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"]] }
const r2: Release = { ref: "b2", waves: r1.waves, signedAt: start + 1000 }
const r3: Release = { ref: "c3", waves: r1.waves, signedAt: start + 2000 }

/** What a restart must bring back, in a form that can be compared. */
function durable(state: State) {
  return {
    databaseId: state.databaseId,
    nextDelivery: state.nextDelivery,
    rollouts: sorted(state.rollouts).map(([id, { hosts, plan, record }]) => [id, record, plan, sorted(hosts)]),
    channels: sorted(state.channels),
    hosts: sorted(state.hosts),
    queue: sorted(state.queue).map(([host, row]) => [
      host,
      row.lease === undefined ? row : { ...row, lease: { ...row.lease, waiterId: 0 } }
    ]),
    quarantine: state.quarantine
  }
}

/** Of it, what the event log alone tells: heartbeats and lost leases' waiters are not in it. */
function ofTheLog(state: State) {
  const { hosts, ...rest } = durable(state)
  return { ...rest, hosts: hosts.flatMap(([host, { rollouts }]) => rollouts.length > 0 ? [[host, rollouts]] : []) }
}

/** Everything that changes durable state at least once. */
function story(plane: Plane): void {
  plane.publish(r1)
  plane.hear(r1)
  const h1 = dispatched(plane, "h1")
  h1.soaks(plane)
  plane.post("h1", idOf(r1), { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: 1, seq: 90 }, {
    capabilities: reference
  })
  plane.pass(soakMs)
  plane.post("h1", "edge@ffff", { kind: "ActivationStarted", startedAt: 1, switchMethod: "x", seq: 1 })
  plane.publish(r2)
  const dispatch = plane.poll("h1")
  assert.isDefined(dispatch)
  const again = new Agent("h1", dispatch, start + 1000)
  again.soaks(plane)
  again.rollsBack(plane)
  plane.publish(r3)
  const aborted = plane.park("h1")
  plane.offer({ _tag: "Unparked", host: "h1", waiterId: aborted })
  plane.poll("h1")
  plane.heartbeat("h2", {
    rejections: [{ rollout_id: idOf(r3), reason: "stale", detail: "old", at: plane.now }]
  })
  plane.heartbeat("h3", { current_closure: closureOf("c3", "h3") }, reference)
  plane.publish({ ...r3, signedAt: start + 3000, closures: { h1: closureOf("dd", "h1") } })
  plane.publish({ ...r3, signedAt: start + 4000, closures: { h1: closureOf("dd", "h1") } })
  plane.poll("h1")
}

describe("Journal (D1, D2)", () => {
  it.live("a restart has the state that was published last", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "control-plane.db")
      const database = Database.layerFile(file, journalMigrations)
      const published = yield* Effect.scoped(
        Effect.gen(function*() {
          const plane = new Plane(yield* openJournal(database))
          story(plane)
          return plane.state
        })
      )
      const { initial } = yield* openJournal(database)
      assert.deepStrictEqual(durable(initial), durable(published))
      assert.isUndefined(initial.artifacts)
      assert.strictEqual(HashMap.size(initial.parked), 0)
    }))

  it.effect("the fold of the rows equals the stored records", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("fold")
      story(new Plane(yield* openJournal(disk)))
      const journal = yield* openJournal(disk)
      const folded = foldLog(journal.initial.databaseId, yield* journal.rows, new Touched())
      assert.deepStrictEqual(ofTheLog(folded), ofTheLog(journal.initial))
    }))

  it.effect("duplicates are known again after a restart, and leases last as long as they would have", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("restart")
      const before = new Plane(yield* openJournal(disk))
      before.publish({ ref: "a1", waves: [["h1", "h2"]] })
      before.hear({ ref: "a1", waves: [["h1", "h2"]] })
      const h1 = dispatched(before, "h1")
      h1.accepts(before)
      assert.isDefined(before.poll("h2"))

      const after = new Plane(yield* openJournal(disk))
      after.publish({ ref: "a1", waves: [["h1", "h2"]] })
      assert.deepStrictEqual(after.post("h1", "stable@a1", h1.rows[0]!), { _tag: "Duplicate" })
      after.now = start + defaultLimits.leaseMs - 1
      assert.isUndefined(after.poll("h2"))
      after.pass(1)
      const dispatch = after.poll("h2")
      assert.strictEqual(dispatch?.delivery_id, `${after.state.databaseId}-3`, "delivery ids go on")
    }))

  it.effect("a restart in the middle of a wipe's recovery goes on with it", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("recovery")
      const before = new Plane(yield* openJournal(disk))
      before.publish(r1)
      before.heartbeat("h2")
      before.heartbeat("h3")
      const after = new Plane(yield* openJournal(disk))
      after.publish(r1)
      for (const host of ["h2", "h3"]) after.polls(host)
      const waiterId = after.park("h1")
      assert.isUndefined(after.answerTo(waiterId))
      after.heartbeat("h1")
      assert.strictEqual(after.answerTo(waiterId)?._tag, "Dispatch")
    }))

  it.effect("after a restart nothing is closed, revoked or dispatched before the artifacts are verified", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("cold")
      const before = new Plane(yield* openJournal(disk))
      before.publish(r1)
      before.hear(r1)
      before.poll("h1")
      const after = new Plane(yield* openJournal(disk))
      after.pass(0)
      assert.isUndefined(after.poll("h1"))
      assert.deepStrictEqual(durable(after.state), durable(before.state))
      assert.deepStrictEqual(after.writes, [])
    }))

  it.effect("a commit that was refused can be tried again with the same rows", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("full")
      const journal = yield* openJournal(disk)
      const pure = new Plane()
      pure.publish(r1)
      disk.fail("full")
      assert.throws(() => journal.commit(pure.writes), CommitHeld)
      journal.commit(pure.writes)
      const { initial } = yield* openJournal(disk)
      assert.deepStrictEqual(durable(initial).rollouts, durable(pure.state).rollouts)
    }))

  it.effect("a number of an agent's journal can be stored once", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("unique")
      const journal = yield* openJournal(disk)
      const plane = new Plane()
      plane.publish(r1)
      plane.hear(r1)
      dispatched(plane, "h1").accepts(plane)
      journal.commit(plane.writes)
      const events = plane.writes.filter((write) =>
        write._tag === "AppendLog" && write.row.entry.kind === "agent_event"
      )
      assert.lengthOf(events, 1)
      assert.throws(() => journal.commit(events), /UNIQUE/)
    }))

  it.effect("a database that a newer minor version wrote opens and works (downgrade)", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("newer")
      const newer = {
        ...journalMigrations,
        minors: [
          ...journalMigrations.minors,
          `ALTER TABLE host_records ADD COLUMN budget TEXT NOT NULL DEFAULT 'none';
           CREATE TABLE holds (id INTEGER PRIMARY KEY, host INTEGER NOT NULL) STRICT;`
        ]
      }
      yield* Effect.scoped(
        Effect.gen(function*() {
          const services = yield* Layer.build(
            Journal.layer(defaultLimits).pipe(
              Layer.provideMerge(Layer.fresh(Database.layerMemory(disk, newer))),
              Layer.provide(Ids.layer)
            )
          )
          const { journal, sql } = yield* Effect.gen(function*() {
            return { journal: yield* Journal, sql: (yield* Database).sql }
          }).pipe(Effect.provide(services))
          const plane = new Plane(journal)
          plane.publish(r1)
          plane.hear(r1)
          dispatched(plane, "h1").accepts(plane)
          sql.run("INSERT INTO event_log (ts, kind, payload) VALUES (1, 'hold_event', '{}')")
          sql.run("UPDATE host_records SET record = json_set(record, '$.budget', 'web')")
        })
      )
      const journal = yield* openJournal(disk)
      const plane = new Plane(journal)
      plane.publish(r1)
      assert.strictEqual(plane.recordOf(idOf(r1), "h1").state, "Activating")
      const seq = plane.recordOf(idOf(r1), "h1").lastEventSeq + 1
      assert.deepStrictEqual(
        plane.post("h1", idOf(r1), { kind: "ActivationStarted", startedAt: 1, switchMethod: "test", seq }),
        { _tag: "Applied" }
      )
      assert.isNotEmpty(yield* journal.rows)
    }))

  it.effect("a row that this program did not write refuses the start by name", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("damaged")
      new Plane(yield* openJournal(disk)).publish(r1)
      disk.db.exec("UPDATE host_records SET record = '{\"state\":\"Dancing\"}'")
      const exit = yield* Effect.exit(openJournal(disk))
      assert.isTrue(Exit.isFailure(exit))
      assert.include(String(exit), "JournalUnusable: damaged cannot be read: host_records of h1 in stable@a1")
    }))

  it.effect("a damaged payload refuses its page by name, and no other", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("damaged")
      const journal = yield* openJournal(disk)
      new Plane(journal).publish(r1)
      disk.db.exec("UPDATE event_log SET payload = '{' WHERE seq = (SELECT max(seq) FROM event_log)")
      const rolloutId = idOf(r1)
      const { reason } = yield* Effect.flip(journal.eventLog({ rolloutId, limit: 1000, afterSeq: 0 }))
      assert.strictEqual(reason, "journal-unreadable")
      assert.lengthOf((yield* journal.eventLog({ rolloutId, limit: 1, afterSeq: 0 })).events, 1)
    }))

  it.effect("the event log is read page by page, with the name of a refusal beside the event", () =>
    Effect.gen(function*() {
      const journal = yield* openJournal(new MemoryDisk("pages"))
      const plane = new Plane(journal)
      story(plane)
      const rolloutId = idOf(r1)
      const all = yield* journal.eventLog({ rolloutId, limit: 1000, afterSeq: 0 })
      const first = yield* journal.eventLog({ rolloutId, limit: 3, afterSeq: 0 })
      const rest = yield* journal.eventLog({ rolloutId, limit: 1000, afterSeq: first.events[2]!.seq })
      assert.deepStrictEqual([...first.events, ...rest.events], all.events)
      assert.includeMembers(all.events.map(({ kind }) => kind), ["plan_action", "gate_decision", "agent_event"])
      const refused = all.events.find(({ payload }) => JSON.stringify(payload).includes("illegal-for-state"))
      assert.deepInclude(refused?.payload, { kind: "DispatchAck", seq: 90, refused: "illegal-for-state" })
      assert.deepStrictEqual((yield* journal.eventLog({ rolloutId: "no@0", limit: 9, afterSeq: 0 })).events, [])
    }))
})
