/**
 * What may be offered to the agent's reducer, and what it answers. An input is a fact that a worker saw, or a verified
 * dispatch; it is never a command to another worker. Everything here is plain data: the reducer is its only reader.
 *
 * Times are epoch milliseconds (wall clock) of the moment the fact happened, not of the moment it was offered.
 */
import type { UnnumberedEvent } from "../Rollout/Host.ts"
import type { Baseline } from "../Schema/AgentJournal.ts"
import type { GuardOrder } from "../Schema/GuardOrder.ts"
import type { ResolvedPolicy } from "../Schema/HostRecord.ts"
import type { Reason } from "../Schema/Reasons.ts"
import type { AgentEventKind, HostRolloutSnapshot, ProbeMode, ProbeStatus, ProbeSubResult } from "../Schema/Wire.ts"

/** One activation of one rollout on this host (D7). A fact of another attempt than the present one is refused. */
export interface AttemptOf {
  readonly rolloutId: string
  readonly attempt: number
}

/** A dispatch whose manifest was fetched, verified and found fresh (D13, D14). Answered after it is durable. */
export interface Activate extends AttemptOf {
  readonly _tag: "Activate"
  readonly targetClosure: string
  readonly soakDueAt: number
  /** When the control plane queued it; the record's `dispatchedAt`. */
  readonly dispatchedAt: number
  readonly receivedAt: number
  /** `signedAt` of the manifest: what "newer" means (D10). */
  readonly signedAt: number
  /** Resolved from the verified fleet; this rollout's policy to its end (D14). */
  readonly policy: ResolvedPolicy
  /** Absent = unknown (D12). */
  readonly observed?: string
  /** The delivery that the acknowledgement settles (D8). */
  readonly deliveryId?: string
  /** Last sequence number the control plane holds for this rollout: a new journal starts above it (D2). */
  readonly lastEventSeq?: number
}

/** Asks for leave to start the switch: only after `Accepted` may it start (D7). */
export interface ActivationStarted extends AttemptOf {
  readonly _tag: "ActivationStarted"
  readonly switchMethod: string
  /** What was wrong just before; absent when nothing was, and at a further run. */
  readonly baseline?: Baseline
  readonly at: number
}

/**
 * How a switch or a rollback ended, as an event without its number; `event.attempt` is set. Events that only the reducer
 * may decide (a failure of probes, a convergence) are refused here by their own guards.
 */
export interface Settled {
  readonly _tag: "Settled"
  readonly rolloutId: string
  readonly event: UnnumberedEvent
  readonly at: number
}

/** Asks for leave to start a rollback's switch; has no event on the wire, but bounds the re-runs (D11). */
export interface RollbackStarted extends AttemptOf {
  readonly _tag: "RollbackStarted"
  readonly at: number
}

/** A process of the agent begins; which boot of the host this is. */
export interface Booted {
  readonly _tag: "Booted"
  readonly bootId: string
}

/** Which probes the running system declares; before the first sample of a soak (D12). */
export interface TopologyDeclared extends AttemptOf {
  readonly _tag: "TopologyDeclared"
  readonly probes: ReadonlyArray<{ readonly probeName: string; readonly kind: string; readonly mode: ProbeMode }>
  /** Those of them that failed before the switch already and hold the release without failing it, ascending; absent: none. */
  readonly excused?: ReadonlyArray<string>
  readonly at: number
}

/**
 * One run of one probe. Most samples are folded away before they get a sequence number (D5). `inconclusive`: it could not be
 * run, which says nothing until it has lasted.
 */
export interface ProbeSample extends AttemptOf {
  readonly _tag: "ProbeSample"
  readonly probeName: string
  readonly mode: ProbeMode
  readonly status: ProbeStatus | "inconclusive"
  readonly at: number
  readonly failureReason?: string
  readonly subResults?: ReadonlyArray<typeof ProbeSubResult.Type>
}

/** Time passed; `observed` is the closure that runs now, re-read, absent = unknown (D12). */
export interface Tick {
  readonly _tag: "Tick"
  readonly observed?: string
}

/**
 * What became of a row that was sent (D4, D5). `refused` only for an answer that carried our verdict body, or a reference
 * control plane's equivalent; `parked` after repeated answers without one; `gap` asks to go back to `replayFrom`.
 */
export type DeliveryVerdict =
  | { readonly _tag: "Applied" }
  | { readonly _tag: "Refused"; readonly reason: string }
  | { readonly _tag: "Parked"; readonly reason: string }
  | { readonly _tag: "Gap"; readonly replayFrom: number }

export interface Delivered {
  readonly _tag: "Delivered"
  readonly rolloutId: string
  readonly seq: number
  /** Of the event that was sent: a refused change of state makes the record diverge (D4). */
  readonly kind: AgentEventKind
  readonly verdict: DeliveryVerdict
}

/** A dispatch that could not be taken; goes out in the heartbeat (D8). */
export interface RejectedDispatch {
  readonly _tag: "RejectedDispatch"
  readonly rolloutId: string
  readonly reason: Reason
  readonly detail: string
  readonly at: number
}

/** A guard fired for an activation that is over here: the host may run another closure than the record says (D10). */
export interface GuardWasStale {
  readonly _tag: "GuardWasStale"
  readonly order: GuardOrder
}

/** What a rejection said against a rollout's artifacts holds no more: they verify now. The heartbeat drops it (D8). */
export interface RejectionOver {
  readonly _tag: "RejectionOver"
  readonly rolloutId: string
}

/** The control plane dispatched an attempt that this journal knows: it lacks its events, resend them (D6). */
export interface DispatchRepeated extends AttemptOf {
  readonly _tag: "DispatchRepeated"
}

/** What a heartbeat's answer said about this journal (D6). Maps are by rollout id. */
export interface HeartbeatAnswered {
  readonly _tag: "HeartbeatAnswered"
  readonly replayFrom: Readonly<Record<string, number>>
  readonly ackedThrough: Readonly<Record<string, number>>
  /** By the original's header: the last row it holds of the rollout that the request named; a reason to resend. */
  readonly held?: { readonly rolloutId: string; readonly seq: number }
  /** Bookkeeping only: a floor for unknown rollouts' numbers, a reason to resend for known ones; never switches. */
  readonly snapshots: ReadonlyArray<HostRolloutSnapshot>
}

/** A heartbeat was not answered, or not with an answer that means something. */
export interface HeartbeatFailed {
  readonly _tag: "HeartbeatFailed"
  readonly reason: Reason
  readonly detail: string
}

/** Trust memory: artifacts that verified (D14). `artifact` is `fleet`, or `manifest:<channel>`. */
export interface ArtifactsAccepted {
  readonly _tag: "ArtifactsAccepted"
  readonly marks: ReadonlyArray<TrustMark>
}

export interface TrustMark {
  readonly artifact: string
  readonly signedAt: number
}

export type Input =
  | Activate
  | ActivationStarted
  | RollbackStarted
  | Settled
  | Booted
  | TopologyDeclared
  | ProbeSample
  | Tick
  | Delivered
  | RejectedDispatch
  | RejectionOver
  | GuardWasStale
  | DispatchRepeated
  | HeartbeatAnswered
  | HeartbeatFailed
  | ArtifactsAccepted

/** Given after the commit of the input's batch. A refusal is no error: the fact came too late or was never due. */
export type Answer =
  | { readonly _tag: "Accepted" }
  | { readonly _tag: "Refused"; readonly reason: Reason; readonly detail: string }

export const accepted: Answer = { _tag: "Accepted" }

export const refused = (reason: Reason, detail: string): Answer => ({ _tag: "Refused", reason, detail })
