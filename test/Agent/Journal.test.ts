import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer } from "effect"
import { disagreements } from "../../src/Agent/Fold.ts"
import { Inbox } from "../../src/Agent/Inbox.ts"
import { Journal, journalMigrations, trustMigrations } from "../../src/Agent/Journal.ts"
import { entriesOf, type State } from "../../src/Agent/State.ts"
import { Database } from "../../src/Layers/Disk/Database.ts"
import { MemoryDisk } from "../../src/Layers/Disk/MemoryDisk.ts"
import {
  ask,
  dispatch,
  elapse,
  entryOf,
  httpCheck,
  minute,
  newSystem,
  offer,
  oldSystem,
  r1,
  r2,
  recordOf,
  Rig,
  second,
  settled,
  stateNow
} from "../support/agentRig.ts"

/** What must survive a restart. */
const durable = (state: State) => ({
  ...state,
  observed: undefined,
  observedSince: 0,
  clock: undefined,
  rollouts: entriesOf(state).map(({ bookkeeping, lane, record }) => {
    const { suggested: _, ...kept } = lane
    return { bookkeeping, lane: kept, record }
  })
})

const journalOn = (journal: MemoryDisk, trust: MemoryDisk, hostname = "host-1") =>
  Journal.layer(hostname, {
    journal: Database.layerMemory(journal, journalMigrations),
    trust: Database.layerMemory(trust, trustMigrations)
  })

const started = { _tag: "ActivationStarted", rolloutId: r1, attempt: 1, switchMethod: "memory", at: 0 } as const

describe("a restart", () => {
  it.effect("finds the state as it was: records, lanes, floors, rejections, trust, facts", () => {
    const rig = new Rig({ checks: { web: httpCheck } })
    return Effect.gen(function*() {
      const before = yield* rig.live(Effect.gen(function*() {
        yield* offer(dispatch({ lastEventSeq: 5 }))
        yield* elapse(2 * minute)
        yield* offer({ _tag: "Delivered", rolloutId: r1, seq: 6, kind: "DispatchAck", verdict: { _tag: "Applied" } })
        yield* offer({
          _tag: "Delivered",
          rolloutId: r1,
          seq: 7,
          kind: "ActivationStarted",
          verdict: { _tag: "Parked", reason: "no-verdict" }
        })
        yield* offer({
          _tag: "Delivered",
          rolloutId: r1,
          seq: 8,
          kind: "ActivationCompleted",
          verdict: { _tag: "Refused", reason: "invariant" }
        })
        yield* offer({ _tag: "RejectedDispatch", rolloutId: r2, reason: "superseded", detail: "late", at: 1 })
        yield* offer({ _tag: "ArtifactsAccepted", marks: [{ artifact: "fleet", signedAt: 9 }] })
        yield* offer({
          _tag: "HeartbeatAnswered",
          replayFrom: {},
          ackedThrough: { [r1]: 7 },
          snapshots: [{
            rolloutId: "edge@01",
            hostname: "host-1",
            channel: "edge",
            state: "Failed",
            targetClosure: newSystem,
            dispatchedAt: 0,
            lastEventSeq: 3
          }]
        })
        return yield* stateNow
      }))
      const after = yield* rig.still(stateNow)
      assert.deepStrictEqual(durable(after), durable(before))
      assert.deepStrictEqual(after.rollouts.get(r1)?.lane.parked, [7])
      assert.strictEqual(after.lastConverged, newSystem)
      assert.strictEqual(after.firstObserved, oldSystem)
    })
  })

  it.effect("keeps a replay that was asked for", () => {
    const rig = new Rig()
    return Effect.gen(function*() {
      yield* rig.still(Effect.gen(function*() {
        yield* offer(dispatch())
        yield* offer(started)
        yield* offer({ _tag: "Delivered", rolloutId: r1, seq: 1, kind: "DispatchAck", verdict: { _tag: "Applied" } })
        yield* offer({ _tag: "HeartbeatAnswered", replayFrom: { [r1]: 1 }, ackedThrough: {}, snapshots: [] })
      }))
      yield* rig.still(Effect.gen(function*() {
        assert.strictEqual((yield* entryOf(r1)).lane.nextSeq, 1)
        const event = yield* (yield* Journal).event(r1, 1)
        assert.deepStrictEqual(event, {
          kind: "DispatchAck",
          currentClosureAtDispatch: oldSystem,
          receivedAt: 0,
          attempt: 1,
          seq: 1
        })
      }))
    })
  })

  it.effect("keeps the journal id; another journal has another", () => {
    const rig = new Rig()
    return Effect.gen(function*() {
      const first = yield* rig.still(stateNow)
      const again = yield* rig.still(stateNow)
      const other = yield* new Rig().still(stateNow)
      assert.match(first.journalId, /^[0-9a-f]{32}$/)
      assert.strictEqual(again.journalId, first.journalId)
      assert.notStrictEqual(other.journalId, first.journalId)
    })
  })
})

