/**
 * What the agent knows, in memory: the fold of its journal, and beside it what need not survive a restart. Immutable; the
 * reducer publishes each state after its commit, workers read it through `AgentState` and never change it.
 */
import { Context } from "effect"
import { currentOf } from "../Rollout/Owed.ts"
import type { Bookkeeping, Contact } from "../Schema/AgentJournal.ts"
import type { HostRecord } from "../Schema/HostRecord.ts"
import type { ProbeSample, TrustMark } from "./Input.ts"

/**
 * Delivery of one rollout's rows, in order (D5). The undelivered rows are exactly those from `nextSeq` to the record's
 * `lastEventSeq`; each row below `nextSeq` was applied, refused, parked, or given up by retention.
 */
export interface Lane {
  /** Oldest undelivered sequence number; `lastEventSeq + 1` when all are delivered. */
  readonly nextSeq: number
  /** First sequence number whose row is still kept; a replay cannot start before it. */
  readonly firstKeptSeq: number
  /** Rows passed over after repeated answers without a verdict; ascending, resent with any replay (D5). */
  readonly parked: ReadonlyArray<number>
  /** What the control plane said is durable there (D6); absent until it says so. */
  readonly ackedThrough?: number
  /** How often a replay from here was suggested but not asked for by number; spaces such replays out. Not durable. */
  readonly suggested?: { readonly from: number; readonly times: number }
}

/** What was seen of one probe beyond its journaled rows (D5). */
export interface ProbeMemory {
  /** Monotonic time of the last journaled change from pass to something else. */
  readonly changedAt?: number
  /** First sample since the last pass that is none, while the rate limit keeps it out of the journal. */
  readonly held?: ProbeSample
}

/** What the rows of one rollout fold to (`Fold.ts`). */
export interface Folded {
  readonly record: HostRecord
  readonly bookkeeping: Bookkeeping
}

/** What need not survive a restart: losing it only ever makes the host wait a little longer. */
export interface Transient {
  /** The soak's running time is `record.soakedMs` plus the monotonic time since this reading (D12). */
  readonly soakedSince?: number
  readonly probes: ReadonlyMap<string, ProbeMemory>
}

export interface RolloutEntry extends Folded {
  readonly lane: Lane
  readonly transient: Transient
}

/** The latest rejection of one rollout (D8). */
export interface RejectionRecord {
  readonly rolloutId: string
  readonly reason: string
  readonly detail: string
  readonly at: number
}

export interface State {
  readonly hostname: string
  /** Random, made with the journal (D2). */
  readonly journalId: string
  readonly rollouts: ReadonlyMap<string, RolloutEntry>
  /** Numbers that the control plane holds for rollouts this journal does not know: a new one starts above them (D2). */
  readonly seqFloors: ReadonlyMap<string, number>
  /** Latest per rollout; at most `heartbeatListLimit`. */
  readonly rejections: ReadonlyMap<string, RejectionRecord>
  /** Highest accepted `signedAt` by artifact (D14). */
  readonly trust: ReadonlyMap<TrustMark["artifact"], number>
  /** First closure ever observed: what ran before nixfleet (D11). */
  readonly firstObserved?: string
  /** Last closure that converged here: where a rollback goes (D11). */
  readonly lastConverged?: string
  /** The boot of the host in which the agent ran last. */
  readonly bootId?: string
  /** How the heartbeats go, as it is stored; absent until the first one has ended. */
  readonly contact?: Contact
  /** Closure that ran at the last tick or dispatch; absent = unknown now. Not durable. */
  readonly observed?: string
  /** Since when just that was seen, epoch ms: tells what lasts from what passes (D12). Not durable. */
  readonly observedSince: number
  /** How far the wall clock was ahead of the monotonic one at the last reading of both, ms. Not durable. */
  readonly clock?: { readonly offset: number }
}

/** By rollout id in ascending order: every decision iterates in this order (house rule 6). */
export function entriesOf(state: State): ReadonlyArray<RolloutEntry> {
  return [...state.rollouts.values()].toSorted((a, b) => a.record.rolloutId < b.record.rolloutId ? -1 : 1)
}

/** The one record that may act (D10). */
export function currentEntry(state: State): RolloutEntry | undefined {
  return currentOf(entriesOf(state))
}

/** The oldest undelivered row of each lane that has one, by rollout id (walk "An event"). */
export function undelivered(state: State): ReadonlyArray<{ readonly rolloutId: string; readonly seq: number }> {
  return entriesOf(state)
    .filter((entry) => entry.lane.nextSeq <= entry.record.lastEventSeq)
    .map((entry) => ({ rolloutId: entry.record.rolloutId, seq: entry.lane.nextSeq }))
}

/** The published state. `current` is synchronous and always a state whose commit is done. */
export class AgentState extends Context.Service<AgentState, {
  readonly current: () => State
}>()("nixfleet/Agent/State") {}
