import { assert, describe, it } from "@effect/vitest"
import { type HostEffect, learn, maxRollbacks, type Origin, type UnnumberedEvent } from "../../src/Rollout/Host.ts"
import type { HostRecord } from "../../src/Schema/HostRecord.ts"
import { formatTimestamp } from "../../src/Schema/Primitives.ts"
import { type AgentEventKind, agentEventKinds, type HostStateName } from "../../src/Schema/Wire.ts"
import {
  after,
  apply,
  assertState,
  failing,
  histories,
  late,
  minutes,
  passing,
  pending,
  policy,
  prior,
  recordIn,
  samples,
  seconds,
  t0,
  target
} from "../support/records.ts"

const states: ReadonlyArray<HostStateName> = [
  "Pending",
  "Activating",
  "Deferred",
  "Soaking",
  "Converged",
  "Failed",
  "Reverted"
]
const origins: ReadonlyArray<Origin> = ["Local", "Remote"]

/** protocol.md §3.2 by hand, and D11's additive cell: 14 pairs, each Local and Remote, and Failed × ActivationFailed. */
const legal: { readonly [S in HostStateName]: ReadonlyArray<AgentEventKind> } = {
  Pending: ["DispatchAck"],
  Activating: ["ActivationStarted", "ActivationCompleted", "ActivationDeferred", "ActivationFailed"],
  Deferred: ["ActivationCompleted", "ActivationFailed"],
  Soaking: ["ProbeTopologyDeclared", "ProbeObservedFirst", "ProbeResult", "ProbeFailureFirst", "Failed", "Converged"],
  Converged: [],
  Failed: ["RollbackComplete", "ActivationFailed"],
  Reverted: []
}

const names = (effects: ReadonlyArray<HostEffect>) => effects.map((effect) => effect._tag)

const accepted = (record: HostRecord, event: UnnumberedEvent, options = {}) => {
  const result = apply(record, event, options)
  return result.ok ? result : assert.fail(`${event.kind} in ${record.state}: ${JSON.stringify(result.error)}`)
}

const refused = (record: HostRecord, event: UnnumberedEvent, options = {}) => {
  const result = apply(record, event, options)
  return result.ok ? assert.fail(`${event.kind} in ${record.state} was accepted`) : result.error
}

const guard = (record: HostRecord, event: UnnumberedEvent, options = {}) => {
  const error = refused(record, event, options)
  return error._tag === "Invariant" ? error.invariant : assert.fail(JSON.stringify(error))
}

describe("legality (protocol.md §3.2, D11)", () => {
  it("is the table of 30 cells, and nothing else", () => {
    const cells = states.flatMap((state) =>
      origins.flatMap((origin) => agentEventKinds.map((kind) => ({ state, origin, kind })))
    )
    assert.strictEqual(cells.length, 7 * 24)
    const open = cells.filter(({ kind, origin, state }) => {
      const record = recordIn(state)
      const result = apply(record, samples[kind], { origin })
      const illegal = !result.ok && result.error._tag === "IllegalForState"
      if (illegal) assert.deepStrictEqual(result.error, { _tag: "IllegalForState", from: state, kind })
      assert.strictEqual(illegal, !legal[state].includes(kind), `${state} × ${origin} ${kind}`)
      return !illegal
    })
    assert.strictEqual(open.length, 30)
  })

  it("refuses a sequence number that is not above the last one, in every state and before legality", () => {
    for (const state of states) {
      for (const kind of agentEventKinds) {
        const record = { ...recordIn(state), lastEventSeq: 10 }
        for (const seq of [10, 5]) {
          assert.deepStrictEqual(refused(record, samples[kind], { seq }), { _tag: "SeqRegression", got: seq, last: 10 })
        }
      }
    }
  })

  it("advances the sequence number with every accepted event, gaps included", () => {
    for (const state of states) {
      for (const kind of legal[state]) {
        const record = recordIn(state)
        const { record: next } = accepted(record, samples[kind], { origin: "Remote", seq: record.lastEventSeq + 7 })
        assert.strictEqual(next.lastEventSeq, record.lastEventSeq + 7)
      }
    }
  })

  it("refuses an event of another attempt, and takes one without an attempt (D7)", () => {
    for (const state of states) {
      for (const kind of legal[state]) {
        const record = { ...recordIn(state), attempt: 2 }
        for (const origin of origins) {
          assert.deepStrictEqual(refused(record, { ...samples[kind], attempt: 1 }, { origin }), {
            _tag: "WrongAttempt",
            got: 1,
            expected: 2
          })
        }
        accepted(record, samples[kind], { origin: "Remote" })
        accepted(record, { ...samples[kind], attempt: 2 }, { origin: "Remote" })
      }
    }
  })
})

