/**
 * Space kept free for the worst moment (D1): a file of random bytes beside the database, given back when the disk is full,
 * so that what a host must still be able to write (a failure, a rollback) finds room, and made again when there is plenty.
 *
 * Given back in slices: whoever filled the disk may go on writing, and takes what is free before it is used.
 *
 * Random bytes, because a file system that compresses would store zeros in nothing. Best effort: a disk too full to hold
 * the reserve is no reason not to start.
 */
import { randomBytes } from "node:crypto"
import { rmSync, statfsSync, statSync, truncateSync } from "node:fs"
import { dirname } from "node:path"
import { writeAtomically } from "./AtomicFile.ts"

export interface DiskReserve {
  /** Gives one slice back to the file system. False when nothing is left. */
  readonly release: () => boolean
  /** Takes the space, also for the first time, once the disk has twice as much; twice, lest it is taken and released by turns. */
  readonly restore: () => void
}

/** A reserve that is none. */
export const noReserve: DiskReserve = { release: () => false, restore: () => {} }

/** Of `bytes`, given back `slice` bytes at a time. */
export function makeDiskReserve(file: string, bytes: number, slice: number): DiskReserve {
  let left = statSync(file, { throwIfNoEntry: false })?.size ?? 0
  const restore = () => {
    if (left >= bytes) return
    try {
      const { bavail, bsize } = statfsSync(dirname(file))
      if (bavail * bsize < 2 * bytes) return
      writeAtomically(file, randomBytes(bytes))
      left = bytes
    } catch {
      // The file system has no room after all, or cannot say: the next commit tries again.
    }
  }
  const release = () => {
    if (left === 0) return false
    left = Math.max(0, left - slice)
    // The last of it takes its name along: a reserve that is there holds something.
    if (left === 0 || !truncated(file, left)) {
      rmSync(file, { force: true })
      left = 0
    }
    return true
  }
  return { release, restore }
}

/** False when a person deleted it to make room, or a file system that copies on write has none for the change. */
function truncated(file: string, bytes: number): boolean {
  try {
    truncateSync(file, bytes)
    return true
  } catch {
    return false
  }
}
