/**
 * What an activation owes, from the accepted dispatch to its result (D7, D10, D11). Crash points and what follows:
 *
 * - before ActivationStarted is durable: nothing was touched; fetch again, run 1
 * - after it, before the switch ran, or power lost while it ran: `Lost`; one re-run, then ActivationFailed
 * - while the switch runs (it is detached): `Running`; wait
 * - after it ended, before its result was journaled: `Exited`; judged from its exit code AND the link
 * - the same, and the host was booted meanwhile: where only a reboot was missing, the activation is complete
 * - after the result was journaled: the record has left Activating
 */
import type { ActivatingRecord } from "../../Schema/HostRecord.ts"
import { degradedExitCode, maySoak } from "../host/Evidence.ts"
import type { ActivationDuty, Observed, SwitchId, SwitchState } from "./Model.ts"
import { exitCodes, fetchDeadlineMs, hold, maxSwitchStarts, settle, settleDeadlineMs, stateOf } from "./Model.ts"

/** Exit code of a switch that changed nothing live and needs a reboot. */
const rebootExitCode = 100

export function forwardSwitch(record: ActivatingRecord, run: number): SwitchId {
  return { rolloutId: record.rolloutId, attempt: record.attempt, purpose: "forward", run }
}

/** The record that may act, and the boots of its host since a switch of it began. */
interface Activation {
  readonly record: ActivatingRecord
  readonly boots: number
}

export function forward(current: Activation, observed: Observed, now: number): ActivationDuty {
  const { record } = current
  if (record.activationStarts === 0) {
    return observed.running === record.targetClosure ? completed(record, 0, now) : start(record)
  }
  const id = forwardSwitch(record, record.activationStarts)
  const state = stateOf(observed, id)
  if (state === undefined) return hold(record, "switch-unread", `run ${id.run} was not read yet`)
  switch (state._tag) {
    case "Running":
      return { _tag: "AwaitSwitch", id }
    case "Exited":
      return judge(current, state, observed.running, now)
    case "TimedOut":
      return failed(record, exitCodes.timedOut, `the switch ran out of time\n${state.stderrTail}`, true, now)
    case "Killed":
      return failed(
        record,
        exitCodes.killed,
        `the switch was killed by ${state.signal}\n${state.stderrTail}`,
        false,
        now
      )
    case "Lost":
      return record.activationStarts < maxSwitchStarts
        ? start(record)
        : failed(record, exitCodes.lost, `${record.activationStarts} switches left no result`, false, now)
  }
}

function start(record: ActivatingRecord): ActivationDuty {
  return {
    _tag: "Switch",
    id: forwardSwitch(record, record.activationStarts + 1),
    closure: record.targetClosure,
    fetchUntil: record.dispatchAckedAt + fetchDeadlineMs
  }
}

type Exited = Extract<SwitchState, { _tag: "Exited" }>

function judge(
  { boots, record }: Activation,
  exited: Exited,
  running: string | undefined,
  now: number
): ActivationDuty {
  const { code, stderrTail } = exited
  if (code === rebootExitCode && running !== record.targetClosure) return deferred(record, now)
  if (code === rebootExitCode && boots > 0) return completed(record, 0, now)
  if (code !== 0 && code !== degradedExitCode) return failed(record, code, stderrTail, true, now)
  if (running === undefined) return unreadable(record, now)
  if (running === record.targetClosure) {
    return maySoak(record.policy, code) ? completed(record, code, now) : failed(record, code, stderrTail, true, now)
  }
  // A third closure is somebody else's switch; the old one means that the target's own switch did not do its work.
  const untouched = running === record.currentClosureAtDispatch
  return failed(record, exitCodes.notActivated, `the switch ended with ${code} but ${running} runs`, untouched, now)
}

function unreadable(record: ActivatingRecord, now: number): ActivationDuty {
  const until = (record.activationStartedAt ?? record.dispatchAckedAt) + settleDeadlineMs
  return now < until
    ? hold(record, "running-closure-unknown", "the switch has ended, but current-system cannot be read", until)
    : failed(record, exitCodes.unreadable, "current-system could not be read after the switch", false, now)
}

function completed(record: ActivatingRecord, exitCode: number, now: number): ActivationDuty {
  return settle(record, {
    kind: "ActivationCompleted",
    observedCurrentClosure: record.targetClosure,
    exitCode,
    completedAt: now
  })
}

function deferred(record: ActivatingRecord, now: number): ActivationDuty {
  return settle(record, { kind: "ActivationDeferred", component: "system", deferredAt: now })
}

function failed(
  record: ActivatingRecord,
  exitCode: number,
  stderrTail: string,
  closureAtFault: boolean,
  now: number
): ActivationDuty {
  return settle(record, { kind: "ActivationFailed", exitCode, stderrTail, failedAt: now, closureAtFault })
}