describe("a journal", () => {
  it.effect("written by a newer minor version opens and works, and the newer one then opens it again", () => {
    const rig = new Rig()
    const newer = {
      ...journalMigrations,
      minors: [
        ...journalMigrations.minors,
        `ALTER TABLE events ADD COLUMN urgency INTEGER NOT NULL DEFAULT 7;
         ALTER TABLE rollouts ADD COLUMN note TEXT;
         CREATE TABLE things (id INTEGER PRIMARY KEY, rollout INTEGER REFERENCES rollouts (id)) STRICT;`
      ]
    }
    return Effect.gen(function*() {
      yield* rig.still(offer(dispatch()))
      yield* Effect.provide(
        Effect.flatMap(Database, ({ transaction }) =>
          Effect.sync(() =>
            transaction((sql) => {
              sql.run("UPDATE rollouts SET folded = json_set(folded, '$.record.moodRing', 'blue', '$.weather', 'fine')")
              sql.run("INSERT INTO meta (key, value) VALUES ('newer', 'yes')")
            })
          )),
        Database.layerMemory(rig.journalDisk, newer)
      )
      yield* rig.still(Effect.gen(function*() {
        assert.strictEqual((yield* recordOf(r1)).state, "Activating")
        yield* offer(started)
        yield* offer({ _tag: "Delivered", rolloutId: r1, seq: 1, kind: "DispatchAck", verdict: { _tag: "Applied" } })
        assert.strictEqual((yield* recordOf(r1)).lastEventSeq, 2)
      }))
      const row = yield* Effect.provide(
        Effect.map(Database, ({ sql }) => sql.get("SELECT count(*) AS n, min(urgency) AS urgency FROM events")),
        Database.layerMemory(rig.journalDisk, newer)
      )
      assert.deepStrictEqual({ ...row }, { n: 2, urgency: 7 })
    })
  })

  it.effect("of another host is refused by name", () =>
    Effect.gen(function*() {
      const [journal, trust] = [new MemoryDisk("journal.db"), new MemoryDisk("trust.db")]
      yield* Layer.build(journalOn(journal, trust))
      const error = yield* Effect.flip(Layer.build(journalOn(journal, trust, "host-2")))
      assert.strictEqual("reason" in error && error.reason, "journal-of-other-host")
    }))

  for (
    const [what, text] of [
      ["is not JSON", "UPDATE rollouts SET folded = '{'"],
      ["lacks a field", "UPDATE rollouts SET folded = json_remove(folded, '$.record.attempt')"],
      ["has a wrong type", "UPDATE rollouts SET folded = json_set(folded, '$.record.lastEventSeq', 'many')"]
    ] as const
  ) {
    it.effect(`with a record that ${what} is refused by name`, () => {
      const rig = new Rig()
      return Effect.gen(function*() {
        yield* rig.still(offer(dispatch()))
        rig.journalDisk.db.exec(text)
        const error = yield* Effect.flip(Layer.build(journalOn(rig.journalDisk, rig.trustDisk)))
        assert.strictEqual("reason" in error && error.reason, "journal-unreadable")
      })
    })
  }

  it.live("whose pages are damaged is refused by name, and is no defect", () => {
    const disk = new MemoryDisk("journal.db")
    const trust = new MemoryDisk("trust.db")
    return Effect.gen(function*() {
      yield* Effect.void.pipe(Effect.provide(Layer.fresh(journalOn(disk, trust))))
      const image = disk.image().slice()
      // Every page but the first, which holds the schema.
      image.fill(0xa5, 4096)
      disk.restore(image)
      const refused = yield* Effect.flip(Effect.void.pipe(Effect.provide(Layer.fresh(journalOn(disk, trust)))))
      assert.include(["JournalUnusable", "DatabaseError"], refused._tag)
      assert.include(refused.message, "journal.db")
    })
  })

  it.effect("that is reset keeps the trust memory", () =>
    Effect.gen(function*() {
      const rig = new Rig()
      yield* rig.still(offer({ _tag: "ArtifactsAccepted", marks: [{ artifact: "manifest:stable", signedAt: 12 }] }))
      const fresh = yield* Effect.provide(
        Effect.map(Journal, ({ initial }) => initial),
        journalOn(new MemoryDisk("new.db"), rig.trustDisk)
      )
      assert.deepStrictEqual([...fresh.trust], [["manifest:stable", 12]])
      assert.strictEqual(fresh.rollouts.size, 0)
    }))
})

