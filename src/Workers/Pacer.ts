/**
 * The waits of a worker that talks to the control plane (D9): a period on a fixed grid while things go well, a back-off
 * while they fail (`Backoff.ts` says how long), and at most one early try per back-off when somebody kicks.
 *
 * Owns the memory of consecutive failures; knows nothing of what is tried.
 */
import { Clock, Effect } from "effect"
import { backoffMs } from "./Backoff.ts"

/** Least pause between two tries, whatever kicks (D9). */
export const leastPauseMs = 1000

/** What one try came to. `retryAfterMs`: what the server asked for. */
export type Turn =
  | { readonly _tag: "Done" }
  | { readonly _tag: "Failed"; readonly retryAfterMs: number | undefined }

export const done: Turn = { _tag: "Done" }
export const failed = (retryAfterMs?: number): Turn => ({ _tag: "Failed", retryAfterMs })

/** Monotonic milliseconds since an arbitrary start, with fractions. */
export const monotonicMs: Effect.Effect<number> = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

/** Wall clock, whole epoch milliseconds. */
export const wallMs: Effect.Effect<number> = Effect.map(Clock.currentTimeMillis, Math.floor)

export interface Pacer {
  /** Things go well again. */
  readonly succeeded: () => void
  /** Waits out the back-off of one more failure, or less when a kick earned an early try. */
  readonly backOff: (retryAfterMs?: number) => Effect.Effect<void>
  /** Waits `waitMs`; a kick ends the wait, but not before the least pause. */
  readonly pause: (waitMs: number) => Effect.Effect<void>
}

/** `kick` suspends until somebody wants a try now; `Effect.never` when nobody can. */
export function makePacer(kick: Effect.Effect<void>): Pacer {
  let failures = 0
  let kickSpent = false

  /** Whether a kick ended it. */
  const wait = Effect.fnUntraced(function*(waitMs: number) {
    yield* Effect.sleep(Math.min(waitMs, leastPauseMs))
    return yield* Effect.raceFirst(
      Effect.as(Effect.sleep(Math.max(0, waitMs - leastPauseMs)), false),
      Effect.as(kick, true)
    )
  })

  const backOff = Effect.fnUntraced(function*(retryAfterMs?: number) {
    failures += 1
    const waitMs = yield* backoffMs(failures, retryAfterMs)
    // What the server asked for is not cut short, and the early try of this failure may be spent already.
    if (retryAfterMs !== undefined || kickSpent) {
      yield* Effect.sleep(waitMs)
      kickSpent = false
    } else {
      kickSpent = yield* wait(waitMs)
    }
  })

  return {
    succeeded: () => {
      failures = 0
      kickSpent = false
    },
    backOff,
    pause: (waitMs) => Effect.asVoid(wait(waitMs))
  }
}

/** Milliseconds from `now` to the next point of the grid `start + k * period`; points that were missed are skipped. */
export function untilNextTick(start: number, periodMs: number, now: number): number {
  return start + (Math.floor((now - start) / periodMs) + 1) * periodMs - now
}

/**
 * Runs `turn` at once, then on the grid that began then, for ever. A turn that outlives its period skips the points it
 * missed; a failed turn is followed by a back-off instead; `kick` brings the next turn forward.
 */
export const onCadence = <R>(
  options: { readonly periodMs: number; readonly kick: Effect.Effect<void> },
  turn: Effect.Effect<Turn, never, R>
): Effect.Effect<never, never, R> =>
  Effect.gen(function*() {
    const pacer = makePacer(options.kick)
    const start = yield* monotonicMs
    while (true) {
      const outcome = yield* turn
      if (outcome._tag === "Failed") {
        yield* pacer.backOff(outcome.retryAfterMs)
      } else {
        pacer.succeeded()
        yield* pacer.pause(untilNextTick(start, options.periodMs, yield* monotonicMs))
      }
    }
  })
