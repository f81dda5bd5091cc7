import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Queue, Random } from "effect"
import { TestClock } from "effect/testing"
import { retryAfterMs } from "../../src/Workers/Backoff.ts"
import { makePacer, type Pacer } from "../../src/Workers/Pacer.ts"

/** When a worker that always fails tries, seconds; `advance` moves the clock. */
const tries = Effect.fnUntraced(function*(pacer: Pacer, retryAfterSecs?: number) {
  const at: Array<number> = []
  yield* Effect.gen(function*() {
    while (true) {
      at.push((yield* Clock.currentTimeMillis) / 1000)
      yield* pacer.backOff(retryAfterSecs === undefined ? undefined : retryAfterSecs * 1000)
    }
  }).pipe(Effect.forkChild)
  yield* TestClock.adjust(0)
  return at
})

const gaps = (times: ReadonlyArray<number>) => times.slice(1).map((time, index) => time - times[index]!)

describe("back-off", () => {
  it.effect("the n-th wait is between one second and min(60 s, 2ⁿ s), and uses that whole range", () =>
    Effect.gen(function*() {
      const seen = yield* Effect.forEach(
        Array.from({ length: 80 }, (_, seed) => seed),
        (seed) =>
          Effect.gen(function*() {
            const at = yield* tries(makePacer(Effect.never))
            yield* TestClock.adjust("8 minutes")
            return gaps(at).slice(0, 8)
          }).pipe(Effect.scoped, Random.withSeed(`seed ${seed}`))
      )
      for (const [index, ceiling] of [2, 4, 8, 16, 32, 60, 60, 60].entries()) {
        const waits = seen.map((one) => one[index]!)
        assert.isAtLeast(Math.min(...waits), 1)
        assert.isAtMost(Math.max(...waits), ceiling)
        assert.isBelow(Math.min(...waits), 1 + (ceiling - 1) * 0.15)
        assert.isAbove(Math.max(...waits), ceiling - (ceiling - 1) * 0.15)
      }
    }))

  it.effect("a success makes the next failure the first again", () =>
    Effect.gen(function*() {
      const pacer = makePacer(Effect.never)
      const at = yield* tries(pacer)
      yield* TestClock.adjust("10 minutes")
      pacer.succeeded()
      const before = at.length
      yield* TestClock.adjust("1 minute")
      yield* TestClock.adjust("2 seconds")
      assert.isAtMost(gaps(at)[before]!, 2)
    }))

  it.effect("Retry-After is obeyed to the second, up to ten minutes, and never below one second", () =>
    Effect.gen(function*() {
      const asked = yield* tries(makePacer(Effect.never), 120)
      const absurd = yield* tries(makePacer(Effect.never), 86_400)
      const none = yield* tries(makePacer(Effect.never), 0)
      yield* TestClock.adjust("20 minutes")
      assert.deepStrictEqual(asked, Array.from({ length: 11 }, (_, k) => k * 120))
      assert.deepStrictEqual(absurd, [0, 600, 1200])
      assert.strictEqual(none.length, 1201)
    }))

  it.effect("a kick during a wait earns one try, not within a second; the wait after it runs its length", () =>
    Effect.gen(function*() {
      const kicks = yield* Queue.sliding<void>(1)
      const late = makePacer(Queue.take(kicks))
      // Failures that came before, so that the wait is long.
      for (let i = 0; i < 5; i++) {
        yield* Effect.andThen(Effect.forkChild(late.backOff(undefined)), TestClock.adjust("1 minute"))
      }
      const kicked = yield* tries(late).pipe(Random.withSeed("long waits"))
      yield* TestClock.adjust("100 millis")
      yield* Queue.offer(kicks, undefined)
      yield* TestClock.adjust("899 millis")
      assert.strictEqual(kicked.length, 1)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(kicked.length, 2)
      yield* Queue.offer(kicks, undefined)
      yield* TestClock.adjust("1 minute")
      assert.isAtLeast(gaps(kicked)[1]!, 2)
    }))

  it.effect("no kick cuts short what the server asked for", () =>
    Effect.gen(function*() {
      const kicks = yield* Queue.sliding<void>(1)
      const at = yield* tries(makePacer(Queue.take(kicks)), 30)
      yield* TestClock.adjust("10 seconds")
      yield* Queue.offer(kicks, undefined)
      yield* TestClock.adjust("19 seconds")
      assert.deepStrictEqual(at, [0])
      yield* TestClock.adjust("1 seconds")
      assert.deepStrictEqual(at, [0, 30])
    }))
})

describe("Retry-After", () => {
  const now = Date.parse("2026-06-01T08:00:00Z")
  const cases: ReadonlyArray<readonly [string | undefined, number | undefined]> = [
    ["0", 0],
    [" 120 ", 120_000],
    ["Mon, 01 Jun 2026 08:00:30 GMT", 30_000],
    ["Mon, 01 Jun 2026 07:59:30 GMT", 0],
    [undefined, undefined],
    ["", undefined],
    ["-5", undefined],
    ["1.5", undefined],
    ["99999999999", undefined],
    ["2026-06-01T08:00:30Z", undefined],
    ["Mon, 99 Xyz 2026 08:00:30 GMT", undefined]
  ]
  for (const [text, ms] of cases) {
    it(`${JSON.stringify(text)} is ${ms === undefined ? "ignored" : `${ms} ms`}`, () => {
      assert.strictEqual(retryAfterMs(text === undefined ? {} : { "retry-after": text }, now), ms)
    })
  }
})