describe("the deep check", () => {
  it.effect("finds a stored record that is not what its rows mean", () => {
    const rig = new Rig()
    return Effect.gen(function*() {
      yield* rig.still(offer(dispatch()))
      const found = Effect.provide(
        Effect.gen(function*() {
          const journal = yield* Journal
          return disagreements(yield* journal.rows, journal.initial.rollouts)
        }),
        Layer.fresh(journalOn(rig.journalDisk, rig.trustDisk))
      )
      assert.deepStrictEqual(yield* found, [])
      rig.journalDisk.db.exec("UPDATE rollouts SET folded = json_set(folded, '$.record.lastEventSeq', 9)")
      assert.deepStrictEqual(yield* found, [`${r1}: stored as Activating 9, rows mean Activating 1`])
      rig.journalDisk.db.exec("UPDATE events SET attempt = 1, entry = json_set(entry, '$.event.seq', 0)")
      assert.match((yield* found)[0] ?? "", /its rows do not fold: .*SeqRegression/)
    })
  })
})

describe("a commit", () => {
  it.effect("that a full disk holds is published and answered only when it is durable", () => {
    const rig = new Rig()
    return rig.still(Effect.gen(function*() {
      rig.journalDisk.fail("full", "full")
      const asked = yield* Effect.forkChild(ask(dispatch()))
      yield* settled
      assert.strictEqual((yield* stateNow).rollouts.size, 0)
      yield* elapse(10 * second)
      assert.deepStrictEqual(yield* Fiber.join(asked), { _tag: "Accepted" })
      assert.strictEqual((yield* recordOf(r1)).state, "Activating")
    }))
  })

  it.effect("that fails ends the reducer, and nobody is told that it is durable", () => {
    const rig = new Rig()
    return Effect.gen(function*() {
      yield* rig.still(Effect.gen(function*() {
        rig.journalDisk.fail("failed")
        const answer = yield* ask(dispatch())
        assert.strictEqual(answer._tag === "Refused" && answer.reason, "shutting-down")
        assert.isTrue(Exit.isFailure(yield* Effect.exit((yield* Inbox).ended)))
      }))
      assert.strictEqual((yield* rig.still(stateNow)).rollouts.size, 0)
    })
  })

  it.effect("that was done although it failed is found at the next start, and the repeated dispatch is known", () => {
    const rig = new Rig()
    return Effect.gen(function*() {
      yield* Effect.exit(rig.still(Effect.gen(function*() {
        rig.journalDisk.fail("doneButError")
        return yield* Effect.fail(yield* ask(dispatch()))
      })))
      yield* rig.still(Effect.gen(function*() {
        assert.strictEqual((yield* recordOf(r1)).state, "Activating")
        yield* offer(dispatch())
        assert.strictEqual((yield* recordOf(r1)).lastEventSeq, 1)
      }))
    })
  })
})
