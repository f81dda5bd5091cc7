/**
 * The rows of the agent's journal (D1, house rule 2). A row holds the complete accepted input, so that the fold of a
 * rollout's rows is its record; the event that travels is a projection of its row.
 *
 * The shapes may only grow within a major version: the agent ships inside the closure it switches, so that after a
 * rollback an older agent reads what a newer one wrote.
 */
import { Schema } from "effect"
import { HostRecord, PendingRecord, ResolvedPolicy } from "./HostRecord.ts"
import { EpochMillis, UInt32, UInt53 } from "./Primitives.ts"
import { AgentEvent } from "./Wire.ts"

/** The agent's own bookkeeping of one rollout, beside the record: it has no place on the control plane's mirror. */
export const Bookkeeping = Schema.Struct({
  /** Sequence number of the present attempt's DispatchAck: where a repeated dispatch starts its replay (D6). */
  openedSeq: UInt53,
  /** Rollback switches begun in the present attempt: names each run, and bounds re-runs (D11). */
  rollbackStarts: UInt32,
  /** When the record reached its end, or was closed: starts its retention (D6). */
  endedAt: Schema.optionalKey(EpochMillis)
})
export type Bookkeeping = typeof Bookkeeping.Type

/** Facts of the host machine that only this journal knows: no sequence number, never on the wire. */
export const Fact = Schema.Union([
  Schema.Struct({ kind: Schema.Literal("Closed"), at: EpochMillis }),
  Schema.Struct({ kind: Schema.Literal("Soaked"), soakedMs: UInt53 }),
  Schema.Struct({ kind: Schema.Literal("Diverged") })
])
export type Fact = typeof Fact.Type

/** A verified dispatch was accepted: opens an attempt. Its event is the DispatchAck. */
export const Opened = Schema.TaggedStruct("Opened", {
  pending: PendingRecord,
  policy: ResolvedPolicy,
  rollbackTarget: Schema.optionalKey(Schema.String),
  event: AgentEvent
})
/** Any other event of the host machine. */
export const Stepped = Schema.TaggedStruct("Stepped", { event: AgentEvent })
export const Learned = Schema.TaggedStruct("Learned", { fact: Fact })
/** A rollback's switch is about to start: durable before it does, as ActivationStarted is (D11). */
export const RollbackStarted = Schema.TaggedStruct("RollbackStarted", {})
/** Stands for all older rows of its rollout, which retention removed (D6). */
export const Summarised = Schema.TaggedStruct("Summarised", { record: HostRecord, bookkeeping: Bookkeeping })

export const Entry = Schema.Union([Opened, Stepped, Learned, RollbackStarted, Summarised])
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

/** Stored form of an entry: wire JSON, so that a row can travel as it was written. */
export const EntryJson = Schema.fromJsonString(Entry)
/** Stored form of what the rows of a rollout fold to. */
export const FoldedJson = Schema.fromJsonString(Schema.Struct({ record: HostRecord, bookkeeping: Bookkeeping }))
