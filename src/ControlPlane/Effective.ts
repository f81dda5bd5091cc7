/**
 * The record that gates, views and operators go by: the machine's record, or what an overlay says of the host instead (D2,
 * D4). Computed, never stored: the stored record stays what the agent's events made of it.
 */
import type { Overlay, RolloutPlan } from "../Schema/ControlPlaneJournal.ts"
import type { HostRecord } from "../Schema/HostRecord.ts"
import { policyOf } from "./fold/Policy.ts"
import type { HostInRollout } from "./State.ts"

export function effectiveRecord({ overlay, record }: HostInRollout, plan: RolloutPlan): HostRecord {
  return overlay === undefined || overlay.state === record.state ? record : overlaid(record, overlay, plan)
}

function overlaid(record: HostRecord, { since, state }: Overlay, plan: RolloutPlan): HostRecord {
  const { attempt, channel, dispatchedAt, hostname, lastEventSeq, rolloutId, signedAt, targetClosure } = record
  const known = { rolloutId, hostname, channel, targetClosure, attempt, dispatchedAt, lastEventSeq, signedAt }
  const closed = record.closedAt === undefined ? {} : { closedAt: record.closedAt }
  const pending = { ...known, ...closed, soakDueAt: record.soakDueAt }
  const acknowledged = {
    ...pending,
    policy: policyOf(plan, hostname),
    dispatchAckedAt: since,
    activationStarts: 0
  }
  const failure = {
    failedAt: since,
    failure: "activation",
    closureAtFault: false,
    rollbackFailures: 0,
    probes: {}
  } as const
  switch (state) {
    case "Pending":
      return { state, ...pending }
    case "Activating":
      return { state, ...acknowledged }
    case "Deferred":
      return { state, ...acknowledged, deferredAt: since, component: "unknown" }
    case "Soaking":
      return {
        state,
        ...acknowledged,
        activationCompletedAt: since,
        currentClosure: targetClosure,
        probes: {},
        soakedMs: 0
      }
    case "Converged": {
      // Its soak is over by the agent's own guards, or by heartbeats that saw the target run for as long.
      const policy = { ...acknowledged.policy, soakMs: 0 }
      const soaked = { activationCompletedAt: since, currentClosure: targetClosure, probes: {}, soakedMs: 0 }
      return { state, ...acknowledged, policy, soakDueAt: since, ...soaked, convergedAt: since }
    }
    case "Failed":
      return { state, ...acknowledged, ...failure }
    case "Reverted":
      return { state, ...acknowledged, ...failure, revertedAt: since }
  }
}
