import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { Facts } from "../../../src/Layers/Host/Facts.ts"

describe("the facts of a host", () => {
  it.live("are those of the kernel: whole seconds since the boot, and which boot", () =>
    Effect.gen(function*() {
      const { bootId, uptimeSeconds } = yield* Facts
      const kernel = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0])
      const uptime = yield* uptimeSeconds
      assert.isTrue(Number.isInteger(uptime))
      assert.isAtMost(Math.abs(uptime - kernel), 2)
      assert.match((yield* bootId) ?? "", /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
    }).pipe(Effect.provide(Facts.layer)))

  it.effect("of a made-up host are what its maker says, at each reading", () =>
    Effect.gen(function*() {
      const made: { uptimeSeconds: number; bootId: string | undefined } = { uptimeSeconds: 5, bootId: "one" }
      const facts = yield* Effect.provide(Facts, Facts.layerMemory(made))
      assert.strictEqual(yield* facts.uptimeSeconds, 5)
      made.uptimeSeconds = 0
      made.bootId = "two"
      assert.deepStrictEqual([yield* facts.uptimeSeconds, yield* facts.bootId], [0, "two"])
    }))
})
