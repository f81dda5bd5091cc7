/**
 * The control plane's sentence in one layer: inbox, decision, journal, published state, waiters. Routes and workers are built
 * on it, and stop before it; the journal lives below it, and closes after it (house rule 4).
 */
import { Clock, Context, Effect, Layer, Queue } from "effect"
import * as Reducer from "../Reducer.ts"
import { millis } from "../Schema/Options.ts"
import { apply } from "./Apply.ts"
import { makeDeadlines } from "./Deadlines.ts"
import { decide, settle } from "./Decide.ts"
import { Inbox, inboxCapacity, overQueue, replyTimeoutMs } from "./Inbox.ts"
import type { Action, Answer, Input } from "./Input.ts"
import { Journal } from "./Journal.ts"
import { defaultLimits, type Limits } from "./Limits.ts"
import { makeMetrics, Metrics } from "./Metrics.ts"
import type { Settings } from "./Settings.ts"
import { ControlPlaneState, type State } from "./State.ts"
import { Waiters } from "./Waiters.ts"
import type { Write } from "./Write.ts"

/** Called at each turn of the loop: the pulse of the service's watchdog (D18). */
export const Pulse = Context.Reference<() => void>("nixfleet/ControlPlane/Pulse", { defaultValue: () => () => {} })

/** The limits that the operator configured. */
export const limitsOf = (settings: Settings["Service"]): Limits => ({
  leaseMs: millis(settings.leaseSecs),
  heartbeatMs: millis(settings.heartbeatSecs),
  recoveryGraceMs: millis(settings.recoveryGraceSecs),
  silentMs: defaultLimits.silentMs,
  ...(settings.freshnessWindowSecs === undefined ? {} : { freshnessCeilingMs: millis(settings.freshnessWindowSecs) })
})

export const layer: Layer.Layer<Inbox | ControlPlaneState | Metrics, never, Journal | Waiters> = Layer.effectContext(
  Effect.gen(function*() {
    const journal = yield* Journal
    const services = yield* Effect.context()
    let published: State = journal.initial
    const { observed, text, timed } = makeMetrics(yield* Clock.Clock)
    const queue = timed(yield* Reducer.makeInbox<Input, Answer>(inboxCapacity))
    const program: Reducer.Program<State, Input, Write, Action, Answer> = observed({
      initial: journal.initial,
      decide,
      settle,
      commit: journal.commit,
      publish: (state) => {
        published = state
      },
      apply: apply(yield* Waiters, services),
      pulse: yield* Pulse
    })
    const ended = yield* Reducer.run(program, queue)
    return Context.make(Inbox, overQueue(queue, yield* makeDeadlines(replyTimeoutMs), ended)).pipe(
      Context.add(ControlPlaneState, { current: () => published }),
      Context.add(Metrics, { counted: text, inboxDepth: () => Queue.sizeUnsafe(queue.queue) })
    )
  })
)
