import { assert, describe, it } from "@effect/vitest"
import { Effect, Random } from "effect"
import { Ids } from "../../src/Layers/Ids.ts"

const some = Effect.flatMap(Ids, ({ fresh }) => Effect.replicateEffect(fresh, 1000))

describe("ids", () => {
  for (const [name, layer] of [["random", Ids.layer], ["seeded", Ids.layerSeeded]] as const) {
    it.effect(`${name} ids are 32 hex digits and do not repeat`, () =>
      Effect.gen(function*() {
        const ids = yield* Effect.provide(some, layer)
        assert.strictEqual(new Set(ids).size, 1000)
        assert.isTrue(ids.every((id) => /^[0-9a-f]{32}$/.test(id)))
      }))
  }

  it.effect("the same seed gives the same ids, another seed others", () =>
    Effect.gen(function*() {
      const seeded = (seed: string) => some.pipe(Effect.provide(Ids.layerSeeded), Random.withSeed(seed))
      assert.deepStrictEqual(yield* seeded("a"), yield* seeded("a"))
      assert.notDeepEqual(yield* seeded("a"), yield* seeded("b"))
    }))
})
