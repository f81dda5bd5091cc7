/**
 * `nixfleet-agent journal export`: the whole journal as JSON lines (`Schema/AgentExport.ts`), from one snapshot, a few rows at
 * a time, also while the agent runs. What cannot be read is exported as it stands, so that a damaged journal can be saved.
 */
import { Clock, Effect, FileSystem, Schema, Stdio, Stream } from "effect"
import { errorCode } from "../Layers/Disk/AtomicFile.ts"
import type { Row } from "../Layers/Disk/Database.ts"
import { type DatabaseReader, openReader } from "../Layers/Disk/DatabaseReader.ts"
import type { AgentConfig } from "../Schema/AgentConfig.ts"
import { type ExportLine, ExportLineJson } from "../Schema/AgentExport.ts"
import { EntryJson, FoldedJson } from "../Schema/AgentJournal.ts"
import { journalMigrations } from "./Journal.ts"
import { journalFile } from "./JournalReader.ts"

/** What was exported. */
export interface Exported {
  readonly records: number
  readonly rows: number
  readonly unreadable: number
}

const encode = Schema.encodeSync(ExportLineJson)
const decodeEntry = Schema.decodeUnknownSync(EntryJson)
const decodeFolded = Schema.decodeUnknownSync(FoldedJson)

/** One table: its rows in their order, and what each becomes. */
interface Table {
  readonly name: string
  readonly text: string
  readonly line: (row: Row) => ExportLine
}

const text = (row: Row, column: string): string => String(row[column])
const integer = (row: Row, column: string): number => Number(row[column])

const tables: ReadonlyArray<Table> = [
  {
    name: "meta",
    text: "SELECT key AS id, value FROM meta ORDER BY key",
    line: (row) => ({ line: "meta", key: text(row, "id"), value: text(row, "value") })
  },
  {
    name: "seq_floors",
    text: "SELECT id, rollout_id, seq FROM seq_floors ORDER BY id",
    line: (row) => ({ line: "seq-floor", rolloutId: text(row, "rollout_id"), seq: integer(row, "seq") })
  },
  {
    name: "rejections",
    text: "SELECT id, rollout_id, reason, detail, at FROM rejections ORDER BY id",
    line: (row) => ({
      line: "rejection",
      rolloutId: text(row, "rollout_id"),
      reason: text(row, "reason"),
      detail: text(row, "detail"),
      at: integer(row, "at")
    })
  },
  {
    name: "rollouts",
    text: "SELECT id, rollout_id, folded AS value, acked_through FROM rollouts ORDER BY id",
    line: (row) => ({
      line: "record",
      rolloutId: text(row, "rollout_id"),
      ...decodeFolded(row["value"]),
      ...(row["acked_through"] === null ? {} : { ackedThrough: integer(row, "acked_through") })
    })
  },
  {
    name: "events",
    text: `SELECT e.id, r.rollout_id, e.attempt, e.at, e.now, e.entry AS value, e.delivery, e.detail
           FROM events e LEFT JOIN rollouts r ON r.id = e.rollout ORDER BY e.id`,
    line: (row) => ({
      line: "row",
      id: integer(row, "id"),
      rolloutId: text(row, "rollout_id"),
      attempt: integer(row, "attempt"),
      at: integer(row, "at"),
      now: integer(row, "now"),
      entry: decodeEntry(row["value"]),
      ...(row["delivery"] === null ? {} : { delivery: text(row, "delivery") }),
      ...(row["detail"] === "" ? {} : { detail: text(row, "detail") })
    })
  }
]

const problemOf = (error: unknown): string => error instanceof Error ? error.message : String(error)

const readLine = (table: Table, row: Row): string => {
  try {
    return encode(table.line(row))
  } catch (error) {
    const where = `${table.name} ${text(row, "id")}`
    return encode({ line: "unreadable", where, problem: problemOf(error), text: JSON.stringify(row) })
  }
}

