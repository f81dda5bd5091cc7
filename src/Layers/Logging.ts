/**
 * The log: what a line looks like, and how it leaves the process. One line is one JSON object, flat:
 * `{"timestamp","level","target","message",...fields}` with the names of `Schema/Logs.ts`; a failure that has a cause adds
 * `cause`. `pretty` shows the same to a person.
 *
 * What comes from the network can break neither a line nor a terminal: every value is one line of bounded length, control and
 * direction characters are escaped, and a value that cannot be encoded is replaced by a word. A log that nobody reads stops
 * nothing: what does not fit the buffer is lost and counted, a closed standard output is ignored.
 */
import { Cause, Effect, Layer, Logger, LogLevel as EffectLogLevel, References } from "effect"
import { inspect } from "node:util"
import {
  lineNames,
  type LogFields,
  type LogFormat,
  type LogLevel,
  type LogMessage,
  type LogTarget,
  type ReasonedFields
} from "../Schema/Logs.ts"
import type { Reason } from "../Schema/Reasons.ts"

/** The log as one part of a program writes it. A `warn` or `error` without a reason does not compile. */
export interface Log {
  readonly debug: (message: string, fields?: LogFields) => Effect.Effect<void>
  readonly info: (message: string, fields?: LogFields) => Effect.Effect<void>
  readonly warn: (message: string, fields: ReasonedFields) => Effect.Effect<void>
  /** `cause`: of a defect, with its stack. */
  readonly error: (message: string, fields: ReasonedFields, cause?: Cause.Cause<unknown>) => Effect.Effect<void>
}

const effectLevels = { debug: "Debug", info: "Info", warn: "Warn", error: "Error" } as const

/** A line that was made as data. */
export const writeEntry = (
  target: LogTarget,
  { fields, level, message }: LogMessage,
  cause: Cause.Cause<unknown> = Cause.empty
): Effect.Effect<void> =>
  // A line that nobody wants must cost nothing: one is made for each request.
  Effect.withFiber((fiber) =>
    EffectLogLevel.isGreaterThan(fiber.getRef(References.MinimumLogLevel), effectLevels[level])
      ? Effect.void
      : Effect.annotateLogs(Effect.logWithLevel(effectLevels[level])(message, cause), { target, ...fields })
  )

/** The log of a part of the program. */
export function logOf(target: LogTarget): Log {
  const at = (level: LogLevel) => (message: string, fields: LogFields = {}, cause?: Cause.Cause<unknown>) =>
    writeEntry(target, { level, message, fields }, cause)
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") }
}

/** Fields that all lines of an effect have. */
export const withLogFields = (fields: LogFields) => Effect.annotateLogs({ ...fields })

/** Characters of a value; a stack of a defect fits, and a line stays below the 48 KiB of a line of the journal. */
const maxValueLength = 2_000
/** Fields of a line; ours have about ten. */
const maxFields = 24

/** One line, bounded. */
function oneLine(text: string): string {
  const cut = text.length > maxValueLength ? `${text.slice(0, maxValueLength).toWellFormed()}…` : text
  return cut.split(/[\n\r\u2028\u2029]/).map((line) => line.trim()).filter((line) => line !== "").join(" | ")
}

const notPrintable = "(not printable)"

/** Total: a getter that throws, or a circle, is a word. */
function described(value: unknown): string {
  try {
    if (value instanceof Error) return `${value.name}: ${value.message}`
    return typeof value === "object" && value !== null
      ? inspect(value, { breakLength: Infinity, depth: 3, maxArrayLength: 20, maxStringLength: maxValueLength })
      : String(value)
  } catch {
    return notPrintable
  }
}

function pretty(cause: Cause.Cause<unknown>): string {
  try {
    return Cause.pretty(cause)
  } catch {
    return notPrintable
  }
}

type Plain = string | number | boolean | null

function plain(value: unknown): Plain {
  if (value === null || typeof value === "boolean") return value
  if (typeof value === "number" && Number.isFinite(value)) return value
  return oneLine(typeof value === "string" ? value : described(value))
}

/** One line, in order and plain. */
interface Line {
  readonly timestamp: string
  readonly level: LogLevel
  readonly target: string
  readonly message: string
  readonly fields: ReadonlyArray<readonly [name: string, value: Plain]>
}

function levelOf(level: Logger.Options<unknown>["logLevel"]): LogLevel {
  switch (level) {
    case "All":
    case "Trace":
    case "Debug":
      return "debug"
    case "Info":
    case "None":
      return "info"
    case "Warn":
      return "warn"
    case "Error":
    case "Fatal":
      return "error"
  }
}

const reserved: ReadonlySet<string> = new Set(lineNames)

