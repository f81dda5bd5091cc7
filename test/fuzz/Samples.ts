/** Good inputs: values that a schema describes, as the JSON text in which they travel, and hand-written ones beside them. */
import { Arbitrary, Effect, Schema } from "effect"
import type { Random } from "../support/random.ts"
import { mutate } from "./Mutator.ts"

/** Makes one input. */
export type Source = (dice: Random) => Effect.Effect<Uint8Array>

const bytesOf = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value))

/** How large a generated value may get: the generator's own scale. */
const sizes = [1, 2, 4, 8]

/**
 * Values of `shape` as JSON. A sample that cannot be made within the generator's patience is replaced by one of `known`,
 * and so is every eighth, because generated names never refer to each other.
 */
export function jsonOf(shape: Schema.Codec<unknown, unknown>, known: ReadonlyArray<unknown>): Source {
  const arbitrary = Arbitrary.schema(shape)
  const encode = Schema.encodeUnknownSync(shape)
  return (dice) => {
    const fixed = bytesOf(dice.pick(known))
    if (dice.chance(0.125)) return Effect.succeed(fixed)
    const sampled = Arbitrary.sampleEffect(arbitrary, { count: 1, seed: dice.below(2 ** 31), size: dice.pick(sizes) })
    return sampled.pipe(
      Effect.map((values) => bytesOf(encode(values[0]))),
      Effect.catchTag("SampleError", () => Effect.succeed(fixed))
    )
  }
}

/** One of these. */
export const oneOf = (inputs: ReadonlyArray<Uint8Array>): Source => (dice) => Effect.succeed(dice.pick(inputs))

/** Mostly mutated; a quarter as it is, so that what is good is seen to be taken. */
export const mutated = (source: Source): Source => (dice) =>
  Effect.map(source(dice), (bytes) => dice.chance(0.25) ? bytes : mutate(bytes, dice))
