/**
 * What is done after a commit, and only then: a poll is answered, a line is logged. Synchronous and total; never offers to the
 * queue and never suspends (house rule 5).
 */
import { Effect } from "effect"
import type { Context } from "effect"
import { writeEntry } from "../Layers/Logging.ts"
import type { Action } from "./Input.ts"
import type { Waiters } from "./Waiters.ts"

/** `services`: where log lines go (loggers and level are references of the context). */
export function apply(waiters: Waiters["Service"], services: Context.Context<never>): (action: Action) => void {
  const run = Effect.runForkWith(services)
  return (action) => {
    switch (action._tag) {
      case "CompleteWaiter":
        waiters.complete(action.waiterId, action.answer)
        return
      case "Log":
        run(writeEntry(action.target, action.entry))
    }
  }
}
