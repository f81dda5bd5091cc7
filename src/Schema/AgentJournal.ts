/**
 * The rows of the agent's journal (D1, house rule 2). A row holds the complete accepted input, so that the fold of a
 * rollout's rows is its record; the event that travels is a projection of its row.
 *
 * The shapes may only grow within a major version: the agent ships inside the closure it switches, so that after a
 * rollback an older agent reads what a newer one wrote.
 */
import { Schema } from "effect"
import { HostRecord, PendingRecord, ResolvedPolicy } from "./HostRecord.ts"
import { EpochMillis, UInt32, UInt53, WireId } from "./Primitives.ts"
import { AgentEvent } from "./Wire.ts"

/**
 * What was wrong with the host just before the first switch of an attempt: what failed then is not the release's doing. What
 * passed then, or could not be told, is not kept.
 */
export const Baseline = Schema.Struct({
  /** `declaration`: hash of the check as it was; what is declared otherwise now is another probe. */
  failed: Schema.Array(Schema.Struct({ probeName: WireId, declaration: Schema.String, reason: Schema.String })),
  failedUnits: Schema.Array(Schema.String)
})
export type Baseline = typeof Baseline.Type

/** The agent's own bookkeeping of one rollout, beside the record: it has no place on the control plane's mirror. */
export const Bookkeeping = Schema.Struct({
  /** Sequence number of the present attempt's DispatchAck: where a repeated dispatch starts its replay (D6). */
  openedSeq: UInt53,
  /** Rollback switches begun in the present attempt: names each run, and bounds re-runs (D11). */
  rollbackStarts: UInt32,
  /** Boots of the host in the present attempt while its activation was not settled (D11). */
  boots: Schema.optionalKey(UInt32),
  /** When the record reached its end, or was closed: starts its retention (D6). */
  endedAt: Schema.optionalKey(EpochMillis),
  /** Absent: nothing was wrong, or nobody looked. */
  baseline: Schema.optionalKey(Baseline)
})
export type Bookkeeping = typeof Bookkeeping.Type

/**
 * How the heartbeats go (D6): what a person asks first when a host does nothing. A change is journaled at once, the same again
 * only now and then, so that `at` is at most so old while the agent runs.
 */
export const Contact = Schema.Struct({
  answered: Schema.Boolean,
  /** Since when every heartbeat ends like this. */
  since: EpochMillis,
  /** The latest heartbeat of which this is known. */
  at: EpochMillis,
  /** The latest failure, also when heartbeats are answered again. */
  failure: Schema.optionalKey(Schema.Struct({ at: EpochMillis, reason: Schema.String, detail: Schema.String }))
})
export type Contact = typeof Contact.Type
export const ContactJson = Schema.fromJsonString(Contact)

/** Facts of the host machine that only this journal knows: no sequence number, never on the wire. */
export const Fact = Schema.Union([
  Schema.Struct({ kind: Schema.Literal("Closed"), at: EpochMillis }),
  Schema.Struct({ kind: Schema.Literal("Soaked"), soakedMs: UInt53 }),
  Schema.Struct({ kind: Schema.Literal("Diverged") }),
  Schema.Struct({ kind: Schema.Literal("ClockStepped"), byMs: Schema.Int })
])
export type Fact = typeof Fact.Type

/** What only this journal knows of the probes of a soak. */
export const ProbeFact = Schema.Union([
  Schema.Struct({ kind: Schema.Literal("Inconclusive"), probeName: WireId, since: EpochMillis, reason: Schema.String }),
  Schema.Struct({ kind: Schema.Literal("Conclusive"), probeName: WireId }),
  Schema.Struct({ kind: Schema.Literal("Excused"), probes: Schema.Array(WireId) })
])
export type ProbeFact = typeof ProbeFact.Type

/** An event as it is in memory, times in epoch milliseconds; the wire's form is made when it travels. */
const event = Schema.toType(AgentEvent)

/** A verified dispatch was accepted: opens an attempt. Its event is the DispatchAck. */
export const Opened = Schema.TaggedStruct("Opened", {
  pending: PendingRecord,
  policy: ResolvedPolicy,
  rollbackTarget: Schema.optionalKey(Schema.String),
  event
})
/** Any other event of the host machine. */
export const Stepped = Schema.TaggedStruct("Stepped", { event })
export const Learned = Schema.TaggedStruct("Learned", { fact: Fact })
/** A rollback's switch is about to start: durable before it does, as ActivationStarted is (D11). */
export const RollbackStarted = Schema.TaggedStruct("RollbackStarted", {})
/** The host was booted while the activation was not settled (D11). */
export const Booted = Schema.TaggedStruct("Booted", {})
/** In the same commit as ActivationStarted: the agent may not outlive the switch. */
export const BaselineTaken = Schema.TaggedStruct("BaselineTaken", { baseline: Baseline })
export const ProbeLearned = Schema.TaggedStruct("ProbeLearned", { fact: ProbeFact })
/** Stands for all older rows of its rollout, which retention removed (D6). */
export const Summarised = Schema.TaggedStruct("Summarised", { record: HostRecord, bookkeeping: Bookkeeping })

export const Entry = Schema.Union([
  Opened,
  Stepped,
  Learned,
  RollbackStarted,
  Booted,
  BaselineTaken,
  ProbeLearned,
  Summarised
])
export type Entry = typeof Entry.Type
export type Opened = typeof Opened.Type

/** One row: `at` is when it happened, `now` when it was decided. */
export interface Row {
  readonly rolloutId: string
  readonly attempt: number
  readonly at: number
  readonly now: number
  readonly entry: Entry
}

/** The event that travels for a row; local facts have none. */
export function wireEventOf(entry: Entry): AgentEvent | undefined {
  return entry._tag === "Opened" || entry._tag === "Stepped" ? entry.event : undefined
}

/** Stored form of an entry: the value itself, so that neither writing nor reading a row translates anything. */
export const EntryJson = Schema.fromJsonString(Entry)
/** Stored form of what the rows of a rollout fold to. */
export const FoldedJson = Schema.fromJsonString(Schema.Struct({ record: HostRecord, bookkeeping: Bookkeeping }))
