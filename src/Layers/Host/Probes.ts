/**
 * Runs one health probe once. Owns sockets and child processes of that run; no schedule, no memory (the Probe worker has
 * those). Interruption ends the run and kills its children with their whole process group.
 *
 * A probe that could not be run is `inconclusive`: what it looks at was not asked, because a program cannot be started, a file
 * cannot be read, or this host has no systemd. A target that was asked and does not answer in time fails.
 */
import { Context, type Effect } from "effect"
import type { HealthCheck, HealthChecksResult } from "../../Schema/HealthChecks.ts"
import type { ProbeSubResult } from "../../Schema/Wire.ts"
import { truncateReason } from "./TextTail.ts"

export interface ProbeOutcome {
  readonly status: "pass" | "fail" | "inconclusive"
  /** Why it did not pass. At most 512 bytes and `...[truncated]`, whole characters. */
  readonly failureReason?: string
  /** What a probe of many parts found of each. */
  readonly subResults?: ReadonlyArray<typeof ProbeSubResult.Type>
}

export const pass: ProbeOutcome = { status: "pass" }
export const fail = (reason: string): ProbeOutcome => ({ status: "fail", failureReason: truncateReason(reason) })
export const inconclusive = (reason: string): ProbeOutcome => ({
  status: "inconclusive",
  failureReason: truncateReason(reason)
})

/** The units of this host that are failed now, ascending, or why nobody can say. */
export type FailedUnits =
  | { readonly _tag: "Units"; readonly units: ReadonlyArray<string> }
  | { readonly _tag: "Unknown"; readonly problem: string }

export class Probes extends Context.Service<Probes, {
  /** Reads the declaration of the running system anew. Unreadable or partly invalid = `Invalid`, never empty (D12). */
  readonly declared: Effect.Effect<HealthChecksResult>
  /** Total: any trouble is an outcome with its reason. Bounded by the check's own time-outs. */
  readonly run: (check: HealthCheck) => Effect.Effect<ProbeOutcome>
  /** For the signed health gate. Bounded by a time-out of its own. */
  readonly failedUnits: Effect.Effect<FailedUnits>
}>()("nixfleet/Layers/Host/Probes") {}