function lineOf({ cause, date, fiber, logLevel, message }: Logger.Options<unknown>): Line {
  const annotations = fiber.getRef(References.CurrentLogAnnotations)
  const fields = Object.entries(annotations).filter(([name, value]) => !reserved.has(name) && value !== undefined)
  if (cause.reasons.length > 0) fields.push(["cause", pretty(cause)])
  const parts = Array.isArray(message) ? message : [message]
  const target = annotations["target"]
  return {
    timestamp: date.toISOString(),
    level: levelOf(logLevel),
    target: typeof target === "string" ? target : "runtime" satisfies LogTarget,
    message: oneLine(parts.map((part) => String(plain(part))).join(" ")),
    fields: fields.slice(0, maxFields).map(([name, value]) => [name, plain(value)])
  }
}

/**
 * Controls beyond those that JSON escapes by itself (DEL, C1 with its one-character CSI), and what turns the direction of
 * text around or makes it invisible.
 */
const unsafe = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu

const escaped = (text: string): string =>
  text.replaceAll(
    unsafe,
    (character) =>
      Array.from(
        { length: character.length },
        (_, at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, "0")}`
      ).join("")
  )

/** As JSON, with every character that a terminal might act on escaped; reads back as the same value. */
const json = (value: Plain): string => escaped(JSON.stringify(value))

/** One object, without the end of the line. */
function formatJson({ fields, level, message, target, timestamp }: Line): string {
  const entries: ReadonlyArray<readonly [string, Plain]> = [
    ["timestamp", timestamp],
    ["level", level],
    ["target", target],
    ["message", message],
    ...fields
  ]
  return `{${entries.map(([name, value]) => `${json(name)}:${json(value)}`).join(",")}}`
}

const colours = { debug: "90", info: "32", warn: "33", error: "31", faint: "90" } as const

/** Quoted when it would not be read as one word. */
const shown = (value: Plain): string =>
  typeof value === "string" && !/^[^\s"=\p{C}]+$/u.test(value) ? json(value) : String(value)

/** For a person: time (UTC), level, target, message, fields. */
function formatPretty({ fields, level, message, target, timestamp }: Line, colour: boolean): string {
  const paint = (code: string, text: string) => colour ? `\u001b[${code}m${text}\u001b[0m` : text
  return [
    paint(colours.faint, timestamp.slice(11)),
    paint(colours[level], level.toUpperCase().padEnd(5)),
    escaped(target),
    escaped(message),
    ...fields.map(([name, value]) => `${paint(colours.faint, `${escaped(name)}=`)}${shown(value)}`)
  ].join(" ")
}

/** What is used of `process.stdout`. */
export interface Sink {
  readonly isTTY?: boolean
  readonly write: (text: string, done: (error?: Error | null) => void) => boolean
  readonly on: (event: "error", listener: () => void) => unknown
}

/** Characters that may wait for a reader: some thousand lines, and no matter for a small host. */
const maxWaiting = 1_048_576

/** Never waits and never fails: pipes and sockets take what they can, and the rest waits in memory up to the limit. */
function makeWriter(sink: Sink, format: (line: Line) => string): (line: Line) => void {
  let waiting = 0
  let missing = 0
  // Without a listener an error of the stream would end the process.
  sink.on("error", () => undefined)
  const send = (line: Line, count: number) => {
    const text = `${format(line)}\n`
    waiting += text.length
    sink.write(text, (error) => {
      waiting -= text.length
      if (error !== undefined && error !== null) missing += count
    })
  }
  return (line) => {
    // Once lines are lost, the buffer empties by half before the next is taken: one gap instead of many.
    if (waiting > (missing === 0 ? maxWaiting : maxWaiting / 2)) {
      missing += 1
      return
    }
    const count = missing
    if (count > 0) {
      missing = 0
      const reason: Reason = "log-lines-lost"
      const fields = [["reason", reason], ["lost", count]] as const
      send({ ...line, level: "warn", target: "logging", message: "lines of the log were lost here", fields }, count)
    }
    send(line, 1)
  }
}

export interface LoggingOptions {
  readonly format: LogFormat
  /** Lines below it are not written. */
  readonly level: LogLevel
  /** Without colour: set to anything but the empty text, as is the custom (no-color.org). */
  readonly noColour: string | undefined
}

/** The logger alone. */
export const makeLogger = ({ format, noColour }: LoggingOptions, sink: Sink): Logger.Logger<unknown, void> => {
  const colour = sink.isTTY === true && (noColour ?? "") === ""
  const write = makeWriter(sink, format === "json" ? formatJson : (line) => formatPretty(line, colour))
  return Logger.make((options) => write(lineOf(options)))
}

/** Lines to standard output, where the service manager reads. Once in a process. */
export const layer = (options: LoggingOptions): Layer.Layer<never> =>
  Layer.mergeAll(
    Layer.unwrap(Effect.sync(() => Logger.layer([makeLogger(options, process.stdout)]))),
    Layer.succeed(References.MinimumLogLevel, effectLevels[options.level])
  )
