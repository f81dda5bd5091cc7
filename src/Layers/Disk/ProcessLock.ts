/**
 * One process per state directory (D1). The lock is SQLite's exclusive lock on an empty database file, which is the
 * kernel's record lock: gone with the process, however it ends, seen across containers and network name spaces that
 * share the directory, and not inherited by a switch that outlives the agent.
 *
 * Failures: a second process is told who holds the lock. Nobody else may open and close the lock file in this process:
 * that would drop the kernel's lock.
 */
import { Effect, Layer, Schema } from "effect"
import { readFileSync, writeFileSync } from "node:fs"
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

/** The lock could not be tried: the directory does not take files. */
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

function acquire(directory: string): DatabaseSync {
  const db = new DatabaseSync(join(directory, lockName))
  try {
    db.exec("BEGIN EXCLUSIVE")
    writeFileSync(join(directory, holderName), `${process.pid}\n`, { mode: 0o600 })
    held.add(db)
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
