/** Cells of Failed: the way back, done or failed once more (protocol.md §3.2; D11's additive cell). */
import type { FailedRecord, RevertedRecord } from "../../Schema/HostRecord.ts"
import { quarantine } from "./Activation.ts"
import { degradedExitCode, owedRollback } from "./Evidence.ts"
import type { EventOf, HostEvent, Origin, StepResult } from "./Model.ts"
import { accepted, illegal, known, omit, optional, told, transition, violates } from "./Model.ts"

/** Rollbacks tried before a person is needed; the record then stays Failed and says so. */
export const maxRollbacks = 3

export function stepFailed(record: FailedRecord, { event, origin }: HostEvent): StepResult {
  switch (event.kind) {
    case "RollbackComplete":
      return reverted(record, event, origin)
    case "ActivationFailed":
      return rollbackFailed(record, event, origin)
    default:
      return illegal(record, event)
  }
}

/** Back on the earlier system although some of its units do not run: going back once more would not mend them. */
function endedWell(exitCode: number): boolean {
  return exitCode === 0 || exitCode === degradedExitCode
}

function reverted(record: FailedRecord, event: EventOf<"RollbackComplete">, origin: Origin): StepResult {
  const closure = known(event.revertedToClosure)
  const proven = endedWell(event.exitCode) && closure !== undefined && closure !== record.targetClosure
  if (origin === "Local") {
    if (record.policyApplied !== "rollback-and-halt") {
      return violates("policy-applied", "the policy that was applied asks for no rollback")
    }
    if (!proven) {
      return violates("rolled-back", `the rollback ended with ${event.exitCode} on ${closure ?? "an unknown closure"}`)
    }
  }
  const next: RevertedRecord = {
    ...omit(record, ["state", "currentClosure"]),
    state: "Reverted",
    revertedAt: event.completedAt,
    ...optional("revertedTo", closure),
    ...optional("currentClosure", closure),
    ...(proven ? {} : { unproven: true })
  }
  const moved = transition("Failed", "Reverted", event.completedAt)
  return accepted(
    next,
    origin === "Local" ? [told(origin, event), moved] : [told(origin, event), ...quarantine(record), moved]
  )
}

function rollbackFailed(record: FailedRecord, event: EventOf<"ActivationFailed">, origin: Origin): StepResult {
  const next: FailedRecord = {
    ...record,
    rollbackFailures: record.rollbackFailures + 1,
    rollbackFailedAt: event.failedAt
  }
  const closure = owedRollback(next)
  const again = origin === "Local" && closure !== undefined && next.rollbackFailures < maxRollbacks
  return accepted(next, [told(origin, event), ...(again ? [{ _tag: "FireRollbackTo" as const, closure }] : [])])
}
