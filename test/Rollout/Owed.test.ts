import { assert, describe, it } from "@effect/vitest"
import { learn, maxRollbacks } from "../../src/Rollout/Host.ts"
import {
  type ActivationDuty,
  admit,
  advance,
  currentOf,
  deferralDeadlineMs,
  driftGraceMs,
  type Entry,
  exitCodes,
  fetchDeadlineMs,
  owed,
  probesDue,
  rollbackRetryMs,
  settleDeadlineMs,
  switchesToRead,
  type SwitchState
} from "../../src/Rollout/Owed.ts"
import type { HostRecord } from "../../src/Schema/HostRecord.ts"
import {
  after,
  failing,
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

const entry = (record: HostRecord, rollbackStarts = 0): Entry => ({ record, bookkeeping: { rollbackStarts } })
const third = "third-closure"

const exited = (code: number): SwitchState => ({ _tag: "Exited", code, stderrTail: "tail" })
const running: SwitchState = { _tag: "Running" }
const lost: SwitchState = { _tag: "Lost" }
const timedOut: SwitchState = { _tag: "TimedOut", stderrTail: "tail" }
const killed: SwitchState = { _tag: "Killed", signal: "SIGKILL", stderrTail: "tail" }

/** What `owed` says when every switch that it asks for is in `state`. */
function duty(entries: ReadonlyArray<Entry>, closure: string | undefined, state: SwitchState = lost, now = late) {
  return owed(entries, { running: closure, switches: switchesToRead(entries).map((id) => ({ id, state })) }, now)
}

/** A duty as one short line for tables. */
function line(what: ActivationDuty): string {
  switch (what._tag) {
    case "Idle":
      return "idle"
    case "Hold":
      return `hold ${what.reason}`
    case "Switch":
    case "Rollback":
      return `${what.id.purpose} ${what.id.run} → ${what.closure}`
    case "AwaitSwitch":
      return `await ${what.id.purpose} ${what.id.run}`
    case "Settle":
      return settled(what.event)
  }
}

function settled(event: Extract<ActivationDuty, { _tag: "Settle" }>["event"]): string {
  switch (event.kind) {
    case "ActivationCompleted":
      return `completed ${event.exitCode}`
    case "ActivationDeferred":
      return `deferred ${event.component}`
    case "ActivationFailed":
      return `failed ${event.exitCode}${event.closureAtFault === true ? " at fault" : ""}`
    case "RollbackComplete":
      return `rolled back to ${event.revertedToClosure} ${event.exitCode}`
    default:
      return event.kind
  }
}

const activating = (starts: number, fields: Partial<Extract<HostRecord, { state: "Activating" }>> = {}) => ({
  ...after(pending(), [samples.DispatchAck, ...Array.from({ length: starts }, () => samples.ActivationStarted)]),
  ...fields
} as Extract<HostRecord, { state: "Activating" }>)

describe("activation: every crash point is the same question (D7, D11)", () => {
  const degradable = { policy: { ...policy, onDegraded: "soak" } } as const
  const rows: ReadonlyArray<[string, HostRecord, string | undefined, SwitchState, string]> = [
    ["accepted, nothing begun", activating(0), prior, lost, `forward 1 → ${target}`],
    ["a fresh host runs nothing", activating(0), undefined, lost, `forward 1 → ${target}`],
    ["the target runs already: no switch (D10)", activating(0), target, lost, "completed 0"],
    ["crash before the first switch ran, or power cut in it", activating(1), prior, lost, `forward 2 → ${target}`],
    ["lost, whatever the link says", activating(1), target, lost, `forward 2 → ${target}`],
    ["lost twice", activating(2), target, lost, `failed ${exitCodes.lost}`],
    ["still running", activating(1), prior, running, "await forward 1"],
    ["the re-run still running", activating(2), prior, running, "await forward 2"],
    ["0 on the target", activating(1), target, exited(0), "completed 0"],
    ["0 but nothing changed", activating(1), prior, exited(0), `failed ${exitCodes.notActivated} at fault`],
    ["0 but somebody else switched", activating(1), third, exited(0), `failed ${exitCodes.notActivated}`],
    ["1 although the link moved (A-W40)", activating(1), target, exited(1), "failed 1 at fault"],
    ["1 on the old system", activating(1), prior, exited(1), "failed 1 at fault"],
    ["degraded fails by default", activating(1), target, exited(4), "failed 4 at fault"],
    ["degraded soaks if the policy says so", activating(1, degradable), target, exited(4), "completed 4"],
    ["degraded elsewhere", activating(1, degradable), prior, exited(4), `failed ${exitCodes.notActivated} at fault`],
    ["a reboot is needed", activating(1), prior, exited(100), "deferred system"],
    ["a reboot is needed but the link moved", activating(1), target, exited(100), "failed 100 at fault"],
    ["out of time", activating(1), prior, timedOut, `failed ${exitCodes.timedOut} at fault`],
    ["killed from outside", activating(1), prior, killed, `failed ${exitCodes.killed}`]
  ]
  it.each(rows)("%s", (_, record, closure, state, expected) => {
    assert.strictEqual(line(duty([entry(record)], closure, state)), expected)
  })

  it("a reboot is needed, and came before that was told: the target runs, and nothing is left to do (D11)", () => {
    const booted: Entry = { record: activating(1), bookkeeping: { rollbackStarts: 0, boots: 1 } }
    assert.strictEqual(line(duty([booted], target, exited(100))), "completed 0")
    assert.strictEqual(line(duty([booted], prior, exited(100))), "deferred system", "into the old system")
    assert.strictEqual(line(duty([booted], target, exited(1))), "failed 1 at fault")
  })

  it("an unreadable link holds, and fails the activation in the end without condemning the closure", () => {
    const record = activating(1)
    const until = seconds(2) + settleDeadlineMs
    const held = duty([entry(record)], undefined, exited(0), until - 1)
    assert.strictEqual(line(held), "hold running-closure-unknown")
    assert.strictEqual(held._tag === "Hold" && held.until, until)
    assert.strictEqual(line(duty([entry(record)], undefined, exited(0), until)), `failed ${exitCodes.unreadable}`)
  })

  it("a switch that was not read is asked for again, never guessed", () => {
    assert.strictEqual(
      line(owed([entry(activating(1))], { running: target, switches: [] }, late)),
      "hold switch-unread"
    )
  })

  it("names the switch, and until when fetching may be retried", () => {
    const what = duty([entry(activating(1, { attempt: 3 }))], prior)
    assert.deepStrictEqual(what, {
      _tag: "Switch",
      id: { rolloutId: "stable@aa11", attempt: 3, purpose: "forward", run: 2 },
      closure: target,
      fetchUntil: seconds(1) + fetchDeadlineMs
    })
  })

  it("what it settles carries the attempt, for the reducer to check (D7)", () => {
    const what = duty([entry(activating(1, { attempt: 3 }))], target, exited(0), minutes(9))
    assert.deepStrictEqual(what, {
      _tag: "Settle",
      rolloutId: "stable@aa11",
      event: {
        kind: "ActivationCompleted",
        observedCurrentClosure: target,
        exitCode: 0,
        completedAt: minutes(9),
        attempt: 3
      }
    })
  })

  it("every other state owes the activation worker nothing", () => {
    for (const state of ["Pending", "Deferred", "Soaking", "Converged", "Reverted"] as const) {
      assert.strictEqual(line(duty([entry(recordIn(state))], third)), "idle", state)
      assert.deepStrictEqual(switchesToRead([entry(recordIn(state))]), [])
    }
  })
})

describe("rollback: by name, bounded, and only of what this record did (D10, D11)", () => {
  const unstarted = after(activating(0), [samples.ActivationFailed])
  const switched = after(activating(1), [samples.ActivationFailed])
  const unhealthy = recordIn("Failed")
  const tried = (record: HostRecord, times: number) =>
    after(record, Array.from({ length: times }, () => ({ ...samples.ActivationFailed, failedAt: minutes(3) })))

  const rows: ReadonlyArray<[string, HostRecord, number, string | undefined, SwitchState, string]> = [
    ["failed before any switch began: nothing changed", unstarted, 0, prior, lost, `rolled back to ${prior} 0`],
    ["nothing changed, and the link is unreadable", unstarted, 0, undefined, lost, `rolled back to ${prior} 0`],
    ["failed switch, old link: the boot entry may be new", switched, 0, prior, lost, `rollback 1 → ${prior}`],
    ["failed switch, target runs", switched, 0, target, lost, `rollback 1 → ${prior}`],
    ["failed switch, link unreadable", switched, 0, undefined, lost, `rollback 1 → ${prior}`],
    ["failed switch, but somebody switched since", switched, 0, third, lost, "hold closure-drift"],
    ["unhealthy target", unhealthy, 0, target, lost, `rollback 1 → ${prior}`],
    ["unhealthy, link unreadable", unhealthy, 0, undefined, lost, "hold running-closure-unknown"],
    ["unhealthy, but somebody switched since", unhealthy, 0, third, lost, "hold closure-drift"],
    ["unhealthy, and somebody went back already", unhealthy, 0, prior, lost, `rolled back to ${prior} 0`],
    ["under way", unhealthy, 1, target, running, "await rollback 1"],
    ["ended", unhealthy, 1, prior, exited(0), `rolled back to ${prior} 0`],
    ["ended degraded", unhealthy, 1, prior, exited(4), `rolled back to ${prior} 4`],
    ["ended badly although the link moved", unhealthy, 1, prior, exited(1), "failed 1"],
    ["ended without moving the link", unhealthy, 1, target, exited(0), `failed ${exitCodes.notActivated}`],
    ["out of time", unhealthy, 1, target, timedOut, `failed ${exitCodes.timedOut}`],
    ["killed", unhealthy, 1, target, killed, `failed ${exitCodes.killed}`],
    ["crash between its mark and its switch, or power cut", unhealthy, 1, target, lost, `failed ${exitCodes.lost}`],
    ["the next one after a failed one", tried(unhealthy, 1), 1, target, lost, `rollback 2 → ${prior}`],
    ["the next one although the link moved", tried(unhealthy, 1), 1, prior, lost, `rollback 2 → ${prior}`],
    ["the second one ended", tried(unhealthy, 1), 2, prior, exited(0), `rolled back to ${prior} 0`],
    ["tried often enough", tried(unhealthy, maxRollbacks), 3, target, lost, "hold rollback-exhausted"]
  ]
  it.each(rows)("%s", (_, record, starts, closure, state, expected) => {
    assert.strictEqual(line(duty([entry(record, starts)], closure, state)), expected)
  })

  it("waits between two tries", () => {
    const record = tried(unhealthy, 1)
    const until = minutes(3) + rollbackRetryMs
    const held = duty([entry(record, 1)], target, lost, until - 1)
    assert.deepStrictEqual([line(held), held._tag === "Hold" && held.until], ["hold rollback-waits", until])
    assert.strictEqual(line(duty([entry(record, 1)], target, lost, until)), `rollback 2 → ${prior}`)
  })

  it("does not wait for a clock that was set back meanwhile", () => {
    const record = tried(unhealthy, 1)
    assert.strictEqual(line(duty([entry(record, 1)], target, lost, t0 - 24 * 60 * 60_000)), `rollback 2 → ${prior}`)
  })

  it("an unreadable link after a rollback holds, and counts as a failed one in the end", () => {
    const until = seconds(130) + settleDeadlineMs
    assert.strictEqual(
      line(duty([entry(unhealthy, 1)], undefined, exited(0), until - 1)),
      "hold running-closure-unknown"
    )
    assert.strictEqual(line(duty([entry(unhealthy, 1)], undefined, exited(0), until)), `failed ${exitCodes.unreadable}`)
  })

  it("owes nothing under halt, from Deferred, after drift, or to a host that ran the target already", () => {
    const halt = { ...policy, onHealthFailure: "halt" } as const
    const halted = after(pending(), [samples.DispatchAck, samples.ActivationFailed], { policy: halt })
    assert.strictEqual(line(duty([entry(halted)], target)), "idle")
    assert.strictEqual(line(duty([entry(after(recordIn("Deferred"), [samples.ActivationFailed]))], prior)), "idle")
    const drifted = after(recordIn("Soaking"), [{ ...samples.Failed, policyApplied: "halt", cause: "closure-drift" }])
    assert.strictEqual(line(duty([entry(drifted)], third)), "idle")
    const there = after(
      pending(),
      [{ ...samples.DispatchAck, currentClosureAtDispatch: target }, samples.ActivationCompleted, samples.Failed],
      { origin: "Remote", rollbackTarget: prior }
    )
    assert.strictEqual(line(duty([entry(there)], target)), "hold no-rollback-target")
  })

  it("has nowhere to go on a host that never ran anything else", () => {
    const fresh = after(pending(), [
      { ...samples.DispatchAck, currentClosureAtDispatch: "" },
      samples.ActivationStarted,
      samples.ActivationFailed
    ])
    assert.strictEqual(line(duty([entry(fresh)], target)), "hold no-rollback-target")
  })

  it("goes to the last closure that converged here, although another ran at dispatch", () => {
    const failed = after(pending(), [samples.DispatchAck, samples.ActivationStarted, samples.ActivationFailed], {
      rollbackTarget: "converged-closure"
    })
    assert.strictEqual(line(duty([entry(failed)], prior)), "rollback 1 → converged-closure")
  })
})

describe("one current record (D10)", () => {
  const old = (state: "Activating" | "Soaking" | "Failed" | "Deferred", closed = true) => {
    const record = recordIn(state, { fields: { rolloutId: "stable@0001", signedAt: t0 - 1000, targetClosure: third } })
    return closed ? learn(record, { kind: "Closed", at: t0 }) : record
  }

  it("is the newest by signedAt, then by attempt; closed ones never", () => {
    const a = entry(recordIn("Soaking", { fields: { rolloutId: "a", signedAt: t0, attempt: 1 } }))
    const b = entry(recordIn("Soaking", { fields: { rolloutId: "b", signedAt: t0 + 1, attempt: 1 } }))
    const c = entry(recordIn("Soaking", { fields: { rolloutId: "c", signedAt: t0, attempt: 2 } }))
    assert.strictEqual(currentOf([a, b, c]), b)
    assert.strictEqual(currentOf([a, c]), c)
    const closed = entry(learn(b.record, { kind: "Closed", at: t0 }))
    assert.strictEqual(currentOf([a, closed, c]), c)
    assert.isUndefined(currentOf([closed]))
    assert.isUndefined(currentOf([]))
  })

  it("an older live record causes nothing, even when the newest has ended", () => {
    for (const state of ["Activating", "Failed"] as const) {
      const entries = [entry(old(state, false)), entry(recordIn("Converged"))]
      assert.strictEqual(line(duty(entries, third)), "idle")
    }
    const entries = [entry(old("Soaking", false)), entry(recordIn("Converged"))]
    assert.isUndefined(probesDue(entries))
    assert.deepStrictEqual(advance(entries, { running: prior, since: t0 }, late), { _tag: "Idle" })
  })

  it("a superseded switch that still runs delays the newer one, even where nothing is to be switched", () => {
    const superseded = learn(
      after(old("Activating"), [samples.ActivationStarted], { origin: "Remote" }),
      { kind: "Closed", at: t0 }
    )
    const entries = [entry(superseded), entry(activating(0))]
    assert.strictEqual(line(duty(entries, prior, running)), "await forward 1")
    assert.strictEqual(line(duty(entries, target, running)), "await forward 1")
    assert.strictEqual(line(duty(entries, prior, lost)), `forward 1 → ${target}`)
    assert.strictEqual(line(duty(entries, third, exited(0))), `forward 1 → ${target}`)
  })

  it("a superseded rollback that still runs delays it too, and is not taken up again", () => {
    const entries = [entry(old("Failed"), 1), entry(activating(0))]
    assert.strictEqual(line(duty(entries, third, running)), "await rollback 1")
    assert.strictEqual(line(duty(entries, third, lost)), `forward 1 → ${target}`)
  })

  it("a superseded failure never pulls the host back", () => {
    const entries = [entry(old("Failed")), entry(recordIn("Soaking"))]
    assert.strictEqual(line(duty(entries, target)), "idle")
  })

  it("a single record that was closed owes nothing", () => {
    assert.strictEqual(line(duty([entry(old("Activating"))], prior)), "idle")
    assert.strictEqual(line(duty([entry(old("Failed"), 1)], third, exited(0))), "idle")
  })

  it("probes run for the current record while it soaks", () => {
    const soaking = recordIn("Soaking")
    assert.strictEqual(probesDue([entry(soaking), entry(old("Soaking"))]), soaking)
    assert.isUndefined(probesDue([entry(activating(1)), entry(old("Soaking", false))]))
  })
})

describe("admission of a dispatch (D7, D10)", () => {
  const known = [
    entry(recordIn("Soaking", { fields: { rolloutId: "stable@b", signedAt: t0, attempt: 2 } })),
    entry(recordIn("Failed", { fields: { rolloutId: "stable@a", signedAt: t0 - 5 } })),
    entry(
      learn(recordIn("Soaking", { fields: { rolloutId: "stable@0", signedAt: t0 - 9 } }), { kind: "Closed", at: t0 })
    )
  ]
  const rows: ReadonlyArray<[string, string, number, number, object]> = [
    ["a newer manifest closes what is open", "stable@c", 1, t0 + 1, {
      _tag: "Admitted",
      closes: ["stable@a", "stable@b"]
    }],
    ["one release, another channel", "edge@b", 1, t0, { _tag: "Admitted", closes: ["stable@a", "stable@b"] }],
    ["an older manifest", "stable@9", 1, t0 - 1, { _tag: "Superseded", by: "stable@b" }],
    ["an attempt that is known", "stable@b", 2, t0, { _tag: "Known" }],
    ["an attempt that is known, signed again", "stable@b", 2, t0 + 5, { _tag: "Known" }],
    ["an attempt before the known one", "stable@b", 1, t0, { _tag: "Superseded", by: "stable@b" }],
    ["the next attempt", "stable@b", 3, t0, { _tag: "Admitted", closes: ["stable@a"] }],
    ["pointed back with a new signature", "stable@a", 2, t0 + 5, { _tag: "Admitted", closes: ["stable@b"] }],
    ["pointed back by an old one", "stable@a", 2, t0 - 5, { _tag: "Superseded", by: "stable@b" }]
  ]
  it.each(rows)("%s", (_, rolloutId, attempt, signedAt, expected) => {
    assert.deepStrictEqual<object>(admit(known, { rolloutId, attempt, signedAt }), expected)
  })
})

describe("what time makes due (D11, D12)", () => {
  const soakedFor = (soakedMs: number) =>
    learn(
      after(recordIn("Soaking"), [samples.ProbeTopologyDeclared, samples.ProbeResult]),
      { kind: "Soaked", soakedMs }
    )
  const due = seconds(5) + policy.soakMs
  const seen = (closure: string | undefined, since = t0) => ({ running: closure, since })

  it("convergence, at the instant and not before", () => {
    const healthy = [entry(soakedFor(policy.soakMs))]
    assert.deepStrictEqual(advance(healthy, seen(target), due - 1), { _tag: "Idle" })
    assert.deepStrictEqual(advance(healthy, seen(target), due), {
      _tag: "Settle",
      rolloutId: "stable@aa11",
      event: { kind: "Converged", convergedAt: due, currentClosure: target, attempt: 1 }
    })
    assert.deepStrictEqual(advance([entry(soakedFor(policy.soakMs - 1))], seen(target), late), { _tag: "Idle" })
    assert.deepStrictEqual(advance(healthy, seen(undefined), late), { _tag: "Idle" })
  })

  it("a sustained failure, with what failed and for how long, even where the link is unreadable", () => {
    const unhealthy = after(recordIn("Soaking"), [
      samples.ProbeTopologyDeclared,
      failing(seconds(10)),
      failing(seconds(12), "api"),
      passing(seconds(13), "ok"),
      failing(seconds(140)),
      failing(seconds(135.5), "api")
    ])
    for (const closure of [target, undefined]) {
      assert.deepStrictEqual(advance([entry(unhealthy)], seen(closure), seconds(141)), {
        _tag: "Settle",
        rolloutId: "stable@aa11",
        event: {
          kind: "Failed",
          failedAt: seconds(141),
          sustainedDurationSecs: 130,
          failingProbes: ["api", "web"],
          policyApplied: "rollback-and-halt",
          attempt: 1
        }
      })
    }
  })

  it("lasting drift halts; passing drift only delays; neither lets probes speak for another closure", () => {
    const healthy = [entry(soakedFor(policy.soakMs))]
    const unhealthy = [
      entry(after(recordIn("Soaking"), [samples.ProbeTopologyDeclared, failing(seconds(10)), failing(seconds(140))]))
    ]
    const since = minutes(10)
    for (const entries of [healthy, unhealthy]) {
      assert.deepStrictEqual(advance(entries, seen(third, since), since + driftGraceMs - 1), { _tag: "Idle" })
    }
    assert.deepStrictEqual(advance(healthy, seen(third, since), since + driftGraceMs), {
      _tag: "Settle",
      rolloutId: "stable@aa11",
      event: {
        kind: "Failed",
        failedAt: since + driftGraceMs,
        sustainedDurationSecs: driftGraceMs / 1000,
        failingProbes: [],
        policyApplied: "halt",
        cause: "closure-drift",
        attempt: 1
      }
    })
  })

  it("what ran before the activation ended is no drift", () => {
    const justSwitched = [entry(recordIn("Soaking"))]
    assert.deepStrictEqual(advance(justSwitched, seen(prior, t0), seconds(5) + driftGraceMs - 1), { _tag: "Idle" })
  })

  it("a deferral is completed by a boot into the target, and ends at its deadline", () => {
    const deferred = [entry(recordIn("Deferred"))]
    const end = seconds(5) + deferralDeadlineMs
    assert.deepStrictEqual(advance(deferred, seen(prior), end - 1), { _tag: "Idle" })
    const booted = advance(deferred, seen(target), minutes(9))
    assert.strictEqual(booted._tag === "Settle" && line(booted), "completed 0")
    const over = advance(deferred, seen(prior), end)
    assert.strictEqual(over._tag === "Settle" && line(over), `failed ${exitCodes.deferralOver}`)
  })

  it("whatever it says is accepted by the machine", () => {
    const cases: ReadonlyArray<[HostRecord, string, number]> = [
      [soakedFor(policy.soakMs), target, due],
      [soakedFor(policy.soakMs), third, late],
      [recordIn("Deferred"), target, late],
      [recordIn("Deferred"), prior, seconds(5) + deferralDeadlineMs]
    ]
    for (const [record, closure, now] of cases) {
      const what = advance([entry(record)], seen(closure), now)
      if (what._tag !== "Settle") assert.fail(`nothing due for ${record.state}`)
      else assert.notStrictEqual(after(record, [what.event], { now }).state, record.state)
    }
  })
})
