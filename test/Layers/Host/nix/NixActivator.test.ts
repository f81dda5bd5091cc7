import { describe } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { activatorContract, type ActivatorHarness } from "../../../support/activatorContract.ts"
import { linesOf } from "../../../support/archiveHost.ts"
import { serveCache } from "../../../support/nixCache.ts"
import { makeNixHost } from "../../../support/nixHost.ts"
import { lab, noNix, publishToy } from "../../../support/nixLab.ts"
import { recoveryContract } from "../../../support/recoveryContract.ts"

/** Well-formed, and nowhere. */
const absent = `${"0".repeat(32)}-absent`

describe.skipIf(noNix !== undefined)("Nix", () => {
  const harness = Effect.gen(function*() {
    const cache = yield* serveCache(lab().cache)
    const { layer, runsFile } = yield* makeNixHost({ substituters: [cache.url] })
    const made: ActivatorHarness = {
      layer: Layer.orDie(layer),
      absent,
      publish: publishToy,
      runs: (closure) =>
        Effect.sync(() => linesOf(runsFile).filter((line) => line.endsWith(`/${closure} switch`)).length)
    }
    return made
  })
  activatorContract("the nix driver", harness)
  recoveryContract("the nix driver", harness)
})
