/**
 * What a failed record owes: the way back by name, never "one generation back" (D10, D11).
 *
 * Every rollback is begun by a journaled mark, and ends in exactly one RollbackComplete or ActivationFailed; a lost switch is
 * a failed rollback. So one is under way exactly when more were begun than failed, and a restart needs nothing else.
 */
import type { FailedRecord } from "../../Schema/HostRecord.ts"
import { degradedExitCode, owedRollback } from "../host/Evidence.ts"
import { maxRollbacks } from "../host/Failure.ts"
import type { ActivationDuty, Current, Observed, SwitchId, SwitchState } from "./Model.ts"
import { exitCodes, hold, idle, rollbackRetryMs, settle, settleDeadlineMs, stateOf } from "./Model.ts"

export function rollbackSwitch(record: FailedRecord, run: number): SwitchId {
  return { rolloutId: record.rolloutId, attempt: record.attempt, purpose: "rollback", run }
}

export function rollbackUnderWay({ record, rollbackStarts }: Current<FailedRecord>): boolean {
  return rollbackStarts > record.rollbackFailures
}

export function rollback(current: Current<FailedRecord>, observed: Observed, now: number): ActivationDuty {
  const { record, rollbackStarts } = current
  if (record.policyApplied !== "rollback-and-halt") return idle
  const closure = owedRollback(record)
  if (closure === undefined) return hold(record, "no-rollback-target", "no earlier closure is known on this host")
  if (rollbackUnderWay(current)) return result(current, closure, observed, now)
  if (nothingChanged(current, observed)) {
    return complete(record, observed.running ?? record.currentClosureAtDispatch ?? closure, 0, now)
  }
  // Where a guard has fired, the switch back is its: read its result, which may still be to come.
  if (
    record.failure === "probes" && record.cause === undefined && rollbackStarts === 0 && observed.running === closure
  ) {
    return complete(record, closure, 0, now)
  }
  const { rollbackFailures } = record
  if (rollbackFailures >= maxRollbacks) {
    return hold(record, "rollback-exhausted", `${rollbackFailures} rollbacks to ${closure} failed`)
  }
  const failedAt = record.rollbackFailedAt
  // A clock that was set back says nothing about the wait; the number of tries is bounded all the same.
  if (failedAt !== undefined && failedAt <= now && now < failedAt + rollbackRetryMs) {
    const until = failedAt + rollbackRetryMs
    return hold(record, "rollback-waits", `the next rollback to ${closure} waits after a failed one`, until)
  }
  return reaches(record, closure, observed.running) ??
    { _tag: "Rollback", id: rollbackSwitch(record, rollbackStarts + 1), closure }
}

/**
 * The failure came before any switch began, so neither the profile nor the system was touched. A host that runs the target
 * all the same was switched by somebody else meanwhile.
 */
function nothingChanged({ record, rollbackStarts }: Current<FailedRecord>, { running }: Observed): boolean {
  return record.failure === "activation" && record.activationStarts === 0 && rollbackStarts === 0 &&
    running !== record.targetClosure
}

/**
 * Why this record may not pull the host anywhere: what runs was put there by somebody else, and stays (D10). A failed switch
 * or a failed rollback may have left the old system, the target, or a link that cannot be read; a healthy activation left the
 * target.
 */
function reaches(record: FailedRecord, closure: string, running: string | undefined): ActivationDuty | undefined {
  if (running === record.targetClosure || running === closure) return undefined
  if (record.failure === "activation" && (running === undefined || running === record.currentClosureAtDispatch)) {
    return undefined
  }
  return running === undefined
    ? hold(record, "running-closure-unknown", "a rollback needs to know what runs")
    : hold(record, "closure-drift", `${running} was put there by somebody else`)
}

function result(current: Current<FailedRecord>, closure: string, observed: Observed, now: number): ActivationDuty {
  const { record, rollbackStarts } = current
  const id = rollbackSwitch(record, rollbackStarts)
  const state = stateOf(observed, id)
  if (state === undefined) return hold(record, "switch-unread", `rollback ${id.run} was not read yet`)
  switch (state._tag) {
    case "Running":
      return { _tag: "AwaitSwitch", id }
    case "Exited":
      return judge(record, closure, state, observed.running, now)
    case "TimedOut":
      return failed(record, exitCodes.timedOut, `the rollback ran out of time\n${state.stderrTail}`, now)
    case "Killed":
      return failed(record, exitCodes.killed, `the rollback was killed by ${state.signal}\n${state.stderrTail}`, now)
    case "Lost":
      return failed(record, exitCodes.lost, "the rollback left no result", now)
  }
}

type Exited = Extract<SwitchState, { _tag: "Exited" }>

function judge(
  record: FailedRecord,
  closure: string,
  { code, stderrTail }: Exited,
  running: string | undefined,
  now: number
): ActivationDuty {
  if (code !== 0 && code !== degradedExitCode) return failed(record, code, stderrTail, now)
  if (running === closure) return complete(record, closure, code, now)
  if (running !== undefined) {
    return failed(record, exitCodes.notActivated, `the rollback ended with ${code} but ${running} runs`, now)
  }
  const until = Math.max(record.failedAt, record.rollbackFailedAt ?? 0) + settleDeadlineMs
  return now < until
    ? hold(record, "running-closure-unknown", "the rollback has ended, but current-system cannot be read", until)
    : failed(record, exitCodes.unreadable, "current-system could not be read after the rollback", now)
}

function complete(record: FailedRecord, revertedToClosure: string, exitCode: number, now: number): ActivationDuty {
  return settle(record, { kind: "RollbackComplete", revertedToClosure, exitCode, completedAt: now })
}

/** The old system's switch failed: that says nothing about the new closure. */
function failed(record: FailedRecord, exitCode: number, stderrTail: string, now: number): ActivationDuty {
  return settle(record, { kind: "ActivationFailed", exitCode, stderrTail, failedAt: now, closureAtFault: false })
}
