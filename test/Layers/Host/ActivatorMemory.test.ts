import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { Activator } from "../../../src/Layers/Host/Activator.ts"
import * as ActivatorMemory from "../../../src/Layers/Host/ActivatorMemory.ts"
import { activatorContract, type Behaviour, switchId } from "../../support/activatorContract.ts"

const ends: Record<Behaviour, { readonly durationMs: number; readonly end: ActivatorMemory.ScriptedEnd }> = {
  good: { durationMs: 20, end: { _tag: "Exit", code: 0 } },
  fails: { durationMs: 20, end: { _tag: "Exit", code: 1 } },
  partly: { durationMs: 20, end: { _tag: "Exit", code: 4 } },
  reboot: { durationMs: 20, end: { _tag: "Exit", code: 100 } },
  hangs: { durationMs: 0, end: { _tag: "Hang" } },
  slow: { durationMs: 300, end: { _tag: "Exit", code: 0 } }
}

activatorContract(
  "the scripted host",
  Effect.sync(() => {
    const behaviours = new Map<string, Behaviour>()
    const host = new ActivatorMemory.MemoryHost({
      switchTimeoutMs: 500,
      script: {
        realise: (closure) => ({
          durationMs: 5,
          outcome: behaviours.has(closure) ? { _tag: "Ok" } : { _tag: "Absent", detail: closure }
        }),
        switch: (closure) => ends[behaviours.get(closure) ?? "good"]
      }
    })
    return {
      layer: ActivatorMemory.layer(host),
      absent: "absent",
      publish: (name, behaviour) => Effect.sync(() => (behaviours.set(name, behaviour), name)),
      runs: (closure) => Effect.sync(() => host.runs.filter((run) => run.closure === closure).length)
    }
  })
)

const a = "a-system"
const b = "b-system"

describe("a scripted host in virtual time", () => {
  it.effect("realises and switches in exactly the scripted time", () =>
    Effect.gen(function*() {
      const host = new ActivatorMemory.MemoryHost({ initial: a })
      const activator = yield* Effect.provide(Activator, ActivatorMemory.layer(host))
      const realising = yield* Effect.forkChild(activator.realise(b))
      yield* TestClock.adjust(999)
      assert.isFalse(host.store.has(b))
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* Fiber.join(realising), { _tag: "Ok" })
      yield* activator.startSwitch(b, switchId())
      yield* TestClock.adjust(1999)
      assert.deepStrictEqual(yield* activator.switchResult(switchId()), { _tag: "Running" })
      assert.strictEqual((yield* activator.current).running, a)
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* activator.switchResult(switchId()))._tag, "Exited")
      assert.strictEqual((yield* activator.current).running, b)
    }))

  it.effect("goes on while no agent runs, and is found by the next one", () =>
    Effect.gen(function*() {
      const host = new ActivatorMemory.MemoryHost({ initial: a })
      host.store.add(b)
      yield* Effect.provide(
        Effect.flatMap(Activator, (one) => one.startSwitch(b, switchId())),
        ActivatorMemory.layer(host)
      )
      yield* TestClock.adjust("1 hour")
      const next = yield* Effect.provide(Activator, ActivatorMemory.layer(host))
      assert.strictEqual((yield* next.switchResult(switchId()))._tag, "Exited")
      assert.strictEqual(host.running, b)
    }))

  it.effect("loses a running switch in a power cut, and keeps what was durable", () =>
    Effect.gen(function*() {
      const host = new ActivatorMemory.MemoryHost({ initial: a })
      host.store.add(b)
      const activator = yield* Effect.provide(Activator, ActivatorMemory.layer(host))
      yield* activator.setProfile(b)
      yield* activator.startSwitch(b, switchId())
      host.powerCut(yield* host.now)
      assert.deepStrictEqual(yield* activator.switchResult(switchId()), { _tag: "Lost" })
      assert.deepStrictEqual(yield* activator.current, { running: a, profile: b })
      assert.deepStrictEqual(yield* activator.startSwitch(b, switchId()), { _tag: "Started" })
      assert.strictEqual(host.runs.length, 1)
    }))

  it.effect("is not moved by a step of the wall clock", () =>
    Effect.gen(function*() {
      let now = 0
      const host = new ActivatorMemory.MemoryHost({ initial: a, now: Effect.sync(() => now) })
      host.store.add(b)
      const activator = yield* Effect.provide(Activator, ActivatorMemory.layer(host))
      yield* activator.startSwitch(b, switchId())
      yield* TestClock.adjust("1 day")
      assert.deepStrictEqual(yield* activator.switchResult(switchId()), { _tag: "Running" })
      now = 2000
      assert.strictEqual((yield* activator.switchResult(switchId()))._tag, "Exited")
    }))
})
