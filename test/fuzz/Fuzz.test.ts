import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { runCorpus, runRandom, type Target } from "./Target.ts"
import { answer } from "./targets/Answers.ts"
import { archive } from "./targets/Archives.ts"
import { databases } from "./targets/Databases.ts"
import { files } from "./targets/Files.ts"
import { route } from "./targets/Routes.ts"
import { shapes } from "./targets/Shapes.ts"
import { texts } from "./targets/Texts.ts"
import { makeWatch } from "./Watchdog.ts"

const targets: ReadonlyArray<Target> = [...texts, ...shapes, ...files, archive, ...databases, route, answer]

const seconds = Number(process.env["NIXFLEET_FUZZ_SECONDS"] ?? "60")
const seed = process.env["NIXFLEET_FUZZ_SEED"] ?? "nixfleet"
const only = process.env["NIXFLEET_FUZZ_CASE"]
const weightOf = ({ weight = 1 }: Target) => weight
const weights = targets.map(weightOf).reduce((sum, weight) => sum + weight, 0)

describe("no input breaks", () => {
  for (const target of targets) {
    const milliseconds = (seconds * 1000 * weightOf(target)) / weights
    // The blank at the end lets a name be told from one that begins with it.
    it.live(`${target.name} (seed ${seed})`, () =>
      Effect.gen(function*() {
        const watch = yield* makeWatch()
        if (only === undefined) yield* runCorpus(target, watch)
        const cases = yield* runRandom(target, {
          seed,
          milliseconds,
          watch,
          ...(only === undefined ? {} : { only: Number(only) })
        })
        assert.isAtLeast(cases, 1)
        if (process.env["NIXFLEET_FUZZ_TELL"] !== undefined) console.log(`${target.name}: ${cases} cases`)
      }), 120_000 + 2 * milliseconds)
  }
})
