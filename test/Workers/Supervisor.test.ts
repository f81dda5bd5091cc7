import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Supervisor } from "../../src/Workers/Supervisor.ts"

const inSupervisor = <A, E>(body: (supervisor: typeof Supervisor.Service) => Effect.Effect<A, E, Scope.Scope>) =>
  Effect.flatMap(Supervisor, body).pipe(Effect.provide(Supervisor.layer))

describe("the supervisor", () => {
  it.effect("a worker that dies, fails or returns is fatal, and is named", () =>
    Effect.gen(function*() {
      const ends = {
        "a defect": Effect.die(new Error("no such slot")),
        "an error": Effect.fail("gave up"),
        "a return": Effect.void,
        "an interruption from within": Effect.interrupt,
        "a late defect": Effect.andThen(Effect.sleep("1 hour"), Effect.die(new Error("late")))
      }
      for (const [name, worker] of Object.entries<Effect.Effect<unknown, unknown>>(ends)) {
        const error = yield* inSupervisor((supervisor) =>
          Effect.gen(function*() {
            yield* supervisor.start("healthy", Effect.never)
            yield* supervisor.start(name, worker)
            const fatal = yield* Effect.forkChild(Effect.flip(supervisor.fatal))
            while (fatal.pollUnsafe() === undefined) yield* TestClock.adjust("1 hour")
            return yield* Fiber.join(fatal)
          })
        )
        assert.strictEqual(error.worker, name)
      }
    }))

  it.effect("says what ended it", () =>
    Effect.gen(function*() {
      const error = yield* inSupervisor((supervisor) =>
        Effect.andThen(
          supervisor.start("probe", Effect.die(new Error("no such slot"))),
          Effect.flip(supervisor.fatal)
        )
      )
      assert.include(error.message, "no such slot")
    }))

  it.effect("workers that run, and workers that shutdown stops, are not fatal", () =>
    inSupervisor((supervisor) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        let stopped = false
        yield* supervisor.start("worker", Effect.onInterrupt(Effect.never, () => Effect.sync(() => stopped = true)))
          .pipe(
            Scope.provide(scope)
          )
        const fatal = yield* Effect.forkChild(supervisor.fatal)
        yield* TestClock.adjust("1 hour")
        yield* Scope.close(scope, Exit.void)
        yield* TestClock.adjust("1 hour")
        assert.isTrue(stopped)
        assert.isUndefined(fatal.pollUnsafe())
      })
    ))
})