describe("effects, in the original's order (protocol.md §3.2)", () => {
  const sustained = after(recordIn("Soaking"), [
    samples.ProbeTopologyDeclared,
    failing(seconds(8)),
    failing(seconds(128))
  ])
  const healthy = learn(
    after(recordIn("Soaking"), [samples.ProbeTopologyDeclared, samples.ProbeResult]),
    { kind: "Soaked", soakedMs: policy.soakMs }
  )
  const soaking = recordIn("Soaking")
  const failed = recordIn("Failed")

  const local: ReadonlyArray<[HostRecord, AgentEventKind, HostStateName, ReadonlyArray<HostEffect["_tag"]>]> = [
    [recordIn("Pending"), "DispatchAck", "Activating", ["RecordTransition", "EmitEvent", "FireSwitch"]],
    [recordIn("Activating"), "ActivationStarted", "Activating", ["EmitEvent"]],
    [recordIn("Activating"), "ActivationCompleted", "Soaking", ["ResetProbes", "EmitEvent", "RecordTransition"]],
    [recordIn("Activating"), "ActivationDeferred", "Deferred", ["EmitEvent", "RecordTransition"]],
    [recordIn("Activating"), "ActivationFailed", "Failed", ["EmitEvent", "RecordTransition", "FireRollbackTo"]],
    [recordIn("Deferred"), "ActivationCompleted", "Soaking", ["ResetProbes", "EmitEvent", "RecordTransition"]],
    [recordIn("Deferred"), "ActivationFailed", "Failed", ["EmitEvent", "RecordTransition"]],
    [soaking, "ProbeTopologyDeclared", "Soaking", ["EmitEvent"]],
    [soaking, "ProbeObservedFirst", "Soaking", ["EmitEvent"]],
    [soaking, "ProbeResult", "Soaking", ["EmitEvent"]],
    [soaking, "ProbeFailureFirst", "Soaking", ["EmitEvent"]],
    [sustained, "Failed", "Failed", ["EmitEvent", "RecordTransition", "FireRollbackTo"]],
    [healthy, "Converged", "Converged", ["EmitEvent", "RecordTransition"]],
    [failed, "RollbackComplete", "Reverted", ["EmitEvent", "RecordTransition"]],
    [failed, "ActivationFailed", "Failed", ["EmitEvent", "FireRollbackTo"]]
  ]
  it.each(local)("%#: Local", (record, kind, to, effects) => {
    const result = accepted(record, samples[kind])
    assert.strictEqual(result.record.state, to)
    assert.deepStrictEqual(names(result.effects), effects)
  })

  const remote: ReadonlyArray<[HostStateName, AgentEventKind, HostStateName, ReadonlyArray<HostEffect["_tag"]>]> = [
    ["Pending", "DispatchAck", "Activating", ["AppendEventLog", "RecordTransition"]],
    ["Activating", "ActivationStarted", "Activating", ["AppendEventLog"]],
    ["Activating", "ActivationCompleted", "Soaking", ["AppendEventLog", "RecordTransition"]],
    ["Activating", "ActivationDeferred", "Deferred", ["AppendEventLog", "RecordTransition"]],
    ["Activating", "ActivationFailed", "Failed", ["AppendEventLog", "InsertQuarantine", "RecordTransition"]],
    ["Deferred", "ActivationCompleted", "Soaking", ["AppendEventLog", "RecordTransition"]],
    ["Deferred", "ActivationFailed", "Failed", ["AppendEventLog", "InsertQuarantine", "RecordTransition"]],
    ["Soaking", "ProbeTopologyDeclared", "Soaking", ["AppendEventLog"]],
    ["Soaking", "ProbeObservedFirst", "Soaking", ["AppendEventLog"]],
    ["Soaking", "ProbeResult", "Soaking", ["AppendEventLog"]],
    ["Soaking", "ProbeFailureFirst", "Soaking", ["AppendEventLog"]],
    ["Soaking", "Failed", "Failed", ["AppendEventLog", "InsertQuarantine", "RecordTransition"]],
    ["Soaking", "Converged", "Converged", ["AppendEventLog", "RecordTransition"]],
    ["Failed", "RollbackComplete", "Reverted", ["AppendEventLog", "InsertQuarantine", "RecordTransition"]],
    ["Failed", "ActivationFailed", "Failed", ["AppendEventLog"]]
  ]
  it.each(remote)("Remote: %s × %s → %s", (from, kind, to, effects) => {
    const result = accepted(recordIn(from), samples[kind], { origin: "Remote" })
    assert.strictEqual(result.record.state, to)
    assert.deepStrictEqual(names(result.effects), effects)
  })

  it("names what fires: the target, the closure to go back to, the quarantined closure", () => {
    assert.deepInclude(accepted(recordIn("Pending"), samples.DispatchAck).effects, { _tag: "FireSwitch", target })
    assert.deepInclude(accepted(recordIn("Activating"), samples.ActivationFailed).effects, {
      _tag: "FireRollbackTo",
      closure: prior
    })
    assert.deepInclude(accepted(recordIn("Failed"), samples.RollbackComplete, { origin: "Remote" }).effects, {
      _tag: "InsertQuarantine",
      channel: "stable",
      closure: target
    })
    assert.deepInclude(accepted(recordIn("Activating"), samples.ActivationCompleted).effects, {
      _tag: "RecordTransition",
      from: "Activating",
      to: "Soaking",
      at: seconds(5)
    })
  })
})

