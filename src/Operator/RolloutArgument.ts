/** The rollout that a command is about. */
import { Effect, Schema } from "effect"
import { Argument } from "effect/cli"
import { RolloutId } from "../Schema/Primitives.ts"
import { usageError } from "./Failure.ts"

export const isRolloutId = Schema.is(RolloutId)

export const rolloutArgument = Argument.String("rollout").pipe(
  Argument.withDescription("<channel>@<ref>, as `rollout list` shows it")
)

/** Refused before anything is sent: it becomes part of a path. */
export const checkRolloutId = (text: string) =>
  isRolloutId(text)
    ? Effect.succeed(text)
    : Effect.fail(usageError(`${JSON.stringify(text)} is not a rollout: <channel>@<ref>`))
