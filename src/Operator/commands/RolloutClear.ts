/** `nixfleet rollout clear`: a halted rollout rolls again, once what made it fail is repaired (D7). */
import { Effect } from "effect"
import { Command } from "effect/cli"
import { act, actingFlags } from "../Acting.ts"
import { checkRolloutId, rolloutArgument } from "../RolloutArgument.ts"

export const rolloutClear = Command.make(
  "clear",
  { rollout: rolloutArgument, ...actingFlags },
  Effect.fnUntraced(function*({ reason, rollout, ...flags }) {
    yield* act({ action: "ClearRollout", rolloutId: yield* checkRolloutId(rollout), reason }, flags)
  })
).pipe(Command.withDescription(
  "Let a halted rollout roll again, once what made it fail is repaired: hosts that failed or went back begin their next attempt, " +
    "and its quarantine is lifted. A release that is itself at fault is repaired by a new one"
))
