import { assert, describe, it } from "@effect/vitest"
import type { UnnumberedEvent } from "../../src/Rollout/Host.ts"
import { agentEventKinds, heartbeatListLimit } from "../../src/Schema/Wire.ts"
import { Bench, day, restarted } from "../support/agentBench.ts"
import { dispatch, minute, newSystem, oldSystem, r1, r2, second, thirdSystem } from "../support/agentRig.ts"

const started = (rolloutId = r1, attempt = 1) =>
  ({ _tag: "ActivationStarted", rolloutId, attempt, switchMethod: "memory", at: 0 }) as const

const settled = (event: UnnumberedEvent, rolloutId = r1) => ({ _tag: "Settled", rolloutId, event, at: 0 }) as const

const failedSwitch: UnnumberedEvent = {
  kind: "ActivationFailed",
  exitCode: 1,
  stderrTail: "",
  failedAt: 0,
  closureAtFault: true,
  attempt: 1
}

const rolledBack: UnnumberedEvent = {
  kind: "RollbackComplete",
  revertedToClosure: oldSystem,
  exitCode: 0,
  completedAt: 0,
  attempt: 1
}

const isContiguousFrom = (first: number, seqs: ReadonlyArray<number>) =>
  assert.deepStrictEqual(seqs, seqs.map((_, index) => first + index))

describe("sequence numbers", () => {
  it("are contiguous from 1 in every rollout, whatever the kind of event", () => {
    const bench = new Bench()
    // r1 defers, completes, soaks, fails by its probes and rolls back; r2 fails in its switch; r3 converges.
    bench.accept(dispatch())
    bench.accept(started())
    bench.accept(settled({ kind: "ActivationDeferred", component: "kernel", deferredAt: 0, attempt: 1 }))
    bench.tick(newSystem)
    bench.accept({
      _tag: "TopologyDeclared",
      rolloutId: r1,
      attempt: 1,
      at: 0,
      probes: [{ probeName: "web", kind: "http", mode: "enforce" }]
    })
    for (let at = 0; at <= 30; at += 5) bench.pass(5 * second).sample("fail")
    bench.accept({ _tag: "RollbackStarted", rolloutId: r1, attempt: 1, at: 0 })
    bench.accept(settled(rolledBack))
    bench.accept(dispatch({ rolloutId: r2, signedAt: 2 }))
    bench.accept(started(r2))
    bench.accept(settled(failedSwitch, r2))
    bench.soak({ rolloutId: "stable@03", signedAt: 3 }, [])
    bench.pass(2 * minute).tick()
    const rollouts = [r1, r2, "stable@03"]
    for (const rolloutId of rollouts) isContiguousFrom(1, bench.events(rolloutId).map(({ seq }) => seq))
    assert.deepStrictEqual(
      [...new Set(rollouts.flatMap((rolloutId) => bench.kinds(rolloutId)))].toSorted(),
      agentEventKinds.toSorted()
    )
    bench.checkFold()
  })

  it("of a new journal start above what the control plane holds", () => {
    const told = new Bench()
    told.accept(dispatch({ lastEventSeq: 41 }))
    isContiguousFrom(42, told.events().map(({ seq }) => seq))

    const floored = new Bench()
    floored.accept({
      _tag: "HeartbeatAnswered",
      replayFrom: {},
      ackedThrough: {},
      snapshots: [{
        rolloutId: r1,
        hostname: "host-1",
        channel: "stable",
        state: "Soaking",
        targetClosure: newSystem,
        dispatchedAt: 0,
        lastEventSeq: 7
      }]
    })
    assert.strictEqual(floored.state.rollouts.size, 0)
    floored.accept(dispatch())
    isContiguousFrom(8, floored.events().map(({ seq }) => seq))
  })

  it("go on in a further attempt, and results of an earlier one are refused", () => {
    const bench = new Bench()
    bench.accept(dispatch())
    bench.accept(started())
    bench.accept(dispatch({ attempt: 2, targetClosure: thirdSystem }))
    assert.strictEqual(bench.reasonOf(settled(failedSwitch)), "wrong-attempt")
    assert.strictEqual(bench.reasonOf(started()), "wrong-attempt")
    bench.accept(started(r1, 2))
    isContiguousFrom(1, bench.events().map(({ seq }) => seq))
    assert.deepStrictEqual(bench.events().map(({ attempt }) => attempt), [1, 1, 2, 2])
    assert.strictEqual(bench.reasonOf(dispatch()), "superseded")
  })
})

