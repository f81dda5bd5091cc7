/** What the agent's workers do while a disk is full or read-only, point by point (D1, house rule 8). */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Random } from "effect"
import { TestClock } from "effect/testing"
import type { DiskTrouble } from "../../../src/Layers/Disk/DiskRoom.ts"
import type { HealthCheck } from "../../../src/Schema/HealthChecks.ts"
import { heartbeat } from "../../../src/Workers/Agent/Heartbeat.ts"
import {
  ask,
  dispatch,
  elapse,
  eventsOf,
  httpCheck,
  kindsOf,
  minute,
  newSystem,
  offer,
  oldSystem,
  r1,
  recordOf,
  Rig,
  second,
  stateNow
} from "../../support/agentRig.ts"
import { heartbeatPath, idle, ok, Peer } from "../../support/scriptedPeer.ts"

const full: DiskTrouble = { reason: "disk-full", detail: "/state: less than 8 MiB are free", since: 0 }
const readOnly: DiskTrouble = { reason: "disk-read-only", detail: "/system is on a read-only file system", since: 0 }
const failing = { durationMs: 100, outcome: { status: "fail" as const, failureReason: "500" } }

const purposesOf = (rig: Rig) => rig.host.runs.map(({ id }) => id.purpose)

describe("a switch forward", () => {
  for (const trouble of [full, readOnly]) {
    for (
      const [point, at] of [["is there when the dispatch comes", 0], [
        "begins while the closure is fetched",
        500
      ]] as const
    ) {
      it.effect(`does not start while ${trouble.reason} ${point}, and starts when it is over`, () => {
        const rig = new Rig({ checks: { web: httpCheck } })
        return rig.live(Effect.gen(function*() {
          if (at === 0) rig.room.trouble = trouble
          yield* offer(dispatch())
          yield* elapse(at)
          rig.room.trouble = trouble
          yield* elapse(10 * minute)
          assert.deepStrictEqual(yield* kindsOf(r1), ["DispatchAck"])
          assert.deepStrictEqual(rig.host.runs, [])
          // The question counts as well.
          assert.strictEqual(rig.host.countRealise(newSystem), at === 0 ? 1 : 2)
          rig.room.trouble = undefined
          yield* elapse(2 * minute)
          assert.strictEqual((yield* recordOf(r1)).state, "Converged")
          assert.deepStrictEqual(purposesOf(rig), ["forward"])
        }))
      })
    }
  }

  it.effect("is given up at the deadline, with the name of the trouble and without blame", () => {
    const rig = new Rig({ settings: { realiseDeadlineSecs: 120 } })
    return rig.live(Effect.gen(function*() {
      rig.room.trouble = full
      yield* offer(dispatch())
      yield* elapse(119 * second)
      assert.strictEqual((yield* recordOf(r1)).state, "Activating")
      yield* elapse(5 * second)
      const failed = (yield* eventsOf(r1)).find(({ kind }) => kind === "ActivationFailed")
      assert.isTrue(failed?.kind === "ActivationFailed" && failed.closureAtFault === false)
      assert.isTrue(failed?.kind === "ActivationFailed" && failed.stderrTail.startsWith("disk-full: /state"))
      assert.strictEqual((yield* recordOf(r1)).state, "Reverted")
      assert.deepStrictEqual(rig.host.runs, [])
    }))
  })

  it.effect("has its deadline by running time: a step of the clock in either direction moves it by nothing", () =>
    Effect.forEach([60, -60, 525_600], (minutes) =>
      Effect.gen(function*() {
        const rig = new Rig({ settings: { realiseDeadlineSecs: 120 } })
        yield* TestClock.adjust("400 days")
        yield* rig.live(Effect.gen(function*() {
          const now = yield* Clock.currentTimeMillis
          rig.room.trouble = full
          yield* offer(dispatch({ receivedAt: now }))
          yield* elapse(30 * second)
          rig.wallStepMs = minutes * minute
          yield* elapse(85 * second)
          assert.strictEqual((yield* recordOf(r1)).state, "Activating", `${minutes} min`)
          yield* elapse(10 * second)
          assert.strictEqual((yield* recordOf(r1)).state, "Reverted", `${minutes} min`)
        }))
      }), { discard: true }))
})

/** It fails before the switch as well. */
const unforgiven: HealthCheck = { ...httpCheck, onBaselineFailure: "fail" }

