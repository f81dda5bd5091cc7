/**
 * Which guard the host should have, and what it means that one has fired, or that the host was booted again and again (D10,
 * D11).
 *
 * A guard stands for the current record, from the mark that its switch starts until the activation is settled, and only where
 * the policy is to roll back: `halt` leaves a host as it is for a person, with its agent and without. It runs the very
 * rollback that the agent would run next, under the same name, and a name runs at most once: whoever is first, there is
 * one switch back, and its result is judged as every other (`Rollback.ts`).
 *
 * Whose fault it is: an agent that is not back after the switch has ended is the fault of the system that it was switched to.
 * Where the switch itself did not come to an end, nothing is known of the closure (D11).
 */
import type { GuardOrder } from "../../Schema/GuardOrder.ts"
import type { ActivatingRecord, HostRecord, SoakingRecord } from "../../Schema/HostRecord.ts"
import type { Casualty } from "../../Schema/Wire.ts"
import { owedRollback, wayBack } from "../host/Evidence.ts"
import { maxRollbacks } from "../host/Failure.ts"
import { forwardSwitch } from "./Forward.ts"
import type { Entry, Observed, Settle } from "./Model.ts"
import { exitCodes, settle, stateOf } from "./Model.ts"
import { rollbackUnderWay } from "./Rollback.ts"

/** Boots of one activation that is not settled, after which it is given up: what fails so often does not mend itself. */
export const maxBoots = 3

/** The guard that should be armed; `undefined` when none should. */
export function guardOwed(current: Entry | undefined): GuardOrder | undefined {
  if (current === undefined) return undefined
  const { bookkeeping: { rollbackStarts }, record } = current
  switch (record.state) {
    case "Activating":
    case "Soaking":
      return record.policy.onHealthFailure === "rollback-and-halt" ? orderOf(record, wayBack(record), 1) : undefined
    case "Failed": {
      if (record.rollbackFailures >= maxRollbacks) return undefined
      const underWay = rollbackUnderWay({ record, rollbackStarts })
      return orderOf(record, owedRollback(record), underWay ? rollbackStarts : rollbackStarts + 1)
    }
    default:
      return undefined
  }
}

/** Where no switch began there is nothing to take back. */
function orderOf(
  record: Exclude<HostRecord, { state: "Pending" }>,
  closure: string | undefined,
  rollbackRun: number
): GuardOrder | undefined {
  const { activationStarts, attempt, currentClosureAtDispatch, rolloutId, targetClosure } = record
  if (closure === undefined || activationStarts === 0) return undefined
  const expected = [targetClosure, closure, currentClosureAtDispatch].filter((one) => one !== undefined)
  return {
    rolloutId,
    attempt,
    forwardRun: activationStarts,
    rollbackRun,
    closure,
    expected: [...new Set(expected)]
  }
}

/** Whether two orders ask for the same. */
export function sameOrder(one: GuardOrder | undefined, other: GuardOrder | undefined): boolean {
  if (one === undefined || other === undefined) return one === other
  return one.rolloutId === other.rolloutId && one.attempt === other.attempt && one.forwardRun === other.forwardRun &&
    one.rollbackRun === other.rollbackRun && one.closure === other.closure
}

/** What ended the activation from outside of it; before anything of it is resumed (D11). */
export function casualty(
  { bookkeeping, record }: Entry,
  observed: Observed,
  now: number
): Settle | undefined {
  if (record.state !== "Activating" && record.state !== "Soaking") return undefined
  const { guard } = observed
  if (guard?._tag === "Fired" && guard.order.rolloutId === record.rolloutId && guard.order.attempt === record.attempt) {
    const detail = `the agent gave no sign of life, and the guard took the host back to ${guard.order.closure}`
    return ended(record, "guard-fired", exitCodes.guardFired, detail, switchEnded(record, observed), now)
  }
  const { boots = 0 } = bookkeeping
  if (boots < maxBoots) return undefined
  const detail = `the host was booted ${boots} times before the activation was settled`
  return ended(record, "boot-loop", exitCodes.bootLoop, detail, observed.running === record.targetClosure, now)
}

function switchEnded(record: ActivatingRecord | SoakingRecord, observed: Observed): boolean {
  if (record.state === "Soaking") return true
  const state = stateOf(observed, forwardSwitch(record, record.activationStarts))
  return state?._tag === "Exited" || state?._tag === "TimedOut"
}

function ended(
  record: ActivatingRecord | SoakingRecord,
  cause: Casualty,
  exitCode: number,
  detail: string,
  closureAtFault: boolean,
  now: number
): Settle {
  if (record.state === "Activating") {
    return settle(record, {
      kind: "ActivationFailed",
      exitCode,
      stderrTail: detail,
      failedAt: now,
      closureAtFault,
      cause
    })
  }
  return settle(record, {
    kind: "Failed",
    failedAt: now,
    sustainedDurationSecs: 0,
    failingProbes: [],
    policyApplied: record.policy.onHealthFailure,
    cause
  })
}