describe("a dispatch", () => {
  it("closes the records of older rollouts in its own commit", () => {
    const bench = new Bench()
    bench.accept(dispatch())
    bench.accept(dispatch({ rolloutId: r2, signedAt: 2 }))
    assert.isDefined(bench.entry().record.closedAt)
    assert.strictEqual(bench.reasonOf(started()), "record-closed")
    bench.checkFold()
  })

  it("of an older rollout is refused", () => {
    const bench = new Bench()
    bench.accept(dispatch({ rolloutId: r2, signedAt: 2 }))
    assert.strictEqual(bench.reasonOf(dispatch()), "superseded")
  })

  it("for a known attempt sends that attempt's events again, less and less often", () => {
    const bench = new Bench()
    bench.accept(dispatch())
    const sentAgain = Array.from({ length: 20 }, (_, index) => index + 1).filter(() => {
      bench.deliver()
      bench.accept(dispatch())
      return bench.entry().lane.nextSeq === 1
    })
    assert.deepStrictEqual(sentAgain, [1, 2, 4, 8, 16])
    assert.deepStrictEqual(bench.kinds(), ["DispatchAck"])
  })

  it("for a known attempt but another closure is refused", () => {
    const bench = new Bench()
    bench.accept(dispatch())
    assert.strictEqual(bench.reasonOf(dispatch({ targetClosure: thirdSystem })), "other-target")
  })

  it("remembers where a rollback goes: the last convergence, before it what ran first", () => {
    const bench = new Bench()
    bench.accept(dispatch())
    const first = bench.entry().record
    assert.strictEqual(first.state === "Activating" && first.rollbackTarget, oldSystem)
    bench.soak({ rolloutId: r2, signedAt: 2, targetClosure: newSystem }, [])
    bench.pass(2 * minute).tick(newSystem)
    bench.accept(dispatch({ rolloutId: "stable@03", signedAt: 3, targetClosure: thirdSystem, observed: newSystem }))
    const third = bench.entry("stable@03").record
    assert.strictEqual(third.state === "Activating" && third.rollbackTarget, newSystem)
  })

  it("that could not be taken is remembered, latest per rollout and no more than a heartbeat carries", () => {
    const bench = new Bench()
    const reject = (n: number, detail: string) =>
      bench.accept({
        _tag: "RejectedDispatch",
        rolloutId: `edge@${n.toString(16)}`,
        reason: "superseded",
        detail,
        at: n
      })
    for (let n = 0; n < heartbeatListLimit + 10; n += 1) reject(n, "first")
    reject(70, "again")
    assert.strictEqual(bench.state.rejections.size, heartbeatListLimit)
    assert.isFalse(bench.state.rejections.has("edge@0"))
    assert.strictEqual(bench.state.rejections.get("edge@46")?.detail, "again")
    bench.accept(dispatch({ rolloutId: "edge@ff" }))
    assert.strictEqual(bench.state.rejections.size, 0)
  })
})

describe("leave to start a switch", () => {
  it("is given twice and no more", () => {
    const bench = new Bench()
    bench.accept(dispatch())
    bench.accept(started())
    bench.accept(started())
    assert.strictEqual(bench.reasonOf(started()), "attempts-exhausted")
  })

  it("of a rollback is given once per failure", () => {
    const bench = new Bench()
    const rollback = { _tag: "RollbackStarted", rolloutId: r1, attempt: 1, at: 0 } as const
    bench.accept(dispatch())
    assert.strictEqual(bench.reasonOf(rollback), "illegal-for-state")
    bench.accept(started())
    bench.accept(settled(failedSwitch))
    bench.accept(rollback)
    assert.strictEqual(bench.reasonOf(rollback), "attempts-exhausted")
    bench.accept(settled({ ...failedSwitch, closureAtFault: false }))
    bench.accept(rollback)
    bench.checkFold()
  })

  it("does not come from a worker that reports a convergence", () => {
    const bench = new Bench().soak()
    assert.strictEqual(
      bench.reasonOf(settled({ kind: "Converged", convergedAt: 0, currentClosure: oldSystem, attempt: 1 })),
      "invariant"
    )
  })
})

