import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import {
  dispatch,
  elapse,
  httpCheck,
  minute,
  newSystem,
  offer,
  oldSystem,
  r1,
  recordOf,
  Rig,
  second,
  stateNow,
  thirdSystem
} from "../../support/agentRig.ts"

const soakFor = (soakMs: number, soakDueAt = 0) =>
  dispatch({
    targetClosure: oldSystem,
    soakDueAt,
    policy: { onHealthFailure: "rollback-and-halt", soakMs, sustainedFailureMs: minute }
  })

describe("a soak", () => {
  it.effect("ends to the second, not one tick early", () =>
    Effect.gen(function*() {
      for (const soakMs of [7 * second, 61 * second, 3 * minute + 2 * second]) {
        const rig = new Rig()
        yield* rig.live(Effect.gen(function*() {
          yield* elapse(1700)
          yield* offer(soakFor(soakMs))
          const soaking = yield* recordOf(r1)
          const began = soaking.state === "Soaking" ? soaking.activationCompletedAt : Number.NaN
          yield* elapse(soakMs - 1)
          assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
          yield* elapse(1)
          const record = yield* recordOf(r1)
          assert.isTrue(record.state === "Converged" && record.convergedAt === began + soakMs, `${soakMs} ms`)
          assert.strictEqual((yield* stateNow).lastConverged, oldSystem)
        }))
      }
    }))

  it.effect("does not end before the time that the control plane named", () => {
    const rig = new Rig()
    return rig.live(Effect.gen(function*() {
      yield* offer(soakFor(second, 42 * second))
      yield* elapse(42 * second - 1)
      assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
      yield* elapse(1)
      assert.strictEqual((yield* recordOf(r1)).state, "Converged")
    }))
  })

  it.effect("counts only the time in which the agent ran", () => {
    const rig = new Rig()
    return Effect.gen(function*() {
      yield* rig.live(Effect.andThen(offer(soakFor(10 * minute)), elapse(4 * minute + 30 * second)))
      yield* elapse(60 * minute)
      yield* rig.live(Effect.gen(function*() {
        yield* elapse(5 * minute)
        assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
        // A crash costs at most what was not journaled yet: a minute.
        yield* elapse(90 * second)
        assert.strictEqual((yield* recordOf(r1)).state, "Converged")
      }))
    })
  })

  it.effect("is not ended by a step of the wall clock", () => {
    const rig = new Rig()
    return rig.live(Effect.gen(function*() {
      yield* offer(soakFor(minute))
      yield* elapse(10 * second)
      rig.wallStepMs = 60 * minute
      yield* elapse(49 * second)
      assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
      yield* elapse(second)
      assert.strictEqual((yield* recordOf(r1)).state, "Converged")
    }))
  })

  it.effect("does not end on a probe that has not run yet", () => {
    const rig = new Rig({
      checks: { web: httpCheck },
      probes: () => ({ durationMs: 40 * second, outcome: { status: "pass" } })
    })
    return rig.live(Effect.gen(function*() {
      yield* offer(soakFor(0))
      yield* elapse(39 * second)
      assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
      yield* elapse(6 * second)
      assert.strictEqual((yield* recordOf(r1)).state, "Converged")
    }))
  })

  it.effect("does not end while what runs is unknown", () => {
    const rig = new Rig()
    return rig.live(Effect.gen(function*() {
      yield* offer(soakFor(30 * second))
      yield* elapse(10 * second)
      rig.host.running = undefined
      yield* elapse(5 * minute)
      assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
      rig.host.running = oldSystem
      yield* elapse(5 * second)
      assert.strictEqual((yield* recordOf(r1)).state, "Converged")
    }))
  })

  it.effect("fails as drift, without a rollback, when somebody switches the host for good", () => {
    const rig = new Rig()
    return rig.live(Effect.gen(function*() {
      yield* offer(
        dispatch({ policy: { onHealthFailure: "rollback-and-halt", soakMs: 10 * minute, sustainedFailureMs: minute } })
      )
      yield* elapse(20 * second)
      assert.strictEqual(rig.host.running, newSystem)
      rig.host.running = thirdSystem
      yield* elapse(30 * second)
      rig.host.running = newSystem
      yield* elapse(minute)
      assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
      rig.host.running = thirdSystem
      yield* elapse(5 * minute)
      const record = yield* recordOf(r1)
      assert.isTrue(record.state === "Failed" && record.failure === "drift" && !record.closureAtFault)
      assert.strictEqual(rig.host.runs.length, 1)
    }))
  })
})
