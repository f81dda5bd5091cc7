/**
 * The host machine of the original, cell by cell (protocol.md §3): what a reference-shaped peer makes of an event. Deliberately
 * not `Rollout/Host.ts`: it has the original's cells, its guards and no others.
 */
import type { AgentEvent, HostStateName, OnHealthFailure, ProbeMode, ProbeStatus } from "../../src/Schema/Wire.ts"

/** One flat record, as the original keeps it (protocol.md §1.2). Times are epoch ms. */
export interface ReferenceRecord {
  readonly rolloutId: string
  readonly hostname: string
  readonly channel: string
  readonly state: HostStateName
  readonly targetClosure: string
  readonly dispatchedAt: number
  readonly soakDueAt: number
  readonly lastEventSeq: number
  readonly probes: ReadonlyMap<string, { readonly status: ProbeStatus; readonly mode: ProbeMode }>
  readonly currentClosureAtDispatch?: string
  readonly currentClosure?: string
  readonly dispatchAckedAt?: number
  readonly activationStartedAt?: number
  readonly activationCompletedAt?: number
  /** Never cleared (protocol.md §11, 13). */
  readonly probeFailureFirstAt?: number
  readonly policyApplied?: OnHealthFailure
}

export type ReferenceError = "SeqRegression" | "IllegalForState" | "Invariant"

/** A record that waits for its dispatch to be acknowledged. */
export function newReferenceRecord(
  given: Pick<ReferenceRecord, "rolloutId" | "hostname" | "targetClosure" | "dispatchedAt" | "soakDueAt">
): ReferenceRecord {
  const { rolloutId } = given
  return {
    ...given,
    channel: rolloutId.slice(0, rolloutId.indexOf("@")),
    state: "Pending",
    lastEventSeq: 0,
    probes: new Map()
  }
}

/** The record after the event, or why it stays as it was. Gaps in the numbers are accepted (protocol.md §3.1). */
export function referenceStep(
  record: ReferenceRecord,
  event: AgentEvent,
  policy: OnHealthFailure
): ReferenceRecord | ReferenceError {
  if (event.seq <= record.lastEventSeq) return "SeqRegression"
  const next = transition(record, event, policy)
  return typeof next === "string" ? next : { ...record, ...next, lastEventSeq: event.seq }
}

type Change = Partial<ReferenceRecord> | ReferenceError

function transition(record: ReferenceRecord, event: AgentEvent, policy: OnHealthFailure): Change {
  switch (record.state) {
    case "Pending":
      return event.kind === "DispatchAck"
        ? {
          state: "Activating",
          currentClosureAtDispatch: event.currentClosureAtDispatch,
          dispatchAckedAt: event.receivedAt
        }
        : "IllegalForState"
    case "Activating":
    case "Deferred":
      return activating(record, event, policy)
    case "Soaking":
      return soaking(record, event)
    case "Failed":
      return event.kind === "RollbackComplete"
        ? { state: "Reverted", currentClosure: event.revertedToClosure }
        : "IllegalForState"
    case "Converged":
    case "Reverted":
      return "IllegalForState"
  }
}

function activating(record: ReferenceRecord, event: AgentEvent, policy: OnHealthFailure): Change {
  const deferred = record.state === "Deferred"
  switch (event.kind) {
    case "ActivationStarted":
      return deferred ? "IllegalForState" : { activationStartedAt: event.startedAt }
    case "ActivationCompleted":
      return {
        state: "Soaking",
        activationCompletedAt: event.completedAt,
        currentClosure: event.observedCurrentClosure,
        probes: new Map()
      }
    case "ActivationDeferred":
      return deferred ? "IllegalForState" : { state: "Deferred" }
    case "ActivationFailed":
      return deferred ? { state: "Failed" } : { state: "Failed", policyApplied: policy }
    default:
      return "IllegalForState"
  }
}

function soaking(record: ReferenceRecord, event: AgentEvent): Change {
  switch (event.kind) {
    case "ProbeTopologyDeclared":
    case "ProbeObservedFirst":
      return {}
    case "ProbeResult": {
      const { mode, probeName, status } = event
      return { probes: new Map(record.probes).set(probeName, { status, mode }) }
    }
    case "ProbeFailureFirst":
      return { probeFailureFirstAt: record.probeFailureFirstAt ?? event.firstFailedAt }
    case "Failed":
      return { state: "Failed", policyApplied: event.policyApplied }
    case "Converged": {
      const holds = event.currentClosure === record.targetClosure && event.convergedAt >= record.soakDueAt &&
        failingEnforced(record).length === 0
      return holds ? { state: "Converged", currentClosure: event.currentClosure } : "Invariant"
    }
    default:
      return "IllegalForState"
  }
}

/** Enforce probes of the map that do not pass; a declared probe that never reported is not in the map. */
export const failingEnforced = ({ probes }: ReferenceRecord): ReadonlyArray<string> =>
  [...probes].filter(([, { mode, status }]) => mode === "enforce" && status === "fail").map(([name]) => name)
