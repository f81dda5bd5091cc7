/** What was wrong before the switch, as the workers see it: taken once, in bounded time, durable, and weighed afterwards. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { fail, type FailedUnits, inconclusive, pass, type ProbeOutcome } from "../../../src/Layers/Host/Probes.ts"
import { failedUnitsProbe, type HealthCheck, type HealthChecks } from "../../../src/Schema/HealthChecks.ts"
import { baselineLimitMs } from "../../../src/Workers/Agent/Baseline.ts"
import { declarationOf, plan } from "../../../src/Workers/Agent/Planned.ts"
import {
  dispatch,
  elapse,
  entryOf,
  eventsOf,
  httpCheck,
  minute,
  newSystem,
  offer,
  oldSystem,
  r1,
  recordOf,
  Rig,
  type RigOptions,
  second
} from "../../support/agentRig.ts"

const checks: HealthChecks = { web: httpCheck }
const gated = dispatch({ policy: { ...dispatch().policy, maxFailedUnits: 0 } })

/** A rig whose probes say one thing of the old system and another of the new one. */
function rigWhere(before: ProbeOutcome, after: ProbeOutcome, options: RigOptions = { checks }): Rig {
  const rig = new Rig(options)
  rig.probes.script = () => ({ durationMs: 0, outcome: rig.host.running === oldSystem ? before : after })
  return rig
}

const stateOf = Effect.map(recordOf(r1), ({ state }) => state)
const baselineOf = Effect.map(entryOf(r1), ({ bookkeeping }) => bookkeeping.baseline)
const kindsAndReasons = Effect.map(
  eventsOf(r1),
  (events) =>
    events.flatMap((event) =>
      event.kind === "ProbeResult" ? [`${event.status} ${event.failureReason ?? ""}`.trim()] : []
    )
)

describe("before a switch", () => {
  it.effect("every enabled probe runs once, and what failed is journaled before the switch starts", () => {
    const slow: HealthCheck = { ...httpCheck, intervalSeconds: 60 }
    const rig = new Rig({ checks: { web: httpCheck, off: { ...httpCheck, mode: "disabled" }, slow } })
    const asked: Array<HealthCheck> = []
    rig.probes.script = (check) => {
      if (rig.host.running === oldSystem) asked.push(check)
      return { durationMs: 0, outcome: check.intervalSeconds === 60 ? fail("500") : pass }
    }
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(2 * second)
      assert.deepStrictEqual(asked, [httpCheck, slow])
      assert.deepStrictEqual(yield* baselineOf, {
        failed: [{ probeName: "slow", declaration: declarationOf(slow), reason: "500" }],
        failedUnits: []
      })
    }))
  })

  it.effect("where nothing is wrong nothing is journaled", () => {
    const rig = rigWhere(pass, pass)
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(2 * minute)
      assert.strictEqual(yield* stateOf, "Converged")
      assert.isUndefined(yield* baselineOf)
    }))
  })

  it.effect("a probe that hangs delays the switch by the limit and no longer, and hides nothing of the others", () => {
    const hanging: HealthCheck = { ...httpCheck, intervalSeconds: 60 }
    const rig = new Rig({ checks: { hanging, web: httpCheck } })
    rig.probes.script = (check) =>
      check.intervalSeconds === 60 && rig.host.running === oldSystem
        ? { durationMs: 60 * minute, outcome: fail("late") }
        : { durationMs: 0, outcome: fail("500") }
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(baselineLimitMs - second)
      assert.deepStrictEqual(rig.host.runs, [])
      yield* elapse(3 * second)
      assert.strictEqual(rig.host.runs.length, 1)
      assert.deepStrictEqual((yield* baselineOf)?.failed.map(({ probeName }) => probeName), ["web"])
    }))
  })

  it.effect("a declaration that cannot be read delays nothing", () => {
    const rig = new Rig()
    rig.probes.declared = { _tag: "Invalid", problem: "torn" }
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(2 * second)
      assert.strictEqual(rig.host.runs.length, 1)
    }))
  })
})

