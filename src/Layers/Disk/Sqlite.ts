/**
 * What both database layers share: opening a connection, the meaning of SQLite's error codes, migrations, transactions.
 * Owns no file and no policy of its own; `Database.ts` is its only user.
 */
import { Schema } from "effect"
import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from "node:sqlite"
import { CommitHeld } from "./CommitHeld.ts"

/** The database cannot be used; it ends the process. A restart mends `database-failed` alone: the others need a person. */
export class DatabaseError extends Schema.TaggedError<DatabaseError>()("DatabaseError", {
  reason: Schema.Literals(["database-corrupt", "database-failed", "database-foreign", "database-other-major"]),
  file: Schema.String,
  /** Names the file, what was found, and what to do. */
  message: Schema.String
}) {}

/** The schema of one program's database. */
export interface Migrations {
  /** SQLite's `application_id`: a control plane's database is not an agent's. A positive 31-bit integer. */
  readonly applicationId: number
  /** What this database is, for error messages: "the agent's journal". */
  readonly title: string
  /** Another major version is refused (D1). From 1. */
  readonly major: number
  /**
   * The n-th text (from 1) takes minor version n-1 to n. Additive only: new tables, new columns with defaults, new indices;
   * the statements of an older minor version must keep working, because after a rollback the old program opens the new
   * database (D1).
   */
  readonly minors: ReadonlyArray<string>
}

export type Row = Readonly<Record<string, SQLOutputValue>>

/** Statements by their text; each text is prepared once per connection. `?` parameters only. */
export interface Sql {
  readonly run: (text: string, ...values: ReadonlyArray<SQLInputValue>) => { readonly lastInsertRowid: number }
  readonly get: (text: string, ...values: ReadonlyArray<SQLInputValue>) => Row | undefined
  readonly all: (text: string, ...values: ReadonlyArray<SQLInputValue>) => ReadonlyArray<Row>
}

/**
 * `synchronous=FULL`: a commit is on the disk when it returns. The busy time-out bounds how long an operator's shell may
 * stall the loop, ms.
 */
const pragmas =
  "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=50; PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF"

// Result codes of SQLite (sqlite.org/rescode.html), primary ones.
const sqliteBusy = 5
const sqliteReadOnly = 8
const sqliteCorrupt = 11
const sqliteFull = 13
const sqliteNotADatabase = 26

/** Versions are kept in SQLite's `user_version` as major × 65536 + minor: it changes in the migration's own transaction. */
const majorUnit = 65_536

/** SQLite's extended result code; `undefined` for an error that is not SQLite's. */
function resultCode(error: unknown): number | undefined {
  return error instanceof Error && "errcode" in error && typeof error.errcode === "number" ? error.errcode : undefined
}

/** What an error of the database means to its user. An error that is not SQLite's is a defect of the caller and stays. */
export function classify(file: string, error: unknown): unknown {
  const code = resultCode(error)
  if (code === undefined || !(error instanceof Error)) return error
  const detail = `${file}: ${error.message} (SQLite ${code})`
  switch (code & 0xff) {
    case sqliteFull:
      return new CommitHeld({ reason: "disk-full", message: detail })
    case sqliteReadOnly:
      return new CommitHeld({ reason: "disk-read-only", message: detail })
    case sqliteBusy:
      return new CommitHeld({ reason: "database-locked", message: detail })
    case sqliteCorrupt:
    case sqliteNotADatabase:
      return new DatabaseError({
        reason: "database-corrupt",
        file,
        message:
          `${detail}; the file is damaged: keep a copy of it, then restore it from a backup or start with an empty one`
      })
    default:
      return new DatabaseError({ reason: "database-failed", file, message: detail })
  }
}

/** Runs `f`, and gives the errors of the database their meaning. */
export function classified<A>(file: string, f: () => A): A {
  try {
    return f()
  } catch (error) {
    throw classify(file, error)
  }
}

export function makeSql(db: DatabaseSync, file: string): Sql {
  const statements = new Map<string, StatementSync>()
  const prepared = (text: string) => {
    const known = statements.get(text)
    if (known !== undefined) return known
    const statement = db.prepare(text)
    statements.set(text, statement)
    return statement
  }
  return {
    run: (text, ...values) =>
      classified(file, () => ({ lastInsertRowid: Number(prepared(text).run(...values).lastInsertRowid) })),
    get: (text, ...values) => classified(file, () => prepared(text).get(...values)),
    all: (text, ...values) => classified(file, () => prepared(text).all(...values))
  }
}

/** One transaction: everything or nothing. `commit` is where the simulator's disk faults live (D20). */
export function transact<A>(db: DatabaseSync, file: string, body: () => A, commit: () => void): A {
  return classified(file, () => {
    db.exec("BEGIN IMMEDIATE")
    try {
      const result = body()
      commit()
      return result
    } catch (error) {
      // A full disk rolls back by itself.
      if (db.isTransaction) db.exec("ROLLBACK")
      throw error
    }
  })
}

const readPragma = (db: DatabaseSync, name: "application_id" | "user_version"): number =>
  Number(db.prepare(`PRAGMA ${name}`).get()?.[name] ?? 0)

/** Sets up a connection and brings the schema to this program's minor version; a newer minor version is left alone. */
export function prepare(db: DatabaseSync, file: string, migrations: Migrations): void {
  classified(file, () => db.exec(pragmas))
  transact(db, file, () => migrate(db, file, migrations), () => db.exec("COMMIT"))
}

/** Nobody has written anything into it yet. */
export const isUnused = (db: DatabaseSync): boolean =>
  readPragma(db, "application_id") === 0 && readPragma(db, "user_version") === 0 &&
  db.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() === undefined

/** Throws `DatabaseError` when a database in use is another program's, or of another major version than this one reads. */
export function refuseForeign(db: DatabaseSync, file: string, { applicationId, major, title }: Migrations): void {
  if (readPragma(db, "application_id") !== applicationId) {
    throw new DatabaseError({
      reason: "database-foreign",
      file,
      message: `${file} is a database of another program, not ${title}; is the path right?`
    })
  }
  const foundMajor = Math.floor(readPragma(db, "user_version") / majorUnit)
  if (foundMajor !== major) {
    throw new DatabaseError({
      reason: "database-other-major",
      file,
      message:
        `${file} has major version ${foundMajor}, and this program reads ${major} only; run the version that wrote it, ` +
        `or move the file away to start with an empty one`
    })
  }
}

export const minorOf = (db: DatabaseSync): number => readPragma(db, "user_version") % majorUnit

function migrate(db: DatabaseSync, file: string, migrations: Migrations): void {
  const { applicationId, major, minors } = migrations
  const isNew = isUnused(db)
  if (!isNew) refuseForeign(db, file, migrations)
  const foundMinor = minorOf(db)
  if (!isNew && foundMinor >= minors.length) return
  for (const text of minors.slice(foundMinor)) db.exec(text)
  db.exec(`PRAGMA application_id=${applicationId}; PRAGMA user_version=${major * majorUnit + minors.length}`)
}
