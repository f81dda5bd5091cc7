/**
 * What the command lines of the programs have in common: flags from a table of options, the log, and the exit codes (D18): 0 when it
 * was told to stop, 64 for a wrong command line, 78 for a wrong configuration, 1 for everything else that went wrong.
 */
import { Cause, Effect, Exit, Option, Runtime, Schema } from "effect"
import { CliError, Flag } from "effect/cli"
import type { LogFields, LogFormat, LogLevel } from "../Schema/Logs.ts"
import type { AnyOption, ConfigProblem } from "../Schema/Options.ts"
import { isReason, type Reason } from "../Schema/Reasons.ts"
import { DatabaseError } from "./Disk/Database.ts"
import * as Logging from "./Logging.ts"

export const exitCodes = { usage: 64, configuration: 78 } as const

/** The configuration, or something that it names, cannot be used (exit 78). Shown as it is, without a stack. */
export class Unusable extends Schema.TaggedError<Unusable>()("Unusable", { message: Schema.String }) {
  override readonly [CliError.userMessage] = this.message
  override readonly [Runtime.errorExitCode] = exitCodes.configuration
  override readonly [Runtime.errorReported] = false
}

/** All problems in one error, each with the place where it was given. */
export const unusable = (problems: ReadonlyArray<ConfigProblem>): Unusable =>
  new Unusable({
    message: ["the configuration cannot be used:", ...problems.map(({ at, message }) => `  ${at}: ${message}`)].join(
      "\n"
    )
  })

/** It failed, and the log says how, so nothing more is printed. A restart may mend it (exit 1). */
class Failed extends Schema.TaggedError<Failed>()("Failed", { message: Schema.String }) {
  override readonly [Runtime.errorExitCode] = 1
  override readonly [Runtime.errorReported] = false
}

const shutdown = Logging.logOf("shutdown")

/** What a failure says of itself. */
const reasonOf = (error: unknown): Reason =>
  error instanceof Error && "reason" in error && typeof error.reason === "string" && isReason(error.reason)
    ? error.reason
    : "program-failed"

/** A restart does not mend an error of `lasting`, by its tag, nor a database that is damaged or not this program's. */
const lasts = (error: unknown, lasting: ReadonlySet<string>): boolean =>
  error instanceof Error && "_tag" in error && typeof error._tag === "string" && lasting.has(error._tag) ||
  error instanceof DatabaseError && error.reason !== "database-failed"

/**
 * A program under its log, up to its end: being told to stop is a line, a failure is one with its reason. What a restart
 * does not mend also goes to standard error, and ends with the code for that (D18).
 */
export const underLog = (
  { environment, fields, lasting, logFormat, logLevel }: {
    readonly logFormat: LogFormat
    readonly logLevel: LogLevel
    /** The process's own. */
    readonly environment: Readonly<Record<string, string | undefined>>
    /** In every line. */
    readonly fields: LogFields
    readonly lasting: ReadonlySet<string>
  }
) =>
<A, E, R>(program: Effect.Effect<A, E, R>) =>
  program.pipe(
    Effect.onInterrupt(() => shutdown.info("stopped because it was told to")),
    Effect.catchCause((cause) => {
      if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
      const error = Cause.squash(cause)
      const message = error instanceof Error ? error.message : String(error)
      const defect = Cause.hasDies(cause) ? cause : undefined
      return Effect.andThen(
        shutdown.error("the program cannot go on", { reason: reasonOf(error), detail: message }, defect),
        Effect.fail(lasts(error, lasting) ? new Unusable({ message }) : new Failed({ message }))
      )
    }),
    Logging.withLogFields(fields),
    Effect.provide(Logging.layer({ format: logFormat, level: logLevel, noColour: environment["NO_COLOR"] }))
  )

/** `--config FILE`, for every program that has options. */
export const configFlag = (environmentName: string): Flag.Flag<Option.Option<string>> =>
  Flag.String("config").pipe(
    Flag.withMetavar("FILE"),
    Flag.withDescription(
      `JSON file with any of the options below, by their names in camelCase (also ${environmentName})`
    ),
    Flag.optional
  )

type Given = Option.Option<string | boolean>

function flagOf({ description, fallback, flag, kind, required }: AnyOption): Flag.Flag<Given> {
  const note = required ? "required" : fallback === undefined ? undefined : `default: ${fallback}`
  const text = note === undefined ? description : `${description} (${note})`
  return kind === "switch"
    ? Flag.Boolean(flag).pipe(Flag.withDescription(text), Flag.optional)
    : Flag.String(flag).pipe(Flag.withMetavar(kind), Flag.withDescription(text), Flag.optional)
}

/** One flag per option, by the option's key. All are optional and text: what is wrong with a value is told with all else. */
export function optionFlags(options: Readonly<Record<string, AnyOption>>): Record<string, Flag.Flag<Given>> {
  return Object.fromEntries(Object.entries(options).map(([key, option]) => [key, flagOf(option)]))
}

/** The flags that were given. */
export function givenFlags(parsed: Readonly<Record<string, Given>>): Record<string, string | boolean | undefined> {
  return Object.fromEntries(Object.entries(parsed).map(([key, given]) => [key, Option.getOrUndefined(given)]))
}

/** Interruption is how a signal arrives: it was asked for, so it is no failure. */
export function exitCodeOf(exit: Exit.Exit<unknown, unknown>): number {
  if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return 0
  const error = Cause.squash(exit.cause)
  if (CliError.isCliError(error)) return error._tag === "ShowHelp" && error.errors.length === 0 ? 0 : exitCodes.usage
  return error instanceof Error ? error[Runtime.errorExitCode] ?? 1 : 1
}

/** For `NodeRuntime.runMain`. */
export const teardown: Runtime.Teardown = (exit, onExit) => onExit(exitCodeOf(exit))
