/**
 * One SQLite database: the journal's disk (D1). Synchronous, so that nothing can come between the statements of a
 * transaction, and short, because everything else waits meanwhile.
 *
 * Owns the connection, the schema's version and the disk reserve. Does not own rows: the journals do.
 *
 * Failures: a full or read-only disk is `CommitHeld`, and the transaction may be tried again; everything else is a
 * `DatabaseError` and must end the process, for nobody knows what became durable.
 */
import { Context, Effect, Layer } from "effect"
import { closeSync, existsSync, fchmodSync, openSync } from "node:fs"
import { dirname } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { CommitHeld } from "./CommitHeld.ts"
import { makeDiskReserve } from "./DiskReserve.ts"
import type { MemoryDisk } from "./MemoryDisk.ts"
import {
  classified,
  classify,
  DatabaseError,
  isUnused,
  makeSql,
  type Migrations,
  prepare,
  type Sql,
  transact
} from "./Sqlite.ts"
import { prepareStateDirectory, type StateDirectoryUnusable } from "./StateDirectory.ts"

export { DatabaseError, type Migrations, type Row, type Sql } from "./Sqlite.ts"

/**
 * Kept free beside a journal, bytes: about 1000 pages, some hundred commits, and more than the write-ahead log of a
 * checkpoint needs.
 */
export const defaultReserveBytes = 4 * 1024 * 1024

/** A slice of a reserve: some ten commits. */
const reserveSlices = 16

export interface FileOptions {
  readonly reserveBytes?: number
  /** Reads the whole file at the start, so that damage is found before anything is decided on it: for small databases. */
  readonly check?: boolean
}

export class Database extends Context.Service<Database, {
  /** Path of the file, or what stands for it in memory; for messages. */
  readonly file: string
  /** Reads. Writes outside of a transaction are transactions of their own. */
  readonly sql: Sql
  /**
   * One durable transaction. Throws `CommitHeld`, `DatabaseError`, or what `body` throws; then nothing is written. `body` is
   * called again when the disk was full and the reserve gave room.
   */
  readonly transaction: <A>(body: (sql: Sql) => A) => A
}>()("nixfleet/Layers/Disk/Database") {
  /** A file of mode 0600 in a directory that only its owner may write. Closed with the layer's scope. */
  static readonly layerFile = (
    file: string,
    migrations: Migrations,
    options: FileOptions = {}
  ): Layer.Layer<Database, DatabaseError | StateDirectoryUnusable> =>
    Layer.effect(
      Database,
      Effect.gen(function*() {
        yield* prepareStateDirectory(dirname(file))
        const reserveFile = `${file}.reserve`
        const wasUsed = existsSync(file) && existsSync(reserveFile)
        const db = yield* Effect.acquireRelease(
          attempting("open", file, () => openFile(file)),
          (opened) => Effect.sync(() => opened.close())
        )
        const reserveBytes = options.reserveBytes ?? defaultReserveBytes
        const reserve = makeDiskReserve(reserveFile, reserveBytes, Math.ceil(reserveBytes / reserveSlices))
        const opened = attempting("open", file, () => {
          if (wasUsed) classified(file, () => refuseEmptied(db, file))
          prepare(db, file, migrations)
          if (options.check === true) classified(file, () => refuseDamaged(db, file))
        })
        // A start on a full disk needs the reserve as well: the journal has to be open for a rollback to be written.
        yield* Effect.retry(opened, { while: ({ reason }) => reason === "database-failed" && reserve.release() })
        reserve.restore()
        const sql = makeSql(db, file)
        const transaction = <A>(body: (sql: Sql) => A): A => {
          for (;;) {
            try {
              const result = transact(db, file, () => body(sql), () => db.exec("COMMIT"))
              reserve.restore()
              return result
            } catch (error) {
              // At once, before somebody else takes the room that was kept.
              const isFull = error instanceof CommitHeld && error.reason === "disk-full"
              if (!isFull || !reserve.release()) throw error
            }
          }
        }
        return Database.of({ file, sql, transaction })
      })
    )

  /** A database in memory that outlives the layer, as a disk outlives a process; its faults are the disk's (D20). */
  static readonly layerMemory = (disk: MemoryDisk, migrations: Migrations): Layer.Layer<Database, DatabaseError> =>
    Layer.effect(
      Database,
      Effect.gen(function*() {
        const { db, file } = disk
        yield* attempting("open", file, () => prepare(db, file, migrations))
        const sql = makeSql(db, file)
        return Database.of({
          file,
          sql,
          transaction: (body) => transact(db, file, () => body(sql), () => disk.commit())
        })
      })
    )
}

const damaged = (file: string, what: string) =>
  new DatabaseError({
    reason: "database-corrupt",
    file,
    message:
      `${file} ${what}: keep a copy of it, then restore it from a backup, or move it away to start with an empty one`
  })

/** Made empty, or its write-ahead log is gone: the reserve beside it says that it was in use. Starting over would be a silent loss. */
function refuseEmptied(db: DatabaseSync, file: string): void {
  if (isUnused(db)) throw damaged(file, "is empty, although it was in use")
}

function refuseDamaged(db: DatabaseSync, file: string): void {
  const found = Object.values(db.prepare("PRAGMA quick_check(1)").get() ?? {})
  if (found[0] !== "ok") throw damaged(file, `is damaged (${found.join()})`)
}

/** SQLite gives the write-ahead log the mode of the database, which therefore is created before SQLite opens it. */
function openFile(file: string): DatabaseSync {
  const handle = openSync(file, "a", 0o600)
  try {
    fchmodSync(handle, 0o600)
  } finally {
    closeSync(handle)
  }
  return new DatabaseSync(file)
}

/** Outside of a commit nothing waits for a disk to mend: every failure is reported, with what was attempted. */
export const attempting = <A>(what: "open" | "read", file: string, f: () => A): Effect.Effect<A, DatabaseError> =>
  Effect.try({
    try: f,
    catch: (cause) => {
      const error = classify(file, cause)
      return error instanceof DatabaseError ? error : new DatabaseError({
        reason: "database-failed",
        file,
        message: `cannot ${what} ${file}: ${error instanceof Error ? error.message : String(error)}`
      })
    }
  })
