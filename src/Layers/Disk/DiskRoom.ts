/**
 * Whether the disks of a host can take what a switch will need written: asked before anything moves the host, and told in the
 * heartbeat (D1, house rule 8). The journal's own reserve (`DiskReserve.ts`) keeps failures and rollbacks writable; here is
 * what keeps a full or read-only disk from being driven further, and the reserve of the directories that the switch writes.
 *
 * Owns a reserve in each directory that has none of its own. Asks the file systems at each question and remembers only since
 * when the answer is the same. Quotas are not seen: what they refuse is found by the write itself.
 */
import { Clock, Context, Effect, Layer } from "effect"
import { accessSync, constants, statfsSync } from "node:fs"
import { join } from "node:path"
import { errorCode } from "./AtomicFile.ts"
import { type DiskReserve, makeDiskReserve, noReserve } from "./DiskReserve.ts"

/** What keeps the host where it is. */
export interface DiskTrouble {
  readonly reason: "disk-full" | "disk-read-only"
  /** The directory and what is wrong with it; no figures that change from one question to the next. */
  readonly detail: string
  /** Since when this process has seen it, epoch ms. */
  readonly since: number
}

/** One directory to look at. */
export interface DiskPlace {
  readonly directory: string
  /** Keeps space for the way back here. False where the journal does that already. */
  readonly reserve: boolean
}

const MiB = 1024 * 1024

/** Less than this is a full disk to a switch forward: twice the journal's reserve, so that the reserve is there as well. */
const forwardBytes = 8 * MiB
/** What the way back writes: a claim, a result, a few links, and what the switch says. */
const reserveBytes = 1 * MiB
/** Less than this does not even hold a claim and a result. */
const backBytes = 64 * 1024

/** The file that keeps the space; whoever needs the way back may delete it. */
export const reserveName = "space.reserve"

export class DiskRoom extends Context.Service<DiskRoom, {
  /** Why the host may not go forward now; `undefined` when nothing speaks against it. */
  readonly forward: Effect.Effect<DiskTrouble | undefined>
  /** Gives up what was kept for the way back where it is needed, and says what then still makes going back impossible. */
  readonly back: Effect.Effect<DiskTrouble | undefined>
}>()("nixfleet/Layers/Disk/DiskRoom") {
  /** The directories must exist. */
  static readonly layer = (places: ReadonlyArray<DiskPlace>): Layer.Layer<DiskRoom> =>
    Layer.effect(
      DiskRoom,
      Effect.sync(() => {
        const kept = places.map(({ directory, reserve }): Kept => ({
          directory,
          reserve: reserve ? makeDiskReserve(join(directory, reserveName), reserveBytes, reserveBytes) : noReserve
        }))
        let seen: DiskTrouble | undefined
        const since = (found: Found | undefined, now: number): DiskTrouble | undefined => {
          const same = found !== undefined && seen?.reason === found.reason && seen.detail === found.detail
          if (!same) seen = found === undefined ? undefined : { ...found, since: Math.floor(now) }
          return seen
        }
        return DiskRoom.of({
          forward: Effect.map(Clock.currentTimeMillis, (now) => {
            for (const { reserve } of kept) reserve.restore()
            return since(firstTrouble(kept, forwardBytes), now)
          }),
          back: Effect.map(Clock.currentTimeMillis, (now) => {
            for (const place of kept) {
              if (lacks(place.directory, reserveBytes)?.reason === "disk-full") place.reserve.release()
            }
            const found = firstTrouble(kept, backBytes)
            return found === undefined ? undefined : { ...found, since: Math.floor(now) }
          })
        })
      })
    )

  /** For tests and the simulator: `disk` is read at each question and may change. */
  static readonly layerMemory = (disk: { readonly trouble: DiskTrouble | undefined }): Layer.Layer<DiskRoom> =>
    Layer.succeed(
      DiskRoom,
      DiskRoom.of({
        forward: Effect.sync(() => disk.trouble),
        back: Effect.sync(() => disk.trouble?.reason === "disk-read-only" ? disk.trouble : undefined)
      })
    )
}

type Found = Omit<DiskTrouble, "since">

interface Kept {
  readonly directory: string
  readonly reserve: DiskReserve
}

function firstTrouble(places: ReadonlyArray<Kept>, bytes: number): Found | undefined {
  for (const { directory } of places) {
    const found = lacks(directory, bytes)
    if (found !== undefined) return found
  }
  return undefined
}

/** A directory that cannot be asked counts as read-only: "I could not tell" is never "fine" (house rule 8). */
function lacks(directory: string, bytes: number): Found | undefined {
  try {
    accessSync(directory, constants.W_OK)
    const { bavail, bsize, ffree, files } = statfsSync(directory)
    if (bavail * bsize < bytes) {
      return { reason: "disk-full", detail: `${directory}: less than ${bytes / MiB} MiB are free` }
    }
    // Some file systems count no files at all.
    if (files > 0 && ffree === 0) return { reason: "disk-full", detail: `${directory}: no further file can be created` }
    return undefined
  } catch (error) {
    const code = errorCode(error)
    return {
      reason: "disk-read-only",
      detail: code === "EROFS"
        ? `${directory} is on a read-only file system`
        : `${directory} cannot be written: ${code}`
    }
  }
}
