/**
 * What the command lines of the programs have in common: flags from a table of options, and the exit codes (D18): 0 when it
 * was told to stop, 64 for a wrong command line, 78 for a wrong configuration, 1 for everything else that went wrong.
 */
import { Cause, Exit, type Layer, Logger, Option, Runtime, Schema } from "effect"
import { CliError, Flag } from "effect/cli"
import type { AnyOption, ConfigProblem } from "../Schema/Options.ts"
import { DatabaseError } from "./Disk/Database.ts"

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

/**
 * The end of a program, for the service manager: `Unusable` when a restart does not mend it (an error of `lasting`, by its
 * tag, or a database that is damaged or not this program's), and otherwise the error as it is, which a restart may mend.
 */
export const endOf =
  (lasting: ReadonlySet<string>) =>
  <E extends { readonly _tag: string; readonly message: string }>(error: E): E | Unusable =>
    lasting.has(error._tag) || error instanceof DatabaseError && error.reason !== "database-failed"
      ? new Unusable({ message: error.message })
      : error

/** `json`: one object a line; `text`: for people. On standard output, where the service manager reads. */
export const logging = (format: "json" | "text"): Layer.Layer<never> =>
  Logger.layer([format === "json" ? Logger.consoleJson : Logger.consoleLogFmt])

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