/** A table that SQLite itself can read no further ends there, and says so. */
function* linesOf(reader: DatabaseReader, table: Table): Generator<string> {
  try {
    for (const row of reader.each(table.text)) yield readLine(table, row)
  } catch (error) {
    yield encode({ line: "unreadable", where: table.name, problem: problemOf(error), text: "" })
  }
}

const isUnreadable = (line: string): boolean => line.startsWith(`{"line":"unreadable"`)

/** Every line, and at its end what they were. `at`: epoch ms. */
export function* exportLines(reader: DatabaseReader, at: number): Generator<string, Exported> {
  yield encode({ line: "header", format: 1, exportedAt: at, file: reader.file })
  const counts = { rollouts: 0, events: 0, unreadable: 0 }
  for (const table of tables) {
    for (const line of linesOf(reader, table)) {
      if (isUnreadable(line)) counts.unreadable += 1
      else if (table.name === "rollouts" || table.name === "events") counts[table.name] += 1
      yield line
    }
  }
  const { events: rows, rollouts: records, unreadable } = counts
  yield encode({ line: "end", records, rows, unreadable })
  return { records, rows, unreadable }
}

/** Lines that are written at once. */
const batch = 256

/** Hands the lines to `write` as text, and no faster than it takes them. */
export const writeExport = Effect.fnUntraced(function*<E, R>(
  reader: DatabaseReader,
  at: number,
  write: (text: string) => Effect.Effect<void, E, R>
) {
  const lines = exportLines(reader, at)
  while (true) {
    const taken: Array<string> = []
    let next = lines.next()
    for (; next.done !== true && taken.length < batch; next = lines.next()) taken.push(`${next.value}\n`)
    if (next.done !== true) taken.push(`${next.value}\n`)
    if (taken.length > 0) yield* write(taken.join(""))
    if (next.done === true) return next.value
  }
})

/** Where an export goes: a file, or standard output when none is named. */
export interface Destination {
  readonly file: string | undefined
  /** Whether a file that exists is replaced. */
  readonly force: boolean
}

/** A file appears whole under its name, or not at all. */
const toFile = Effect.fnUntraced(function*(reader: DatabaseReader, at: number, file: string, force: boolean) {
  const fs = yield* FileSystem.FileSystem
  if (!force && (yield* fs.exists(file))) {
    return yield* new ExportRefused({ message: `${file} exists; --force replaces it` })
  }
  const temporary = `${file}.part`
  return yield* Effect.gen(function*() {
    yield* fs.remove(temporary, { force: true })
    const handle = yield* fs.open(temporary, { flag: "wx", mode: 0o600 })
    const bytes = new TextEncoder()
    const exported = yield* writeExport(reader, at, (lines) => handle.writeAll(bytes.encode(lines)))
    yield* handle.sync
    yield* fs.rename(temporary, file)
    return exported
  }).pipe(Effect.scoped, Effect.onError(() => Effect.ignore(fs.remove(temporary, { force: true }))))
})

/** A reader that has seen enough ends the export without an error; any other trouble makes it incomplete. */
const toStandardOutput = Effect.fnUntraced(function*(lines: string) {
  const stdio = yield* Stdio.Stdio
  yield* Stream.run(Stream.make(lines), stdio.stdout({ endOnDone: false })).pipe(
    Effect.catch(({ cause }) =>
      errorCode(cause) === "EPIPE"
        ? Effect.interrupt
        : new ExportRefused({ message: `the export is not complete: standard output: ${problemOf(cause)}` })
    )
  )
})

export class ExportRefused extends Schema.TaggedError<ExportRefused>()("ExportRefused", { message: Schema.String }) {}

/** What was exported; `undefined` when no agent ever ran on this state directory. */
export const exportJournal = Effect.fnUntraced(function*({ stateDir }: AgentConfig, { file, force }: Destination) {
  // Another host's journal, or one without a name, can be saved as well.
  const reader = yield* openReader(journalFile(stateDir), journalMigrations)
  if (reader === undefined) return undefined
  const at = Math.floor(yield* Clock.currentTimeMillis)
  if (file !== undefined) return yield* toFile(reader, at, file, force)
  return yield* writeExport(reader, at, toStandardOutput)
}, Effect.scoped)
