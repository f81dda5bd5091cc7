/**
 * What every driver of `Activator` promises, as tests. A driver's test file gives a harness; the suite knows nothing of
 * archives, of Nix or of scripts.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Layer, type Scope } from "effect"
import { Activator, type SwitchId, type SwitchResult } from "../../src/Layers/Host/Activator.ts"

/** What the switch of a closure does. */
export type Behaviour = "good" | "fails" | "partly" | "reboot" | "hangs" | "slow"

export interface ActivatorHarness {
  /** Every build of it is another agent on the same host. The time limit of a switch is a few seconds at most. */
  readonly layer: Layer.Layer<Activator>
  /** Makes a closure that can be realised; the same arguments give the same closure. */
  readonly publish: (name: string, behaviour: Behaviour) => Effect.Effect<string>
  /** A well-formed name that nothing can be realised for. */
  readonly absent: string
  /** How often a switch of this closure really began. */
  readonly runs: (closure: string) => Effect.Effect<number>
}

export const switchId = (attempt = 1, over: Partial<SwitchId> = {}): SwitchId => ({
  rolloutId: "stable@0123abcd",
  attempt,
  purpose: "forward",
  run: 1,
  ...over
})

/** Waits for the end of a switch by looking, as the activation worker does. */
export const awaitSwitch = (id: SwitchId): Effect.Effect<SwitchResult, never, Activator> =>
  Effect.gen(function*() {
    const activator = yield* Activator
    for (;;) {
      const result = yield* activator.switchResult(id)
      if (result._tag !== "Running") return result
      yield* Effect.sleep(20)
    }
  })

/** Realises, sets the profile, switches, and answers the result. */
export const activate = (closure: string, id: SwitchId) =>
  Effect.gen(function*() {
    const activator = yield* Activator
    assert.deepStrictEqual(yield* activator.realise(closure), { _tag: "Ok" })
    assert.strictEqual((yield* activator.setProfile(closure))._tag, "Ok")
    assert.deepStrictEqual(yield* activator.startSwitch(closure, id), { _tag: "Started" })
    return yield* awaitSwitch(id)
  })