describe("scenarios (protocol.md §6.2)", () => {
  it("happy path", () => {
    const soaking = after(pending(), [
      samples.DispatchAck,
      samples.ActivationCompleted,
      samples.ProbeTopologyDeclared,
      samples.ProbeResult
    ])
    const { currentClosure: running, soakedMs } = assertState(soaking, "Soaking")
    assert.deepStrictEqual({ running, soakedMs }, { running: target, soakedMs: 0 })
    const converged = after(learn(soaking, { kind: "Soaked", soakedMs: policy.soakMs }), [samples.Converged])
    const { convergedAt, currentClosure, lastEventSeq, unproven } = assertState(converged, "Converged")
    assert.deepStrictEqual(
      { convergedAt, currentClosure, lastEventSeq, unproven },
      { convergedAt: minutes(6), currentClosure: target, lastEventSeq: 5, unproven: undefined }
    )
  })

  it("sustained failure under rollback-and-halt goes back and ends Reverted", () => {
    const failed = assertState(after(pending(), histories.Failed), "Failed")
    assert.strictEqual(failed.policyApplied, "rollback-and-halt")
    const reverted = assertState(after(failed, [samples.RollbackComplete]), "Reverted")
    assert.deepStrictEqual(
      [reverted.revertedTo, reverted.currentClosure, reverted.revertedAt],
      [prior, prior, seconds(140)]
    )
  })

  it("sustained failure under halt stays Failed and rolls nothing back", () => {
    const halting = { policy: { ...policy, onHealthFailure: "halt" } } as const
    const soaking = after(pending(), histories.Failed.slice(0, -1), halting)
    const result = accepted(soaking, { ...samples.Failed, policyApplied: "halt" })
    assert.strictEqual(result.record.state, "Failed")
    assert.notInclude(names(result.effects), "FireRollbackTo")
    assert.strictEqual(guard(result.record, samples.RollbackComplete), "policy-applied")
  })

  it("activation failure under rollback-and-halt fires the rollback at once", () => {
    const result = accepted(after(pending(), [samples.DispatchAck]), samples.ActivationFailed)
    const { activationFailedAt, failedAt, policyApplied } = assertState(result.record, "Failed")
    assert.deepStrictEqual([activationFailedAt, failedAt, policyApplied], [seconds(5), seconds(5), "rollback-and-halt"])
    assert.include(names(result.effects), "FireRollbackTo")
  })

  it("a deferral keeps everything but the state, and completes later", () => {
    const deferred = assertState(after(pending(), [samples.DispatchAck, samples.ActivationDeferred]), "Deferred")
    assert.strictEqual(deferred.lastEventSeq, 2)
    const soaking = assertState(
      after(deferred, [{ ...samples.ActivationCompleted, completedAt: minutes(2) }], { origin: "Remote" }),
      "Soaking"
    )
    assert.strictEqual(soaking.currentClosure, target)
    assert.notProperty(soaking, "component")
    assert.notProperty(soaking, "deferredAt")
  })

  it("a failure from Deferred applies no policy and never rolls back", () => {
    const result = accepted(recordIn("Deferred"), samples.ActivationFailed)
    assert.notProperty(result.record, "policyApplied")
    assert.notInclude(names(result.effects), "FireRollbackTo")
  })

  it("a probe's sub-results travel and are not stored", () => {
    const subResults = [
      { controlId: "a", status: "fail", framework: "nis2", effectiveMode: "observe", overrideReason: "waiver 12" },
      { controlId: "b", status: "pass", framework: "nis2", effectiveMode: "enforce" }
    ] as const
    const result = accepted(recordIn("Soaking"), { ...samples.ProbeResult, subResults })
    const [emitted] = result.effects
    assert.deepStrictEqual(
      emitted?._tag === "EmitEvent" && emitted.event.kind === "ProbeResult" && emitted.event.subResults,
      subResults
    )
    assert.deepStrictEqual(Object.keys(assertState(result.record, "Soaking").probes), ["web"])
    assert.notProperty(assertState(result.record, "Soaking").probes["web"], "subResults")
  })

  it("what a state does not have is gone when it is left", () => {
    const failed = recordIn("Failed")
    for (const field of ["topology", "soakedMs", "probeObservedFirstAt", "probeFailureFirstAt"]) {
      assert.notProperty(failed, field)
    }
  })
})

