/** What the shell program of `Activator.recovery` does on every driver of real hosts: the way back without an agent. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { spawnSync } from "node:child_process"
import { Activator } from "../../src/Layers/Host/Activator.ts"
import type { GuardOrder } from "../../src/Schema/GuardOrder.ts"
import { activate, type ActivatorHarness, awaitSwitch, switchId } from "./activatorContract.ts"

const forward = switchId(2)
const back = switchId(2, { purpose: "rollback" })

/** As a guard runs it: nothing of the agent's environment. */
const run = (script: string): number | null =>
  spawnSync("/bin/sh", ["-c", script], { env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" }, stdio: "ignore" }).status

export const recoveryContract = (
  driver: string,
  makeHarness: Effect.Effect<ActivatorHarness, never, Scope.Scope>
): void => {
  /** A host that runs `old`, and a closure that it could go to. */
  const fact = (
    name: string,
    body: (
      closures: { readonly old: string; readonly target: string },
      recover: () => number | null,
      harness: ActivatorHarness
    ) => Effect.Effect<void, never, Activator | Scope.Scope>
  ) =>
    it.live(name, () =>
      Effect.gen(function*() {
        const harness = yield* makeHarness
        yield* Effect.gen(function*() {
          const old = yield* harness.publish("old", "good")
          const target = yield* harness.publish("target", "slow")
          yield* activate(old, switchId(1))
          const activator = yield* Activator
          yield* activator.realise(target)
          const { attempt, rolloutId } = forward
          const order: GuardOrder = {
            rolloutId,
            attempt,
            forwardRun: forward.run,
            rollbackRun: back.run,
            closure: old,
            expected: [target, old]
          }
          const script = activator.recovery(order)
          yield* body({ old, target }, () => run(script), harness)
        }).pipe(Effect.provide(harness.layer))
      }))

  describe(`the way back of ${driver}, without an agent,`, () => {
    fact(
      "sets the profile and switches, once, and leaves the result where the agent looks",
      ({ old, target }, recover, harness) =>
        Effect.gen(function*() {
          const activator = yield* Activator
          yield* activate(target, forward)
          assert.deepStrictEqual(yield* activator.current, { running: target, profile: target })
          assert.deepStrictEqual([recover(), recover()], [0, 0])
          assert.deepStrictEqual(yield* activator.current, { running: old, profile: old })
          assert.deepStrictEqual(yield* activator.switchResult(back), { _tag: "Exited", code: 0, stderrTail: "" })
          assert.strictEqual(yield* harness.runs(old), 2)
          assert.deepStrictEqual(yield* activator.startSwitch(old, back), { _tag: "Started" })
          assert.strictEqual(yield* harness.runs(old), 2, "the agent's own rollback is this one")
        })
    )

    fact(
      "forbids the switch forward that an agent had not begun",
      ({ old, target }, recover, harness) =>
        Effect.gen(function*() {
          const activator = yield* Activator
          yield* activator.setProfile(target)
          assert.strictEqual(recover(), 0)
          assert.deepStrictEqual(yield* activator.startSwitch(target, forward), { _tag: "Started" })
          assert.strictEqual((yield* awaitSwitch(forward))._tag, "Killed")
          assert.deepStrictEqual(yield* activator.current, { running: old, profile: old })
          assert.strictEqual(yield* harness.runs(target), 0)
        })
    )

    fact("waits for a switch that runs", ({ old, target }, recover) =>
      Effect.gen(function*() {
        const activator = yield* Activator
        yield* activator.setProfile(target)
        yield* activator.startSwitch(target, forward)
        assert.strictEqual(recover(), 0)
        assert.strictEqual((yield* activator.switchResult(forward))._tag, "Exited", "it was not ended")
        assert.deepStrictEqual(yield* activator.current, { running: old, profile: old })
      }))

    fact("does not repeat the agent's own rollback", ({ old, target }, recover, harness) =>
      Effect.gen(function*() {
        yield* activate(target, forward)
        yield* activate(old, back)
        assert.strictEqual(recover(), 0)
        assert.strictEqual(yield* harness.runs(old), 2)
      }))

    fact("leaves a host alone that somebody else switched", ({ target }, recover, harness) =>
      Effect.gen(function*() {
        const activator = yield* Activator
        yield* activate(target, forward)
        const other = yield* harness.publish("other", "good")
        yield* activate(other, switchId(3))
        assert.strictEqual(recover(), 0)
        assert.deepStrictEqual(yield* activator.current, { running: other, profile: other })
        assert.deepStrictEqual(yield* activator.switchResult(back), { _tag: "Lost" })
      }))
  })
}
