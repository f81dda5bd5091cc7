import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Waiters } from "../../src/ControlPlane/Waiters.ts"

const nothing = { _tag: "Nothing" } as const
const draining = { _tag: "Draining" } as const

describe("Waiters (D9)", () => {
  it.effect("one completion ends one poll, in whatever order they come", () =>
    Effect.gen(function*() {
      const waiters = yield* Waiters
      const [first, second] = [waiters.open(), waiters.open()]
      const waiting = yield* Effect.forkChild(second.answer, { startImmediately: true })
      assert.isTrue(waiters.complete(first.waiterId, nothing), "before anybody waits for it")
      assert.deepStrictEqual(yield* first.answer, nothing)
      assert.isUndefined(waiting.pollUnsafe())
      assert.isTrue(waiters.complete(second.waiterId, nothing))
      assert.deepStrictEqual(yield* Fiber.join(waiting), nothing)
      assert.isFalse(waiters.complete(second.waiterId, nothing), "it is gone")
      assert.strictEqual(waiters.size(), 0)
    }).pipe(Effect.provide(Waiters.layer)))

  it.effect("a closed poll takes no answer", () =>
    Effect.gen(function*() {
      const waiters = yield* Waiters
      const { waiterId } = waiters.open()
      waiters.close(waiterId)
      assert.isFalse(waiters.complete(waiterId, nothing))
    }).pipe(Effect.provide(Waiters.layer)))

  it.effect("draining answers those that wait and those that come later", () =>
    Effect.gen(function*() {
      const waiters = yield* Waiters
      const early = yield* Effect.forkChild(waiters.open().answer, { startImmediately: true })
      waiters.drain()
      assert.deepStrictEqual(yield* Fiber.join(early), draining)
      assert.deepStrictEqual(yield* waiters.open().answer, draining)
      assert.strictEqual(waiters.size(), 0)
    }).pipe(Effect.provide(Waiters.layer)))
})