describe("guards of an activation (D11)", () => {
  it("completes only on the target", () => {
    const event = { ...samples.ActivationCompleted, observedCurrentClosure: prior }
    assert.strictEqual(guard(recordIn("Activating"), event), "closure-is-target")
    assert.strictEqual(guard(recordIn("Deferred"), event), "closure-is-target")
    assert.strictEqual(
      guard(recordIn("Activating"), { ...samples.ActivationCompleted, observedCurrentClosure: "" }),
      "closure-is-target"
    )
  })

  it("completes only after a switch that ended well; degraded is for the policy to say", () => {
    const ended = (exitCode: number) => ({ ...samples.ActivationCompleted, exitCode })
    assert.strictEqual(guard(recordIn("Activating"), ended(1)), "switch-succeeded")
    assert.strictEqual(guard(recordIn("Activating"), ended(4)), "switch-succeeded")
    const tolerant = recordIn("Activating", { policy: { ...policy, onDegraded: "soak" } })
    assert.strictEqual(accepted(tolerant, ended(4)).record.state, "Soaking")
    assert.strictEqual(guard(tolerant, ended(2)), "switch-succeeded")
  })

  it("an unknown closure is absent in the record and never a rollback target (P-17)", () => {
    const unknown = accepted(pending(), { ...samples.DispatchAck, currentClosureAtDispatch: "" })
    assert.notProperty(unknown.record, "currentClosureAtDispatch")
    const result = accepted(unknown.record, samples.ActivationFailed)
    assert.notInclude(names(result.effects), "FireRollbackTo")
  })

  it("goes back to the last closure that converged here, not to a bad one that ran at dispatch", () => {
    const record = after(pending(), [samples.DispatchAck], { rollbackTarget: "converged-closure" })
    assert.deepInclude(accepted(record, samples.ActivationFailed).effects, {
      _tag: "FireRollbackTo",
      closure: "converged-closure"
    })
  })

  it("a host that ran the target at dispatch owes no rollback (D10)", () => {
    const record = after(pending(), [{ ...samples.DispatchAck, currentClosureAtDispatch: target }], {
      rollbackTarget: prior
    })
    assert.notInclude(names(accepted(record, samples.ActivationFailed).effects), "FireRollbackTo")
  })

  it("an infrastructure failure does not quarantine; a peer that does not say is taken to mean the closure (D11)", () => {
    const fails = (closureAtFault?: boolean) =>
      names(
        accepted(
          recordIn("Activating"),
          closureAtFault === undefined ? samples.ActivationFailed : { ...samples.ActivationFailed, closureAtFault },
          { origin: "Remote" }
        ).effects
      )
    assert.notInclude(fails(false), "InsertQuarantine")
    assert.include(fails(true), "InsertQuarantine")
    assert.include(fails(), "InsertQuarantine")
    const blameless = after(recordIn("Activating"), [{ ...samples.ActivationFailed, closureAtFault: false }])
    assert.notInclude(
      names(accepted(blameless, samples.RollbackComplete, { origin: "Remote" }).effects),
      "InsertQuarantine"
    )
  })
})

