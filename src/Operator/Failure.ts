/**
 * How a command fails: one message for a person, on standard error, and an exit code. Nothing else is printed about it.
 *
 * - 1: what was asked for was refused or did not work; nothing is known about the fleet
 * - 2: the fleet, or the rollout, has not converged yet (only where it is asked: `status --exit-code`, `rollout wait`, `--follow`)
 * - 3: it ended otherwise, and does not converge without a person; for `plan`: there are conflicts
 * - 64: the command line is wrong (also the parser's own errors)
 * - 78: a file that a person writes is wrong: declaration, trust, key, connection
 */
import { Context, Runtime, Schema } from "effect"
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

/** How a fleet or a rollout stands: on its way, or at an end that is not the one that was wanted. */
export type Unconverged = "under-way" | "ended"

/** Asked and answered: it has not converged. The command has told why. */
export class NotConverged extends Schema.TaggedError<NotConverged>()("NotConverged", {
  how: Schema.Literals(["under-way", "ended"])
}) {
  override readonly [Runtime.errorExitCode] = this.how === "under-way" ? 2 : 3
  override readonly [Runtime.errorReported] = false
}

/** What the command ends with when it is interrupted: a shell expects 130, unless interruption is how the command ends. */
export const Interruption = Context.Reference<{ exitCode: number }>("nixfleet/Operator/Interruption", {
  defaultValue: () => ({ exitCode: 130 })
})

export const failed = (message: string) => new CommandFailure({ message, exitCode: 1 })
export const usageError = (message: string) => new CommandFailure({ message, exitCode: exitCodes.usage })
export const configError = (message: string) => new Unusable({ message })
