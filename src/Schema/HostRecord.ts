/**
 * One host in one rollout, one case per state with the fields that state has (protocol.md §1, decisions.md D7, D10–D12).
 * Stored as JSON by both journals; times are epoch milliseconds. `Rollout/Host.ts` holds the transitions.
 */
import { Schema } from "effect"
import { EpochMillis, UInt32, UInt53 } from "./Primitives.ts"
import { Casualty, OnHealthFailure, ProbeMode, ProbeStatus } from "./Wire.ts"

/** The present of one probe within a soak. */
export const ProbeRecord = Schema.Struct({
  mode: ProbeMode,
  status: ProbeStatus,
  lastObservedAt: EpochMillis,
  lastPassAt: Schema.optionalKey(EpochMillis),
  failureReason: Schema.optionalKey(Schema.String),
  /** First failure since the last pass: the sustained-failure clock of this probe, cleared by a pass (D12). */
  failingSince: Schema.optionalKey(EpochMillis)
})
export type ProbeRecord = typeof ProbeRecord.Type

/** The policy as resolved from the verified fleet at LocalActivate: this rollout's policy to its end (D14). */
export const ResolvedPolicy = Schema.Struct({
  onHealthFailure: OnHealthFailure,
  soakMs: UInt53,
  sustainedFailureMs: UInt53,
  /** What exit 4 (the target runs, some of its units do not) means; absent = `fail` (D11, house rule 8). */
  onDegraded: Schema.optionalKey(Schema.Literals(["soak", "fail"])),
  /** Units that may fail beyond those that had failed before the switch; absent = the policy has no such gate. */
  maxFailedUnits: Schema.optionalKey(UInt32)
})
export type ResolvedPolicy = typeof ResolvedPolicy.Type

const common = {
  rolloutId: Schema.String,
  hostname: Schema.String,
  channel: Schema.String,
  targetClosure: Schema.String,
  /** Counts activations of one rollout on one host, from 1 (D7). */
  attempt: UInt32,
  dispatchedAt: EpochMillis,
  soakDueAt: EpochMillis,
  lastEventSeq: UInt53,
  /** `signedAt` of the manifest that named the target: what "newer" means between rollouts (D10). 0 where unknown. */
  signedAt: EpochMillis,
  /** Set when a newer rollout of this host closed the record; it keeps folding events and causes nothing (D10, D4). */
  closedAt: Schema.optionalKey(EpochMillis),
  /** Set when a state change was refused by the other side (D4). */
  diverged: Schema.optionalKey(Schema.Boolean),
  /** Set on the mirror when it applied a remote fact that it cannot prove from what it knows (D12). */
  unproven: Schema.optionalKey(Schema.Boolean)
}

const acknowledged = {
  ...common,
  policy: ResolvedPolicy,
  /** Absent = unknown; the wire writes "" (D12). The rollback target when known. */
  currentClosureAtDispatch: Schema.optionalKey(Schema.String),
  /** Last closure that converged here, or ran before nixfleet; where a rollback goes (D11). Agent only. */
  rollbackTarget: Schema.optionalKey(Schema.String),
  dispatchAckedAt: EpochMillis,
  activationStartedAt: Schema.optionalKey(EpochMillis),
  /** How many times the switch was started: bounds re-runs (D7). */
  activationStarts: UInt32
}

const soaked = {
  ...acknowledged,
  activationCompletedAt: EpochMillis,
  /** Absent = unknown, on the mirror only: the agent's own guards demand the target. */
  currentClosure: Schema.optionalKey(Schema.String),
  probes: Schema.Record(Schema.String, ProbeRecord),
  /** Declared probes with their modes; absent until the topology is declared (D12). */
  topology: Schema.optionalKey(Schema.Record(Schema.String, ProbeMode)),
  probeObservedFirstAt: Schema.optionalKey(EpochMillis),
  probeFailureFirstAt: Schema.optionalKey(EpochMillis),
  /** Monotonic running time spent soaking (D12). Agent only. */
  soakedMs: UInt53
}

