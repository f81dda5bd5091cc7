/**
 * What time and observation alone make due for the current record (D11, D12): convergence, sustained failure, drift, the end
 * of a deferral. Asked on every tick of the agent; every answer is guarded once more by `step`.
 */
import type { DeferredRecord, SoakingRecord } from "../../Schema/HostRecord.ts"
import { convergenceObstacle, sustainedFailure } from "../host/Evidence.ts"
import type { Idle, Settle } from "./Model.ts"
import { deferralDeadlineMs, driftGraceMs, exitCodes, idle, settle } from "./Model.ts"

/** What runs now. */
export interface Present {
  /** Closure behind `current-system`, re-read for this question; `undefined` = none, or it could not be read. */
  readonly running: string | undefined
  /** Since when this process has seen just that, epoch ms: what lasts is told from what passes. A restart begins anew. */
  readonly since: number
}

/** When a deferral that no reboot completed fails the activation, epoch ms. */
export const deferralUntil = (record: DeferredRecord): number => record.deferredAt + deferralDeadlineMs

export function advanceDeferred(record: DeferredRecord, { running }: Present, now: number): Idle | Settle {
  if (running === record.targetClosure) {
    return settle(record, {
      kind: "ActivationCompleted",
      observedCurrentClosure: running,
      exitCode: 0,
      completedAt: now
    })
  }
  if (now < deferralUntil(record)) return idle
  return settle(record, {
    kind: "ActivationFailed",
    exitCode: exitCodes.deferralOver,
    stderrTail: `no reboot into ${record.targetClosure} within the deadline`,
    failedAt: now,
    closureAtFault: false
  })
}

/**
 * Drift comes first: while another closure runs, what the probes say is not about this record. An unknown closure converges
 * nothing, but failing probes fail it all the same (house rule 8).
 */
export function advanceSoaking(record: SoakingRecord, present: Present, now: number): Idle | Settle {
  const { running } = present
  if (running !== undefined && running !== record.targetClosure) return drift(record, present, now)
  const sustained = sustainedFailure(record)
  if (sustained !== undefined) {
    return settle(record, {
      kind: "Failed",
      failedAt: now,
      sustainedDurationSecs: Math.floor(sustained.durationMs / 1000),
      failingProbes: sustained.probes,
      policyApplied: record.policy.onHealthFailure
    })
  }
  if (running === undefined || convergenceObstacle(record, running, now) !== undefined) return idle
  return settle(record, { kind: "Converged", convergedAt: now, currentClosure: running })
}

function drift(record: SoakingRecord, { since }: Present, now: number): Idle | Settle {
  const lasted = now - Math.max(since, record.activationCompletedAt)
  if (lasted < driftGraceMs) return idle
  return settle(record, {
    kind: "Failed",
    failedAt: now,
    sustainedDurationSecs: Math.floor(lasted / 1000),
    failingProbes: [],
    policyApplied: "halt",
    cause: "closure-drift"
  })
}
