import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import * as Core from "../../../src/ControlPlane/Core.ts"
import { Inbox } from "../../../src/ControlPlane/Inbox.ts"
import type { Input, PollAnswer } from "../../../src/ControlPlane/Input.ts"
import { Journal, journalMigrations } from "../../../src/ControlPlane/Journal.ts"
import { Settings, settings } from "../../../src/ControlPlane/Settings.ts"
import { ControlPlaneState } from "../../../src/ControlPlane/State.ts"
import { Waiters } from "../../../src/ControlPlane/Waiters.ts"
import { Database } from "../../../src/Layers/Disk/Database.ts"
import { MemoryDisk } from "../../../src/Layers/Disk/MemoryDisk.ts"
import { Ids } from "../../../src/Layers/Ids.ts"
import * as LeaseSweep from "../../../src/Workers/ControlPlane/LeaseSweep.ts"
import * as Plan from "../../../src/Workers/ControlPlane/Plan.ts"
import { Supervisor } from "../../../src/Workers/Supervisor.ts"
import { capable, eventInput, idOf, type Release, start, unitOf } from "../../support/controlPlane.ts"

const config = settings({
  tlsCert: "/cert",
  tlsKey: "/key",
  clientCa: "/ca",
  agentCnSuffix: "fleet.test",
  releasesSource: "/releases"
})

const workers = Layer.mergeAll(Plan.layer, LeaseSweep.layer)

/** The real reducer, journal and workers over a disk in memory; what is lost with it is what a restart loses. */
const controlPlane = (disk = new MemoryDisk("control plane")) =>
  Layer.fresh(workers.pipe(
    Layer.provideMerge(Core.layer),
    Layer.provideMerge(Waiters.layer),
    Layer.provideMerge(Journal.layer(Core.limitsOf(config))),
    Layer.provide(Database.layerMemory(disk, journalMigrations)),
    Layer.provide([Ids.layer, Settings.layer(config)]),
    Layer.provideMerge(Supervisor.layer)
  ))

const release: Release = { ref: "a1", waves: [["h1"]] }
const pollMs = 60_000

/** Parks a poll as the route does; its answer, and when it came (milliseconds since the start of the test). */
const poll = Effect.fnUntraced(function*(host: string) {
  const inbox = yield* Inbox
  const { answer, waiterId } = (yield* Waiters).open()
  const until = (yield* Clock.currentTimeMillis) + pollMs
  assert.isTrue(inbox.offer({ _tag: "Parked", host, waiterId, capabilities: capable, issuedAt: 0, until }))
  return yield* Effect.flatMap(
    answer,
    (given: PollAnswer) => Effect.map(Clock.currentTimeMillis, (now) => ({ given, at: now - start }))
  ).pipe(
    Effect.forkChild({ startImmediately: true })
  )
})

const begin = Effect.gen(function*() {
  yield* TestClock.setTime(start)
  const inbox = yield* Inbox
  yield* inbox.submit({ _tag: "ArtifactsVerified", artifacts: unitOf(release) })
  yield* inbox.heartbeat({
    _tag: "HeartbeatReceived",
    issuedAt: 0,
    heartbeat: { hostname: "h1", at: start, journal_id: "j1", digests: [] },
    capabilities: capable
  })
})

