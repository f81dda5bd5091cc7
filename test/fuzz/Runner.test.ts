/** The fuzzer itself: what it would miss, it would miss in silence. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import { spawnSync } from "node:child_process"
import { join } from "node:path"
import { textOf, utf8 } from "../support/tls.ts"
import { maxMutantBytes, mutate } from "./Mutator.ts"
import { mutated, oneOf } from "./Samples.ts"
import { checked, diceOf, type Run, runRandom, type Target } from "./Target.ts"
import type { Watch } from "./Watchdog.ts"

const good = utf8("{\"name\":\"web-1\",\"tags\":[\"a\",\"b\"],\"count\":12,\"none\":null}")
const unwatched: Watch = { begin: () => undefined, end: () => undefined }
const run: Run = { seed: "a seed", milliseconds: 5_000, watch: unwatched }

const targetOf = (check: (text: string) => void): Target => ({
  name: "planted",
  source: mutated(oneOf([good])),
  check: checked((input) => check(textOf(input)))
})

const problemOf = (target: Target, how: Run) =>
  Effect.map(Effect.exit(runRandom(target, how)), (exit) => Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "")

describe("the mutator", () => {
  it("does the same again with the same dice, and something else with others", () => {
    const some = (seed: string) =>
      Array.from({ length: 200 }, (_, nth) => Buffer.from(mutate(good, diceOf(seed, "x", nth))).toString("hex"))
    assert.deepStrictEqual(some("a"), some("a"))
    assert.notDeepEqual(some("a"), some("b"))
    assert.isAbove(new Set(some("a")).size, 150)
  })

  it("works on anything, nothing included, leaves its input alone and stays within its size", () => {
    const inputs = [new Uint8Array(), Uint8Array.of(0), Uint8Array.of(0xff, 0x22, 0x5c), good]
    for (const input of inputs) {
      const before = Buffer.from(input).toString("hex")
      for (let nth = 0; nth < 2_000; nth += 1) {
        assert.isAtMost(mutate(input, diceOf("s", "y", nth)).length, maxMutantBytes)
      }
      assert.strictEqual(Buffer.from(input).toString("hex"), before)
    }
  })
})

describe("a planted fault", () => {
  const faults: ReadonlyArray<readonly [string, (text: string) => void]> = [
    ["a duplicate member", (text) => assert.isBelow(text.split("\"count\":12").length, 3)],
    ["a deep nesting", (text) => assert.notInclude(text, "[".repeat(128))],
    ["a number beyond a double", (text) => assert.notInclude(text, "1e400")],
    ["a text that is too long", (text) => assert.isBelow(text.length, 10_000)],
    ["bytes that are not UTF-8", (text) => assert.notInclude(text, "\ufffd")],
    ["a truncation", (text) => assert.isAbove(text.length, 20)]
  ]
  for (const [title, check] of faults) {
    it.live(`is found: ${title}; and its case alone fails again`, () =>
      Effect.gen(function*() {
        const target = targetOf(check)
        const problem = yield* problemOf(target, run)
        const nth = /NIXFLEET_FUZZ_CASE=(\d+)/.exec(problem)?.[1]
        assert.isDefined(nth, problem)
        assert.include(problem, "NIXFLEET_FUZZ_SEED=a seed")
        assert.include(yield* problemOf(target, { ...run, only: Number(nth) }), `NIXFLEET_FUZZ_CASE=${nth}`)
        if (nth !== "0") assert.strictEqual(yield* problemOf(target, { ...run, only: Number(nth) - 1 }), "")
      }))
  }

  it.live("is found: a promise that is rejected", () =>
    Effect.gen(function*() {
      const target: Target = {
        ...targetOf(() => undefined),
        check: () => Effect.promise(() => Promise.reject(new Error("rejected")))
      }
      assert.include(yield* problemOf(target, run), "rejected")
    }))
})

describe("the watchdog", () => {
  it("ends a process whose case never returns, and names the case", () => {
    const program = `
      import { Effect } from "effect"
      import { makeWatch } from ${JSON.stringify(join(import.meta.dirname, "Watchdog.ts"))}
      Effect.runPromise(Effect.scoped(Effect.gen(function*() {
        const watch = yield* makeWatch(100)
        watch.begin("the case that never ends")
        for (;;) {}
      })))
    `
    const ended = spawnSync(process.execPath, ["--input-type=module", "--eval", program], {
      cwd: import.meta.dirname,
      encoding: "utf8",
      timeout: 30_000
    })
    assert.strictEqual(ended.signal, "SIGKILL", ended.stderr)
    assert.include(ended.stderr, "the case that never ends")
  })
})
