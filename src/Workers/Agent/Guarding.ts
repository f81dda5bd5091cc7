/**
 * Keeps the guard of the current activation (D10, D11): armed when it is owed, renewed while this process lives, gone when it
 * is not owed any more. Part of the Activation worker, which tends it at each look: an agent that does not get there any more
 * is one that cannot bring the host anywhere.
 *
 * Failures: a guard that cannot be armed keeps a switch forward from starting; under a switch that runs it is told to the log and
 * tried again. One that fired for an activation that is over is told to the control plane, and forgotten.
 */
import { Effect, Result } from "effect"
import { guardWindowMs, lookEveryMs } from "../../Agent/Deadlines.ts"
import { Inbox } from "../../Agent/Inbox.ts"
import { Settings } from "../../Agent/Settings.ts"
import { AgentState, currentEntry, type State } from "../../Agent/State.ts"
import { Activator } from "../../Layers/Host/Activator.ts"
import { Facts } from "../../Layers/Host/Facts.ts"
import { Guard } from "../../Layers/Host/Guard.ts"
import { logOf } from "../../Layers/Logging.ts"
import { guardOwed, sameOrder } from "../../Rollout/Owed.ts"
import type { GuardOrder } from "../../Schema/GuardOrder.ts"
import { monotonicMs } from "../Pacer.ts"

const log = logOf("agent_activation")

/** What came of tending it. */
export type Tended =
  /** As it should be: armed, or not owed. */
  | { readonly _tag: "Tended" }
  /** It has fired for the current activation: nothing of it may be started. */
  | { readonly _tag: "Fired" }
  | { readonly _tag: "Unarmed"; readonly problem: string }

const tended: Tended = { _tag: "Tended" }

const arm = Effect.fnUntraced(function*(order: GuardOrder, windowMs: number) {
  const recovery = (yield* Activator).recovery(order)
  const problem = yield* (yield* Guard).arm({ order, recovery, windowMs })
  const fields = { rollout: order.rolloutId, attempt: order.attempt, closure: order.closure }
  if (problem === undefined) {
    yield* log.info("the guard is armed", fields)
    return tended
  }
  yield* log.error("the guard cannot be armed", { ...fields, reason: "guard-not-armed", detail: problem })
  const unarmed: Tended = { _tag: "Unarmed", problem }
  return unarmed
})

/** Nobody can say whether the host is guarded (house rule 8). */
const unreadable = Effect.fnUntraced(function*(problem: string) {
  yield* log.warn("the state of the guard cannot be read", { reason: "guard-unreadable", detail: problem })
  const unarmed: Tended = { _tag: "Unarmed", problem }
  return unarmed
})

/** An order of an earlier moment is taken away, wherever the disk allows it. */
const disarm = Effect.fnUntraced(function*(order: GuardOrder) {
  const guard = yield* Guard
  yield* Effect.try({ try: () => guard.disarm(order), catch: String }).pipe(
    Effect.catch((detail) =>
      log.warn("a guard that is not needed any more cannot be disarmed", { reason: "guard-unreadable", detail })
    )
  )
  yield* guard.clear
})

/** What it did is the current record's own past, unless that says nothing of it; then the next heartbeat does. */
const forget = Effect.fnUntraced(function*(order: GuardOrder, state: State) {
  const record = state.rollouts.get(order.rolloutId)?.record
  const known = record?.attempt === order.attempt && (record.state === "Failed" || record.state === "Reverted")
  if (!known) yield* (yield* Inbox).ask({ _tag: "GuardWasStale", order })
  yield* (yield* Guard).clear
})

/**
 * `since`: when this process began, monotonic ms. What it does in its first moments is no sign of life: a process that crashes
 * again and again has such moments too.
 */
export const tendGuard = Effect.fnUntraced(function*(since: number) {
  const guard = yield* Guard
  const settings = yield* Settings
  const state = (yield* AgentState).current()
  const current = currentEntry(state)
  const wanted = guardOwed(current)
  const windowMs = current === undefined ? 0 : guardWindowMs(current.record.state, settings)
  const armed = wanted === undefined ? Effect.succeed(tended) : arm(wanted, windowMs)
  const read = yield* Effect.result(guard.state)
  if (Result.isFailure(read)) return yield* unreadable(read.failure)
  const found = read.success
  switch (found._tag) {
    case "None":
      yield* guard.clear
      return yield* armed
    case "Armed": {
      if (sameOrder(found.order, wanted)) {
        if (!found.watched) return yield* armed
        if ((yield* monotonicMs) - since >= lookEveryMs(settings)) yield* guard.renew(windowMs)
        return tended
      }
      yield* disarm(found.order)
      return yield* armed
    }
    case "Fired": {
      const record = current?.record
      const isCurrent = record?.rolloutId === found.order.rolloutId && record.attempt === found.order.attempt
      if (isCurrent && (record.state === "Activating" || record.state === "Soaking")) {
        const fired: Tended = { _tag: "Fired" }
        return fired
      }
      if (found.acting || sameOrder(found.order, wanted)) return tended
      yield* forget(found.order, state)
      return yield* armed
    }
  }
})

/**
 * What may take long, with signs of life meanwhile for the guard of a switch that began before; undone as soon as that has
 * fired, for the next look.
 */
export const attended = Effect.fnUntraced(function*<A, R>(waiting: Effect.Effect<A, never, R>, since: number) {
  const fired = Effect.sleep(lookEveryMs(yield* Settings)).pipe(
    Effect.andThen(tendGuard(since)),
    Effect.repeat({ until: ({ _tag }) => _tag === "Fired" }),
    Effect.as("fired" as const)
  )
  return yield* Effect.raceFirst(waiting, fired)
})

/** Which boot of the host this is, before anything is resumed (D11). */
export const tellBoot = Effect.gen(function*() {
  const bootId = yield* (yield* Facts).bootId
  if (bootId !== undefined) yield* (yield* Inbox).ask({ _tag: "Booted", bootId })
})
