/**
 * The control plane's journal (D1, house rules 1, 2): one database, one commit a batch, and what a start reads back. Owns the
 * mapping between rows and tables; the reducer never reads from it to decide, the two readers here are for operators and for
 * the deep check.
 *
 * Failures: `CommitHeld` when the disk cannot take a commit now; any other error of a commit ends the process. A journal that
 * cannot be read, or that a newer major version wrote, refuses the start and names the row.
 */
import { Context, Effect, Layer, Schema } from "effect"
import { Database, type DatabaseError, type Row, type Sql } from "../Layers/Disk/Database.ts"
import { Ids } from "../Layers/Ids.ts"
import type { LogRow } from "../Schema/ControlPlaneJournal.ts"
import { type ActionsResponse, recentActionsLimit } from "../Schema/Interventions.ts"
import { EventKind, eventsPageLimit, type RolloutEvents } from "../Schema/OperatorViews.ts"
import { formatTimestamp } from "../Schema/Primitives.ts"
import * as Codec from "./journal/Codec.ts"
import { load } from "./journal/Load.ts"
import { carryOutAll, meta, Names, putMeta } from "./journal/Tables.ts"
import type { Limits } from "./Limits.ts"
import type { State } from "./State.ts"
import type { Write } from "./Write.ts"

export { journalMigrations } from "./journal/Tables.ts"

/** The journal cannot be used. A configuration error (exit 78): the message says what to do. */
export class JournalUnusable extends Schema.TaggedError<JournalUnusable>()("JournalUnusable", {
  reason: Schema.Literals(["journal-unreadable"]),
  message: Schema.String
}) {}

/** One page of a rollout's event log, ascending by position. */
export interface LogPage {
  readonly rolloutId: string
  /** At least 1; more than `eventsPageLimit` is that. */
  readonly limit: number
  /** Only rows after this position; 0 = from the start. */
  readonly afterSeq: number
}

/** How much there is; reading it costs the same whatever that is. */
export interface JournalUsage {
  /** Rows that were ever appended to the event log of this database. */
  readonly rows: number
  /** Of the database file. */
  readonly bytes: number
}

export class Journal extends Context.Service<Journal, {
  /** What was stored when the program started. */
  readonly initial: State
  /** One durable transaction; throws `CommitHeld` when it may be tried again. For the reducer only. */
  readonly commit: (writes: ReadonlyArray<Write>) => void
  /** The event log of a rollout, for operators; a rollout that nobody ever named has no events. */
  readonly eventLog: (page: LogPage) => Effect.Effect<RolloutEvents, JournalUnusable>
  /** What operators did last, newest first; at most `recentActionsLimit`. */
  readonly recentActions: Effect.Effect<ActionsResponse["recent"], JournalUnusable>
  readonly usage: Effect.Effect<JournalUsage, JournalUnusable>
  /** All rows in the order of their writing: for tests and the deep check. */
  readonly rows: Effect.Effect<ReadonlyArray<LogRow>, JournalUnusable>
}>()("nixfleet/ControlPlane/Journal") {
  /** Over a database with `journalMigrations`. */
  static readonly layer = (limits: Limits): Layer.Layer<Journal, DatabaseError | JournalUnusable, Database | Ids> =>
    Layer.effect(
      Journal,
      Effect.gen(function*() {
        const database = yield* Database
        const databaseId = yield* adopt(database, yield* (yield* Ids).fresh)
        const initial = yield* readable(database, () => load(database.sql, databaseId, limits))
        const names = new Names()
        const commit = (writes: ReadonlyArray<Write>) => {
          try {
            database.transaction((sql) => carryOutAll(sql, names, writes))
            names.committed()
          } catch (error) {
            names.rolledBack()
            throw error
          }
        }
        return Journal.of({
          initial,
          commit,
          eventLog: (page) => readable(database, () => readPage(database.sql, databaseId, page)),
          recentActions: readable(database, () => readActions(database.sql)),
          usage: readable(database, () => readUsage(database.sql)),
          rows: readable(database, () => allRows(database.sql))
        })
      })
    )
}

/** A new database takes the id, an old one keeps its own: delivery ids start with it (D8). */
const adopt = (database: Database["Service"], fresh: string): Effect.Effect<string, JournalUnusable> =>
  readable(database, () => {
    const known = meta(database.sql, "database_id")
    if (known !== undefined) return known
    database.transaction((sql) => putMeta(sql, "database_id", fresh))
    return fresh
  })

