/**
 * Runs one health probe once. Owns sockets and child processes of that run; no schedule, no memory (the Probe worker has
 * those). Interruption ends the run and kills its children with their whole process group.
 */
import { Context, type Effect } from "effect"
import type { HealthCheck, HealthChecksResult } from "../../Schema/HealthChecks.ts"

export interface ProbeOutcome {
  readonly status: "pass" | "fail"
  /** At most 512 bytes and `...[truncated]`, whole characters. */
  readonly failureReason?: string
}

export class Probes extends Context.Service<Probes, {
  /** Reads the declaration of the running system anew. Unreadable or partly invalid = `Invalid`, never empty (D12). */
  readonly declared: Effect.Effect<HealthChecksResult>
  /** Total: any trouble is a failing outcome with its reason. Bounded by the check's own time-outs. */
  readonly run: (check: HealthCheck) => Effect.Effect<ProbeOutcome>
}>()("nixfleet/Layers/Host/Probes") {}
