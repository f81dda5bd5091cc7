/**
 * How the supervisor of a switch (`SwitchSupervisor.ts`) is started so that it outlives this process. Here: in a session of
 * its own, which survives the end of the agent, but not the end of a service's control group; under systemd
 * `nix/SystemdSwitch.ts` starts it as a unit.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import type { Readable } from "node:stream"
import { setTimeout as sleep } from "node:timers/promises"
import { errorText } from "./DurableFiles.ts"
import { supervisorProgram } from "./SwitchSupervisor.ts"

export interface SwitchLaunch {
  /** Path of the record's files, without their endings. */
  readonly record: string
  /** Arguments of the supervisor's program. */
  readonly args: ReadonlyArray<string>
  /** The whole environment of the supervisor and of the switch. */
  readonly environment: Readonly<Record<string, string>>
  /** After so long the supervisor itself must have ended, ms. */
  readonly limitMs: number
}

export interface Launcher {
  /** Starts a supervisor; answers its one line, or `failed …`. */
  readonly start: (launch: SwitchLaunch) => Promise<string>
  /** Whether somebody will still write the result of a switch whose supervisor is gone. */
  readonly ending: (environment: Readonly<Record<string, string>>) => Promise<boolean>
}

/** The supervisor answers after two flushes; a disk that takes longer is broken. */
export const handshakeMs = 30_000

async function startInSession({ args, environment }: SwitchLaunch): Promise<string> {
  const supervisor = spawn("/bin/sh", ["-c", supervisorProgram, "nixfleet-switch", ...args], {
    cwd: "/",
    detached: true,
    stdio: ["ignore", "pipe", "ignore"],
    env: environment
  })
  const answer = await handshake(supervisor)
  supervisor.stdout.destroy()
  supervisor.unref()
  return answer
}

/** The supervisor's one line, or what became of it instead. */
async function handshake(supervisor: ChildProcessByStdio<null, Readable, null>): Promise<string> {
  const lines = createInterface({ input: supervisor.stdout })
  const deadline = new AbortController()
  try {
    return await Promise.race([
      once(lines, "line", { signal: deadline.signal }).then(([line]) => String(line)),
      once(supervisor, "error", { signal: deadline.signal }).then(([error]) => `/bin/sh: ${errorText(error)}`),
      once(lines, "close", { signal: deadline.signal }).then(() => "the supervisor ended without an answer"),
      sleep(handshakeMs, `no answer within ${handshakeMs} ms`, { signal: deadline.signal })
    ])
  } finally {
    deadline.abort()
    lines.close()
  }
}

export const launchInSession: Launcher = { start: startInSession, ending: () => Promise.resolve(false) }