describe("what does not fit the wire", () => {
  it("is refused by name before it could end a commit", () => {
    const bench = new Bench().soak()
    const declare = (probeName: string) =>
      ({
        _tag: "TopologyDeclared",
        rolloutId: r1,
        attempt: 1,
        at: 0,
        probes: [{ probeName, kind: "http", mode: "enforce" }]
      }) as const
    assert.strictEqual(bench.reasonOf(declare("")), "invalid-event")
    assert.strictEqual(bench.reasonOf(declare("x".repeat(256))), "invalid-event")
    assert.strictEqual(bench.reasonOf(settled({ ...failedSwitch, exitCode: 1.5 })), "invalid-event")
    assert.strictEqual(bench.reasonOf(settled({ ...failedSwitch, stderrTail: "x".repeat(20_000) })), "invalid-event")
  })
})

describe("a rejection", () => {
  it("is kept no longer than a heartbeat can tell it", () => {
    const bench = new Bench()
    bench.accept({ _tag: "RejectedDispatch", rolloutId: r1, reason: "stale", detail: "ü".repeat(100_000), at: 0 })
    assert.isAtMost(bench.state.rejections.get(r1)?.detail.length ?? Infinity, 1024)
    const stored = bench.writes.flatMap((write) => write._tag === "PutRejection" ? [write.rejection.detail.length] : [])
    assert.deepStrictEqual(stored, [1024])
  })
})

describe("delivery", () => {
  const verdict = (bench: Bench, seq: number, given: "Applied" | "Parked" | "Refused") => {
    const { kind } = bench.events().find((event) => event.seq === seq) ?? { kind: "ProbeResult" as const }
    const answer = given === "Applied" ? { _tag: given } as const : { _tag: given, reason: "invariant" } as const
    return { _tag: "Delivered", rolloutId: r1, seq, kind, verdict: answer } as const
  }

  it("is in order: only the oldest undelivered row is taken", () => {
    const bench = new Bench().soak()
    assert.strictEqual(bench.reasonOf(verdict(bench, 2, "Applied")), "not-oldest")
    bench.accept(verdict(bench, 1, "Applied"))
    assert.strictEqual(bench.reasonOf(verdict(bench, 1, "Applied")), "not-oldest")
    bench.accept(verdict(bench, 2, "Applied"))
    assert.strictEqual(bench.entry().lane.nextSeq, 3)
  })

  it("that is refused consumes the row; a refused change of state makes the record diverge, telemetry does not", () => {
    const bench = new Bench().soak()
    bench.deliver(r1, 2)
    bench.accept(verdict(bench, 3, "Refused"))
    assert.isUndefined(bench.entry().record.diverged)
    bench.accept({ _tag: "HeartbeatAnswered", replayFrom: { [r1]: 2 }, ackedThrough: {}, snapshots: [] })
    bench.accept(verdict(bench, 2, "Refused"))
    assert.isTrue(bench.entry().record.diverged)
    bench.checkFold()
  })

  it("passes over a parked row, and a gap brings it back", () => {
    const bench = new Bench().soak()
    bench.deliver(r1, 1)
    bench.accept(verdict(bench, 2, "Parked"))
    assert.deepStrictEqual([bench.entry().lane.nextSeq, bench.entry().lane.parked], [3, [2]])
    bench.accept({
      _tag: "Delivered",
      rolloutId: r1,
      seq: 3,
      kind: "ProbeTopologyDeclared",
      verdict: { _tag: "Gap", replayFrom: 2 }
    })
    assert.deepStrictEqual([bench.entry().lane.nextSeq, bench.entry().lane.parked], [2, []])
  })

  it("starts again where a heartbeat's answer asks, as far back as rows are kept", () => {
    const bench = new Bench().soak({ lastEventSeq: 10 })
    bench.deliver()
    bench.accept({
      _tag: "HeartbeatAnswered",
      replayFrom: { [r1]: 3, "stable@ff": 1 },
      ackedThrough: { [r1]: 2 },
      snapshots: []
    })
    assert.strictEqual(bench.entry().lane.nextSeq, 11)
    assert.strictEqual(bench.entry().lane.ackedThrough, 2)
  })

  it("starts again behind a snapshot that lacks our events, less and less often at a control plane that drops them", () => {
    const bench = new Bench().soak()
    const snapshot = {
      rolloutId: r1,
      hostname: "host-1",
      channel: "stable",
      state: "Activating",
      targetClosure: oldSystem,
      dispatchedAt: 0,
      lastEventSeq: 1
    } as const
    const sentAgain = Array.from({ length: 20 }, (_, index) => index + 1).filter(() => {
      bench.deliver()
      bench.accept({ _tag: "HeartbeatAnswered", replayFrom: {}, ackedThrough: {}, snapshots: [snapshot] })
      return bench.entry().lane.nextSeq === 2
    })
    assert.deepStrictEqual(sentAgain, [1, 2, 4, 8, 16])
    assert.strictEqual(bench.entry().record.state, "Soaking")
  })
})

