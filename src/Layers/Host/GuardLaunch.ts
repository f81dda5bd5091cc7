/**
 * How the guard is started so that it outlives the agent: here in a session of its own; under systemd as a unit (`GuardUnit.ts`).
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
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

/** All of its environment. */
export const environmentOf = (place: string) => ({ PATH: searchPath, [markName]: place })

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
