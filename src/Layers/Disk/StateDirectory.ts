/**
 * The directory that holds everything a program must remember. Owns its creation and its permissions: whoever can write
 * here can make a host forget what it refused, so nobody but the owner may.
 */
import { Effect, Schema } from "effect"
import { existsSync, mkdirSync, statSync } from "node:fs"
import { dirname } from "node:path"
import { errorCode } from "./AtomicFile.ts"

/** The directory cannot be used; the message says what to do. A configuration error (exit 78). */
export class StateDirectoryUnusable extends Schema.TaggedError<StateDirectoryUnusable>()("StateDirectoryUnusable", {
  reason: Schema.Literals(["state-directory-unreachable", "state-directory-unsafe"]),
  directory: Schema.String,
  message: Schema.String
}) {}

/** Write permission of group and others. */
const foreignWrite = 0o022

/**
 * Creates `directory` and what is missing above it, mode 0700. Node's own recursive form never returns where the parent
 * exists and yet nothing can be created in it, as under `/proc`.
 */
export function ensureDirectory(directory: string): void {
  if (existsSync(directory)) return
  if (dirname(directory) !== directory) ensureDirectory(dirname(directory))
  try {
    mkdirSync(directory, { mode: 0o700 })
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error
  }
}

/**
 * Creates the directory with mode 0700 when it is missing. One that exists is never changed: a typing error such as
 * `/var/lib` must not lock a host out of its own files. It is refused when others may write it.
 */
export const prepareStateDirectory = (directory: string): Effect.Effect<void, StateDirectoryUnusable> =>
  Effect.try({
    try: () => {
      ensureDirectory(directory)
      const status = statSync(directory)
      if (!status.isDirectory()) throw new Error("it is not a directory")
      return status.mode & foreignWrite
    },
    catch: (cause) =>
      new StateDirectoryUnusable({
        reason: "state-directory-unreachable",
        directory,
        message: `cannot use the state directory ${directory}: ${
          cause instanceof Error ? cause.message : String(cause)
        }`
      })
  }).pipe(Effect.flatMap((foreign) =>
    foreign === 0 ? Effect.void : new StateDirectoryUnusable({
      reason: "state-directory-unsafe",
      directory,
      message: `others may write the state directory ${directory}; run: chmod 0700 ${directory}`
    })
  ))
