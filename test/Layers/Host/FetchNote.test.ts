import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Activator } from "../../../src/Layers/Host/Activator.ts"
import { layer as memoryActivator, MemoryHost } from "../../../src/Layers/Host/ActivatorMemory.ts"
import { layerNoting, readFetchNote } from "../../../src/Layers/Host/FetchNote.ts"
import { temporaryDirectory } from "../../support/directories.ts"

const half = { closure: "abc-system", doneBytes: 60, expectedBytes: 120 }

/** A driver whose fetch goes on until `over`, and how far it has come. */
const noting = Effect.fnUntraced(function*(directory: string) {
  const host = new MemoryHost()
  const over = yield* Deferred.make<void>()
  const slow = Layer.effect(
    Activator,
    Effect.map(
      Activator,
      (driver) => ({ ...driver, realise: () => Effect.as(Deferred.await(over), { _tag: "Ok" as const }) })
    )
  ).pipe(Layer.provide(memoryActivator(host)))
  const { realise } = yield* Effect.provide(Activator, yield* Layer.build(layerNoting(directory, slow)))
  return { host, over, realise }
})

const file = (directory: string) => join(directory, "fetching.json")

describe("the note of a fetch", () => {
  it.effect("is written every second while something has come, and is gone with the fetch", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const { host, over, realise } = yield* noting(directory)
      const fetch = yield* Effect.forkChild(realise(half.closure))
      yield* TestClock.adjust(5_000)
      assert.isFalse(existsSync(file(directory)), "nothing has come yet")
      host.progress = half
      yield* TestClock.adjust(999)
      assert.isFalse(existsSync(file(directory)))
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* readFetchNote(directory), half)
      assert.strictEqual(statSync(file(directory)).mode & 0o777, 0o600)
      host.progress = { ...half, doneBytes: 100 }
      yield* TestClock.adjust(999)
      assert.strictEqual((yield* readFetchNote(directory))?.doneBytes, 60)
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* readFetchNote(directory))?.doneBytes, 100)
      yield* Deferred.succeed(over, undefined)
      assert.deepStrictEqual(yield* Fiber.join(fetch), { _tag: "Ok" })
      assert.deepStrictEqual(readdirSync(directory), [])
    }))

  it.effect("is gone when the fetch is given up, also by one that cannot be interrupted", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const { host, over, realise } = yield* noting(directory)
      host.progress = half
      const fetch = yield* Effect.forkChild(realise(half.closure))
      yield* TestClock.adjust(1_000)
      assert.isTrue(existsSync(file(directory)))
      yield* Fiber.interrupt(fetch)
      assert.deepStrictEqual(readdirSync(directory), [])
      const stubborn = yield* Effect.forkChild(Effect.uninterruptible(realise(half.closure)))
      yield* TestClock.adjust(1_000)
      yield* Deferred.succeed(over, undefined)
      assert.deepStrictEqual(yield* Fiber.join(stubborn), { _tag: "Ok" })
      assert.deepStrictEqual(readdirSync(directory), [])
    }))

  it.effect("of an agent that died is removed by the next one, and is too old before", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      yield* TestClock.setTime(1_000_000)
      for (const [age, valid] of [[0, true], [10_000, true], [10_001, false], [-10_001, false]] as const) {
        writeFileSync(file(directory), JSON.stringify({ at: 1_000_000 - age, ...half }))
        assert.strictEqual((yield* readFetchNote(directory)) !== undefined, valid, `${age} ms old`)
      }
      yield* noting(directory)
      assert.deepStrictEqual(readdirSync(directory), [])
    }))

  it.effect("that is torn, hostile or no file says nothing", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const whole = JSON.stringify({ at: 0, ...half })
      const notes = [
        "",
        whole.slice(0, -1),
        whole.slice(0, 20),
        `${whole}${whole}`,
        "null",
        "[]",
        JSON.stringify({ ...half }),
        JSON.stringify({ at: 0, ...half, doneBytes: -1 }),
        JSON.stringify({ at: 0, ...half, doneBytes: 1e300 }),
        JSON.stringify({ at: 0, ...half, doneBytes: "60" }),
        JSON.stringify({ at: 0, ...half, closure: 7 }),
        JSON.stringify({ at: 0, ...half, expectedBytes: null }),
        "x".repeat(2_000_000)
      ]
      for (const text of notes) {
        writeFileSync(file(directory), text)
        assert.isUndefined(yield* readFetchNote(directory), text.slice(0, 60))
      }
      rmSync(file(directory))
      assert.isUndefined(yield* readFetchNote(directory))
      mkdirSync(file(directory))
      assert.isUndefined(yield* readFetchNote(directory))
    }))

  it.effect("that cannot be written keeps no fetch from its end", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const { host, over, realise } = yield* noting(join(directory, "missing"))
      host.progress = half
      const fetch = yield* Effect.forkChild(realise(half.closure))
      yield* TestClock.adjust(3_000)
      yield* Deferred.succeed(over, undefined)
      assert.deepStrictEqual(yield* Fiber.join(fetch), { _tag: "Ok" })
    }))
})
