/**
 * Tells the parts of a server that it is about to stop, so that a parked poll is answered at once (503 with
 * `Retry-After`, D9) instead of holding up the exit for its whole minute. Owns one flag and the list of listeners.
 */
import { Context, Effect, Layer } from "effect"

/** Seconds of `Retry-After` in answers given while stopping: a restart of the service takes about this long. */
export const drainingRetryAfterSeconds = 5

export class Draining extends Context.Service<Draining, {
  /** True from the moment that `begin` ran. */
  readonly begun: () => boolean
  /** Idempotent. Calls every listener once, synchronously. */
  readonly begin: Effect.Effect<void>
  /** Registers a listener, called at once when draining has begun already; answers how to take it off the list. */
  readonly onBegin: (listener: () => void) => () => void
}>()("nixfleet/Layers/Net/Draining") {
  static readonly layer = Layer.sync(Draining, () => {
    const listeners = new Set<() => void>()
    let begun = false
    return Draining.of({
      begun: () => begun,
      begin: Effect.sync(() => {
        if (begun) return
        begun = true
        for (const listener of listeners) listener()
        listeners.clear()
      }),
      onBegin: (listener) => {
        if (begun) listener()
        else listeners.add(listener)
        return () => listeners.delete(listener)
      }
    })
  })
}