describe("guards of a soak (D12)", () => {
  const ready = (fields: Partial<Extract<HostRecord, { state: "Soaking" }>> = {}) => ({
    ...assertState(
      learn(after(recordIn("Soaking"), [samples.ProbeTopologyDeclared, samples.ProbeResult]), {
        kind: "Soaked",
        soakedMs: policy.soakMs
      }),
      "Soaking"
    ),
    ...fields
  })
  const at = (convergedAt: number) => ({ ...samples.Converged, convergedAt })

  it("converges at the due instant and not a millisecond before, the later of both dues", () => {
    const due = seconds(5) + policy.soakMs
    assert.strictEqual(guard(ready(), at(due - 1)), "soak-due")
    assert.strictEqual(accepted(ready(), at(due)).record.state, "Converged")
    const later = ready({ soakDueAt: due + 9_000 })
    assert.strictEqual(guard(later, at(due + 8_999), { now: due + 9_000 }), "soak-due")
    assert.strictEqual(accepted(later, at(due + 9_000), { now: due + 9_000 }).record.state, "Converged")
  })

  it("does not wait for a control plane whose clock is ahead", () => {
    const due = seconds(5) + policy.soakMs
    const ahead = ready({ soakDueAt: due + 60_001 })
    assert.strictEqual(guard(ahead, at(due - 1)), "soak-due")
    assert.strictEqual(accepted(ahead, at(due)).record.state, "Converged")
  })

  it("a clock step cannot end a soak: running time counts", () => {
    assert.strictEqual(guard(ready({ soakedMs: policy.soakMs - 1 }), at(minutes(30))), "soaked")
  })

  it("an event from the future is no proof", () => {
    assert.strictEqual(guard(ready(), at(minutes(30)), { now: minutes(30) - 1 }), "not-in-future")
  })

  it("converges only on the target", () => {
    assert.strictEqual(guard(ready(), { ...samples.Converged, currentClosure: prior }), "closure-is-target")
    assert.strictEqual(guard(ready(), { ...samples.Converged, currentClosure: "" }), "closure-is-target")
  })

  it("a soak without a declared topology proves nothing (P-12)", () => {
    const undeclared = learn(recordIn("Soaking"), { kind: "Soaked", soakedMs: policy.soakMs })
    assert.strictEqual(guard(undeclared, samples.Converged), "topology-declared")
    const empty = after(undeclared, [{ ...samples.ProbeTopologyDeclared, probes: [] }])
    assert.strictEqual(accepted(empty, samples.Converged).record.state, "Converged")
  })

  it("a declared enforce probe that never reported, or fails now, blocks; observe and disabled do not", () => {
    const declared = (mode: "enforce" | "observe" | "disabled") =>
      after(ready(), [{
        ...samples.ProbeTopologyDeclared,
        probes: [{ probeName: "web", kind: "http", mode: "enforce" }, { probeName: "db", kind: "tcp", mode }]
      }])
    assert.strictEqual(guard(declared("enforce"), samples.Converged), "probes-passing")
    accepted(declared("observe"), samples.Converged)
    accepted(declared("disabled"), samples.Converged)
    assert.strictEqual(guard(after(ready(), [failing(minutes(3))]), samples.Converged), "probes-passing")
    const observed = after(declared("observe"), [{ ...failing(minutes(3), "db"), mode: "observe" }])
    accepted(observed, samples.Converged)
  })

  it("a probe that passed before the activation, by its clock, has not passed after it", () => {
    const stale = ready({ activationCompletedAt: seconds(8) })
    assert.strictEqual(guard(stale, samples.Converged), "probes-passing")
  })

  it("an undeclared enforce probe that fails blocks as well", () => {
    assert.strictEqual(guard(after(ready(), [failing(minutes(3), "other")]), samples.Converged), "probes-passing")
  })

  it("a probe that is declared no longer binds no longer", () => {
    const redeclared = after(ready(), [failing(minutes(2), "old"), samples.ProbeTopologyDeclared])
    assert.strictEqual(accepted(redeclared, samples.Converged).record.state, "Converged")
  })

  it("a probe named like a property of every object is a probe like others", () => {
    for (const probeName of ["constructor", "__proto__", "toString"]) {
      const declared = after(recordIn("Soaking"), [{
        ...samples.ProbeTopologyDeclared,
        probes: [{ probeName, kind: "http", mode: "enforce" }]
      }])
      const soaked = learn(declared, { kind: "Soaked", soakedMs: policy.soakMs })
      assert.strictEqual(guard(soaked, samples.Converged), "probes-passing", probeName)
      accepted(after(soaked, [passing(seconds(9), probeName)]), samples.Converged)
    }
  })
})

