/**
 * How long routes wait for the reducer (control-plane.md §2.5). One timer serves all that wait, because a timer for each would
 * cost more than its answer; all waits are equally long, so the first to begin is the first to end.
 *
 * A wait that is over ends as if the inbox had closed: nothing is known to be recorded, and the decision may still be made.
 */
import { Clock, Deferred, Effect, Exit, Latch, type Scope } from "effect"
import { logOf } from "../Layers/Logging.ts"
import { InboxClosed } from "../Reducer.ts"
import type { Answer } from "./Input.ts"

export type Reply = Deferred.Deferred<Answer, InboxClosed>

export interface Deadlines {
  readonly begin: (reply: Reply) => void
  /** The answer is there, or nobody wants it any more. */
  readonly end: (reply: Reply) => void
}

const log = logOf("cp_reducer")

/** Waits end `limitMs` after they began, while the scope is open. */
export const makeDeadlines = Effect.fnUntraced(
  function*(limitMs: number): Effect.fn.Return<Deadlines, never, Scope.Scope> {
    const clock = yield* Clock.Clock
    /** Milliseconds that no step of the wall clock touches. */
    const elapsed = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
    const anybody = Latch.makeUnsafe(false)
    /** When each wait is over, ascending. */
    const waiting = new Map<Reply, number>()

    /** Ends what is over; how many that were. */
    const expire = (now: number): number => {
      let ended = 0
      for (const [reply, until] of waiting) {
        if (until > now) break
        waiting.delete(reply)
        if (Deferred.doneUnsafe(reply, Exit.fail(new InboxClosed()))) ended += 1
      }
      return ended
    }

    const untilTheFirst = Effect.suspend(() => {
      const [first] = waiting.values()
      if (first !== undefined) return Effect.sleep(Math.max(0, first - elapsed()))
      anybody.closeUnsafe()
      return Effect.void
    })

    const round = anybody.await.pipe(
      Effect.andThen(untilTheFirst),
      Effect.andThen(Effect.suspend(() => {
        const ended = expire(elapsed())
        return ended === 0
          ? Effect.void
          : log.warn("requests were not answered in time", { reason: "reducer-late", detail: `${ended} requests` })
      }))
    )
    yield* Effect.forkScoped(Effect.forever(round))

    return {
      begin: (reply) => {
        waiting.set(reply, elapsed() + limitMs)
        if (waiting.size === 1) anybody.openUnsafe()
      },
      end: (reply) => {
        waiting.delete(reply)
      }
    }
  }
)
