/**
 * The demo's child processes: started with their output in a log file, watched, and taken down again with everything that
 * they left running, detached switches included. A process that ends by itself is a failed demo.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process"
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from "node:fs"
import { promisify } from "node:util"

const execute = promisify(execFile)

export interface Command {
  readonly program: string
  readonly args: ReadonlyArray<string>
  /** The whole environment; that of this process when it is left out. */
  readonly environment?: NodeJS.ProcessEnv
  /** How it is asked to end: by a signal, or by the end of its input. */
  readonly endsWith: "SIGTERM" | "input"
}

/** Runs a bundle of dist/ with this Node. */
export const nodeCommand = (bundle: string, args: ReadonlyArray<string>): Command => ({
  program: process.execPath,
  args: [bundle, ...args],
  endsWith: "SIGTERM"
})

interface Program {
  readonly name: string
  readonly endsWith: Command["endsWith"]
  readonly child: ChildProcess
  /** Resolves with what the process ended with. */
  readonly ended: Promise<string>
}

export class Processes {
  readonly #running = new Map<string, Program>()
  readonly #onUnexpectedEnd: (name: string, how: string) => void
  readonly #workingFolder: string

  constructor(workingFolder: string, onUnexpectedEnd: (name: string, how: string) => void) {
    this.#workingFolder = workingFolder
    this.#onUnexpectedEnd = onUnexpectedEnd
  }

  /** Output goes to `log`. In a session of its own: Ctrl-C is for the demo, which ends what it started in order. */
  start(name: string, { args, endsWith, environment = process.env, program: file }: Command, log: string): void {
    const out = openSync(log, "a")
    const input = endsWith === "input" ? "pipe" : "ignore"
    const child = spawn(file, args, { stdio: [input, out, out], detached: true, env: environment })
    closeSync(out)
    const ended = new Promise<string>((resolve) => {
      child.once("error", (error) => resolve(error.message))
      child.once("exit", (code, signal) => resolve(signal ?? `exit ${code}`))
    })
    const program: Program = { name, endsWith, child, ended }
    this.#running.set(name, program)
    void this.#watch(program)
  }

  async #watch(program: Program): Promise<void> {
    const how = await program.ended
    if (this.#running.get(program.name) !== program) return
    this.#running.delete(program.name)
    this.#onUnexpectedEnd(program.name, how)
  }

  /** Asks a process to end, insists after `patienceMs`, and says how it ended. */
  async stop(name: string, patienceMs = 5_000): Promise<string> {
    const program = this.#running.get(name)
    if (program === undefined) return "was not running"
    this.#running.delete(name)
    if (program.endsWith === "input") program.child.stdin?.end()
    else program.child.kill("SIGTERM")
    const insist = setTimeout(() => program.child.kill("SIGKILL"), patienceMs)
    const how = await program.ended
    clearTimeout(insist)
    return how
  }

  /** Ends everything, then whatever still carries the working folder in its command line: detached switches. */
  async stopAll(): Promise<ReadonlyArray<string>> {
    const ends = await Promise.all([...this.#running.keys()].map(async (name) => `${name}: ${await this.stop(name)}`))
    // What is killed may just have started another: look again until nothing is left.
    for (let look = 0; look < 50 && this.#killLeftovers() > 0; look++) {
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    return ends
  }

  /** Last resort when the process exits without having awaited `stopAll`. */
  killAllNow(): void {
    for (const { child } of this.#running.values()) child.kill("SIGKILL")
    this.#killLeftovers()
  }

  /** Kills what is left, each with its process group; how many there were. */
  #killLeftovers(): number {
    const pids = this.#leftovers()
    for (const target of pids.flatMap((pid) => [-pid, pid])) {
      try {
        process.kill(target, "SIGKILL")
      } catch {
        // It ended between the look and the kill, or leads no group.
      }
    }
    return pids.length
  }

  #leftovers(): ReadonlyArray<number> {
    return commandLines().flatMap(([pid, line]) =>
      line.includes(this.#workingFolder) && pid !== process.pid ? [pid] : []
    )
  }
}

/**
 * Process id and command line of every process without a terminal: from /proc where there is one, else from `ps`. What a person
 * runs in a terminal (an editor of a log, say) is not the demo's, whatever it names.
 */
function commandLines(): ReadonlyArray<readonly [number, string]> {
  if (existsSync("/proc/self/cmdline")) {
    return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
      try {
        if (hasTerminal(readFileSync(`/proc/${pid}/stat`, "utf8"))) return []
        return [[Number(pid), readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")] as const]
      } catch {
        return []
      }
    })
  }
  return (spawnSync("ps", ["-eo", "pid=,tty=,args="], { encoding: "utf8" }).stdout ?? "").split("\n").flatMap(
    (line) => {
      const [, pid, args] = /^\s*(\d+)\s+\?+\s+(.*)$/.exec(line) ?? []
      return pid === undefined || args === undefined ? [] : [[Number(pid), args] as const]
    }
  )
}

/** From /proc/PID/stat: behind the name in parentheses come state, parent, group, session, terminal; 0 is none. */
const hasTerminal = (stat: string): boolean => stat.slice(stat.lastIndexOf(")") + 2).split(" ")[4] !== "0"

/** Runs one command of a bundle to its end; its output when it succeeded, an error with all of it when not. */
export async function runOnce(bundle: string, args: ReadonlyArray<string>): Promise<string> {
  try {
    const { stdout } = await execute(process.execPath, [bundle, ...args], { maxBuffer: 16 * 1024 * 1024 })
    return stdout
  } catch (error) {
    const { stdout = "", stderr = "", message } = error as { stdout?: string; stderr?: string; message: string }
    throw new Error(`${args.join(" ")} failed: ${message}\n${stdout}${stderr}`, { cause: error })
  }
}
