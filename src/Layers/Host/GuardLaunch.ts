/**
 * How the guard is started so that it outlives the agent: as a unit of its own under systemd, which starts it again when it is
 * killed; elsewhere in a session of its own.
 */
import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { basename } from "node:path"
import { promisify } from "node:util"
import { errorText } from "./DurableFiles.ts"
import { guardProgram } from "./GuardProgram.ts"
import type { ProcessMark } from "./Processes.ts"

/** Starts the guard of the order in a directory; answers what went wrong. */
export type GuardLauncher = (place: string) => Promise<string | undefined>

/** What tells the process of a guard, and those that it starts, from all others. */
export const guardMark = (place: string): ProcessMark => `${markName}=${place}`
const markName = "NIXFLEET_GUARD"

/** Its tools; a recovery brings its own environment. */
const searchPath = "/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
/** systemd-run answers when the unit runs. */
const startMs = 30_000

const environmentOf = (place: string) => ({ PATH: searchPath, [markName]: place })

export const launchGuardInSession: GuardLauncher = async (place) => {
  const guard = spawn("/bin/sh", ["-c", guardProgram, "nixfleet-guard"], {
    cwd: "/",
    detached: true,
    stdio: "ignore",
    env: environmentOf(place)
  })
  try {
    await once(guard, "spawn")
  } catch (error) {
    return `/bin/sh: ${errorText(error)}`
  }
  guard.unref()
  return undefined
}

/** The program reaches the unit as a variable: `${NAME}` is one word, exactly as it is. */
export const launchGuardUnit: GuardLauncher = async (place) => {
  const environment = { ...environmentOf(place), NIXFLEET_GUARD_PROGRAM: guardProgram }
  const args = [
    `--unit=nixfleet-guard-${basename(place)}`,
    "--collect",
    "--quiet",
    "--no-ask-password",
    "--description=Takes this host back when nixfleet's agent is gone",
    "--property=Type=exec",
    "--property=Restart=on-failure",
    "--property=RestartSec=1",
    "--property=StartLimitIntervalSec=0",
    "--property=OOMScoreAdjust=-900",
    ...Object.entries(environment).map(([name, value]) => `--setenv=${name}=${value}`),
    "--",
    "/bin/sh",
    "-c",
    "${NIXFLEET_GUARD_PROGRAM}",
    "nixfleet-guard"
  ]
  try {
    await promisify(execFile)("systemd-run", args, { timeout: startMs })
    return undefined
  } catch (error) {
    return `systemd-run: ${saidBy(error)}`
  }
}

/** What the command said; the text of the error would repeat the whole program. */
const saidBy = (error: unknown): string =>
  error instanceof Error && "stderr" in error && typeof error.stderr === "string" && error.stderr.trim() !== ""
    ? error.stderr.trim()
    : errorText(error).split("\n")[0] ?? ""
