/**
 * Reads a database that another process may be writing: one consistent snapshot, no lock that the writer could meet, nothing
 * migrated, nothing written. For the commands that look at a program's journal while it runs.
 *
 * A snapshot that is held for long keeps the writer's log from shrinking, so readers take what they want and close. SQLite
 * leaves its two companion files (`-wal`, `-shm`) beside a database that it had to read without a writer; the next start
 * takes them over.
 *
 * Failures: `DatabaseError` by name, as at the start of a program: damaged, of another program, of another major version.
 */
import { Effect, type Scope } from "effect"
import { existsSync, statSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { pathToFileURL } from "node:url"
import { attempting } from "./Database.ts"
import {
  classified,
  type DatabaseError,
  isUnused,
  makeSql,
  type Migrations,
  minorOf,
  refuseForeign,
  type Row,
  type Sql
} from "./Sqlite.ts"

export interface DatabaseReader {
  readonly file: string
  readonly sql: Pick<Sql, "get" | "all">
  /** Rows one by one, for tables of any size. Throws `DatabaseError`. */
  readonly each: (text: string) => Iterable<Row>
  /** What SQLite finds wrong with its own pages and indices; empty when nothing is. Reads the whole file. */
  readonly damages: () => ReadonlyArray<string>
}

/** The file in a snapshot of this moment, until the scope closes; `undefined` when no program ever made it. */
export const openReader = (
  file: string,
  migrations: Migrations
): Effect.Effect<DatabaseReader | undefined, DatabaseError, Scope.Scope> =>
  Effect.acquireRelease(
    attempting("read", file, () => existsSync(file) ? connect(file) : undefined),
    (db) => Effect.sync(() => db?.close())
  ).pipe(Effect.flatMap((db) =>
    attempting("read", file, () => {
      // A program that is just being started has made the file and nothing in it yet.
      if (db === undefined || isUnused(db)) return undefined
      refuseForeign(db, file, migrations)
      if (minorOf(db) < migrations.minors.length) throw new Error("an older version wrote it; start the program once")
      return reader(db, file)
    })
  ))

/** What a reader waits at most for the one moment at which a writer changes the shape of its log, ms. */
const busyMs = 1_000
const sqliteCannotOpen = 14

/**
 * The connection with its snapshot taken. On a file system that takes no files SQLite cannot make its companion files: when
 * there is no log whose content would be missed, the database is read as one that nobody changes.
 */
function connect(file: string): DatabaseSync {
  try {
    return snapshotOf(new DatabaseSync(file, { readOnly: true, timeout: busyMs }))
  } catch (error) {
    if (!isCannotOpen(error) || hasLog(file)) throw error
    const immutable = pathToFileURL(file)
    immutable.searchParams.set("immutable", "1")
    return snapshotOf(new DatabaseSync(immutable, { readOnly: true }))
  }
}

function snapshotOf(db: DatabaseSync): DatabaseSync {
  try {
    db.exec("PRAGMA trusted_schema=OFF; BEGIN")
    // The snapshot is that of the first read.
    db.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get()
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

const isCannotOpen = (error: unknown): boolean =>
  error instanceof Error && "errcode" in error && typeof error.errcode === "number" &&
  (error.errcode & 0xff) === sqliteCannotOpen

const hasLog = (file: string): boolean => (statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0

function reader(db: DatabaseSync, file: string): DatabaseReader {
  return {
    file,
    sql: makeSql(db, file),
    each: function*(text) {
      const rows = classified(file, () => db.prepare(text).iterate())
      for (;;) {
        const next = classified(file, () => rows.next())
        if (next.done === true) return
        yield next.value
      }
    },
    damages: () =>
      classified(file, () => db.prepare("PRAGMA integrity_check").all())
        .map((row) => String(row["integrity_check"])).filter((line) => line !== "ok")
  }
}
