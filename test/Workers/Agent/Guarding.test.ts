/** The guard of an activation, over a scripted host: when it is armed, what keeps it quiet, and what a fired one means. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { heartbeatOf } from "../../../src/Agent/Report.ts"
import { entriesOf } from "../../../src/Agent/State.ts"
import type { SwitchId } from "../../../src/Layers/Host/Activator.ts"
import { maxBoots } from "../../../src/Rollout/Owed.ts"
import type { HostRecord } from "../../../src/Schema/HostRecord.ts"
import {
  ask,
  dispatch,
  elapse,
  httpCheck,
  kindsOf,
  minute,
  newSystem,
  offer,
  oldSystem,
  r1,
  r2,
  recordOf,
  Rig,
  type RigOptions,
  second,
  stateNow,
  thirdSystem
} from "../../support/agentRig.ts"

const soakMs = 30 * minute
const long = dispatch({ policy: { ...dispatch().policy, soakMs } })
const healthy: RigOptions = { checks: { web: httpCheck } }
/** Longer than any window of the defaults. */
const gone = 20 * minute

const runsOf = (rig: Rig) => rig.host.runs.map(({ closure, id }) => [closure, id.purpose, id.run])
const once: ReadonlyArray<unknown> = [[newSystem, "forward", 1]]
const andBack: ReadonlyArray<unknown> = [...once, [oldSystem, "rollback", 1]]

const guardOf = (rig: Rig) => Effect.map(rig.host.now, (now) => rig.lifeline.state(now)._tag)
const expire = (rig: Rig) => Effect.map(rig.host.now, (now) => rig.lifeline.expire(now))

/** Why a record has failed, and whose fault it was. */
const failureOf = (record: HostRecord) =>
  record.state === "Failed" || record.state === "Reverted" ? [record.state, record.cause, record.closureAtFault] : []

