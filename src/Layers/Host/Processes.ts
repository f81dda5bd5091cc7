/**
 * Processes of this host as `/proc` shows them, or `ps` where there is none. A pid alone is no identity, because pids are used again, by a reboot at the
 * latest: a process is recognised by a mark that its starter put into its environment. Anybody can put it there: what counts on
 * a process being ours looks at its user as well.
 */
import { execFile } from "node:child_process"
import { readdir, readFile } from "node:fs/promises"
import { promisify } from "node:util"
import { errorCode } from "../Disk/AtomicFile.ts"

/** One `NAME=value` of an environment that no other process of this user has. */
export type ProcessMark = string

const withoutProc = process.platform === "darwin"

/**
 * Pids of a host without `/proc`: environments are part of what `ps -E` shows, but for programs of the system itself; the
 * supervisor of a switch is found by its arguments.
 */
async function pidsByPs(mark: ProcessMark): Promise<ReadonlyArray<number>> {
  const { stdout } = await promisify(execFile)("ps", ["-A", "-E", "-ww", "-o", "pid=,command="], { maxBuffer: psBytes })
  const value = mark.slice(mark.indexOf("=") + 1)
  return stdout.split("\n").filter((line) => line.includes(value)).map((line) => Number.parseInt(line, 10))
}

const psBytes = 33_554_432

/** False for a zombie, whose environment is empty. */
async function hasMark(pid: number, mark: ProcessMark): Promise<boolean> {
  try {
    return (await readFile(`/proc/${pid}/environ`, "utf8")).split("\0").includes(mark)
  } catch {
    // Gone, or of another user, and so not started by us.
    return false
  }
}

/** By the real user: a program that gives its starter more rights does not change that. */
async function isOurs(pid: number): Promise<boolean> {
  try {
    const [, user] = /^Uid:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, "utf8")) ?? []
    return Number(user) === process.getuid?.()
  } catch {
    return false
  }
}

/** Whether it is a living process of this user that carries the mark. */
export const carriesMark = async (pid: number, mark: ProcessMark): Promise<boolean> =>
  withoutProc ? (await pidsByPs(mark)).includes(pid) : (await isOurs(pid)) && (await hasMark(pid, mark))

/** Every living process that carries the mark, besides this one, whoever started it. */
export async function processesWith(mark: ProcessMark): Promise<ReadonlyArray<number>> {
  if (withoutProc) return (await pidsByPs(mark)).filter((pid) => pid !== process.pid)
  const pids = (await readdir("/proc")).filter((name) => /^[1-9][0-9]*$/.test(name)).map(Number)
  const marked = await Promise.all(pids.map(async (pid) => pid !== process.pid && (await hasMark(pid, mark))))
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