export const PendingRecord = Schema.Struct({ state: Schema.Literal("Pending"), ...common })
export const ActivatingRecord = Schema.Struct({ state: Schema.Literal("Activating"), ...acknowledged })
export const DeferredRecord = Schema.Struct({
  state: Schema.Literal("Deferred"),
  ...acknowledged,
  deferredAt: EpochMillis,
  component: Schema.String
})
export const SoakingRecord = Schema.Struct({
  state: Schema.Literal("Soaking"),
  ...soaked,
  /** Probes that cannot be run: since when, and why. They hold a convergence and fail nothing. Agent only. */
  inconclusive: Schema.optionalKey(
    Schema.Record(Schema.String, Schema.Struct({ since: EpochMillis, reason: Schema.String }))
  ),
  /** Probes that failed before the switch already: until they pass they hold a convergence and fail nothing. Agent only. */
  excused: Schema.optionalKey(Schema.Array(Schema.String))
})
export const ConvergedRecord = Schema.Struct({
  state: Schema.Literal("Converged"),
  ...soaked,
  convergedAt: EpochMillis
})

const failure = {
  failedAt: EpochMillis,
  /** `activation`: the switch failed; `probes`: sustained failure; `drift`: somebody else switched the host (D11, D12). */
  failure: Schema.Literals(["activation", "probes", "drift"]),
  /** Whether the closure itself was at fault: only then is it quarantined (D11). */
  closureAtFault: Schema.Boolean,
  /** What else than its own switch or probes ended the activation; a key of its own, so that an older agent can read it. */
  cause: Schema.optionalKey(Casualty),
  /** Absent when failed from Deferred before the policy applied (protocol.md §3.2). */
  policyApplied: Schema.optionalKey(OnHealthFailure),
  /** Failed rollbacks so far: bounds retries (D11). */
  rollbackFailures: UInt32,
  /** When the last rollback failed: the next one waits. */
  rollbackFailedAt: Schema.optionalKey(EpochMillis)
}
export const FailedRecord = Schema.Struct({
  state: Schema.Literal("Failed"),
  ...acknowledged,
  activationCompletedAt: Schema.optionalKey(EpochMillis),
  activationFailedAt: Schema.optionalKey(EpochMillis),
  currentClosure: Schema.optionalKey(Schema.String),
  probes: Schema.Record(Schema.String, ProbeRecord),
  ...failure
})
export const RevertedRecord = Schema.Struct({
  state: Schema.Literal("Reverted"),
  ...acknowledged,
  activationCompletedAt: Schema.optionalKey(EpochMillis),
  activationFailedAt: Schema.optionalKey(EpochMillis),
  probes: Schema.Record(Schema.String, ProbeRecord),
  ...failure,
  revertedAt: EpochMillis,
  /** Absent = unknown, on the mirror only. */
  revertedTo: Schema.optionalKey(Schema.String),
  currentClosure: Schema.optionalKey(Schema.String)
})

export const HostRecord = Schema.Union([
  PendingRecord,
  ActivatingRecord,
  DeferredRecord,
  SoakingRecord,
  ConvergedRecord,
  FailedRecord,
  RevertedRecord
])
export type HostRecord = typeof HostRecord.Type
export type PendingRecord = typeof PendingRecord.Type
export type ActivatingRecord = typeof ActivatingRecord.Type
export type DeferredRecord = typeof DeferredRecord.Type
export type SoakingRecord = typeof SoakingRecord.Type
export type ConvergedRecord = typeof ConvergedRecord.Type
export type FailedRecord = typeof FailedRecord.Type
export type RevertedRecord = typeof RevertedRecord.Type

/** One rollout of one channel, control plane only (protocol.md §5). */
export const RolloutRecord = Schema.Struct({
  rolloutId: Schema.String,
  channel: Schema.String,
  targetRef: Schema.String,
  state: Schema.Literals([
    "Opening",
    "Active",
    "Converging",
    "Terminal",
    "Reverted",
    "Failed",
    "Superseded",
    "Pruned"
  ]),
  currentWave: UInt32,
  /** `signedAt` of the manifest that opened it. */
  signedAt: EpochMillis,
  /** SHA-256 of the canonical manifest: the same id with other targets is a new attempt (D7, P-20). */
  manifestHash: Schema.String,
  attempt: UInt32,
  openedAt: EpochMillis,
  terminalAt: Schema.optionalKey(EpochMillis),
  supersededAt: Schema.optionalKey(EpochMillis),
  supersededBy: Schema.optionalKey(Schema.String)
})
export type RolloutRecord = typeof RolloutRecord.Type
export type RolloutStateName = RolloutRecord["state"]
