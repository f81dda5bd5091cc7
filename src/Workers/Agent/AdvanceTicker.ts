/**
 * Tells the reducer that time has passed and what runs now: on a fixed grid (5 s), and at the very moment at which a soak
 * may end, so that it ends to the second. Waits for each tick to be decided: ticks never pile up, missed ones are skipped.
 *
 * Failures: a running system that cannot be read is a tick with an unknown closure; nothing converges on it (D12).
 */
import { Clock, Effect } from "effect"
import { soakDueIn } from "../../Agent/Decide/Time.ts"
import { Inbox } from "../../Agent/Inbox.ts"
import { Settings } from "../../Agent/Settings.ts"
import { AgentState } from "../../Agent/State.ts"
import { Activator } from "../../Layers/Host/Activator.ts"
import { logOf } from "../../Layers/Logging.ts"
import type { Now } from "../../Reducer.ts"
import { millis } from "../../Schema/AgentConfig.ts"
import { monotonicMs, untilNextTick, wallMs } from "../Pacer.ts"

const log = logOf("agent_advance_ticker")

const tick = Effect.gen(function*() {
  const { running } = yield* (yield* Activator).current
  yield* log.debug("tick", { closure: running })
  yield* (yield* Inbox).ask({ _tag: "Tick", ...(running === undefined ? {} : { observed: running }) })
})

/** The reducer's reading of both clocks, in whole milliseconds. */
const now = Effect.map(
  Effect.all([wallMs, Clock.monotonicTimeNanos]),
  ([wall, nanos]): Now => ({ wall, monotonic: Number(nanos / 1_000_000n) })
)

/** Until the next point of the grid, or until the soak may end if that comes first. A soak that is due waits for others. */
const pause = Effect.fnUntraced(function*(startMs: number, periodMs: number) {
  const grid = untilNextTick(startMs, periodMs, yield* monotonicMs)
  const due = soakDueIn((yield* AgentState).current(), yield* now)
  yield* Effect.sleep(due === undefined || due <= 0 ? grid : Math.min(grid, Math.ceil(due)))
})

/** Never ends; a defect ends the process through the supervisor (house rule 7). */
export const advanceTicker = Effect.gen(function*() {
  const periodMs = millis((yield* Settings).advanceSecs)
  const startMs = yield* monotonicMs
  while (true) {
    yield* tick
    yield* pause(startMs, periodMs)
  }
})
