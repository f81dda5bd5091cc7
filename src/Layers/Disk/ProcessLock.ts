/**
 * One process per state directory (D1). The lock is SQLite's exclusive lock on an empty database file, which is the
 * kernel's record lock: gone with the process, however it ends, seen across containers and network name spaces that
 * share the directory, and not inherited by a switch that outlives the agent.
 *
 * Failures: a second process is told who holds the lock. Nobody else may open and close the lock file in this process:
 * that would drop the kernel's lock.
 */
import { Effect, Layer, Schema } from "effect"
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { prepareStateDirectory, type StateDirectoryUnusable } from "./StateDirectory.ts"

/** Another process uses the directory. A configuration error (exit 78): starting again later does not help by itself. */
export class StateDirectoryLocked extends Schema.TaggedError<StateDirectoryLocked>()("StateDirectoryLocked", {
  reason: Schema.Literals(["state-directory-locked"]),
  directory: Schema.String,
  /** Process id, when the holder left it. */
  holder: Schema.UndefinedOr(Schema.Int),
  message: Schema.String
}) {}

/** The lock could not be tried: the directory takes no files now (full, read-only, broken), which a later start may find mended. */
export class LockUnusable extends Schema.TaggedError<LockUnusable>()("LockUnusable", {
  reason: Schema.Literals(["state-directory-unreachable"]),
  directory: Schema.String,
  message: Schema.String
}) {}

const lockName = "process.lock"
/** Written after the lock is held, only for the message of the one who comes second. */
const holderName = "process.pid"
const sqliteBusy = 5

/** The garbage collector closes a connection that nobody refers to, and with it the lock would be gone. */
const held = new Set<DatabaseSync>()

const isBusy = (error: unknown) => error instanceof Error && "errcode" in error && error.errcode === sqliteBusy

function readHolder(directory: string): number | undefined {
  try {
    const pid = Number(readFileSync(join(directory, holderName), "utf8").trim())
    return Number.isSafeInteger(pid) && pid > 0 ? pid : undefined
  } catch {
    return undefined
  }
}

/** How long a start waits for the lock, ms: `lockHolder` of another process may have it for a moment. */
const patienceMs = 500

/** On a full disk the second process is not told who the first one is; no other one's name may stand there then. */
function writeHolder(directory: string): void {
  const file = join(directory, holderName)
  try {
    writeFileSync(file, `${process.pid}\n`, { mode: 0o600 })
  } catch {
    rmSync(file, { force: true })
  }
}

function acquire(directory: string): DatabaseSync {
  const db = new DatabaseSync(join(directory, lockName), { timeout: patienceMs })
  try {
    db.exec("BEGIN EXCLUSIVE")
    held.add(db)
    writeHolder(directory)
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

function release(db: DatabaseSync): void {
  held.delete(db)
  db.close()
}

/** Who uses a state directory now. */
export type LockHolder =
  | { readonly _tag: "Nobody" }
  /** `pid`: as the holder left it; absent when it left none. */
  | { readonly _tag: "Process"; readonly pid?: number }

/**
 * Looks, without keeping anybody out: needs no right to write, and makes no file. Not in the process that holds the lock. A
 * lock that cannot be looked at is an error, never "nobody".
 */
export const lockHolder = (directory: string): Effect.Effect<LockHolder, LockUnusable> =>
  Effect.try({
    try: (): LockHolder => {
      const file = join(directory, lockName)
      if (!existsSync(file)) return { _tag: "Nobody" }
      const db = new DatabaseSync(file, { readOnly: true })
      try {
        db.prepare("SELECT 1 FROM sqlite_schema").get()
        return { _tag: "Nobody" }
      } catch (error) {
        if (!isBusy(error)) throw error
        const pid = readHolder(directory)
        return { _tag: "Process", ...(pid === undefined ? {} : { pid }) }
      } finally {
        db.close()
      }
    },
    catch: (cause) =>
      new LockUnusable({
        reason: "state-directory-unreachable",
        directory,
        message: `cannot see who uses ${directory}: ${cause instanceof Error ? cause.message : String(cause)}`
      })
  })

/** Holds the lock for the life of the layer; everything that touches the directory is provided with it. */
export const layerProcessLock = (
  directory: string
): Layer.Layer<never, StateDirectoryLocked | LockUnusable | StateDirectoryUnusable> =>
  Layer.effectDiscard(
    prepareStateDirectory(directory).pipe(
      Effect.andThen(Effect.acquireRelease(
        Effect.try({
          try: () => acquire(directory),
          catch: (cause) => {
            if (!isBusy(cause)) {
              return new LockUnusable({
                reason: "state-directory-unreachable",
                directory,
                message: `cannot lock ${directory}: ${cause instanceof Error ? cause.message : String(cause)}`
              })
            }
            const holder = readHolder(directory)
            return new StateDirectoryLocked({
              reason: "state-directory-locked",
              directory,
              holder,
              message: `${directory} is in use by ${holder === undefined ? "another process" : `process ${holder}`}; ` +
                `stop it first, or use another directory`
            })
          }
        }),
        (db) => Effect.sync(() => release(db))
      ))
    )
  )