describe("sustained failure (D12)", () => {
  const declared = after(recordIn("Soaking"), [samples.ProbeTopologyDeclared])
  const failedAfter = (...events: ReadonlyArray<UnnumberedEvent>) => apply(after(declared, events), samples.Failed)

  it("keeps when the failing began, and a pass clears it", () => {
    const probe = (record: HostRecord) => assertState(record, "Soaking").probes["web"]
    const first = after(declared, [passing(seconds(9)), failing(seconds(10)), failing(seconds(20))])
    assert.deepStrictEqual(probe(first), {
      mode: "enforce",
      status: "fail",
      lastObservedAt: seconds(20),
      lastPassAt: seconds(9),
      failingSince: seconds(10)
    })
    const again = after(first, [passing(seconds(30)), failing(seconds(40))])
    assert.strictEqual(probe(again)?.failingSince, seconds(40))
    assert.notProperty(probe(after(first, [passing(seconds(30))])), "failingSince")
  })

  it("fires on a failing sample at the threshold, not before, and not by silence", () => {
    assert.isFalse(failedAfter(failing(seconds(10))).ok)
    assert.isFalse(failedAfter(failing(seconds(10)), failing(seconds(130) - 1)).ok)
    assert.isTrue(failedAfter(failing(seconds(10)), failing(seconds(130))).ok)
  })

  it("an old recovered failure and a fresh one are two (P-13)", () => {
    assert.isFalse(failedAfter(failing(seconds(10)), passing(seconds(20)), failing(seconds(131))).ok)
  })

  it("observe probes never fail a rollout", () => {
    const observed = [{ ...failing(seconds(10)), mode: "observe" }, {
      ...failing(seconds(200)),
      mode: "observe"
    }] as const
    const record = after(recordIn("Soaking"), [{
      ...samples.ProbeTopologyDeclared,
      probes: [{ probeName: "web", kind: "http", mode: "observe" }]
    }, ...observed])
    assert.strictEqual(guard(record, samples.Failed), "sustained-failure")
  })

  it("applies the journaled policy and no other (D14)", () => {
    const record = after(declared, [failing(seconds(10)), failing(seconds(130))])
    assert.strictEqual(guard(record, { ...samples.Failed, policyApplied: "halt" }), "policy-applied")
    assert.strictEqual(guard(record, samples.Failed, { now: seconds(129) }), "not-in-future")
  })

  it("drift halts without rollback and condemns nothing", () => {
    const drift = { ...samples.Failed, failingProbes: [], cause: "closure-drift" } as const
    assert.strictEqual(guard(declared, drift), "policy-applied")
    const halted = accepted(declared, { ...drift, policyApplied: "halt" })
    const { closureAtFault, failure } = assertState(halted.record, "Failed")
    assert.deepStrictEqual([failure, closureAtFault], ["drift", false])
    const mirrored = accepted(declared, { ...drift, policyApplied: "halt" }, { origin: "Remote" })
    assert.notInclude(names(mirrored.effects), "InsertQuarantine")
  })
})

