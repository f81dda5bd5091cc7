/**
 * The lines of `nixfleet-agent journal export`: JSON, one object a line, told apart by `line`. First the header, last the
 * end with what was written, so that a file that was cut off is known by its missing end. Times are epoch milliseconds, as
 * in the journal. A value that this program cannot read is exported as it stands, as `unreadable`: an export is also what
 * saves a damaged journal.
 */
import { Schema } from "effect"
import { Bookkeeping, Entry } from "./AgentJournal.ts"
import { HostRecord } from "./HostRecord.ts"
import { EpochMillis, UInt32, UInt53 } from "./Primitives.ts"

const line = <Name extends string, Fields extends Schema.Struct.Fields>(name: Name, fields: Fields) =>
  Schema.Struct({ line: Schema.tag(name), ...fields })

export const HeaderLine = line("header", { format: Schema.Literal(1), exportedAt: EpochMillis, file: Schema.String })
/** Host name, journal id, and what else the journal keeps by name. */
export const MetaLine = line("meta", { key: Schema.String, value: Schema.String })
export const FloorLine = line("seq-floor", { rolloutId: Schema.String, seq: UInt53 })
export const RejectionLine = line("rejection", {
  rolloutId: Schema.String,
  reason: Schema.String,
  detail: Schema.String,
  at: EpochMillis
})
/** What the rows of a rollout fold to, as it is stored. */
export const RecordLine = line("record", {
  rolloutId: Schema.String,
  record: HostRecord,
  bookkeeping: Bookkeeping,
  ackedThrough: Schema.optionalKey(UInt53)
})
/** One row, in the order in which they were written. `delivery`: absent for facts that do not travel. */
export const RowLine = line("row", {
  id: UInt53,
  rolloutId: Schema.String,
  attempt: UInt32,
  at: EpochMillis,
  now: EpochMillis,
  entry: Entry,
  delivery: Schema.optionalKey(Schema.String),
  detail: Schema.optionalKey(Schema.String)
})
export const UnreadableLine = line("unreadable", { where: Schema.String, problem: Schema.String, text: Schema.String })
export const EndLine = line("end", { records: UInt53, rows: UInt53, unreadable: UInt53 })

export const ExportLine = Schema.Union([
  HeaderLine,
  MetaLine,
  FloorLine,
  RejectionLine,
  RecordLine,
  RowLine,
  UnreadableLine,
  EndLine
])
export type ExportLine = typeof ExportLine.Type

export const ExportLineJson = Schema.fromJsonString(ExportLine)
