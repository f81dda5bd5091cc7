/**
 * Durable operations on links and trees of one host: what these functions did survives a power cut once they return.
 * Temporary entries are called `.tmp-…`, so that what a kill -9 left behind can be recognised and swept at the next start.
 * Small files are `Disk/AtomicFile.ts`'s.
 * Failures: the `node:fs` error, untouched; the caller knows what it means.
 */
import { randomUUID } from "node:crypto"
import { chmod, mkdir, open, readdir, readlink, rename, rm, symlink, unlink } from "node:fs/promises"
import { dirname, join } from "node:path"
import { errorCode, temporaryPrefix } from "../Disk/AtomicFile.ts"

/** A fresh name in the directory of `path`; the same file system, so that a rename is atomic. */
export const temporaryBeside = (path: string): string => join(dirname(path), `${temporaryPrefix}${randomUUID()}`)

/** One line about any thrown value. */
export const errorText = (error: unknown): string => error instanceof Error ? error.message : String(error)

/** The value, or `undefined` when the error says that nothing is there. */
export async function unlessAbsent<A>(read: Promise<A>): Promise<A | undefined> {
  try {
    return await read
  } catch (error) {
    const code = errorCode(error)
    if (code === "ENOENT" || code === "ENOTDIR") return undefined
    throw error
  }
}

/** Flushes a file, or the names in a directory. */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Creates a directory whose name is durable; one that exists is left as it is. */
export async function makeDirectory(path: string, mode: number): Promise<void> {
  const made = await mkdir(path, { recursive: true, mode })
  // Not by the mode above: the umask takes part in it.
  if (made !== undefined) await chmod(path, mode)
  await syncPath(dirname(path))
}

/** Target of a symbolic link; `undefined` when there is none. */
export async function readLink(path: string): Promise<string | undefined> {
  try {
    return await unlessAbsent(readlink(path))
  } catch (error) {
    // Something that is not a link holds the name.
    if (errorCode(error) === "EINVAL") return undefined
    throw error
  }
}

/** Points `link` at `target` in one step: a reader sees the old target or the new one, never none. */
export async function replaceLink(link: string, target: string): Promise<void> {
  const temporary = temporaryBeside(link)
  try {
    await symlink(target, temporary)
    await rename(temporary, link)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
  await syncPath(dirname(link))
}

/** Removes a name durably; one that does not exist is fine. */
export async function removeDurably(path: string): Promise<void> {
  await unlessAbsent(unlink(path))
  await syncPath(dirname(path))
}

/** Takes a tree out of sight in one step, then deletes it: a reader never sees it half deleted. */
export async function removeTree(path: string): Promise<void> {
  const temporary = temporaryBeside(path)
  const moved = await unlessAbsent(rename(path, temporary).then(() => true))
  if (moved === true) await rm(temporary, { recursive: true, force: true })
}

/** Deletes what an interrupted run left in `directory`. */
export async function sweepTemporaries(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (name.startsWith(temporaryPrefix)) await rm(join(directory, name), { recursive: true, force: true })
  }
}
