/**
 * Space kept free for the worst moment (D1): a file of random bytes beside the database, deleted when the disk is full,
 * so that what a host must still be able to write (a failure, a rollback) finds room, and made again when there is plenty.
 *
 * Random bytes, because a file system that compresses would store zeros in nothing. Best effort: a disk too full to hold
 * the reserve is no reason not to start.
 */
import { randomBytes } from "node:crypto"
import { existsSync, rmSync, statfsSync } from "node:fs"
import { dirname } from "node:path"
import { writeAtomically } from "./AtomicFile.ts"

export interface DiskReserve {
  /** Gives the space back to the file system. False when it was given back before. */
  readonly release: () => boolean
  /** Takes the space, also for the first time, once the disk has twice as much; twice, lest it is taken and released by turns. */
  readonly restore: () => void
}

/** A reserve that is none. */
export const noReserve: DiskReserve = { release: () => false, restore: () => {} }

export function makeDiskReserve(file: string, bytes: number): DiskReserve {
  let held = existsSync(file)
  const restore = () => {
    if (held) return
    try {
      const { bavail, bsize } = statfsSync(dirname(file))
      if (bavail * bsize < 2 * bytes) return
      writeAtomically(file, randomBytes(bytes))
      held = true
    } catch {
      // The file system has no room after all, or cannot say: the next commit tries again.
      held = false
    }
  }
  const release = () => {
    if (!held) return false
    rmSync(file, { force: true })
    held = false
    return true
  }
  return { release, restore }
}
