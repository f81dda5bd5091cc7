import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { healthyScript } from "../../../src/Layers/Host/ActivatorMemory.ts"
import type { ProbeOutcome } from "../../../src/Layers/Host/Probes.ts"
import type { ProbeScript } from "../../../src/Layers/Host/ProbesMemory.ts"
import type { HealthCheck } from "../../../src/Schema/HealthChecks.ts"
import {
  dispatch,
  elapse,
  eventsOf,
  httpCheck,
  kindsOf,
  minute,
  offer,
  oldSystem,
  r1,
  r2,
  recordOf,
  Rig,
  second,
  stateNow
} from "../../support/agentRig.ts"

/** The target runs already, so the soak begins at once. */
const soakNow = dispatch({ targetClosure: oldSystem })

const pass: ProbeOutcome = { status: "pass" }
const tcpCheck: HealthCheck = {
  kind: "tcp",
  mode: "enforce",
  intervalSeconds: 5,
  runOnce: false,
  onBaselineFailure: "hold",
  host: "127.0.0.1",
  port: 1,
  connectTimeoutSecs: 1
}

/** Counts the runs that began, by kind of check. */
const counting = (script: ProbeScript) => {
  const runs = new Map<string, number>()
  const counted: ProbeScript = (check, nth) => {
    runs.set(check.kind, (runs.get(check.kind) ?? 0) + 1)
    return script(check, nth)
  }
  return { counted, of: (kind: string) => runs.get(kind) ?? 0 }
}
const atOnce: ProbeScript = () => ({ durationMs: 0, outcome: pass })

describe("probes", () => {
  it.effect("run at once, then every interval, and only while the record soaks", () => {
    const runs = counting(atOnce)
    const rig = new Rig({ checks: { web: { ...httpCheck, intervalSeconds: 10 } }, probes: runs.counted })
    return rig.live(Effect.gen(function*() {
      yield* elapse(minute)
      assert.strictEqual(runs.of("http"), 0)
      yield* offer(soakNow)
      const timeline: Array<number> = []
      for (let at = 0; at < 70; at += 1) {
        timeline.push(runs.of("http"))
        yield* elapse(second)
      }
      assert.deepStrictEqual([timeline[1], timeline[9], timeline[11], timeline[21], timeline[51]], [1, 1, 2, 3, 6])
      assert.strictEqual((yield* recordOf(r1)).state, "Converged")
      const after = runs.of("http")
      yield* elapse(10 * minute)
      assert.strictEqual(runs.of("http"), after)
    }))
  })

  it.effect("that outlast their interval skip the runs they missed", () => {
    const runs = counting(() => ({ durationMs: 12 * second, outcome: pass }))
    const rig = new Rig({ checks: { web: httpCheck }, probes: runs.counted })
    return rig.live(Effect.gen(function*() {
      yield* offer(soakNow)
      yield* elapse(46 * second)
      // On the grid of 5 s: at 0, 15, 30, 45.
      assert.strictEqual(runs.of("http"), 4)
    }))
  })

  it.effect("with an interval below five seconds run every five", () => {
    const runs = counting(atOnce)
    const rig = new Rig({ checks: { web: { ...httpCheck, intervalSeconds: 1 } }, probes: runs.counted })
    return rig.live(Effect.gen(function*() {
      yield* offer(soakNow)
      yield* elapse(14 * second)
      assert.strictEqual(runs.of("http"), 3)
    }))
  })

  it.effect("that run once stop at their first pass, and do not run again after a restart", () => {
    const runs = counting((_, nth) => ({ durationMs: 0, outcome: nth < 3 ? { status: "fail" } : pass }))
    const rig = new Rig({ checks: { web: { ...httpCheck, runOnce: true } }, probes: runs.counted })
    return Effect.gen(function*() {
      yield* rig.live(Effect.gen(function*() {
        yield* offer(soakNow)
        yield* elapse(30 * second)
        assert.strictEqual(runs.of("http"), 3)
      }))
      yield* rig.live(Effect.gen(function*() {
        yield* elapse(2 * minute)
        assert.strictEqual(runs.of("http"), 3)
        assert.strictEqual((yield* recordOf(r1)).state, "Converged")
      }))
    })
  })

  it.effect("declare their topology before the first sample, disabled ones too, and once", () => {
    const checks = { web: httpCheck, db: { ...tcpCheck, mode: "disabled" as const } }
    const runs = counting(atOnce)
    const rig = new Rig({ checks, probes: runs.counted })
    const look = Effect.gen(function*() {
      const kinds = yield* kindsOf(r1)
      assert.strictEqual(kinds.filter((kind) => kind === "ProbeTopologyDeclared").length, 1)
      assert.isBelow(kinds.indexOf("ProbeTopologyDeclared"), kinds.indexOf("ProbeObservedFirst"))
      const declared = (yield* eventsOf(r1)).find((event) => event.kind === "ProbeTopologyDeclared")
      assert.deepStrictEqual(declared?.kind === "ProbeTopologyDeclared" ? declared.probes : [], [
        { probeName: "db", kind: "tcp", mode: "disabled" },
        { probeName: "web", kind: "http", mode: "enforce" }
      ])
      assert.strictEqual(runs.of("tcp"), 0)
    })
    return Effect.gen(function*() {
      yield* rig.live(Effect.andThen(offer(soakNow), Effect.andThen(elapse(20 * second), look)))
      yield* rig.live(Effect.andThen(elapse(10 * second), look))
    })
  })

  it.effect("of a superseded record stop at once, runs in flight included", () => {
    let interrupted = 0
    const runs = counting(() => ({ durationMs: 30 * second, outcome: pass }))
    const rig = new Rig({
      checks: { web: httpCheck },
      probes: runs.counted,
      host: {
        ...healthyScript,
        realise: () => {
          interrupted = runs.of("http")
          return { durationMs: 10 * minute, outcome: { _tag: "Ok" } }
        }
      }
    })
    return rig.live(Effect.gen(function*() {
      yield* offer(soakNow)
      yield* elapse(10 * second)
      assert.strictEqual(runs.of("http"), 1)
      yield* offer(dispatch({ rolloutId: r2, signedAt: 2 }))
      yield* elapse(2 * minute)
      assert.strictEqual(runs.of("http"), 1)
      assert.strictEqual(interrupted, 1)
      assert.notInclude(yield* kindsOf(r1), "ProbeResult")
    }))
  })
})

