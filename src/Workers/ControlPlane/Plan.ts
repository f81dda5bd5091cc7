/**
 * The planner's safety net: every 15 s the reducer looks at all channels again, for what only time changes (a soak that is
 * over, a grace that ends, a pause after a rejection). What an input changes is planned in that input's own commit.
 *
 * Waits for each tick to be decided: ticks never pile up, missed ones are skipped. Owns no rule and no state. A tick that is
 * not taken means that the program stops, and so does this worker's scope.
 */
import { Effect, Layer, Schedule } from "effect"
import { Inbox } from "../../ControlPlane/Inbox.ts"
import { Settings } from "../../ControlPlane/Settings.ts"
import { millis } from "../../Schema/Options.ts"
import { Supervisor } from "../Supervisor.ts"

/** At once, then on the grid; never ends. */
export const planTicks = Effect.gen(function*() {
  const inbox = yield* Inbox
  const { planSecs } = yield* Settings
  return yield* inbox.submit({ _tag: "PlanTick" }).pipe(Effect.repeat(Schedule.windowed(millis(planSecs))))
})

/** Ticks while its scope is open. */
export const layer = Layer.effectDiscard(
  Effect.gen(function*() {
    const supervisor = yield* Supervisor
    yield* supervisor.start("plan", planTicks)
  })
)
