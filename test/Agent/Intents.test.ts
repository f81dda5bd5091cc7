import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Logger } from "effect"
import { Apply } from "../../src/Agent/Apply.ts"
import { Intents } from "../../src/Agent/Intents.ts"
import { settled } from "../support/agentRig.ts"

describe("a slot", () => {
  it.effect("keeps a ring until somebody looks, and many rings are one", () =>
    Effect.gen(function*() {
      const { probe } = yield* Intents
      for (let n = 0; n < 5; n += 1) probe.ring()
      yield* probe.rung
      const waiting = yield* Effect.forkChild(probe.rung)
      yield* settled
      assert.isUndefined(waiting.pollUnsafe())
      probe.ring()
      yield* Fiber.join(waiting)
    }).pipe(Effect.provide(Intents.layer)))

  it.effect("wakes only its own worker", () =>
    Effect.gen(function*() {
      const intents = yield* Intents
      intents.outbound.ring()
      const waiting = yield* Effect.forkChild(intents.activation.rung)
      yield* settled
      assert.isUndefined(waiting.pollUnsafe())
    }).pipe(Effect.provide(Intents.layer)))
})

describe("applying", () => {
  it.effect("rings the slot, and writes the line with its fields", () => {
    const lines: Array<unknown> = []
    const capture = Logger.layer([Logger.map(Logger.formatStructured, (line) => void lines.push(line))])
    return Effect.gen(function*() {
      const apply = yield* Apply
      apply({ _tag: "Ring", slot: "heartbeat" })
      apply({
        _tag: "Tell",
        entry: { level: "warn", message: "event refused", fields: { reason: "invariant", seq: 4 } }
      })
      yield* (yield* Intents).heartbeat.rung
      yield* settled
      assert.match(JSON.stringify(lines), /"message":"event refused","level":"WARN".*"reason":"invariant","seq":4/)
    }).pipe(Effect.provide(Apply.layer.pipe(Layer.provideMerge(Intents.layer), Layer.provideMerge(capture))))
  })
})