describe("rows that an outage parked", () => {
  const park = (bench: Bench) =>
    bench.accept({
      _tag: "Delivered",
      rolloutId: r1,
      seq: 1,
      kind: "DispatchAck",
      verdict: { _tag: "Parked", reason: "no-verdict" }
    })
  const answered = (ackedThrough: Readonly<Record<string, number>> = {}) =>
    ({ _tag: "HeartbeatAnswered", replayFrom: {}, ackedThrough, snapshots: [] }) as const

  it("go again when an original control plane answers heartbeats, less and less often", () => {
    const bench = new Bench()
    bench.accept(dispatch())
    park(bench)
    let again = 0
    for (let n = 0; n < 10; n += 1) {
      bench.accept(answered())
      if (bench.entry().lane.nextSeq > 1) continue
      again += 1
      park(bench)
    }
    assert.strictEqual(again, 4)
    assert.deepStrictEqual(bench.entry().lane.parked, [1])
  })

  it("wait for the word of a control plane that says by number what it holds", () => {
    const bench = new Bench()
    bench.accept(dispatch())
    park(bench)
    bench.accept(answered({ [r1]: 0 }))
    bench.accept(answered())
    assert.strictEqual(bench.entry().lane.nextSeq, 2)
  })
})

describe("probe samples", () => {
  it("of a probe that keeps passing are journaled first and then every five minutes", () => {
    const bench = new Bench().soak({ policy: { ...dispatch().policy, soakMs: day } })
    for (let at = 0; at < 10 * 60; at += 5) bench.pass(5 * second).sample("pass")
    assert.deepStrictEqual(bench.kinds().filter((kind) => kind.startsWith("Probe")), [
      "ProbeTopologyDeclared",
      "ProbeObservedFirst",
      "ProbeResult",
      "ProbeResult"
    ])
  })

  it("of a flapping probe are bounded, and every pass that ends a failure is journaled", () => {
    const bench = new Bench().soak({ policy: { onHealthFailure: "halt", soakMs: day, sustainedFailureMs: 2 * minute } })
    for (let at = 0; at < 10 * 60; at += 2) bench.pass(second).sample(at % 4 === 0 ? "fail" : "pass")
    const results = bench.kinds().filter((kind) => kind === "ProbeResult").length
    // 300 samples in 300 s; at most two per gap of 15 s, and the held failure that ends it.
    assert.isAtMost(results, 3 * (300 / 15) + 3)
    assert.strictEqual(bench.entry().record.state, "Soaking")
    bench.checkFold()
  })

  it("that the rate limit kept back still forbid a convergence", () => {
    const bench = new Bench().soak()
    bench.pass(50 * second).sample("pass")
    bench.pass(second).sample("fail")
    bench.pass(second).sample("pass")
    bench.pass(second).sample("fail")
    const journaled = bench.kinds().length
    bench.pass(second).tick()
    assert.strictEqual(bench.kinds().length, journaled)
    bench.pass(10 * second).tick()
    const { record } = bench.entry()
    assert.isTrue(record.state === "Soaking" && record.probes["web"]?.status === "fail")
    bench.checkFold()
  })

  it("that the rate limit kept back count from the first failure", () => {
    const bench = new Bench().soak({
      policy: { onHealthFailure: "halt", soakMs: day, sustainedFailureMs: 60 * second }
    })
    bench.pass(second).sample("fail")
    bench.pass(second).sample("pass")
    bench.pass(second)
    const firstFailure = bench.wall
    bench.sample("fail")
    while (bench.wall < firstFailure + 59 * second) bench.pass(second).sample("fail")
    assert.strictEqual(bench.entry().record.state, "Soaking")
    bench.pass(second).sample("fail")
    assert.strictEqual(bench.entry().record.state, "Failed")
  })

  it("are refused when they do not judge this activation", () => {
    const bench = new Bench()
    const sample = {
      _tag: "ProbeSample",
      rolloutId: r1,
      attempt: 1,
      probeName: "web",
      mode: "enforce",
      status: "pass",
      at: 0
    } as const
    assert.strictEqual(bench.reasonOf(sample), "unknown-rollout")
    bench.pass(minute).soak()
    assert.strictEqual(bench.reasonOf(sample), "stale-sample")
    assert.strictEqual(bench.reasonOf({ ...sample, at: minute, probeName: "constructor" }), "undeclared-probe")
    assert.strictEqual(bench.reasonOf({ ...sample, at: minute, attempt: 2 }), "wrong-attempt")
    bench.soak({ rolloutId: r2, signedAt: 2 })
    assert.strictEqual(bench.reasonOf({ ...sample, at: minute }), "record-closed")
  })
})