describe("a rollback that health demands", () => {
  const soaking = (rig: Rig, body: Effect.Effect<void>) =>
    rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(6 * second)
      assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
      yield* body
      yield* elapse(5 * minute)
      return yield* recordOf(r1)
    }))

  it.effect("happens on a full disk", () => {
    const rig = new Rig({ checks: { web: unforgiven }, probes: () => failing })
    return Effect.gen(function*() {
      const record = yield* soaking(
        rig,
        Effect.sync(() => {
          rig.room.trouble = full
        })
      )
      assert.strictEqual(record.state, "Reverted")
      assert.strictEqual(rig.host.running, oldSystem)
    })
  })

  it.effect("waits for a read-only one without spending a try", () => {
    const rig = new Rig({ checks: { web: unforgiven }, probes: () => failing })
    return Effect.gen(function*() {
      const record = yield* soaking(
        rig,
        Effect.sync(() => {
          rig.room.trouble = readOnly
        })
      )
      assert.isTrue(record.state === "Failed" && record.rollbackFailures === 0)
      assert.deepStrictEqual(purposesOf(rig), ["forward"])
      rig.room.trouble = undefined
      yield* rig.live(elapse(10 * second))
      assert.deepStrictEqual(purposesOf(rig), ["forward", "rollback"])
    })
  })
})

describe("heartbeats", () => {
  const capable = () => new Peer((request, nth) => request.path === heartbeatPath ? ok({}) : idle(request, nth))

  it.effect("say what keeps the host from going forward, to a control plane that announced that it understands", () =>
    Effect.gen(function*() {
      const reference = new Peer((request, nth) =>
        request.path === heartbeatPath ? { status: 200, body: "{}" } : idle(request, nth)
      )
      for (
        const [peer, expected] of [[capable(), [undefined, { ...full, since: "1970-01-01T00:00:00Z" }, undefined]], [
          reference,
          [
            undefined,
            undefined,
            undefined
          ]
        ]] as const
      ) {
        const rig = new Rig()
        yield* rig.still(
          Effect.gen(function*() {
            yield* Effect.forkScoped(heartbeat)
            yield* elapse(minute)
            const held: Array<unknown> = []
            for (const trouble of [undefined, full, undefined]) {
              rig.room.trouble = trouble
              yield* elapse(minute)
              held.push(peer.bodies(heartbeatPath).at(-1)?.["held"])
            }
            assert.deepStrictEqual(held, [...expected])
          }).pipe(Effect.provide(peer.layer), Effect.scoped, Random.withSeed(1))
        )
      }
    }))

  it.effect("go on while a commit is held by the disk, and no answer is lost when it is taken", () => {
    const peer = capable()
    const rig = new Rig()
    return rig.still(
      Effect.gen(function*() {
        yield* Effect.forkScoped(heartbeat)
        yield* elapse(second)
        const before = peer.times(heartbeatPath).length
        rig.journalDisk.fail(...Array.from({ length: 60 }, () => "full" as const))
        yield* Effect.forkScoped(ask(dispatch()))
        yield* elapse(5 * minute)
        assert.isAtLeast(peer.times(heartbeatPath).length - before, 4)
        assert.strictEqual((yield* stateNow).rollouts.size, 0, "held")
        yield* elapse(10 * minute)
        assert.strictEqual((yield* recordOf(r1)).state, "Activating")
      }).pipe(Effect.provide(peer.layer), Effect.scoped, Random.withSeed(1))
    )
  })

  it.effect("that shake hands open no gate while their answer is held", () => {
    const peer = capable()
    const rig = new Rig()
    return rig.still(
      Effect.gen(function*() {
        rig.journalDisk.fail(...Array.from({ length: 12 }, () => "full" as const))
        yield* Effect.forkScoped(ask(dispatch()))
        yield* Effect.forkScoped(heartbeat)
        yield* elapse(30 * second)
        assert.isTrue(peer.bodies(heartbeatPath).every((body) => body["boot"] !== false), "still shaking hands")
        yield* elapse(5 * minute)
        assert.strictEqual(peer.bodies(heartbeatPath).at(-1)?.["boot"], false)
      }).pipe(Effect.provide(peer.layer), Effect.scoped, Random.withSeed(1))
    )
  })
})
