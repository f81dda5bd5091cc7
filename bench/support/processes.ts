/** Memory and descriptors of a process, by the kernel's own words. */
import { spawnSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"

export interface Footprint {
  /** MB. */
  readonly rss: number
  /** MB: what is the process's own, not pages of a file. */
  readonly anonymous: number
  readonly descriptors: number
}

export function footprintOf(pid: number): Footprint {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8")
  const megabytes = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? Number.NaN) / 1024
  return {
    rss: megabytes("Rss"),
    anonymous: megabytes("Anonymous"),
    descriptors: readdirSync(`/proc/${pid}/fd`).length
  }
}

/** Asks the kernel to forget the pages of a file; `false` where there is no `dd` that can. */
export const forget = (file: string): boolean =>
  spawnSync("dd", [`of=${file}`, "oflag=nocache", "conv=notrunc,fdatasync", "count=0"]).status === 0
