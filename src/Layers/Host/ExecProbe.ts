/**
 * Runs a command as a health probe: exit 0 in time passes; one that cannot be started says nothing. Owns the child and its process group: whatever ends the run,
 * also its success, the group is killed, so that no run leaves a process behind. stdin and stdout are null; of stderr only
 * the end is kept. The environment is the given one, nothing of the agent's (A-W61).
 */
import { Effect, Option } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import type { Readable } from "node:stream"
import { errorText } from "./DurableFiles.ts"
import { fail, inconclusive, pass, type ProbeOutcome } from "./Probes.ts"
import { signalProcess } from "./Processes.ts"
import { tailText } from "./TextTail.ts"

/** Enough for three lines of the longest reason. */
const stderrBytes = 4096
const stderrLines = 3
/** How long the end of stderr is waited for after the child's own: a process that left the group may hold it open. */
const stderrMs = 250
/** How long a killed child is waited for: one in an uninterruptible call of the kernel ends when it can. */
const killMs = 1000

type End =
  | { readonly _tag: "Exited"; readonly code: number }
  | { readonly _tag: "Signalled"; readonly signal: string }
  | { readonly _tag: "NotStarted"; readonly problem: string }

interface Running {
  readonly ended: Promise<End>
  readonly stderrClosed: Promise<unknown>
  /** The last lines of stderr, newest first. */
  readonly lastLines: () => string
  readonly killGroup: () => void
}

/** Keeps the last bytes of a stream. */
function keepTail(stream: Readable): () => Buffer {
  let tail = Buffer.alloc(0)
  stream.on("data", (chunk: Buffer) => {
    tail = Buffer.concat([tail, chunk]).subarray(-stderrBytes)
  })
  return () => tail
}

function start(command: readonly [string, ...Array<string>], environment: Readonly<Record<string, string>>): Running {
  const [program, ...parameters] = command
  const child = spawn(program, parameters, {
    cwd: "/",
    detached: true,
    stdio: ["ignore", "ignore", "pipe"],
    env: environment
  })
  const tail = keepTail(child.stderr)
  let killed = false
  const killGroup = () => {
    if (killed || child.pid === undefined) return
    // Once only: after the child is reaped and its group is empty, the number may belong to somebody else.
    killed = true
    signalProcess(-child.pid, "SIGKILL")
  }
  child.once("exit", killGroup)
  const ended = once(child, "exit").then(
    ([code, signal]): End =>
      typeof code === "number" ? { _tag: "Exited", code } : { _tag: "Signalled", signal: String(signal) },
    (error: unknown): End => ({ _tag: "NotStarted", problem: errorText(error) })
  )
  const stderrClosed = once(child.stderr, "close").catch(() => undefined)
  const lastLines = () => {
    const lines = tailText(tail(), stderrBytes).split("\n").map((line) => line.trim()).filter((line) => line !== "")
    return lines.slice(-stderrLines).toReversed().join(" | ")
  }
  return { ended, stderrClosed, lastLines, killGroup }
}

function outcomeOf(end: End, lastLines: string): ProbeOutcome {
  if (end._tag === "Exited" && end.code === 0) return pass
  const stderr = lastLines === "" ? "" : `: ${lastLines}`
  switch (end._tag) {
    case "Exited":
      return fail(`exited with ${end.code}${stderr}`)
    case "Signalled":
      return fail(`ended by ${end.signal}${stderr}`)
    case "NotStarted":
      return inconclusive(`could not be started: ${end.problem}`)
  }
}

const timedOut = (timeoutSecs: number, lastLines: string): ProbeOutcome =>
  fail(`timed out after ${timeoutSecs} s${lastLines === "" ? "" : `: ${lastLines}`}`)

/** Runs the command once. Total; interruption kills the group before it is complete. */
export const runCommand = (
  command: readonly [string, ...Array<string>],
  timeoutSecs: number,
  environment: Readonly<Record<string, string>>
): Effect.Effect<ProbeOutcome> =>
  Effect.acquireUseRelease(
    Effect.sync(() => start(command, environment)),
    (running) =>
      Effect.gen(function*() {
        const end = yield* Effect.timeoutOption(Effect.promise(() => running.ended), timeoutSecs * 1000)
        if (Option.isNone(end)) return timedOut(timeoutSecs, running.lastLines())
        if (end.value._tag !== "NotStarted") {
          yield* Effect.timeoutOption(Effect.promise(() => running.stderrClosed), stderrMs)
        }
        return outcomeOf(end.value, running.lastLines())
      }),
    (running) => {
      running.killGroup()
      return Effect.asVoid(Effect.timeoutOption(Effect.promise(() => running.ended), killMs))
    }
  )