describe("rollback (D11)", () => {
  it("ends on another closure than the target, with an exit that is no failure", () => {
    const failed = recordIn("Failed")
    const back = (fields: object): UnnumberedEvent => ({ ...samples.RollbackComplete, ...fields })
    assert.strictEqual(guard(failed, back({ exitCode: 1 })), "rolled-back")
    assert.strictEqual(guard(failed, back({ revertedToClosure: target })), "rolled-back")
    assert.strictEqual(guard(failed, back({ revertedToClosure: "" })), "rolled-back")
    accepted(failed, back({ exitCode: 4 }))
  })

  it("a failed one is counted and fired again, up to the bound", () => {
    let record: HostRecord = recordIn("Failed")
    for (let tried = 1; tried <= maxRollbacks; tried++) {
      const result = accepted(record, { ...samples.ActivationFailed, failedAt: minutes(tried) })
      record = result.record
      const { failedAt, rollbackFailedAt, rollbackFailures } = assertState(record, "Failed")
      assert.deepStrictEqual([rollbackFailures, rollbackFailedAt, failedAt], [tried, minutes(tried), seconds(130)])
      assert.strictEqual(names(result.effects).includes("FireRollbackTo"), tried < maxRollbacks)
    }
  })
})

describe("the mirror applies what it is told and marks what it cannot prove (D12)", () => {
  const remote = { origin: "Remote" } as const
  const mirrored = (record: HostRecord, event: UnnumberedEvent) => accepted(record, event, remote).record

  it("a completion with a bad exit or another closure", () => {
    assert.isTrue(mirrored(recordIn("Activating"), { ...samples.ActivationCompleted, exitCode: 1 }).unproven)
    const elsewhere = mirrored(recordIn("Activating"), { ...samples.ActivationCompleted, observedCurrentClosure: "" })
    assert.isTrue(elsewhere.unproven)
    assert.notProperty(elsewhere, "currentClosure")
    assert.notProperty(mirrored(recordIn("Activating"), samples.ActivationCompleted), "unproven")
  })

  it("a convergence without evidence; evidence that came in time proves it", () => {
    assert.isTrue(mirrored(recordIn("Soaking"), samples.Converged).unproven)
    assert.notProperty(recordIn("Converged"), "unproven")
    const elsewhere = mirrored(recordIn("Activating"), { ...samples.ActivationCompleted, observedCurrentClosure: "" })
    const proven = after(elsewhere, [samples.ProbeTopologyDeclared, samples.ProbeResult, samples.Converged], remote)
    assert.notProperty(proven, "unproven")
  })

  it("a rollback that ended nowhere", () => {
    assert.isTrue(mirrored(recordIn("Failed"), { ...samples.RollbackComplete, revertedToClosure: "" }).unproven)
    assert.notProperty(recordIn("Reverted"), "unproven")
  })
})

