/**
 * Takes a database out of use while nobody has it open: out of the way under another name, or away for good. Its log goes
 * with it, so that what was set aside can be read like any database.
 */
import { renameSync, rmSync, statSync } from "node:fs"
import { dirname } from "node:path"
import { syncDirectory } from "./AtomicFile.ts"

/**
 * The database first: a log without its database means nothing to SQLite, which deletes it, while a database without its log
 * would be one of the past. Throws what `node:fs` throws.
 */
export function setAside(file: string, to: string): void {
  renameSync(file, to)
  const log = statSync(`${file}-wal`, { throwIfNoEntry: false })
  if (log !== undefined && log.size > 0) renameSync(`${file}-wal`, `${to}-wal`)
  discard(file)
}

/** What is left of it, or all of it. */
export function discard(file: string): void {
  for (const suffix of ["", "-wal", "-shm"]) rmSync(`${file}${suffix}`, { force: true })
  syncDirectory(dirname(file))
}