describe("a soak", () => {
  it("is not ended by a step of the wall clock", () => {
    const bench = new Bench().soak()
    bench.sample("pass")
    bench.tick()
    bench.wall += day
    bench.pass(59 * second).tick()
    assert.strictEqual(bench.entry().record.state, "Soaking")
    bench.pass(second).tick()
    assert.strictEqual(bench.entry().record.state, "Converged")
    bench.checkFold()
  })

  it("is not prolonged by a wall clock that is set back, before or after a probe has passed", () => {
    for (const passFirst of [true, false]) {
      const bench = new Bench().pass(400 * day).soak()
      bench.tick()
      if (passFirst) bench.sample("pass")
      bench.wall -= 365 * day
      bench.pass(30 * second).tick()
      if (!passFirst) bench.sample("pass")
      bench.pass(29 * second).tick()
      assert.strictEqual(bench.entry().record.state, "Soaking")
      bench.pass(second).tick()
      assert.strictEqual(bench.entry().record.state, "Converged")
      bench.checkFold()
    }
  })

  it("that ended its switch while the clock was wrong is not prolonged when it is put right, or found right at a start", () => {
    for (const restarts of [true, false]) {
      const bench = new Bench().pass(400 * day).soak()
      bench.tick()
      bench.wall -= 365 * day
      const after = new Bench(restarts ? restarted(bench.state) : bench.state)
      after.wall = bench.wall
      after.monotonic = restarts ? 0 : bench.monotonic
      after.tick()
      after.sample("pass")
      after.pass(59 * second).tick()
      assert.strictEqual(after.entry().record.state, "Soaking")
      after.pass(second).tick()
      assert.strictEqual(after.entry().record.state, "Converged", String(restarts))
    }
  })

  it("knows of no step in a new process: the times of before are neither moved nor taken for late", () => {
    const bench = new Bench().pass(day).soak()
    const after = new Bench(restarted(bench.state))
    after.wall = bench.wall + 30 * day
    after.monotonic = 5
    after.tick()
    after.pass(second).tick()
    assert.deepStrictEqual(after.rows(), [])
  })

  it("that has lost its memory of the running time goes on from what was journaled", () => {
    const bench = new Bench().soak({ policy: { ...dispatch().policy, soakMs: 10 * minute } })
    bench.sample("pass")
    for (let at = 0; at < 300; at += 5) bench.pass(5 * second).tick()
    const { record } = bench.entry()
    assert.isTrue(record.state === "Soaking" && record.soakedMs >= 4 * minute)
    const after = new Bench(restarted(bench.state))
    after.wall = bench.wall + day
    after.tick()
    after.pass(4 * minute).tick()
    assert.strictEqual(after.entry().record.state, "Soaking")
    after.pass(2 * minute).tick()
    assert.strictEqual(after.entry().record.state, "Converged")
  })
})