describe("a clock that is set back while probes run", () => {
  it.effect("stops no probe, and the soak ends when it would have", () => {
    const rig = new Rig({ checks: { web: httpCheck } })
    return Effect.gen(function*() {
      yield* elapse(minute)
      yield* rig.live(Effect.gen(function*() {
        yield* offer(soakNow)
        rig.wallStepMs = -minute
        yield* elapse(30 * second)
        assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
        yield* elapse(31 * second)
        assert.strictEqual((yield* recordOf(r1)).state, "Converged")
      }))
    })
  })
})

describe("a declaration that cannot be read", () => {
  it.effect("is one failing enforced probe, and fails the rollout after the threshold", () => {
    const rig = new Rig()
    rig.probes.declared = { _tag: "Invalid", problem: "health-checks.json: expected an object" }
    return rig.live(Effect.gen(function*() {
      yield* offer(soakNow)
      yield* elapse(2 * second)
      const soaking = yield* recordOf(r1)
      assert.deepStrictEqual(soaking.state === "Soaking" && soaking.topology, { declaration: "enforce" })
      yield* elapse(10 * minute)
      const record = yield* recordOf(r1)
      assert.isTrue(record.state === "Failed" && record.failure === "probes")
      assert.strictEqual((yield* stateNow).lastConverged, undefined)
    }))
  })

  it.effect("fails the rollout also when there is more wrong with it than an event can carry", () => {
    const rig = new Rig()
    rig.probes.declared = { _tag: "Invalid", problem: "expected a number\n".repeat(1000) }
    return rig.live(Effect.gen(function*() {
      yield* offer(soakNow)
      yield* elapse(10 * minute)
      assert.strictEqual((yield* recordOf(r1)).state, "Failed")
    }))
  })

  it.effect("gives way to the real probes once it can be read", () => {
    const rig = new Rig({ checks: { web: httpCheck } })
    const readable = rig.probes.declared
    rig.probes.declared = { _tag: "Invalid", problem: "torn" }
    return rig.live(Effect.gen(function*() {
      yield* offer(
        dispatch({ targetClosure: oldSystem, policy: { ...soakNow.policy, sustainedFailureMs: 2 * minute } })
      )
      yield* elapse(10 * second)
      rig.probes.declared = readable
      yield* elapse(2 * minute)
      assert.strictEqual((yield* recordOf(r1)).state, "Converged")
    }))
  })
})

describe("a probe that fails for longer than the threshold", () => {
  const failAfter = (from: number): ProbeScript => (_, nth) => ({
    durationMs: 0,
    outcome: nth < from ? pass : { status: "fail", failureReason: "500" }
  })

  it.effect("fails the rollout at its first failing sample at or after first failure + threshold", () => {
    // Samples at 0, 5, 10, ...; the first failing one is at 10, the threshold is 30: not at 35, but at 40.
    const rig = new Rig({ checks: { web: httpCheck }, probes: failAfter(3) })
    return rig.live(Effect.gen(function*() {
      yield* offer(soakNow)
      yield* elapse(39 * second)
      assert.strictEqual((yield* recordOf(r1)).state, "Soaking")
      yield* elapse(second + 1)
      const record = yield* recordOf(r1)
      assert.isTrue(record.state === "Failed" && record.failedAt === 40 * second)
      const failed = (yield* eventsOf(r1)).find((event) => event.kind === "Failed")
      assert.strictEqual(failed?.kind === "Failed" && failed.sustainedDurationSecs, 30)
    }))
  })

  it.effect("fails it although the agent was restarted in between", () => {
    const rig = new Rig({ checks: { web: httpCheck }, probes: failAfter(3) })
    return Effect.gen(function*() {
      yield* rig.live(Effect.andThen(offer(soakNow), elapse(25 * second)))
      yield* elapse(10 * second)
      yield* rig.live(Effect.gen(function*() {
        yield* elapse(6 * second)
        const record = yield* recordOf(r1)
        assert.isTrue(record.state === "Failed" && record.failedAt === 40 * second)
      }))
    })
  })

  it.effect("is forgiven by a pass", () => {
    const rig = new Rig({
      checks: { web: httpCheck },
      probes: (_, nth) => ({ durationMs: 0, outcome: nth % 5 === 0 ? pass : { status: "fail" } })
    })
    return rig.live(Effect.gen(function*() {
      yield* offer(soakNow)
      yield* elapse(10 * minute)
      assert.notStrictEqual((yield* recordOf(r1)).state, "Failed")
    }))
  })

  it.effect("does not fail it in observe mode", () => {
    const rig = new Rig({ checks: { web: { ...httpCheck, mode: "observe" } }, probes: failAfter(1) })
    return rig.live(Effect.gen(function*() {
      yield* offer(soakNow)
      yield* elapse(2 * minute)
      assert.strictEqual((yield* recordOf(r1)).state, "Converged")
    }))
  })
})
