/**
 * The agent's sentence in one layer: inbox, decision, journal, published state, intents. Workers are built on it, and stop
 * before it; the journal lives below it, and closes after it (house rule 4).
 */
import { Context, Effect, Layer } from "effect"
import { Guard } from "../Layers/Host/Guard.ts"
import * as Reducer from "../Reducer.ts"
import { millis } from "../Schema/AgentConfig.ts"
import { Apply } from "./Apply.ts"
import { makeDecide } from "./Decide.ts"
import type { Limits } from "./Decide/Limits.ts"
import { Inbox, inboxCapacity } from "./Inbox.ts"
import { type Answer, type Input, refused } from "./Input.ts"
import { Intents } from "./Intents.ts"
import { Journal } from "./Journal.ts"
import { Settings } from "./Settings.ts"
import { AgentState, type State } from "./State.ts"
import type { Action, Write } from "./Write.ts"

/** Called at each turn of the loop: the pulse of the service's watchdog (D18). */
export const Pulse = Context.Reference<() => void>("nixfleet/Agent/Pulse", { defaultValue: () => () => {} })

const dayMs = 86_400_000

/** The limits that the operator configured. */
export const limitsOf = (settings: Settings["Service"]): Limits => ({
  probeResultMs: millis(settings.probeResultSecs),
  inconclusiveMs: millis(settings.inconclusiveSecs),
  retentionMs: settings.retentionDays * dayMs
})

const stopping = refused("shutting-down", "the agent is stopping")

/**
 * A guard that is no longer wanted goes before the commit that says so: between the two it is missing, and the next look arms
 * it again; the other way round it could take a converged host back. One that was quicker has the last word: the process
 * ends, and the next one reads it first (D11).
 */
function disarmFirst(guard: Guard["Service"], writes: ReadonlyArray<Write>): void {
  for (const write of writes) {
    if (write._tag !== "DisarmGuard") continue
    if (!guard.disarm(write.order) && write.settled) {
      throw new Error(`the guard of ${write.order.rolloutId} has fired: its activation has not ended well`)
    }
  }
}

const loop: Layer.Layer<Inbox | AgentState, never, Apply | Guard | Journal | Settings> = Layer
  .effectContext(
    Effect.gen(function*() {
      const guard = yield* Guard
      const journal = yield* Journal
      let published: State = journal.initial
      const queue = yield* Reducer.makeInbox<Input, Answer>(inboxCapacity)
      const program: Reducer.Program<State, Input, Write, Action, Answer> = {
        initial: journal.initial,
        decide: makeDecide(limitsOf(yield* Settings)),
        commit: (writes) => {
          disarmFirst(guard, writes)
          journal.commit(writes)
        },
        publish: (state) => {
          published = state
        },
        apply: yield* Apply,
        pulse: yield* Pulse
      }
      const inbox = Inbox.of({
        ask: (input) => queue.ask(input).pipe(Effect.catchTag("InboxClosed", () => Effect.succeed(stopping))),
        ended: yield* Reducer.run(program, queue)
      })
      return Context.make(Inbox, inbox).pipe(Context.add(AgentState, { current: () => published }))
    })
  )

/** Inbox, published state and slots, over a journal and the settings. */
export const layer: Layer.Layer<Inbox | AgentState | Intents, never, Guard | Journal | Settings> = loop.pipe(
  Layer.provide(Apply.layer),
  Layer.provideMerge(Intents.layer)
)