describe("facts (D4, D6, D10, D12)", () => {
  it("a closed record tells how a switch under way ended, and causes nothing else", () => {
    const closed = (state: HostStateName) => learn(recordIn(state), { kind: "Closed", at: minutes(1) })
    assert.strictEqual(guard(closed("Pending"), samples.DispatchAck), "closed")
    assert.strictEqual(guard(closed("Activating"), samples.ActivationStarted), "closed")
    assert.strictEqual(guard(closed("Soaking"), samples.ProbeResult), "closed")
    accepted(closed("Activating"), samples.ActivationCompleted)
    accepted(closed("Failed"), samples.RollbackComplete)
    assert.notInclude(names(accepted(closed("Activating"), samples.ActivationFailed).effects), "FireRollbackTo")
    assert.notInclude(names(accepted(closed("Failed"), samples.ActivationFailed).effects), "FireRollbackTo")
    const soaked = learn(after(recordIn("Soaking"), [samples.ProbeTopologyDeclared, samples.ProbeResult]), {
      kind: "Soaked",
      soakedMs: policy.soakMs
    })
    assert.strictEqual(guard(learn(soaked, { kind: "Closed", at: minutes(1) }), samples.Converged), "closed")
  })

  it("a closed mirror keeps folding everything", () => {
    for (const state of states) {
      for (const kind of legal[state]) {
        const closed = learn(recordIn(state), { kind: "Closed", at: minutes(1) })
        const { record } = accepted(closed, samples[kind], { origin: "Remote" })
        assert.deepStrictEqual([record.closedAt, record.lastEventSeq], [minutes(1), closed.lastEventSeq + 1])
      }
    }
  })

  it("closing is once, soaking only grows, confirming clears the marks", () => {
    const closed = learn(recordIn("Soaking"), { kind: "Closed", at: minutes(1) })
    assert.strictEqual(learn(closed, { kind: "Closed", at: minutes(2) }).closedAt, minutes(1))
    const soaked = learn(recordIn("Soaking"), { kind: "Soaked", soakedMs: 10 })
    assert.strictEqual(assertState(learn(soaked, { kind: "Soaked", soakedMs: 5 }), "Soaking").soakedMs, 10)
    assert.notProperty(learn(recordIn("Activating"), { kind: "Soaked", soakedMs: 5 }), "soakedMs")
    const doubtful = learn({ ...recordIn("Converged"), unproven: true }, { kind: "Diverged" })
    assert.isTrue(doubtful.diverged)
    assert.deepStrictEqual(learn(doubtful, { kind: "Confirmed" }), recordIn("Converged"))
  })

  it("a further attempt goes on after the numbers of the one before (D2)", () => {
    assert.strictEqual(pending({ attempt: 2, lastEventSeq: 9 }).lastEventSeq, 9)
    assert.strictEqual(pending().lastEventSeq, 0)
    assert.strictEqual(refused(pending({ lastEventSeq: 9 }), samples.DispatchAck, { seq: 9 })._tag, "SeqRegression")
  })

  it("fixtures are sound", () => {
    assert.isAbove(late, minutes(6))
    assert.strictEqual(formatTimestamp(t0), "2026-05-16T01:00:00Z")
  })
})
