/**
 * Carries out what a commit caused (house rules 1, 5): wakes workers and tells the log. Synchronous and total: it never
 * offers to the queue and never suspends.
 *
 * The log is written by a fiber of its own from a bounded buffer: a log that stalls must not stall the reducer. When it
 * stalls for longer than the buffer lasts, the oldest lines are lost; what they told is in the journal all the same.
 */
import { Context, Effect, Layer, Queue } from "effect"
import { writeEntry } from "../Layers/Logging.ts"
import type { LogMessage } from "../Schema/Logs.ts"
import { Intents } from "./Intents.ts"
import type { Action } from "./Write.ts"

/** More than the largest commit can say. */
const noticeBuffer = 256

export class Apply extends Context.Service<Apply, (action: Action) => void>()("nixfleet/Agent/Apply") {
  static readonly layer = Layer.effect(
    Apply,
    Effect.gen(function*() {
      const intents = yield* Intents
      const notices = yield* Queue.sliding<LogMessage>(noticeBuffer)
      yield* Queue.take(notices).pipe(
        Effect.flatMap((entry) => writeEntry("agent_reducer", entry)),
        Effect.forever,
        Effect.forkScoped
      )
      return (action) => {
        switch (action._tag) {
          case "Ring":
            return intents[action.slot].ring()
          case "Tell":
            Queue.offerUnsafe(notices, action.entry)
        }
      }
    })
  )
}