describe("the guard of an activation", () => {
  it.effect("is armed before the switch begins, renewed while the agent lives, and gone when it has converged", () => {
    const seen: Array<string> = []
    const rig = new Rig({
      ...healthy,
      host: {
        realise: () => ({ durationMs: second, outcome: { _tag: "Ok" } }),
        switch: () => {
          seen.push(rig.lifeline.state(0)._tag)
          return { durationMs: second, end: { _tag: "Exit", code: 0 } }
        }
      }
    })
    return rig.live(Effect.gen(function*() {
      yield* offer(long)
      assert.strictEqual(yield* guardOf(rig), "None")
      yield* elapse(soakMs)
      assert.deepStrictEqual(seen, ["Armed"])
      assert.strictEqual(yield* guardOf(rig), "Armed")
      yield* elapse(minute)
      assert.strictEqual((yield* recordOf(r1)).state, "Converged")
      assert.strictEqual(yield* guardOf(rig), "None")
      yield* elapse(gone)
      assert.deepStrictEqual([rig.lifeline.fired, runsOf(rig)], [[], once])
    }))
  })

  it.effect("brings the host back when the agent does not return, and the next agent tells why", () =>
    Effect.gen(function*() {
      for (
        const [phase, livedMs, atFault] of [["in the switch", 2 * second, true], ["in the soak", minute, true]] as const
      ) {
        const rig = new Rig(healthy)
        yield* rig.live(Effect.andThen(offer(long), elapse(livedMs)))
        yield* elapse(gone)
        assert.strictEqual(yield* guardOf(rig), "Fired", phase)
        yield* elapse(minute)
        assert.deepStrictEqual([rig.host.running, runsOf(rig)], [oldSystem, andBack], phase)
        yield* rig.live(Effect.gen(function*() {
          yield* elapse(minute)
          assert.deepStrictEqual(failureOf(yield* recordOf(r1)), ["Reverted", "guard-fired", atFault], phase)
          assert.deepStrictEqual((yield* kindsOf(r1)).slice(-1), ["RollbackComplete"])
        }))
        assert.deepStrictEqual([yield* guardOf(rig), runsOf(rig)], ["None", andBack], phase)
      }
    }))

  it.effect("that fires while the agent runs, or wakes, leads to one switch back as well", () => {
    const rig = new Rig(healthy)
    return rig.live(Effect.gen(function*() {
      yield* offer(long)
      yield* elapse(minute)
      yield* expire(rig)
      yield* elapse(minute)
      assert.deepStrictEqual(failureOf(yield* recordOf(r1)), ["Reverted", "guard-fired", true])
      assert.deepStrictEqual([rig.host.running, runsOf(rig), yield* guardOf(rig)], [oldSystem, andBack, "None"])
      assert.strictEqual((yield* stateNow).rejections.size, 0, "its event tells it")
    }))
  })

  it.effect("that has fired forbids the convergence that was a moment later: the agent ends, and its next life obeys", () => {
    const rig = new Rig(healthy)
    return Effect.gen(function*() {
      yield* rig.live(Effect.andThen(offer(long), elapse(soakMs)))
      yield* rig.still(Effect.gen(function*() {
        yield* ask({ _tag: "Tick", observed: newSystem })
        yield* elapse(soakMs)
        yield* ask({
          _tag: "ProbeSample",
          rolloutId: r1,
          attempt: 1,
          probeName: "web",
          mode: "enforce",
          status: "pass",
          at: soakMs
        })
        yield* expire(rig)
        const answer = yield* ask({ _tag: "Tick", observed: newSystem })
        assert.strictEqual(answer._tag === "Refused" ? answer.reason : "", "shutting-down")
        assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
      }))
      yield* rig.live(Effect.gen(function*() {
        yield* elapse(minute)
        assert.deepStrictEqual(failureOf(yield* recordOf(r1)), ["Reverted", "guard-fired", true])
      }))
      assert.deepStrictEqual(runsOf(rig), andBack)
    })
  })

  it.effect("goes with its record: a newer rollout is guarded by its own", () => {
    const rig = new Rig(healthy)
    return rig.live(Effect.gen(function*() {
      yield* offer(long)
      yield* elapse(minute)
      yield* offer(
        dispatch({ rolloutId: r2, targetClosure: thirdSystem, observed: newSystem, signedAt: 2, receivedAt: minute })
      )
      assert.notStrictEqual(yield* guardOf(rig), "Fired")
      yield* elapse(gone)
      assert.deepStrictEqual(rig.lifeline.fired, [])
      assert.strictEqual((yield* recordOf(r2)).state, "Converged")
      assert.strictEqual(rig.host.running, thirdSystem)
    }))
  })

  it.effect("that fired for a record that is closed is waited for, and nothing is resumed because of it", () => {
    const rig = new Rig({
      ...healthy,
      host: {
        realise: () => ({ durationMs: second, outcome: { _tag: "Ok" } }),
        switch: (_closure, id: SwitchId) => ({
          durationMs: id.purpose === "rollback" ? minute : second,
          end: { _tag: "Exit", code: 0 }
        })
      }
    })
    return rig.live(Effect.gen(function*() {
      yield* offer(long)
      yield* elapse(minute)
      yield* expire(rig)
      yield* offer(
        dispatch({ rolloutId: r2, targetClosure: thirdSystem, observed: newSystem, signedAt: 2, receivedAt: minute })
      )
      yield* elapse(30 * second)
      assert.deepStrictEqual(runsOf(rig), andBack, "the newer one waits")
      yield* elapse(10 * minute)
      assert.deepStrictEqual(runsOf(rig), [...andBack, [thirdSystem, "forward", 1]])
      const records = entriesOf(yield* stateNow).map(({ record }) => [record.rolloutId, record.state])
      assert.deepStrictEqual(records, [[r1, "Soaking"], [r2, "Converged"]])
      assert.strictEqual(yield* guardOf(rig), "None")
      const told = heartbeatOf(yield* stateNow, {
        at: 0,
        uptimeSecs: 0,
        version: "v",
        boot: false,
        peer: new Set(["journal"])
      }).rejections
      assert.deepStrictEqual(told?.map((one) => [one.rollout_id, one.reason]), [[r1, "guard-stale"]])
      assert.include(told?.[0]?.detail, oldSystem)
    }))
  })

  it.effect("that cannot be armed lets no switch forward begin, and condemns nothing", () => {
    const rig = new Rig(healthy)
    rig.lifeline.trouble = "no process can be started"
    return rig.live(Effect.gen(function*() {
      yield* offer(long)
      yield* elapse(minute)
      assert.deepStrictEqual(failureOf(yield* recordOf(r1)).slice(1), [undefined, false])
      assert.isFalse(rig.host.runs.some(({ closure }) => closure === newSystem))
    }))
  })

  it.effect("is not armed under halt, nor where there is nothing to go back to", () =>
    Effect.gen(function*() {
      for (
        const given of [
          dispatch({ policy: { ...long.policy, onHealthFailure: "halt" } }),
          dispatch({ targetClosure: oldSystem })
        ]
      ) {
        const rig = new Rig(healthy)
        yield* rig.live(Effect.gen(function*() {
          yield* offer(given)
          yield* elapse(30 * second)
          assert.strictEqual(yield* guardOf(rig), "None")
        }))
        yield* elapse(gone)
        assert.deepStrictEqual(rig.lifeline.fired, [])
      }
    }))

  it.effect("of before a reboot is armed again, with its whole window", () => {
    const rig = new Rig(healthy)
    return Effect.gen(function*() {
      yield* rig.live(Effect.andThen(offer(long), elapse(minute)))
      rig.lifeline.kill()
      yield* elapse(gone)
      yield* rig.live(Effect.gen(function*() {
        yield* elapse(second)
        const found = rig.lifeline.state(yield* rig.host.now)
        assert.isTrue(found._tag === "Armed" && found.watched && found.leftMs > 9 * minute)
      }))
      yield* elapse(gone)
      assert.strictEqual(yield* guardOf(rig), "Fired")
    })
  })

  it.effect("is renewed while a switch runs, however seldom its result is asked for", () => {
    const rig = new Rig({ ...healthy, settings: { guardWindowSecs: 60, switchPollSecs: 3600 } })
    return rig.live(Effect.gen(function*() {
      yield* offer(long)
      yield* elapse(gone)
      assert.strictEqual(yield* guardOf(rig), "Armed")
      assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
    }))
  })

  it.effect("is renewed while a second run of the switch waits for the disk, or is fetched", () =>
    Effect.gen(function*() {
      for (const obstacle of ["disk", "fetch"] as const) {
        const rig: Rig = new Rig({
          ...healthy,
          host: {
            realise: (_closure, nth) => ({ durationMs: nth === 1 ? second : gone, outcome: { _tag: "Ok" } }),
            switch: (_closure, { run }) => {
              const lost = { durationMs: 2 * second, end: { _tag: "Lost" } } as const
              if (run > 1) return { durationMs: 2 * second, end: { _tag: "Exit", code: 0 } }
              if (obstacle === "fetch") rig.host.store.delete(newSystem)
              else rig.room.trouble = { reason: "disk-full", detail: "/: less than 8 MiB are free", since: 0 }
              return lost
            }
          }
        })
        yield* rig.live(Effect.gen(function*() {
          yield* offer(long)
          yield* elapse(gone)
          assert.deepStrictEqual([yield* guardOf(rig), runsOf(rig)], ["Armed", once], obstacle)
          rig.room.trouble = undefined
          yield* elapse(minute)
          assert.deepStrictEqual(runsOf(rig), [...once, [newSystem, "forward", 2]], obstacle)
          assert.strictEqual((yield* recordOf(r1)).state, "Soaking", obstacle)
        }))
      }
    }))

  it.effect("is not kept quiet by an agent that crashes again and again", () => {
    const rig = new Rig(healthy)
    return Effect.gen(function*() {
      yield* rig.live(Effect.andThen(offer(long), elapse(minute)))
      for (let life = 0; life < 40; life++) yield* rig.live(elapse(20 * second))
      assert.strictEqual(rig.lifeline.fired.length, 1)
      assert.deepStrictEqual([rig.host.running, runsOf(rig)], [oldSystem, andBack])
    })
  })
})

