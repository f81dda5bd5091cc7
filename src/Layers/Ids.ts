/**
 * Names that must not repeat: of journals (D2) and of deliveries (D8). 128 bits as 32 lower-case hex digits: no registry,
 * no coordination, safe in a path, a header and a log.
 */
import { Context, Effect, Layer, Random } from "effect"
import { randomBytes } from "node:crypto"

export class Ids extends Context.Service<Ids, {
  readonly fresh: Effect.Effect<string>
}>()("nixfleet/Layers/Ids") {
  static readonly layer: Layer.Layer<Ids> = Layer.succeed(
    Ids,
    Ids.of({ fresh: Effect.sync(() => randomBytes(16).toString("hex")) })
  )

  /** From Effect's `Random`, which a test or the simulator seeds: the same seed, the same names in the same order. */
  static readonly layerSeeded: Layer.Layer<Ids> = Layer.succeed(
    Ids,
    Ids.of({
      fresh: Effect.map(
        Effect.replicateEffect(Random.nextIntBetween(0, 0x1_0000_0000, { halfOpen: true }), 4),
        (words) => words.map((word) => word.toString(16).padStart(8, "0")).join("")
      )
    })
  )
}
