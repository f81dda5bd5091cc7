/** Which guard is wanted, and what it means that one has fired or that the host was booted too often (D10, D11). */
import { assert, describe, it } from "@effect/vitest"
import { learn } from "../../src/Rollout/Host.ts"
import {
  type ActivationDuty,
  type Entry,
  exitCodes,
  guardOwed,
  maxBoots,
  owed,
  sameOrder,
  switchesToRead,
  type SwitchState
} from "../../src/Rollout/Owed.ts"
import type { GuardOrder, GuardState } from "../../src/Schema/GuardOrder.ts"
import type { HostRecord } from "../../src/Schema/HostRecord.ts"
import { after, late, pending, policy, prior, recordIn, samples, target } from "../support/records.ts"

const entry = (record: HostRecord, rollbackStarts = 0, boots?: number): Entry => ({
  record,
  bookkeeping: { rollbackStarts, ...(boots === undefined ? {} : { boots }) }
})
const halt = { policy: { ...policy, onHealthFailure: "halt" } } as const
const activating = (starts: number, options: Parameters<typeof after>[2] = {}) =>
  after(pending(), [samples.DispatchAck, ...Array.from({ length: starts }, () => samples.ActivationStarted)], options)
const soaking = (options: Parameters<typeof after>[2] = {}) =>
  after(pending(), [samples.DispatchAck, samples.ActivationStarted, samples.ActivationCompleted], options)
const failed = (options: Parameters<typeof after>[2] = {}) =>
  after(pending(), [samples.DispatchAck, samples.ActivationStarted, samples.ActivationFailed], options)
const failedTwice = after(failed(), [samples.ActivationFailed])
const exhausted = after(failed(), [samples.ActivationFailed, samples.ActivationFailed, samples.ActivationFailed])
const onTarget = after(pending(), [
  { ...samples.DispatchAck, currentClosureAtDispatch: target },
  { ...samples.ActivationCompleted }
])
const unknownBefore = after(pending(), [
  { ...samples.DispatchAck, currentClosureAtDispatch: "" },
  samples.ActivationStarted
])

const line = (order: GuardOrder | undefined): string =>
  order === undefined ? "none" : `${order.forwardRun}/${order.rollbackRun} → ${order.closure}`

describe("the guard that should be armed", () => {
  const rows: ReadonlyArray<[string, Entry | undefined, string]> = [
    ["no record", undefined, "none"],
    ["before the switch is marked", entry(activating(0)), "none"],
    ["from the mark on", entry(activating(1)), `1/1 → ${prior}`],
    ["the re-run has its own", entry(activating(2)), `2/1 → ${prior}`],
    ["goes to what converged here last", entry(activating(1, { rollbackTarget: "good" })), "1/1 → good"],
    ["nothing to go back to", entry(unknownBefore), "none"],
    ["while it soaks", entry(soaking()), `1/1 → ${prior}`],
    ["the target ran already", entry(onTarget), "none"],
    ["halt leaves the host to a person", entry(activating(1, halt)), "none"],
    ["halt, soaking", entry(soaking(halt)), "none"],
    ["halt, failed", entry(failed(halt)), "none"],
    ["a rollback is owed", entry(failed()), `1/1 → ${prior}`],
    ["a rollback is under way: the same", entry(failed(), 1), `1/1 → ${prior}`],
    ["it failed: the next", entry(failedTwice, 1), `1/2 → ${prior}`],
    ["no further one will be tried", entry(exhausted, 3), "none"],
    ["deferred: the host is as it was", entry(recordIn("Deferred")), "none"],
    ["converged", entry(recordIn("Converged")), "none"],
    ["reverted", entry(recordIn("Reverted")), "none"],
    ["closed by a newer one", entry(learn(activating(1), { kind: "Closed", at: late })), "none"],
    ["closed while it soaks", entry(learn(soaking(), { kind: "Closed", at: late })), "none"]
  ]
  it.each(rows)("%s", (_, current, expected) => {
    assert.strictEqual(line(guardOwed(current)), expected)
  })

  it("knows the closures of its activation, each once", () => {
    assert.deepStrictEqual(guardOwed(entry(activating(1, { rollbackTarget: "good" })))?.expected, [
      target,
      "good",
      prior
    ])
    assert.deepStrictEqual(guardOwed(entry(activating(1)))?.expected, [target, prior])
  })

  it("stays the same from the start of the switch to the end of its rollback, so that none is missing in between", () => {
    const orders = [activating(1), soaking(), failed()].map((record) => guardOwed(entry(record)))
    assert.isTrue(orders.every((order) => sameOrder(order, orders[0])))
  })
})

const fired = (record: HostRecord, over: Partial<GuardOrder> = {}, acting = false): GuardState => ({
  _tag: "Fired",
  acting,
  order: {
    rolloutId: record.rolloutId,
    attempt: 1,
    forwardRun: 1,
    rollbackRun: 1,
    closure: prior,
    expected: [],
    ...over
  }
})

const exited = (code: number): SwitchState => ({ _tag: "Exited", code, stderrTail: "" })

