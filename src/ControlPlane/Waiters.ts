/**
 * Polls that wait for an answer, each a single callback (D9, D20). Keyed by an id of this process, so completing one costs
 * the same with ten and with ten thousand parked, and wakes no other. Owns no rule: who waits for what, and for how long, is
 * in the reducer's state.
 *
 * Failures: completing a waiter that is gone does nothing (its lease expires, or its route has reported the abort); after
 * `drain` every poll, present and future, is answered `Draining`, because a "no work" makes agents poll a closing socket.
 */
import { Context, Deferred, Effect, Layer } from "effect"
import type { PollAnswer } from "./Input.ts"

export interface OpenWaiter {
  /** From 1, never reused in this process. */
  readonly waiterId: number
  readonly answer: Effect.Effect<PollAnswer>
}

export class Waiters extends Context.Service<Waiters, {
  /** Registers a poll. To be closed by the same route, whatever happens. */
  readonly open: () => OpenWaiter
  /** Ends one poll; `false` when it is gone. */
  readonly complete: (waiterId: number, answer: PollAnswer) => boolean
  /** Forgets a poll whose route has ended. */
  readonly close: (waiterId: number) => void
  /** Answers everything with `Draining`, now and from now on. */
  readonly drain: () => void
  readonly size: () => number
}>()("nixfleet/ControlPlane/Waiters") {
  static readonly layer = Layer.sync(Waiters, () => Waiters.of(make()))
}

const make = () => {
  const waiting = new Map<number, Deferred.Deferred<PollAnswer>>()
  let nextId = 1
  let draining = false
  const complete = (waiterId: number, answer: PollAnswer) => {
    const deferred = waiting.get(waiterId)
    if (deferred === undefined) return false
    waiting.delete(waiterId)
    return Deferred.doneUnsafe(deferred, Effect.succeed(answer))
  }
  return {
    open: () => {
      const waiterId = nextId++
      const deferred = Deferred.makeUnsafe<PollAnswer>()
      waiting.set(waiterId, deferred)
      if (draining) complete(waiterId, { _tag: "Draining" })
      return { waiterId, answer: Deferred.await(deferred) }
    },
    complete,
    close: (waiterId: number) => {
      waiting.delete(waiterId)
    },
    drain: () => {
      draining = true
      for (const waiterId of waiting.keys()) complete(waiterId, { _tag: "Draining" })
    },
    size: () => waiting.size
  }
}