const readable = <A>(database: Database["Service"], read: () => A): Effect.Effect<A, JournalUnusable> =>
  Effect.try({
    try: read,
    catch: (cause) =>
      new JournalUnusable({
        reason: "journal-unreadable",
        message: `${database.file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}; ` +
          "restore it from a backup, or move it away: agents send their records again"
      })
  })

const isEventKind = Schema.is(EventKind)

/** A page ends here, whatever its limit: one event may have 2 MiB, and the answer is made in memory. At least one row. */
const pageBytes = 4_194_304
/** Rows that are read before their size is looked at. */
const pageStep = 16

function pageRows(sql: Sql, { afterSeq, limit, rolloutId }: LogPage): ReadonlyArray<Row> {
  const wanted = Math.min(Math.max(limit, 1), eventsPageLimit)
  const rows: Array<Row> = []
  let bytes = 0
  let last = afterSeq
  while (rows.length < wanted && bytes < pageBytes) {
    const step = sql.all(
      `SELECT e.seq, e.ts, e.kind, h.name AS host, e.payload, e.outcome
       FROM event_log e LEFT JOIN names h ON h.id = e.host
       WHERE e.rollout = (SELECT id FROM names WHERE name = ?) AND e.seq > ? ORDER BY e.seq LIMIT ?`,
      rolloutId,
      last,
      Math.min(pageStep, wanted - rows.length)
    )
    for (const row of step) {
      if (bytes >= pageBytes) return rows
      rows.push(row)
      bytes += String(row["payload"]).length
      last = Number(row["seq"])
    }
    if (step.length < pageStep) break
  }
  return rows
}

function readPage(sql: Sql, databaseId: string, page: LogPage): RolloutEvents {
  return {
    rollout_id: page.rolloutId,
    log_id: databaseId,
    events: pageRows(sql, page).map((row) => {
      const kind = row["kind"]
      return {
        seq: Number(row["seq"]),
        ts: formatTimestamp(Number(row["ts"])),
        // A kind that only a newer minor version writes is shown as the most general one.
        kind: isEventKind(kind) ? kind : "effect",
        host: row["host"] === null ? null : String(row["host"]),
        payload: shownPayload(row)
      }
    })
  }
}

function readUsage(sql: Sql): JournalUsage {
  const rows = sql.get("SELECT seq FROM sqlite_sequence WHERE name = 'event_log'")?.["seq"]
  const pages = sql.get("SELECT page_count * page_size AS bytes FROM pragma_page_count(), pragma_page_size()")
  return { rows: Number(rows ?? 0), bytes: Number(pages?.["bytes"] ?? 0) }
}

function readActions(sql: Sql): ActionsResponse["recent"] {
  return sql.all(
    "SELECT ts, payload FROM event_log WHERE kind = 'operator_action' ORDER BY seq DESC LIMIT ?",
    recentActionsLimit
  ).map((row) => {
    const { action, ...rest } = Codec.decodeRecordedAction(row["payload"])
    return { action, actor: rest.by === "operator" ? rest.actor : null, at: Number(row["ts"]) }
  })
}

/** An agent's event as it came, with the name of its refusal beside it when it was refused. */
function shownPayload(row: Row): unknown {
  const payload: unknown = JSON.parse(String(row["payload"]))
  if (row["outcome"] === null || typeof payload !== "object") return payload
  const { reason } = Codec.decodeOutcome(row["outcome"])
  return reason === undefined ? payload : { ...payload, refused: reason }
}

export function allRows(sql: Pick<Sql, "all">): ReadonlyArray<LogRow> {
  const rows = sql.all(
    `SELECT e.ts, e.kind, h.name AS host, r.name AS rollout, e.payload, e.outcome, e.agent_seq
     FROM event_log e LEFT JOIN names h ON h.id = e.host LEFT JOIN names r ON r.id = e.rollout ORDER BY e.seq`
  )
  return rows.flatMap((row): ReadonlyArray<LogRow> => {
    const entry = Codec.decodeEntry(
      String(row["kind"]),
      String(row["payload"]),
      row["outcome"],
      row["agent_seq"] !== null
    )
    return entry === undefined ? [] : [{
      now: Number(row["ts"]),
      ...(row["host"] === null ? {} : { host: String(row["host"]) }),
      ...(row["rollout"] === null ? {} : { rolloutId: String(row["rollout"]) }),
      entry
    }]
  })
}