describe("The control plane under its clock", () => {
  it.effect("a leased dispatch is offered again at the end of its lease, by the sweeper", () =>
    Effect.gen(function*() {
      yield* begin
      const first = yield* Fiber.join(yield* poll("h1"))
      assert.strictEqual(first.given._tag, "Dispatch")
      yield* TestClock.adjust(pollMs / 2)
      const second = yield* poll("h1")
      yield* TestClock.adjust("59 seconds")
      assert.isUndefined(second.pollUnsafe())
      yield* TestClock.adjust("1 seconds")
      assert.deepInclude(yield* Fiber.join(second), { at: 90_000 })
    }).pipe(Effect.provide(controlPlane())))

  it.effect("an acknowledged one is not", () =>
    Effect.gen(function*() {
      yield* begin
      yield* Fiber.join(yield* poll("h1"))
      const ack = { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: start, seq: 1 } as const
      assert.deepStrictEqual(yield* (yield* Inbox).event(eventInput("h1", idOf(release), ack)), { _tag: "Applied" })
      yield* TestClock.adjust(pollMs / 2)
      const second = yield* poll("h1")
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(yield* Fiber.join(second), { given: { _tag: "Nothing" }, at: 90_000 })
    }).pipe(Effect.provide(controlPlane())))

  it.effect("a parked poll is answered when its time is over, not before", () =>
    Effect.gen(function*() {
      yield* begin
      const waiting = yield* poll("h9")
      yield* TestClock.adjust(pollMs - 1)
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* Fiber.join(waiting), { given: { _tag: "Nothing" }, at: pollMs })
    }).pipe(Effect.provide(controlPlane())))

  it.effect("plans every 15 s", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(start)
      const { current } = yield* ControlPlaneState
      const seen = new Set<number | undefined>()
      for (let second = 0; second < 61; second++) {
        seen.add(current().lastPlanAt)
        yield* TestClock.adjust("1 seconds")
      }
      assert.deepStrictEqual([...seen].filter((at) => at !== undefined && at >= start).length, 5)
    }).pipe(Effect.provide(controlPlane())))

  it.effect("a late reducer is not met by a pile of ticks", () =>
    Effect.gen(function*() {
      const offered: Array<Input["_tag"]> = []
      const slow = Layer.mock(Inbox, {
        offer: () => false,
        submit: (input) =>
          Effect.sync(() => offered.push(input._tag)).pipe(Effect.andThen(Effect.sleep("50 seconds")), Effect.as(true))
      })
      yield* Effect.gen(function*() {
        yield* TestClock.adjust("100 seconds")
        assert.deepStrictEqual(offered, ["PlanTick", "PlanTick"])
      }).pipe(Effect.provide(Plan.layer.pipe(Layer.provide([slow, Settings.layer(config), Supervisor.layer]))))
    }))

  it.effect("a freeze ends at its time to the second, also one of the life before", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("two lives")
      yield* Effect.gen(function*() {
        yield* begin
        const action = { action: "Freeze", channel: null, reason: "a test", until: start + 90_000 } as const
        const answer = yield* (yield* Inbox).action({ _tag: "ActionAsked", action, actor: "ada" })
        assert.strictEqual(answer._tag, "Taken")
        const waiting = yield* poll("h1")
        yield* TestClock.adjust("60 seconds")
        assert.deepStrictEqual((yield* Fiber.join(waiting)).given, { _tag: "Nothing" })
      }).pipe(Effect.provide(controlPlane(disk)))
      yield* Effect.gen(function*() {
        yield* (yield* Inbox).submit({ _tag: "ArtifactsVerified", artifacts: unitOf(release) })
        const waiting = yield* poll("h1")
        yield* TestClock.adjust(29_999)
        assert.isUndefined(waiting.pollUnsafe())
        yield* TestClock.adjust(1_000)
        const { at, given } = yield* Fiber.join(waiting)
        assert.strictEqual(given._tag, "Dispatch")
        assert.isAtMost(at, 91_000)
      }).pipe(Effect.provide(controlPlane(disk)))
    }))

  it.effect("what was decided at shutdown is stored, and owed by the next start", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("two lives")
      yield* begin.pipe(Effect.provide(controlPlane(disk)))
      yield* Effect.gen(function*() {
        const { current } = yield* ControlPlaneState
        assert.isFalse(current().artifacts !== undefined)
        const ack = { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: start, seq: 1 } as const
        assert.deepStrictEqual(yield* (yield* Inbox).event(eventInput("h1", idOf(release), ack)), { _tag: "Applied" })
      }).pipe(Effect.provide(controlPlane(disk)))
    }))

  it.effect("the loop ends the program when the disk fails", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("failing")
      yield* Effect.gen(function*() {
        const inbox = yield* Inbox
        disk.fail("failed")
        const offered = yield* inbox.submit({ _tag: "ArtifactsVerified", artifacts: unitOf(release) })
        assert.isFalse(offered, "nobody is told that it is durable")
        assert.isTrue(Exit.isFailure(yield* Effect.exit(inbox.ended)))
      }).pipe(Effect.provide(controlPlane(disk)))
    }))
})