describe("the journal of a soak", () => {
  const runningTimes = (bench: Bench) =>
    bench.rows().filter(({ entry }) => entry._tag === "Learned" && entry.fact.kind === "Soaked").length

  it("takes no running time that the policy does not ask for, however long the soak is stuck", () => {
    const bench = new Bench().soak({ policy: { ...dispatch().policy, soakMs: 0 } })
    for (let n = 0; n < 1000; n += 1) bench.pass(5 * second).tick()
    assert.strictEqual(bench.entry().record.state, "Soaking")
    assert.strictEqual(runningTimes(bench), 0)
  })

  it("takes the running time until the soak has enough of it, and not for ever", () => {
    const bench = new Bench().soak({ policy: { ...dispatch().policy, soakMs: 10 * minute } })
    for (let n = 0; n < 2000; n += 1) bench.pass(5 * second).tick()
    assert.isAtMost(runningTimes(bench), 11)
    bench.sample("pass")
    bench.tick()
    assert.strictEqual(bench.entry().record.state, "Converged")
    bench.checkFold()
  })
})

describe("drift", () => {
  it("is only found by a tick, which has just read what runs", () => {
    const bench = new Bench().soak({ targetClosure: newSystem, observed: newSystem })
    bench.tick(oldSystem)
    // The disk was full for two minutes: no tick was decided, and what was read last is old.
    bench.pass(2 * minute).sample("pass")
    assert.strictEqual(bench.entry().record.state, "Soaking")
    bench.tick(newSystem)
    assert.strictEqual(bench.entry().record.state, "Converged")
  })
})

describe("a step of the wall clock while a probe fails", () => {
  it.each([60, -60, 525_600, -525_600])(
    "of %i min neither ends the wait for the threshold nor prolongs it",
    (minutes) => {
      const bench = new Bench().pass(400 * day).soak()
      bench.tick()
      bench.sample("fail")
      bench.wall += minutes * minute
      for (let at = 0; at < 25; at += 5) {
        bench.pass(5 * second).tick()
        bench.sample("fail")
        assert.strictEqual(bench.entry().record.state, "Soaking", `${at} s`)
      }
      bench.pass(5 * second)
      bench.sample("fail")
      assert.strictEqual(bench.entry().record.state, "Failed")
      bench.checkFold()
    }
  )
})

describe("deadlines when the wall clock steps", () => {
  it.each([60, -60, 525_600, -525_600])(
    "of %i min: neither a deferral nor the fetch comes earlier or later",
    (minutes) => {
      const start = 400 * day
      const bench = new Bench().pass(start)
      bench.accept(dispatch({ receivedAt: start, dispatchedAt: start, soakDueAt: start + minute }))
      bench.tick()
      bench.wall += minutes * minute
      bench.pass(second).tick()
      const activating = bench.entry().record
      assert.strictEqual(activating.state === "Activating" && bench.wall - activating.dispatchAckedAt, second)
      bench.accept({
        _tag: "Settled",
        rolloutId: r1,
        at: bench.wall,
        event: { kind: "ActivationDeferred", component: "system", deferredAt: bench.wall, attempt: 1 }
      })
      bench.wall -= minutes * minute
      bench.pass(7 * day - second).tick()
      assert.strictEqual(bench.entry().record.state, "Deferred")
      bench.pass(second).tick()
      assert.strictEqual(bench.entry().record.state, "Failed")
      bench.checkFold()
    }
  )
})

