/**
 * Reading and publishing files. What is written appears whole or not at all: temporary file, fsync, rename, fsync of the
 * directory. Several files are all staged before the first one is renamed, so that a full disk leaves the old ones.
 */
import { Effect, FileSystem, Path, type PlatformError } from "effect"
import { type CommandFailure, configError, failed } from "./Failure.ts"

/** Largest input: the artifact of the largest fleet that a control plane takes. */
export const maxInputBytes = 16 * 1_048_576

export interface OutputFile {
  readonly path: string
  readonly bytes: Uint8Array
  /** Permission bits; others may read what is published. */
  readonly mode?: 0o600 | 0o644
}

/** The content of a file that has to be there. */
export const readInput = Effect.fnUntraced(function*(path: string, what: string) {
  const found = yield* readIfPresent(path, what)
  return found ?? (yield* configError(`cannot read ${what} ${path}: there is no such file`))
})

/** `undefined` when there is no such file; every other failure is one. */
export const readIfPresent = Effect.fnUntraced(function*(path: string, what: string) {
  const fs = yield* FileSystem.FileSystem
  return yield* Effect.gen(function*() {
    const { size } = yield* fs.stat(path)
    if (size > maxInputBytes) {
      return yield* configError(`${what} ${path} has ${size} bytes, more than the ${maxInputBytes} that are read`)
    }
    return yield* fs.readFile(path)
  }).pipe(
    Effect.catchTag("PlatformError", (error) =>
      error.reason._tag === "NotFound"
        ? Effect.succeed(undefined)
        : Effect.fail(configError(`cannot read ${what} ${path}: ${error.message}`)))
  )
})

/** Makes sure that no file is in the way. */
export const spare = Effect.fnUntraced(function*(paths: ReadonlyArray<string>, force: boolean) {
  const fs = yield* FileSystem.FileSystem
  for (const path of force ? [] : paths) {
    const exists = yield* Effect.mapError(fs.exists(path), (error) => failed(error.message))
    if (exists) return yield* failed(`${path} exists and is not overwritten: choose another name, or give --force`)
  }
})

/** Writes files in their order; the last one is what makes the others count. Directories are made as needed. */
export const publish = Effect.fnUntraced(
  function*(files: ReadonlyArray<OutputFile>) {
    const fs = yield* FileSystem.FileSystem
    const paths = yield* Path.Path
    const staged: Array<readonly [temporary: string, path: string]> = []
    const directories = new Set(files.map((file) => paths.dirname(file.path)))
    yield* Effect.gen(function*() {
      for (const directory of directories) yield* fs.makeDirectory(directory, { recursive: true })
      for (const file of files) {
        const temporary = paths.join(paths.dirname(file.path), `.tmp-${paths.basename(file.path)}`)
        staged.push([temporary, file.path])
        yield* stage(temporary, file)
      }
      for (const [temporary, path] of staged) yield* fs.rename(temporary, path)
      for (const directory of directories) yield* syncDirectory(directory)
    }).pipe(
      Effect.onError(() =>
        Effect.forEach(staged, ([temporary]) => Effect.ignore(fs.remove(temporary, { force: true })), { discard: true })
      )
    )
  },
  Effect.catchTag(
    "PlatformError",
    (error): Effect.Effect<never, CommandFailure> => Effect.fail(failed(`cannot write: ${error.message}`))
  )
)

/**
 * Writes one file as it is produced: it appears whole, when `write` has succeeded, with mode 0600. A file that is there already stays
 * as it is, unless `replace`.
 */
export const writeNew = Effect.fnUntraced(function*<A, E, R>(
  path: string,
  replace: boolean,
  write: (append: (text: string) => Effect.Effect<void, CommandFailure>) => Effect.Effect<A, E, R>
) {
  const fs = yield* FileSystem.FileSystem
  const paths = yield* Path.Path
  const cannotWrite = Effect.mapError((error: PlatformError.PlatformError) =>
    failed(`cannot write ${path}: ${error.message}`)
  )
  const isThere = failed(`${path} is there already; --force replaces it`)
  if (!replace && (yield* cannotWrite(fs.exists(path)))) return yield* isThere
  const temporary = paths.join(paths.dirname(path), `.tmp-${paths.basename(path)}`)
  yield* cannotWrite(fs.remove(temporary, { force: true }))
  return yield* Effect.gen(function*() {
    const result = yield* Effect.scoped(Effect.gen(function*() {
      const handle = yield* cannotWrite(fs.open(temporary, { flag: "wx", mode: 0o600 }))
      const written = yield* write((text) => cannotWrite(handle.writeAll(Buffer.from(text))))
      yield* cannotWrite(handle.sync)
      return written
    }))
    // A link is refused where a file has appeared meanwhile; a rename would replace it.
    yield* replace
      ? cannotWrite(fs.rename(temporary, path))
      : fs.link(temporary, path).pipe(
        Effect.catchIf(({ reason }) => reason._tag === "AlreadyExists", () => Effect.fail(isThere)),
        Effect.catchTag("PlatformError", (error) => cannotWrite(Effect.fail(error)))
      )
    yield* cannotWrite(syncDirectory(paths.dirname(path)))
    return result
  }).pipe(Effect.ensuring(Effect.ignore(fs.remove(temporary, { force: true }))))
})

/** A leftover of an earlier run is removed first: its permissions, or where it leads as a link, are not to be trusted. */
const stage = (temporary: string, file: OutputFile) =>
  Effect.scoped(Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    yield* fs.remove(temporary, { force: true })
    const handle = yield* fs.open(temporary, { flag: "wx", mode: file.mode ?? 0o644 })
    yield* handle.writeAll(file.bytes)
    yield* handle.sync
  }))

const syncDirectory = (directory: string) =>
  Effect.scoped(Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const handle = yield* fs.open(directory, { flag: "r" })
    yield* handle.sync
  }))
