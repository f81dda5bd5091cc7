/** `nixfleet rollout pause` and `resume`: nothing new of a rollout is dispatched until it is resumed, or its time is over. */
import { Effect } from "effect"
import { Command } from "effect/cli"
import { act, actingFlags, chooseEnd, endFlags } from "../Acting.ts"
import { checkRolloutId, rolloutArgument } from "../RolloutArgument.ts"

/** Without `--until` and `--for`: over a night, and not over a forgotten weekend. */
const pauseMs = 24 * 3_600_000

export const rolloutPause = Command.make(
  "pause",
  { rollout: rolloutArgument, ...endFlags("default: in 24 hours"), ...actingFlags },
  Effect.fnUntraced(function*({ duration, reason, rollout, until, ...flags }) {
    const rolloutId = yield* checkRolloutId(rollout)
    yield* act(
      { action: "PauseRollout", rolloutId, reason, until: yield* chooseEnd({ duration, until }, pauseMs) },
      flags
    )
  })
).pipe(Command.withDescription("Dispatch nothing more of a rollout for a while; hosts that are under way go on"))

export const rolloutResume = Command.make(
  "resume",
  { rollout: rolloutArgument, ...actingFlags },
  Effect.fnUntraced(function*({ reason, rollout, ...flags }) {
    yield* act({ action: "ResumeRollout", rolloutId: yield* checkRolloutId(rollout), reason }, flags)
  })
).pipe(Command.withDescription("Let a paused rollout go on"))