function duty(current: Entry, closure: string | undefined, state: SwitchState, guard: GuardState): string {
  const switches = switchesToRead([current]).map((id) => ({ id, state }))
  return lineOf(owed([current], { running: closure, switches, guard }, late))
}

function lineOf(what: ActivationDuty): string {
  switch (what._tag) {
    case "Settle": {
      const { event } = what
      if (event.kind === "ActivationFailed") {
        return `failed ${event.exitCode} ${event.cause ?? ""}${event.closureAtFault === true ? " at fault" : ""}`
      }
      return event.kind === "Failed" ? `failed ${event.cause} ${event.policyApplied}` : event.kind
    }
    case "Hold":
      return `hold ${what.reason}`
    case "Switch":
    case "Rollback":
      return `${what.id.purpose} ${what.id.run}`
    default:
      return what._tag
  }
}

describe("a guard that has fired", () => {
  const record = activating(1)
  const ofGuard = `failed ${exitCodes.guardFired} guard-fired`
  const lost: SwitchState = { _tag: "Lost" }
  const back = { ...failed(), cause: "guard-fired" } as HostRecord
  const soaked = after(soaking(), [{ ...samples.Failed, cause: "guard-fired", failingProbes: [] }])
  const rows: ReadonlyArray<[string, Entry, string | undefined, SwitchState, GuardState, string]> = [
    [
      "after a good switch: the new system lost its agent",
      entry(record),
      prior,
      exited(0),
      fired(record),
      `${ofGuard} at fault`
    ],
    ["whatever runs now", entry(record), target, exited(0), fired(record), `${ofGuard} at fault`],
    ["after a bad switch", entry(record), prior, exited(1), fired(record), `${ofGuard} at fault`],
    [
      "after one that ran out of time",
      entry(record),
      prior,
      { _tag: "TimedOut", stderrTail: "" },
      fired(record),
      `${ofGuard} at fault`
    ],
    ["the switch never began: nothing is known of the closure", entry(record), prior, lost, fired(record), ofGuard],
    [
      "it was killed",
      entry(record),
      prior,
      { _tag: "Killed", signal: "SIGKILL", stderrTail: "" },
      fired(record),
      ofGuard
    ],
    ["the forward switch still runs", entry(record), prior, { _tag: "Running" }, fired(record), "AwaitSwitch"],
    ["while it soaked", entry(soaking()), prior, lost, fired(record), "failed guard-fired rollback-and-halt"],
    [
      "for another rollout: nothing of this one",
      entry(record),
      target,
      exited(0),
      fired(record, { rolloutId: "r9" }),
      "ActivationCompleted"
    ],
    ["for another attempt", entry(record), target, exited(0), fired(record, { attempt: 2 }), "ActivationCompleted"],
    [
      "a switch waits until it has ended",
      entry(activating(0)),
      prior,
      lost,
      fired(record, { rolloutId: "r9" }, true),
      "hold guard-acts"
    ],
    ["and begins then", entry(activating(0)), prior, lost, fired(record, { rolloutId: "r9" }), "forward 1"],
    [
      "failed: the switch back is its, and waited for",
      entry(back),
      prior,
      lost,
      fired(record, {}, true),
      "hold guard-acts"
    ],
    ["failed: read under the name of the own rollback", entry(back), prior, lost, fired(record), "rollback 1"],
    ["its result ends the record", entry(back, 1), prior, exited(0), fired(record), "RollbackComplete"],
    [
      "after a soak as well, also when the link is back before the switch has ended",
      entry(soaked),
      prior,
      lost,
      fired(record, {}, true),
      "hold guard-acts"
    ],
    ["its own failure is judged as every other", entry(back, 1), target, exited(1), fired(record), "failed 1 "]
  ]
  it.each(rows)("%s", (_, current, closure, state, guard, expected) => {
    assert.strictEqual(duty(current, closure, state, guard), expected)
  })
})

describe("a host that is booted again and again", () => {
  const none: GuardState = { _tag: "None" }
  const rows: ReadonlyArray<[string, Entry, string | undefined, string]> = [
    ["may do so a few times", entry(activating(1), 0, maxBoots - 1), target, "ActivationCompleted"],
    [
      "and then is given up",
      entry(activating(1), 0, maxBoots),
      target,
      `failed ${exitCodes.bootLoop} boot-loop at fault`
    ],
    [
      "not the closure's fault where it did not run",
      entry(activating(1), 0, maxBoots),
      prior,
      `failed ${exitCodes.bootLoop} boot-loop`
    ],
    ["while it soaks", entry(soaking(), 0, maxBoots), target, "failed boot-loop rollback-and-halt"],
    ["under halt it stays where it is", entry(soaking(halt), 0, maxBoots), target, "failed boot-loop halt"]
  ]
  it.each(rows)("%s", (_, current, closure, expected) => {
    assert.strictEqual(duty(current, closure, exited(0), none), expected)
  })

  it("is never switched forward again by this record", () => {
    const given = after(activating(2), [{
      ...samples.ActivationFailed,
      exitCode: exitCodes.bootLoop,
      cause: "boot-loop"
    }])
    assert.strictEqual(duty(entry(given, 0, maxBoots), target, { _tag: "Lost" }, none), "rollback 1")
  })
})
