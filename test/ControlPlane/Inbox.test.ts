import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import { makeDeadlines } from "../../src/ControlPlane/Deadlines.ts"
import { overQueue, replyTimeoutMs } from "../../src/ControlPlane/Inbox.ts"
import type { Answer, HeartbeatReceived, Input } from "../../src/ControlPlane/Input.ts"
import * as Reducer from "../../src/Reducer.ts"

const beat: HeartbeatReceived = {
  _tag: "HeartbeatReceived",
  issuedAt: 0,
  heartbeat: { hostname: "web-1", at: 0 },
  capabilities: new Set()
}
const answer: Answer = { _tag: "Heartbeat", response: { bootstrap_rollouts: [] } }

/** An inbox whose reducer is started by the test, or never. */
const rig = Effect.fnUntraced(function*(capacity = 4) {
  const queue = yield* Reducer.makeInbox<Input, Answer>(capacity)
  const inbox = overQueue(queue, yield* makeDeadlines(replyTimeoutMs), Effect.never)
  const start = Reducer.run<null, Input, never, never, Answer>({
    initial: null,
    decide: () => ({ state: null, writes: [], actions: [], answer }),
    commit: () => {},
    publish: () => {},
    apply: () => {}
  }, queue)
  const ask = Effect.tap(Effect.forkChild(inbox.heartbeat(beat)), () => Effect.yieldNow)
  return { ask, inbox, start }
})

describe("a route's wait for the reducer", () => {
  it.effect("ends after five seconds as busy, each by its own beginning", () =>
    Effect.gen(function*() {
      const { ask } = yield* rig()
      const first = yield* ask
      yield* TestClock.adjust(3_000)
      const second = yield* ask
      yield* TestClock.adjust(1_999)
      assert.isUndefined(first.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* Fiber.join(first), { _tag: "Busy" })
      assert.isUndefined(second.pollUnsafe())
      yield* TestClock.adjust(3_000)
      assert.deepStrictEqual(yield* Fiber.join(second), { _tag: "Busy" })
    }))

  it.effect("that was answered in time is over, and the next one has its full time", () =>
    Effect.gen(function*() {
      const { ask, inbox, start } = yield* rig()
      const scope = yield* Scope.make()
      const late = yield* ask
      yield* TestClock.adjust(5_000)
      assert.deepStrictEqual(yield* Fiber.join(late), { _tag: "Busy" })
      yield* Scope.provide(start, scope)
      assert.deepStrictEqual(yield* inbox.heartbeat(beat), answer)
      yield* TestClock.adjust(20_000)
      assert.deepStrictEqual(yield* inbox.heartbeat(beat), answer)
    }))

  it.effect("does not begin when the queue is full", () =>
    Effect.gen(function*() {
      const { ask, inbox } = yield* rig(1)
      yield* ask
      assert.deepStrictEqual(yield* inbox.heartbeat(beat), { _tag: "Busy" })
    }))
})
