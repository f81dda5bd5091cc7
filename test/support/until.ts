/** Waiting for facts that come about by themselves: on a fact, never for a time. The test's own time-out is the bound. */
import { Effect } from "effect"

export const until = (fact: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => fact() ? Effect.void : Effect.andThen(Effect.sleep(10), until(fact)))