describe("a host that is booted again and again before its activation is settled", () => {
  it.effect("is taken back, and never switched forward again by that record", () => {
    const rig = new Rig(healthy)
    return Effect.gen(function*() {
      yield* rig.live(Effect.andThen(offer(long), elapse(minute)))
      for (let boot = 1; boot <= maxBoots; boot++) {
        rig.lifeline.kill()
        rig.facts.bootId = `boot-${boot + 1}`
        yield* rig.live(Effect.gen(function*() {
          yield* elapse(minute)
          if (boot < maxBoots) assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
          else assert.deepStrictEqual(failureOf(yield* recordOf(r1)), ["Reverted", "boot-loop", true])
        }))
      }
      assert.deepStrictEqual(runsOf(rig), andBack)
    })
  })

  it.effect("counts a boot once, however often the agent starts in it, and none that an activation did not see", () => {
    const rig = new Rig(healthy)
    const boots = Effect.map(stateNow, (state) => state.rollouts.get(r1)?.bookkeeping.boots)
    return Effect.gen(function*() {
      yield* rig.live(elapse(second))
      rig.facts.bootId = "boot-2"
      yield* rig.live(Effect.gen(function*() {
        yield* offer(long)
        yield* elapse(minute)
        assert.isUndefined(yield* boots)
      }))
      rig.facts.bootId = "boot-3"
      for (let start = 0; start < 3; start++) {
        yield* rig.live(Effect.gen(function*() {
          yield* elapse(second)
          assert.strictEqual(yield* boots, 1)
        }))
      }
    })
  })
})
