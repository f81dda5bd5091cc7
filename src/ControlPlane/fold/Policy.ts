/** The policy frozen with a rollout, and the host machine under it: what the mirror of an agent goes by (D12, D14). */
import { type HostEvent, step, type StepResult } from "../../Rollout/Host.ts"
import type { RolloutPlan } from "../../Schema/ControlPlaneJournal.ts"
import type { HostRecord, ResolvedPolicy } from "../../Schema/HostRecord.ts"
import type { AgentEvent } from "../../Schema/Wire.ts"
import { fallbackSoakMs } from "../../Trust/FleetAndManifests.ts"
import { plannedHost } from "../State.ts"

/** Threshold of the agents (D12): on the mirror it decides nothing and is kept for the record. */
export const sustainedFailureMs = 120_000

/** Soak of a host's wave, milliseconds. */
export function soakMsOf(plan: RolloutPlan, host: string): number {
  return plan.soakMs[plannedHost(plan, host)?.wave ?? 0] ?? fallbackSoakMs
}

/** The policy frozen with the rollout, as this host has it (D14). */
export function policyOf(plan: RolloutPlan, host: string): ResolvedPolicy {
  const { maxFailedUnits, onHealthFailure } = plan
  return {
    onHealthFailure,
    soakMs: soakMsOf(plan, host),
    sustainedFailureMs,
    ...(maxFailedUnits === undefined ? {} : { maxFailedUnits })
  }
}

/** The host machine on the mirror: every event is a remote fact (D12). */
export function stepRemote(record: HostRecord, event: AgentEvent, plan: RolloutPlan, now: number): StepResult {
  const input: HostEvent = event.kind === "DispatchAck"
    ? { origin: "Remote", event, facts: { policy: policyOf(plan, record.hostname) } }
    : { origin: "Remote", event }
  return step(record, input, now)
}
