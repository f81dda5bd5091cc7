/**
 * The one sweeper of leases and parked polls (D8, D9): tells the reducer once a second that time has passed; the reducer ends
 * what is over. No timer a poll, no timer a lease: ten thousand of them cost one look.
 *
 * Waits for each sweep to be decided: sweeps never pile up, missed ones are skipped. Owns no rule and no state.
 */
import { Effect, Layer, Schedule } from "effect"
import { Inbox } from "../../ControlPlane/Inbox.ts"
import { Settings } from "../../ControlPlane/Settings.ts"
import { millis } from "../../Schema/Options.ts"
import { Supervisor } from "../Supervisor.ts"

/** At once, then on the grid; never ends. */
export const sweeps = Effect.gen(function*() {
  const inbox = yield* Inbox
  const { sweepSecs } = yield* Settings
  return yield* inbox.submit({ _tag: "LeaseSweep" }).pipe(Effect.repeat(Schedule.windowed(millis(sweepSecs))))
})

/** Sweeps while its scope is open. */
export const layer = Layer.effectDiscard(
  Effect.gen(function*() {
    const supervisor = yield* Supervisor
    yield* supervisor.start("lease-sweep", sweeps)
  })
)