describe("a probe that failed before the switch and fails after it", () => {
  it.effect("holds the release, says so on the wire, and causes no rollback", () => {
    const rig = rigWhere(fail("500"), fail("500"))
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(20 * minute)
      assert.strictEqual(yield* stateOf, "Soaking")
      assert.strictEqual(rig.host.running, newSystem)
      assert.strictEqual((yield* kindsAndReasons)[0], "fail as before the switch: 500")
      rig.probes.script = () => ({ durationMs: 0, outcome: pass })
      yield* elapse(30 * second)
      assert.strictEqual(yield* stateOf, "Converged")
    }))
  })

  it.effect("also when the agent was replaced by its own switch", () => {
    const rig = rigWhere(fail("500"), fail("500"))
    return Effect.gen(function*() {
      yield* rig.live(Effect.andThen(offer(dispatch()), elapse(second)))
      yield* rig.live(Effect.gen(function*() {
        yield* elapse(20 * minute)
        assert.strictEqual(rig.host.running, newSystem)
        assert.strictEqual(yield* stateOf, "Soaking")
      }))
    })
  })

  const declared = (onBaselineFailure: "hold" | "ignore" | "fail"): RigOptions => ({
    checks: { web: { ...httpCheck, onBaselineFailure } }
  })

  it.effect("under `ignore` is only observed: the release converges", () => {
    const rig = rigWhere(fail("500"), fail("500"), declared("ignore"))
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(3 * minute)
      const record = yield* recordOf(r1)
      assert.isTrue(record.state === "Converged" && record.topology?.["web"] === "observe")
    }))
  })

  it.effect("under `fail` fails it like any other", () => {
    const rig = rigWhere(fail("500"), fail("500"), declared("fail"))
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(3 * minute)
      assert.strictEqual(yield* stateOf, "Reverted")
    }))
  })

  it.effect("fails it when the new system declares another check under its name", () => {
    const rig = rigWhere(fail("500"), fail("500"))
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(2 * second)
      assert.isDefined(yield* baselineOf)
      rig.probes.declared = { _tag: "Declared", checks: { web: { ...httpCheck, intervalSeconds: 6 } } }
      yield* elapse(3 * minute)
      assert.strictEqual(yield* stateOf, "Reverted")
    }))
  })

  it.effect("that could not be run before says nothing: the release is judged as always", () => {
    const rig = rigWhere(inconclusive("EMFILE"), fail("500"))
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(3 * minute)
      assert.strictEqual(yield* stateOf, "Reverted")
    }))
  })
})

describe("the signed health gate", () => {
  const units = (...names: ReadonlyArray<string>): FailedUnits => ({ _tag: "Units", units: names })
  const unknown: FailedUnits = { _tag: "Unknown", problem: "no systemd" }

  const gateRig = (before: FailedUnits, after: FailedUnits) => {
    const rig = new Rig()
    rig.probes.failedUnits = () => rig.host.running === oldSystem ? before : after
    return rig
  }

  it.effect("is a probe of its own name, and a host with as many failed units as before converges", () => {
    const rig = gateRig(units("old.service"), units("old.service"))
    return rig.live(Effect.gen(function*() {
      yield* offer(gated)
      yield* elapse(2 * minute)
      const record = yield* recordOf(r1)
      assert.isTrue(record.state === "Converged" && record.topology?.[failedUnitsProbe] === "enforce")
    }))
  })

  it.effect("fails a release by a unit that had not failed before", () => {
    const rig = gateRig(units("old.service"), units("new.service", "old.service"))
    return rig.live(Effect.gen(function*() {
      yield* offer(gated)
      yield* elapse(3 * minute)
      assert.strictEqual(yield* stateOf, "Reverted")
      assert.include(
        yield* kindsAndReasons,
        "fail 1 units failed, 0 may: new.service; 1 that failed before the switch are not counted"
      )
    }))
  })

  it.effect("holds a release on a host that cannot say, and fails it after the time for that", () => {
    const rig = gateRig(unknown, unknown)
    return rig.live(Effect.gen(function*() {
      yield* offer(gated)
      yield* elapse(10 * minute)
      assert.strictEqual(yield* stateOf, "Soaking")
      assert.deepStrictEqual(yield* kindsAndReasons, [])
      yield* elapse(3 * minute)
      assert.strictEqual(yield* stateOf, "Reverted")
    }))
  })

  it.effect("of a policy without it asks nothing", () => {
    const rig = new Rig()
    let asked = 0
    rig.probes.failedUnits = () => {
      asked += 1
      return units("a.service")
    }
    return rig.live(Effect.gen(function*() {
      yield* offer(dispatch())
      yield* elapse(2 * minute)
      assert.strictEqual(yield* stateOf, "Converged")
      assert.strictEqual(asked, 0)
    }))
  })
})

describe("a plan of probes", () => {
  it("is in the order of their names, the gate among them, and equal declarations are equal whatever their order", () => {
    const policy = { ...dispatch().policy, maxFailedUnits: 3 }
    const names = plan({ zeta: httpCheck, alpha: httpCheck }, policy, undefined).map(({ name }) => name)
    assert.deepStrictEqual(names, ["alpha", failedUnitsProbe, "zeta"])
    const turned: HealthChecks["x"] = JSON.parse(
      JSON.stringify(Object.fromEntries(Object.entries(httpCheck).toReversed()))
    )
    assert.strictEqual(declarationOf(turned), declarationOf(httpCheck))
    assert.notStrictEqual(declarationOf({ ...httpCheck, intervalSeconds: 6 }), declarationOf(httpCheck))
  })
})