export const activatorContract = (
  driver: string,
  makeHarness: Effect.Effect<ActivatorHarness, never, Scope.Scope>
): void => {
  const fact = (
    name: string,
    body: (harness: ActivatorHarness) => Effect.Effect<void, never, Activator | Scope.Scope>
  ) =>
    it.live(name, () =>
      Effect.gen(function*() {
        const harness = yield* makeHarness
        yield* Effect.provide(body(harness), harness.layer)
      }))
  const realised = (closure: string) =>
    Effect.gen(function*() {
      const activator = yield* Activator
      assert.deepStrictEqual(yield* activator.realise(closure), { _tag: "Ok" })
      return activator
    })

  describe(`${driver} keeps the contract of an activator:`, () => {
    fact("a fresh host runs nothing that is known", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* (yield* Activator).current, { running: undefined, profile: undefined })
      }))

    fact("a closure is realised, made the profile, switched to, and then runs", (harness) =>
      Effect.gen(function*() {
        const closure = yield* harness.publish("one", "good")
        const result = yield* activate(closure, switchId())
        assert.deepStrictEqual(result, { _tag: "Exited", code: 0, stderrTail: "" })
        assert.deepStrictEqual(yield* (yield* Activator).current, { running: closure, profile: closure })
      }))

    fact("realising again changes nothing", (harness) =>
      Effect.gen(function*() {
        const closure = yield* harness.publish("one", "good")
        const activator = yield* realised(closure)
        assert.deepStrictEqual(yield* activator.realise(closure), { _tag: "Ok" })
      }))

    fact("what is not there is absent, and can be neither profile nor switch", (harness) =>
      Effect.gen(function*() {
        const activator = yield* Activator
        assert.strictEqual((yield* activator.realise(harness.absent))._tag, "Absent")
        assert.strictEqual((yield* activator.setProfile(harness.absent))._tag, "Failed")
        assert.strictEqual((yield* activator.startSwitch(harness.absent, switchId()))._tag, "Failed")
        assert.deepStrictEqual(yield* activator.switchResult(switchId()), { _tag: "Lost" })
      }))

    fact(
      "generations are numbered from 1; the present closure is no new one; A, B, A are three",
      (harness) =>
        Effect.gen(function*() {
          const a = yield* harness.publish("a", "good")
          const b = yield* harness.publish("b", "good")
          yield* realised(a)
          const activator = yield* realised(b)
          const set = (closure: string) => activator.setProfile(closure)
          assert.deepStrictEqual(yield* set(a), { _tag: "Ok", generation: 1 })
          assert.deepStrictEqual(yield* set(a), { _tag: "Ok", generation: 1 })
          assert.deepStrictEqual(yield* set(b), { _tag: "Ok", generation: 2 })
          assert.deepStrictEqual(yield* set(a), { _tag: "Ok", generation: 3 })
          assert.deepStrictEqual(yield* activator.current, { running: undefined, profile: a })
        })
    )

    for (
      const [behaviour, code, moved] of [
        ["fails", 1, false],
        ["partly", 4, true],
        ["reboot", 100, false]
      ] as const
    ) {
      fact(
        `a switch that exits with ${code} ${moved ? "has moved" : "does not move"} the running system`,
        (harness) =>
          Effect.gen(function*() {
            const good = yield* harness.publish("good", "good")
            yield* activate(good, switchId(1))
            const closure = yield* harness.publish("other", behaviour)
            const result = yield* activate(closure, switchId(2))
            assert.strictEqual(result._tag === "Exited" ? result.code : result._tag, code)
            const running = moved ? closure : good
            assert.deepStrictEqual(yield* (yield* Activator).current, { running, profile: closure })
          })
      )
    }

    fact(
      "a switch that hangs is ended by its time limit and has not moved the running system",
      (harness) =>
        Effect.gen(function*() {
          const closure = yield* harness.publish("hanging", "hangs")
          assert.strictEqual((yield* activate(closure, switchId()))._tag, "TimedOut")
          assert.isUndefined((yield* (yield* Activator).current).running)
        })
    )

    fact(
      "the same switch runs once, started again while it runs or after it ended",
      (harness) =>
        Effect.gen(function*() {
          const closure = yield* harness.publish("slow", "slow")
          const activator = yield* realised(closure)
          const start = activator.startSwitch(closure, switchId())
          assert.deepStrictEqual(yield* start, { _tag: "Started" })
          assert.deepStrictEqual(yield* activator.switchResult(switchId()), { _tag: "Running" })
          assert.deepStrictEqual(yield* start, { _tag: "Started" })
          const result = yield* awaitSwitch(switchId())
          assert.strictEqual(result._tag, "Exited")
          assert.deepStrictEqual(yield* start, { _tag: "Started" })
          assert.deepStrictEqual(yield* activator.switchResult(switchId()), result)
          assert.strictEqual(yield* harness.runs(closure), 1)
        })
    )

    fact("attempts, runs, purposes and rollouts are switches of their own", (harness) =>
      Effect.gen(function*() {
        const closure = yield* harness.publish("good", "good")
        yield* activate(closure, switchId(1))
        const others: ReadonlyArray<SwitchId> = [
          switchId(2),
          switchId(1, { run: 2 }),
          switchId(1, { purpose: "rollback" }),
          switchId(1, { rolloutId: "stable@0123abce" })
        ]
        for (const other of others) {
          assert.deepStrictEqual(yield* (yield* Activator).switchResult(other), { _tag: "Lost" })
          assert.strictEqual((yield* activate(closure, other))._tag, "Exited")
        }
        assert.strictEqual(yield* harness.runs(closure), 1 + others.length)
      }))

    fact(
      "a second switch waits for the first: busy while it runs, started after its end",
      (harness) =>
        Effect.gen(function*() {
          const slow = yield* harness.publish("slow", "slow")
          const good = yield* harness.publish("good", "good")
          yield* realised(good)
          const activator = yield* realised(slow)
          assert.deepStrictEqual(yield* activator.startSwitch(slow, switchId(1)), { _tag: "Started" })
          assert.strictEqual((yield* activator.startSwitch(good, switchId(2)))._tag, "Busy")
          yield* awaitSwitch(switchId(1))
          assert.deepStrictEqual(yield* activator.startSwitch(good, switchId(2)), { _tag: "Started" })
          assert.strictEqual((yield* awaitSwitch(switchId(2)))._tag, "Exited")
        })
    )

    fact(
      "another agent on the same host finds the switch, its result and the profile",
      (harness) =>
        Effect.gen(function*() {
          const closure = yield* harness.publish("slow", "slow")
          const activator = yield* realised(closure)
          yield* activator.setProfile(closure)
          yield* activator.startSwitch(closure, switchId())
          yield* Effect.gen(function*() {
            const other = yield* Activator
            assert.deepStrictEqual(yield* other.switchResult(switchId()), { _tag: "Running" })
            assert.strictEqual((yield* awaitSwitch(switchId()))._tag, "Exited")
            assert.deepStrictEqual(yield* other.current, { running: closure, profile: closure })
          }).pipe(Effect.provide(harness.layer, { local: true }))
        })
    )
  })
}
