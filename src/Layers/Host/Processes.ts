/**
 * Processes of this host as `/proc` shows them. A pid alone is no identity, because pids are used again, by a reboot at the
 * latest: a process is recognised by a mark that only its starter put into its environment. Signals only such processes.
 */
import { readdir, readFile } from "node:fs/promises"
import { errorCode } from "../Disk/AtomicFile.ts"

/** One `NAME=value` of an environment that no other process has. */
export type ProcessMark = string

/** Whether a living process carries the mark; false for a zombie, whose environment is empty. */
export async function carriesMark(pid: number, mark: ProcessMark): Promise<boolean> {
  try {
    return (await readFile(`/proc/${pid}/environ`, "utf8")).split("\0").includes(mark)
  } catch {
    // Gone, or of another user, and so not started by us.
    return false
  }
}

/** Every living process that carries the mark, besides this one. */
export async function processesWith(mark: ProcessMark): Promise<ReadonlyArray<number>> {
  const pids = (await readdir("/proc")).filter((name) => /^[1-9][0-9]*$/.test(name)).map(Number)
  const marked = await Promise.all(pids.map(async (pid) => pid !== process.pid && (await carriesMark(pid, mark))))
  return pids.filter((_, index) => marked[index])
}

/** Sends a signal; a process or group that is gone is fine. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if (errorCode(error) !== "ESRCH") throw error
  }
}
