/**
 * How a command fails: one message for a person, on standard error, and an exit code. Nothing else is printed about it.
 *
 * - 1: what was asked for was refused or did not work
 * - 64: the command line is wrong (also the parser's own errors)
 * - 78: a file that a person writes is wrong: declaration, trust, key, connection
 */
import { Runtime, Schema } from "effect"
import { CliError } from "effect/cli"
import { exitCodes, Unusable } from "../Layers/CommandLine.ts"

export class CommandFailure extends Schema.TaggedError<CommandFailure>()("CommandFailure", {
  message: Schema.String,
  exitCode: Schema.Literals([1, exitCodes.usage])
}) {
  override readonly [CliError.userMessage] = this.message
  override readonly [Runtime.errorExitCode] = this.exitCode
  override readonly [Runtime.errorReported] = false
}

/** The command has said on standard output what it found, and it is not good: exit 1 without another word. */
export class NegativeVerdict extends Schema.TaggedError<NegativeVerdict>()("NegativeVerdict", {}) {
  override readonly [Runtime.errorExitCode] = 1
  override readonly [Runtime.errorReported] = false
}

export const failed = (message: string) => new CommandFailure({ message, exitCode: 1 })
export const usageError = (message: string) => new CommandFailure({ message, exitCode: exitCodes.usage })
export const configError = (message: string) => new Unusable({ message })
