import { describe } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { activatorContract } from "../../../support/activatorContract.ts"
import { linesOf } from "../../../support/archiveHost.ts"
import { serveCache } from "../../../support/nixCache.ts"
import { makeNixHost } from "../../../support/nixHost.ts"
import { lab, noNix, publishToy } from "../../../support/nixLab.ts"

/** Well-formed, and nowhere. */
const absent = `${"0".repeat(32)}-absent`

describe.skipIf(noNix !== undefined)("Nix", () => {
  activatorContract(
    "the nix driver",
    Effect.gen(function*() {
      const cache = yield* serveCache(lab().cache)
      const { layer, runsFile } = yield* makeNixHost({ substituters: [cache.url] })
      return {
        layer: Layer.orDie(layer),
        absent,
        publish: publishToy,
        runs: (closure) =>
          Effect.sync(() => linesOf(runsFile).filter((line) => line.endsWith(`/${closure} switch`)).length)
      }
    })
  )
})
