/**
 * Runs one external command to its end. Owns the child and its process group: a time limit of its own, output of bounded
 * size, and when the effect is interrupted the command is ended (TERM, after a grace KILL, to the whole group) and waited
 * for, so that afterwards nothing of it writes.
 *
 * The limit is a timer of the platform, not of Effect, because it must also hold where interruption is masked.
 *
 * Failures are values: a command that cannot be started, that runs too long, or that a signal ends.
 */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import type { Readable } from "node:stream"
import { setTimeout as sleep } from "node:timers/promises"
import { errorText } from "../DurableFiles.ts"
import { signalProcess } from "../Processes.ts"
import { tailText } from "../TextTail.ts"

export interface CommandSpec {
  readonly program: string
  readonly args: ReadonlyArray<string>
  /** The whole environment; nothing of this process is added. */
  readonly environment: Readonly<Record<string, string>>
  /** After so long the command is ended: `Deadline`. */
  readonly limitMs: number
  /** Sees every line of stderr as it comes, without its end; a longer line than `maxLineLength` in pieces. */
  readonly onLine?: (line: string) => void
}

/** `stdout`: its first `maxStdoutBytes`; `stderr`: its last `stderrTailBytes`. */
export type CommandEnd =
  | { readonly _tag: "Exited"; readonly code: number; readonly stdout: string; readonly stderr: string }
  | { readonly _tag: "Signalled"; readonly signal: string; readonly stderr: string }
  | { readonly _tag: "NotStarted"; readonly problem: string }
  | { readonly _tag: "Deadline"; readonly limitMs: number; readonly stderr: string }

/** The paths of a closure of a hundred thousand, and twenty times what Nix says about its settings. */
const maxStdoutBytes = 8_388_608
const stderrTailBytes = 4096
/** A line of Nix's log is an error with its trace at most. */
const maxLineLength = 65_536
/** From TERM to KILL. Nix ends within 10 ms of a TERM (nix.md §3). */
const graceMs = 5_000
/** One in an uninterruptible call of the kernel ends when it can; it is waited for so long after KILL. */
const killMs = 5_000
/** A timer of the platform that is set for longer ends at once. */
const longestTimerMs = 2 ** 31 - 1
/** How long the end of the output is waited for after the command's own: a process that left the group may hold it open. */
const outputMs = 250

function keepHead(stream: Readable): () => string {
  const chunks: Array<Buffer> = []
  let size = 0
  stream.on("data", (chunk: Buffer) => {
    const part = chunk.subarray(0, maxStdoutBytes - size)
    size += part.length
    if (part.length > 0) chunks.push(part)
  })
  return () => Buffer.concat(chunks).toString("utf8")
}

function keepTail(stream: Readable, onLine: (line: string) => void): () => string {
  let latest: Array<Buffer> = []
  let size = 0
  let rest = ""
  const tail = () => Buffer.concat(latest).subarray(-stderrTailBytes)
  stream.on("data", (chunk: Buffer) => {
    // Joined now and then: Nix writes each line of a long log by itself.
    if (size > 4 * stderrTailBytes) {
      latest = [tail()]
      size = stderrTailBytes
    }
    latest.push(chunk)
    size += chunk.length
    // Bytes as they are until a line is whole, so that no character is cut between two chunks.
    const lines = (rest + chunk.toString("latin1")).split("\n")
    rest = lines.pop() ?? ""
    for (const line of lines) onLine(decoded(line))
    if (rest.length > maxLineLength) {
      onLine(decoded(rest))
      rest = ""
    }
  })
  stream.once("end", () => {
    if (rest !== "") onLine(decoded(rest))
  })
  return () => tailText(tail(), stderrTailBytes)
}

const decoded = (line: string): string =>
  /[\u0080-\u00ff]/.test(line) ? Buffer.from(line, "latin1").toString("utf8") : line

interface Running {
  readonly ended: Promise<CommandEnd>
  /** Ends the command; one that has ended is left alone. */
  readonly stop: () => void
}

const spawned = ({ args, environment, program }: CommandSpec) =>
  spawn(program, args, { cwd: "/", detached: true, stdio: ["ignore", "pipe", "pipe"], env: environment })

/** Where the system has no room for another process at all, Node throws instead. */
function start(spec: CommandSpec): Running {
  try {
    return watch(spawned(spec), spec)
  } catch (error) {
    return { ended: Promise.resolve({ _tag: "NotStarted", problem: errorText(error) }), stop: () => undefined }
  }
}

function watch(child: ReturnType<typeof spawned>, { limitMs, onLine }: CommandSpec): Running {
  const stdout = keepHead(child.stdout)
  const stderr = keepTail(child.stderr, onLine ?? (() => undefined))
  const over = new AbortController()
  /** After so long, unless the command has ended. */
  const after = (ms: number, then: () => void) =>
    void sleep(Math.min(ms, longestTimerMs), undefined, { signal: over.signal }).then(then, () => undefined)
  const signalGroup = (signal: NodeJS.Signals) => {
    if (!exited && child.pid !== undefined) signalProcess(-child.pid, signal)
  }
  let late = false
  let stopping = false
  let exited = false
  const givenUp = Promise.withResolvers<CommandEnd>()
  const stop = () => {
    if (stopping) return
    stopping = true
    signalGroup("SIGTERM")
    after(graceMs, () => signalGroup("SIGKILL"))
    after(graceMs + killMs, () => givenUp.resolve({ _tag: "Deadline", limitMs, stderr: stderr() }))
  }
  after(limitMs, () => {
    late = true
    stop()
  })
  child.once("exit", () => {
    // What outlived its leader; once only, as the number may belong to somebody else afterwards.
    signalGroup("SIGKILL")
    exited = true
  })
  const closed = Promise.all([child.stdout, child.stderr].map((stream) => once(stream, "close").catch(() => undefined)))
  const end = once(child, "exit").then(
    async ([code, signal]): Promise<CommandEnd> => {
      await Promise.race([closed, sleep(outputMs)])
      if (late) return { _tag: "Deadline", limitMs, stderr: stderr() }
      return typeof code === "number"
        ? { _tag: "Exited", code, stdout: stdout(), stderr: stderr() }
        : { _tag: "Signalled", signal: String(signal), stderr: stderr() }
    },
    (error: unknown): CommandEnd => ({ _tag: "NotStarted", problem: errorText(error) })
  )
  const ended = Promise.race([end, givenUp.promise]).finally(() => over.abort())
  return { ended, stop }
}

/** Runs the command once. Total; interruption ends it before it is complete. */
export const runCommand = (spec: CommandSpec): Effect.Effect<CommandEnd> =>
  Effect.acquireUseRelease(
    Effect.sync(() => start(spec)),
    ({ ended }) => Effect.promise(() => ended),
    ({ ended, stop }) =>
      Effect.promise(() => {
        stop()
        return ended
      })
  )

/** One line about an end that is not exit 0. */
export function describeEnd(program: string, end: CommandEnd): string {
  switch (end._tag) {
    case "Exited":
      return `${program} exited with ${end.code}: ${end.stderr.trim()}`
    case "Signalled":
      return `${program} was ended by ${end.signal}: ${end.stderr.trim()}`
    case "NotStarted":
      return `${program} could not be started: ${end.problem}`
    case "Deadline":
      return `${program} was ended after ${end.limitMs} ms: ${end.stderr.trim()}`
  }
}