describe("retention", () => {
  /** r1 converged and delivered; r2 superseded it and converged an hour later. */
  const history = (ackedThrough?: number) => {
    const bench = new Bench().soak({}, [])
    bench.pass(2 * minute).tick()
    bench.deliver()
    bench.pass(60 * minute).soak({ rolloutId: r2, signedAt: 2, dispatchedAt: bench.wall }, [])
    bench.pass(2 * minute).tick()
    if (ackedThrough !== undefined) {
      bench.accept({ _tag: "HeartbeatAnswered", replayFrom: {}, ackedThrough: { [r1]: ackedThrough }, snapshots: [] })
    }
    return bench
  }
  const isSummarised = (bench: Bench) =>
    bench.writes.some((write) => write._tag === "Summarise" && write.row.rolloutId === r1)

  it("keeps rows until 30 days after a later rollout ended, then one summary and the record", () => {
    const bench = history()
    bench.pass(30 * day - second).tick()
    assert.isFalse(isSummarised(bench))
    bench.pass(second).tick()
    assert.isTrue(isSummarised(bench))
    assert.strictEqual(bench.entry().record.state, "Converged")
    bench.accept({ _tag: "HeartbeatAnswered", replayFrom: { [r1]: 1 }, ackedThrough: {}, snapshots: [] })
    assert.strictEqual(bench.entry().lane.nextSeq, bench.entry().record.lastEventSeq + 1)
  })

  it("keeps rows that the control plane has not acknowledged", () => {
    const bench = history(2)
    bench.pass(90 * day).tick()
    assert.isFalse(isSummarised(bench))
    bench.accept({ _tag: "HeartbeatAnswered", replayFrom: {}, ackedThrough: { [r1]: 99 }, snapshots: [] })
    bench.tick()
    assert.isTrue(isSummarised(bench))
  })

  it("gives up the oldest closed rollouts that are never acknowledged, beyond 64 of them", () => {
    const bench = new Bench()
    const id = (n: number) => `stable@${n.toString(16)}`
    for (let n = 1; n <= 70; n += 1) {
      bench.soak({ rolloutId: id(n), signedAt: n, dispatchedAt: bench.wall }, [])
      bench.pass(2 * minute).tick()
    }
    const summarised = () => bench.writes.flatMap((write) => write._tag === "Summarise" ? [write.row.rolloutId] : [])
    for (let n = 0; n < 100; n += 1) bench.tick()
    assert.deepStrictEqual(summarised(), [], "not before their time")
    bench.pass(40 * day)
    for (let n = 0; n < 100; n += 1) bench.tick()
    assert.deepStrictEqual(summarised(), [1, 2, 3, 4, 5].map(id), "70, less the current one, less 64")
    const { lane, record } = bench.entry(id(1))
    assert.strictEqual(lane.nextSeq, record.lastEventSeq + 1, "nothing of it can be sent any more")
    bench.accept({ _tag: "HeartbeatAnswered", replayFrom: { [id(1)]: 1 }, ackedThrough: {}, snapshots: [] })
    assert.strictEqual(bench.entry(id(1)).lane.nextSeq, record.lastEventSeq + 1)
  })

  it("keeps the rows of the current rollout for ever", () => {
    const bench = history()
    bench.deliver(r2)
    bench.pass(900 * day).tick()
    assert.isFalse(bench.writes.some((write) => write._tag === "Summarise" && write.row.rolloutId === r2))
  })

  it("forgets the oldest summaries, but never their numbers", () => {
    const bench = new Bench()
    const id = (n: number) => `stable@${n.toString(16)}`
    for (let n = 1; n <= 70; n += 1) {
      bench.soak({ rolloutId: id(n), signedAt: n, dispatchedAt: bench.wall }, [])
      bench.pass(2 * minute).tick()
      bench.deliver(id(n))
    }
    bench.pass(40 * day)
    for (let n = 0; n < 100; n += 1) bench.tick()
    assert.isFalse(bench.state.rollouts.has(id(1)))
    assert.isAtMost(bench.state.rollouts.size, 66)
    const before = bench.state.seqFloors.get(id(1)) ?? 0
    assert.isAbove(before, 0)
    bench.accept(dispatch({ rolloutId: id(1), signedAt: 100 }))
    assert.strictEqual(bench.entry(id(1)).record.lastEventSeq, before + 1)
  })
})

describe("trust memory", () => {
  it("never goes back", () => {
    const bench = new Bench()
    const mark = (artifact: string, signedAt: number) =>
      bench.accept({ _tag: "ArtifactsAccepted", marks: [{ artifact, signedAt }] })
    mark("fleet", 5)
    mark("manifest:stable", 4)
    mark("fleet", 3)
    assert.deepStrictEqual([...bench.state.trust], [["fleet", 5], ["manifest:stable", 4]])
    assert.strictEqual(bench.writes.length, 2)
  })
})
