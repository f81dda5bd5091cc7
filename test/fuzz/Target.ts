/**
 * What is fuzzed, and how: a target makes inputs and checks them one at a time; the runner gives it the corpus first and
 * then random inputs until its share of the time is over.
 *
 * A case is made by (seed, target, number) alone, so that it can be made again without those before it. Failures of a check:
 * it throws, dies or fails; it takes longer than `caseLimitMs`; or it never returns, which the watchdog sees, because a
 * thread that loops cannot interrupt itself.
 *
 * NIXFLEET_FUZZ_SECONDS: time of all targets together, 60 when absent. NIXFLEET_FUZZ_SEED: any text; the same one for each
 * run when absent, so that a red run is never luck. NIXFLEET_FUZZ_CASE: only this number of the selected targets.
 */
import { Cause, Effect, Exit, Logger, type Scope } from "effect"
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type Random, random } from "../support/random.ts"
import { utf8 } from "../support/tls.ts"
import type { Source } from "./Samples.ts"
import type { Watch } from "./Watchdog.ts"

export interface Target {
  /** Also the name of its folder in the corpus. */
  readonly name: string
  /** Part of the time, in relation to the others'; 1 when absent. */
  readonly weight?: number
  readonly source: Source
  /** Throws, dies or fails when something is wrong with how the input was treated. */
  readonly check: (input: Uint8Array) => Effect.Effect<void, unknown, Scope.Scope>
}

/** A check that needs no effects. */
export const checked = (check: (input: Uint8Array) => void): Target["check"] => (input) =>
  Effect.sync(() => check(input))

/** Longest time of one case: the slowest good ones take some hundredths of it on a busy machine. */
export const caseLimitMs = 5_000

const corpusDirectory = join(import.meta.dirname, "corpus")

/** Inputs that once were interesting, by file name. */
export function corpusOf(name: string): ReadonlyArray<{ readonly file: string; readonly input: Uint8Array }> {
  const directory = join(corpusDirectory, name)
  const present = readdirSync(corpusDirectory).includes(name)
  return !present ? [] : readdirSync(directory).toSorted().map((file) => ({
    file,
    input: new Uint8Array(readFileSync(join(directory, file)))
  }))
}

/** FNV-1a: one number of a text, the same everywhere. */
function seedOf(text: string): number {
  let hash = 0x811c9dc5
  for (const byte of utf8(text)) hash = Math.imul(hash ^ byte, 0x01000193)
  return hash >>> 0
}

/** The dice of one case. */
export const diceOf = (seed: string, name: string, nth: number): Random => random(seedOf(`${seed} ${name} ${nth}`))

export interface Run {
  readonly seed: string
  /** Time for this target. */
  readonly milliseconds: number
  /** Only the case of this number. */
  readonly only?: number
  readonly watch: Watch
}

/** Keeps a failing input, and says how it is found again. */
function keep(target: Target, input: Uint8Array): string {
  const directory = join(tmpdir(), "nixfleet-fuzz")
  const file = join(directory, `${target.name}-${seedOf(Buffer.from(input).toString("latin1")).toString(16)}`)
  mkdirSync(directory, { recursive: true })
  writeFileSync(file, input)
  const shown = JSON.stringify(Buffer.from(input.subarray(0, 300)).toString("latin1"))
  return `input (${input.length} bytes): ${shown}\n  kept in ${file}; once it is understood, in test/fuzz/corpus/${target.name}/`
}

/** Refusals are logged, thousands of them. */
const silence = Logger.layer([])

/** Checks one input; a failure tells `from` where it is. */
const tried = Effect.fnUntraced(function*(target: Target, input: Uint8Array, watch: Watch, from: string) {
  watch.begin(from)
  const started = performance.now()
  const exit = yield* Effect.exit(Effect.scoped(target.check(input)).pipe(Effect.provide(silence)))
  watch.end()
  const took = performance.now() - started
  const problem = Exit.isFailure(exit)
    ? Cause.pretty(exit.cause)
    : took > caseLimitMs
    ? `took ${Math.round(took)} ms`
    : undefined
  if (problem !== undefined) throw new Error(`${problem}\n  ${from}\n  ${keep(target, input)}`)
})

const replayOf = ({ name }: Target, seed: string, nth: number): string =>
  `again: NIXFLEET_FUZZ_SEED=${seed} NIXFLEET_FUZZ_CASE=${nth} node_modules/.bin/vitest run test/fuzz -t "${name} "`

/** Everything that is kept of this target. */
export const runCorpus = Effect.fnUntraced(function*(target: Target, watch: Watch) {
  for (const { file, input } of corpusOf(target.name)) {
    yield* tried(target, input, watch, `test/fuzz/corpus/${target.name}/${file}`)
  }
})

/** Random inputs until the time is over, at least one; gives how many. */
export const runRandom = Effect.fnUntraced(function*(target: Target, run: Run) {
  const until = performance.now() + run.milliseconds
  let nth = run.only ?? 0
  do {
    const input = yield* target.source(diceOf(run.seed, target.name, nth))
    yield* tried(target, input, run.watch, replayOf(target, run.seed, nth))
    nth += 1
    // Checks without effects never yield by themselves: reporters and time-outs of the test runner need a turn.
    if (nth % 64 === 0) yield* Effect.yieldNow
  } while (run.only === undefined && performance.now() < until)
  return nth - (run.only ?? 0)
})
