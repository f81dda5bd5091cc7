/** Cells of Pending, Activating and Deferred: from the acknowledged dispatch to a running target (protocol.md §3.2, D11). */
import type {
  ActivatingRecord,
  DeferredRecord,
  FailedRecord,
  PendingRecord,
  SoakingRecord
} from "../../Schema/HostRecord.ts"
import { maySoak, owedRollback } from "./Evidence.ts"
import type { EventOf, HostEffect, HostEvent, Origin, StepResult } from "./Model.ts"
import { accepted, illegal, known, omit, optional, told, transition, violates } from "./Model.ts"

export function stepPending(record: PendingRecord, input: HostEvent): StepResult {
  if (!("facts" in input)) return illegal(record, input.event)
  const { event, facts, origin } = input
  const next: ActivatingRecord = {
    ...record,
    state: "Activating",
    policy: facts.policy,
    ...optional("currentClosureAtDispatch", known(event.currentClosureAtDispatch)),
    ...optional("rollbackTarget", known(facts.rollbackTarget ?? "")),
    dispatchAckedAt: event.receivedAt,
    activationStarts: 0
  }
  const moved = transition("Pending", "Activating", event.receivedAt)
  return accepted(
    next,
    origin === "Local"
      ? [moved, told(origin, event), { _tag: "FireSwitch", target: record.targetClosure }]
      : [told(origin, event), moved]
  )
}

export function stepActivating(record: ActivatingRecord, { event, origin }: HostEvent): StepResult {
  switch (event.kind) {
    case "ActivationStarted":
      return accepted(
        { ...record, activationStartedAt: event.startedAt, activationStarts: record.activationStarts + 1 },
        [told(origin, event)]
      )
    case "ActivationCompleted":
      return completed(record, event, origin)
    case "ActivationDeferred":
      return accepted(
        { ...record, state: "Deferred", deferredAt: event.deferredAt, component: event.component },
        [told(origin, event), transition("Activating", "Deferred", event.deferredAt)]
      )
    case "ActivationFailed":
      return failed(record, event, origin)
    default:
      return illegal(record, event)
  }
}

export function stepDeferred(record: DeferredRecord, { event, origin }: HostEvent): StepResult {
  switch (event.kind) {
    case "ActivationCompleted":
      return completed(record, event, origin)
    case "ActivationFailed":
      return failed(record, event, origin)
    default:
      return illegal(record, event)
  }
}

/** The record without what only a deferral has. */
function activating(record: ActivatingRecord | DeferredRecord): Omit<ActivatingRecord, "state"> {
  return record.state === "Deferred" ? omit(record, ["state", "deferredAt", "component"]) : omit(record, ["state"])
}

function completed(
  record: ActivatingRecord | DeferredRecord,
  event: EventOf<"ActivationCompleted">,
  origin: Origin
): StepResult {
  const observed = known(event.observedCurrentClosure)
  const proven = maySoak(record.policy, event.exitCode) && observed === record.targetClosure
  if (origin === "Local" && !proven) {
    return observed === record.targetClosure
      ? violates("switch-succeeded", `the switch ended with ${event.exitCode}`)
      : violates("closure-is-target", `${observed ?? "an unknown closure"} runs, not ${record.targetClosure}`)
  }
  const next: SoakingRecord = {
    ...activating(record),
    state: "Soaking",
    activationCompletedAt: event.completedAt,
    ...optional("currentClosure", observed),
    probes: {},
    soakedMs: 0,
    ...(proven ? {} : { unproven: true })
  }
  const moved = transition(record.state, "Soaking", event.completedAt)
  return accepted(
    next,
    origin === "Local" ? [{ _tag: "ResetProbes" }, told(origin, event), moved] : [told(origin, event), moved]
  )
}

/** From Deferred no policy applies and nothing rolls back: the running system was never touched (protocol.md §3.2). */
function failed(
  record: ActivatingRecord | DeferredRecord,
  event: EventOf<"ActivationFailed">,
  origin: Origin
): StepResult {
  const next: FailedRecord = {
    ...activating(record),
    state: "Failed",
    activationFailedAt: event.failedAt,
    probes: {},
    failedAt: event.failedAt,
    failure: "activation",
    closureAtFault: event.closureAtFault ?? true,
    ...optional("cause", event.cause),
    ...(record.state === "Activating" ? { policyApplied: record.policy.onHealthFailure } : {}),
    rollbackFailures: 0
  }
  return accepted(next, failureEffects(record.state, next, event, origin))
}

/**
 * What entering Failed causes. The mirror quarantines as soon as the closure is known to be at fault, not only after a
 * rollback: under `halt`, or when the rollback fails too, there will never be one (D11).
 */
export function failureEffects(
  from: "Activating" | "Deferred" | "Soaking",
  next: FailedRecord,
  event: EventOf<"ActivationFailed" | "Failed">,
  origin: Origin
): ReadonlyArray<HostEffect> {
  const moved = transition(from, "Failed", next.failedAt)
  if (origin === "Remote") return [told(origin, event), ...quarantine(next), moved]
  const closure = owedRollback(next)
  return [told(origin, event), moved, ...(closure === undefined ? [] : [{ _tag: "FireRollbackTo" as const, closure }])]
}

export function quarantine(record: FailedRecord): ReadonlyArray<HostEffect> {
  return record.closureAtFault
    ? [{ _tag: "InsertQuarantine", channel: record.channel, closure: record.targetClosure }]
    : []
}
