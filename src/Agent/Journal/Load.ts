/**
 * What a start reads back: the stored records and what stands beside them, and for tests and the deep check the rows.
 * Throws on anything that this program did not write; the caller says so by name.
 */
import { Schema } from "effect"
import type { Sql } from "../../Layers/Disk/Database.ts"
import { ContactJson, EntryJson, FoldedJson, type Row, wireEventOf } from "../../Schema/AgentJournal.ts"
import type { AgentEvent } from "../../Schema/Wire.ts"
import type { Lane, RejectionRecord, RolloutEntry, State } from "../State.ts"
import { meta } from "./Tables.ts"

/** What a running journal and a snapshot of one have in common. */
type Reads = Pick<Sql, "all" | "get">

const decodeEntry = Schema.decodeUnknownSync(EntryJson)
const decodeContact = Schema.decodeUnknownSync(ContactJson)
const decodeFolded = Schema.decodeUnknownSync(FoldedJson)

const number = Schema.Number
const RolloutRow = Schema.Struct({
  rollout_id: Schema.String,
  folded: Schema.String,
  acked_through: Schema.NullOr(number),
  next_seq: Schema.NullOr(number),
  first_seq: Schema.NullOr(number)
})
const SeqRow = Schema.Struct({ rollout_id: Schema.String, seq: number })
const RejectionRow = Schema.Struct({
  rollout_id: Schema.String,
  reason: Schema.String,
  detail: Schema.String,
  at: number
})
const MarkRow = Schema.Struct({ artifact: Schema.String, signed_at: number })
const EventRow = Schema.Struct({
  rollout_id: Schema.String,
  attempt: number,
  at: number,
  now: number,
  entry: Schema.String
})

const decodeAll = <S extends Schema.Codec<unknown, unknown>>(schema: S, rows: ReadonlyArray<unknown>) =>
  rows.map((row) => Schema.decodeUnknownSync(schema)(row))

/** `trust`: the other database; absent where nothing is decided. */
export function load(sql: Reads, trust: Reads | undefined, hostname: string): State {
  const lastConverged = meta(sql, "last_converged")
  const firstObserved = meta(sql, "first_observed")
  const contact = meta(sql, "contact")
  const bootId = meta(sql, "boot_id")
  return {
    hostname,
    journalId: meta(sql, "journal_id") ?? "",
    rollouts: loadRollouts(sql),
    seqFloors: new Map(
      decodeAll(SeqRow, sql.all("SELECT rollout_id, seq FROM seq_floors ORDER BY id"))
        .map((row) => [row.rollout_id, row.seq])
    ),
    rejections: loadRejections(sql),
    trust: new Map(
      decodeAll(MarkRow, trust?.all("SELECT artifact, signed_at FROM marks ORDER BY artifact") ?? [])
        .map((row) => [row.artifact, row.signed_at])
    ),
    ...(firstObserved === undefined ? {} : { firstObserved }),
    ...(lastConverged === undefined ? {} : { lastConverged }),
    ...(contact === undefined ? {} : { contact: decodeContact(contact) }),
    ...(bootId === undefined ? {} : { bootId }),
    observedSince: 0
  }
}

function loadRollouts(sql: Reads): ReadonlyMap<string, RolloutEntry> {
  const parked = Map.groupBy(
    decodeAll(
      SeqRow,
      sql.all(
        `SELECT r.rollout_id, e.seq FROM events e JOIN rollouts r ON r.id = e.rollout
         WHERE e.delivery = 'parked' ORDER BY r.rollout_id, e.seq`
      )
    ),
    (row) => row.rollout_id
  )
  const rows = decodeAll(
    RolloutRow,
    sql.all(
      `SELECT rollout_id, folded, acked_through,
        (SELECT min(seq) FROM events WHERE rollout = r.id AND delivery = 'pending') AS next_seq,
        (SELECT min(seq) FROM events WHERE rollout = r.id) AS first_seq
       FROM rollouts r ORDER BY rollout_id`
    )
  )
  return new Map(rows.map((row) => {
    const folded = decodeFolded(row.folded)
    const beyond = folded.record.lastEventSeq + 1
    const lane: Lane = {
      nextSeq: row.next_seq ?? beyond,
      firstKeptSeq: row.first_seq ?? beyond,
      parked: (parked.get(row.rollout_id) ?? []).map(({ seq }) => seq),
      ...(row.acked_through === null ? {} : { ackedThrough: row.acked_through })
    }
    return [row.rollout_id, { ...folded, lane, transient: { probes: new Map() } }]
  }))
}

function loadRejections(sql: Reads): ReadonlyMap<string, RejectionRecord> {
  const rows = decodeAll(
    RejectionRow,
    sql.all("SELECT rollout_id, reason, detail, at FROM rejections ORDER BY id")
  )
  return new Map(rows.map(({ rollout_id, ...rest }) => [rollout_id, { rolloutId: rollout_id, ...rest }]))
}

export function allRows(sql: Reads): ReadonlyArray<Row> {
  const rows = decodeAll(
    EventRow,
    sql.all(
      `SELECT r.rollout_id, e.attempt, e.at, e.now, e.entry
       FROM events e JOIN rollouts r ON r.id = e.rollout ORDER BY e.id`
    )
  )
  return rows.map((row) => ({
    rolloutId: row.rollout_id,
    attempt: row.attempt,
    at: row.at,
    now: row.now,
    entry: decodeEntry(row.entry)
  }))
}

/** The event of a row; `undefined` when the row is not kept any more. */
export function eventOf(sql: Sql, rolloutId: string, seq: number): AgentEvent | undefined {
  const row = sql.get(
    "SELECT entry FROM events WHERE rollout = (SELECT id FROM rollouts WHERE rollout_id = ?) AND seq = ?",
    rolloutId,
    seq
  )
  return row === undefined ? undefined : wireEventOf(decodeEntry(row["entry"]))
}
