/**
 * Replaces a small file so that a reader, at any time and after any crash, finds the old content or the new, whole:
 * temporary file, fsync, rename, fsync of the directory. Synchronous: the files are small and written at a poll's pace.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"

/** Prefix of files that a crash may have left behind; nobody reads them and `writeAtomically` overwrites them. */
export const temporaryPrefix = ".tmp-"

/** Throws what `node:fs` throws; the old content is then still in place, and the temporary file is gone. */
export function writeAtomically(file: string, bytes: Uint8Array): void {
  const temporary = join(dirname(file), `${temporaryPrefix}${basename(file)}`)
  try {
    const handle = openSync(temporary, "w", 0o600)
    try {
      writeFileSync(handle, bytes)
      fsyncSync(handle)
    } finally {
      closeSync(handle)
    }
    renameSync(temporary, file)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
  syncDirectory(dirname(file))
}

/** Makes creations, renames and removals in `directory` durable. */
export function syncDirectory(directory: string): void {
  const handle = openSync(directory, "r")
  try {
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}

/** The content, or `undefined` when there is no such file; throws for every other failure. */
export function readIfPresent(file: string): Uint8Array | undefined {
  try {
    return readFileSync(file)
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined
    throw error
  }
}

/** `ENOSPC`, `EROFS`, …; `undefined` when the error has none. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined
}
