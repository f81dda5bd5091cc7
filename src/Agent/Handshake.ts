/**
 * The gate between the boot handshake and everything else that talks to the control plane (D6): no poll and no event
 * before one heartbeat was answered, because the answer says what the control plane is and what it lacks.
 */
import { Context, Deferred, Effect, Layer } from "effect"

export class Handshake extends Context.Service<Handshake, {
  /** Waits until the handshake is done; at once afterwards. */
  readonly done: Effect.Effect<void>
  /** For the Heartbeat worker only; idempotent. */
  readonly complete: Effect.Effect<void>
}>()("nixfleet/Agent/Handshake") {
  static readonly layer = Layer.effect(
    Handshake,
    Effect.map(Deferred.make<void>(), (gate) =>
      Handshake.of({
        done: Deferred.await(gate),
        complete: Effect.asVoid(Deferred.succeed(gate, undefined))
      }))
  )
}
