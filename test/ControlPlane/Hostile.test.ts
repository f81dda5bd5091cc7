import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { decide } from "../../src/ControlPlane/Decide.ts"
import type { Input } from "../../src/ControlPlane/Input.ts"
import { at, currentRolloutOf, hostIn, ledgerWindow } from "../../src/ControlPlane/State.ts"
import * as Views from "../../src/ControlPlane/Views.ts"
import { MemoryDisk } from "../../src/Layers/Disk/MemoryDisk.ts"
import { HostsResponse } from "../../src/Schema/OperatorViews.ts"
import { clockSlackMs } from "../../src/Trust/Freshness.ts"
import {
  capable,
  closureOf,
  dispatched,
  idOf,
  openJournal,
  Plane,
  reference,
  type Release,
  soakMs,
  start
} from "../support/controlPlane.ts"

const r1: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"]] }
const id = idOf(r1)
const encodeHosts = Schema.encodeSync(HostsResponse)
const endOfTime = 253_402_300_799_999

describe("One host's lies", () => {
  it.effect("a time at the end of the calendar does not keep the next start from reading the journal", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("control plane")
      const plane = new Plane(yield* openJournal(disk))
      plane.publish(r1)
      for (const [host, capabilities] of [["h1", undefined], ["h2", { capabilities: reference }]] as const) {
        plane.post(
          host,
          id,
          { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: endOfTime, seq: 1 },
          capabilities
        )
        plane.post(host, id, {
          kind: "ActivationCompleted",
          observedCurrentClosure: closureOf("a1", host),
          exitCode: 0,
          completedAt: endOfTime,
          seq: 2
        }, capabilities)
        plane.post(host, id, {
          kind: "ProbeResult",
          probeName: "__proto__",
          mode: "enforce",
          status: "fail",
          observedAt: endOfTime,
          seq: 3
        }, capabilities)
        plane.post(host, id, { kind: "Converged", currentClosure: "", convergedAt: endOfTime, seq: 4 }, capabilities)
      }
      plane.pass(1000)
      const again = new Plane(yield* openJournal(disk))
      assert.deepStrictEqual(again.recordOf(id, "h1"), plane.recordOf(id, "h1"))
      assert.isString(JSON.stringify(encodeHosts(Views.hosts(plane.state, plane.now))))
    }))

  it("a time at the end of the calendar holds nobody up: the soak is told by our own clock, and every view can be written", () => {
    const plane = new Plane()
    plane.publish(r1)
    plane.hear(r1)
    const canary = dispatched(plane, "h1")
    canary.accepts(plane)
    const completed = { observedCurrentClosure: closureOf("a1", "h1"), exitCode: 0, completedAt: endOfTime }
    plane.post("h1", id, { kind: "ActivationCompleted", ...completed, seq: 2 })
    plane.post("h1", id, { kind: "ProbeTopologyDeclared", probes: [], declaredAt: endOfTime, seq: 3 })
    plane.post("h1", id, { kind: "Converged", currentClosure: closureOf("a1", "h1"), convergedAt: endOfTime, seq: 4 })
    const verdict = at(plane.state.verdicts, "h2")
    assert.strictEqual(verdict?.gate, "wave-promotion")
    assert.strictEqual(verdict?.earliestAt, plane.recordOf(id, "h1")?.soakDueAt)
    assert.isString(JSON.stringify(encodeHosts(Views.hosts(plane.state, plane.now))))
  })

  const digest = { rollout_id: id, state: "Reverted", attempt: 1, last_event_seq: 1, quarantined: true } as const
  const edge: Release = { channel: "edge", ref: "b2", waves: [["e1"]] }

  it("condemn no closure but the host's own in a rollout that is known", () => {
    const plane = new Plane()
    plane.publish(r1)
    plane.heartbeat("h3", { digests: [{ ...digest, target_closure: closureOf("a1", "h1") }] })
    assert.isEmpty(plane.state.quarantine)
    plane.heartbeat("h3", { digests: [{ ...digest, target_closure: closureOf("a1", "h3") }] })
    assert.strictEqual(plane.state.quarantine.length, 1)
  })

  it("condemn nothing that another channel is to run, and no more than one heartbeat carries", () => {
    const plane = new Plane()
    plane.publish(r1, edge)
    const lies = (ref: (index: number) => string, target_closure: string) =>
      Array.from({ length: 64 }, (_, index) => ({ ...digest, rollout_id: `stable@${ref(index)}`, target_closure }))
    plane.heartbeat("h3", { digests: lies(() => "ff", closureOf("b2", "e1")) })
    plane.heartbeat("h3", { digests: lies(() => "not a ref", "x") })
    assert.isEmpty(plane.state.quarantine)
    for (let turn = 0; turn < 3; turn += 1) {
      plane.heartbeat("h3", { digests: lies((index) => `${turn}a${index}`, `closure-${turn}`) })
    }
    assert.strictEqual(plane.state.quarantine.length, 64)
  })

  it("are not written down for ever: rejections of rollouts that are not known, and one pause at a time", () => {
    const plane = new Plane()
    plane.publish(r1)
    const reject = (rollout_id: string) => ({ rollout_id, reason: "stale", detail: "", at: plane.now })
    const written = () => plane.log.filter(({ entry }) => entry.kind === "effect").length
    for (let turn = 0; turn < 10; turn += 1) {
      plane.now += 1
      plane.heartbeat("h3", { rejections: [reject(`stable@${turn}`), reject("edge@ff"), reject(id)] })
    }
    assert.strictEqual(written(), 1)
    assert.strictEqual(at(plane.state.hosts, "h3")?.seen?.rejections.length, 3)
  })

  it("are not written down for ever: events that belong to no record", () => {
    const plane = new Plane()
    plane.publish(r1)
    const post = (seq: number) =>
      plane.post("h3", `stable@f${seq.toString(16)}`, {
        kind: "ActivationStarted",
        startedAt: start,
        switchMethod: "x",
        seq
      })
    const refused = { _tag: "Refused", reason: "unknown-rollout", class: "illegal" } as const
    for (let seq = 1; seq <= 500; seq += 1) assert.deepStrictEqual(post(seq), refused)
    const written = () => plane.log.filter(({ entry }) => entry.kind === "agent_event").length
    assert.strictEqual(written(), 200)
    assert.strictEqual(
      plane.actions.filter((action) => action._tag === "Log" && action.entry.message.includes("next hour")).length,
      1
    )
    plane.now += 3_600_000
    post(501)
    assert.strictEqual(written(), 201)
  })
})

describe("A channel that is emptied", () => {
  it("dispatches nothing, also when it was emptied before and came back", () => {
    const other: Release = { channel: "edge", ref: "a1", waves: [["e1"]] }
    const plane = new Plane()
    plane.publish(r1, other)
    plane.hear(r1, other)
    plane.publish(other)
    plane.publish({ ...r1, signedAt: start + 1 }, other)
    assert.strictEqual(at(plane.state.channels, "stable")?.current, id)
    plane.pass(1)
    plane.publish({ ...other, signedAt: start + 2 })
    assert.isUndefined(plane.poll("h1"))
    assert.isUndefined(at(plane.state.queue, "h1"))
  })
})

describe("A host that moves between channels", () => {
  it.effect("follows the channel it is on after a restart, too", () =>
    Effect.gen(function*() {
      const a = (signedAt: number, ...hosts: ReadonlyArray<string>): Release => ({
        channel: "alpha",
        ref: "a1",
        waves: [hosts],
        signedAt
      })
      const b = (signedAt: number, ...hosts: ReadonlyArray<string>): Release => ({
        channel: "beta",
        ref: "a1",
        waves: [hosts],
        signedAt
      })
      const disk = new MemoryDisk("control plane")
      const plane = new Plane(yield* openJournal(disk))
      plane.publish(a(start, "x"), b(start, "y", "h"))
      plane.hear(a(start, "x"), b(start, "y", "h"))
      plane.now += 1000
      plane.publish(a(start + 1000, "x", "h"), b(start + 1000, "y"))
      assert.strictEqual(currentRolloutOf(plane.state, "h"), "alpha@a1")
      const again = new Plane(yield* openJournal(disk))
      assert.strictEqual(currentRolloutOf(again.state, "h"), "alpha@a1")
    }))
})

/** The same id with another closure for h1 while its first attempt soaks: h1 is at attempt 2. */
function secondAttempt() {
  const plane = new Plane()
  plane.publish(r1)
  plane.hear(r1)
  const first = dispatched(plane, "h1")
  first.soaks(plane)
  plane.pass(1000)
  const release: Release = { ...r1, signedAt: start + 1000, closures: { h1: closureOf("dd", "h1") } }
  plane.publish(release)
  return { first, plane, release }
}

describe("A wiped database", () => {
  it("catches up with a host that is at a later attempt", () => {
    const { first, plane, release } = secondAttempt()
    const second = dispatched(plane, "h1")
    assert.strictEqual(second.record.attempt, 2)
    second.soaks(plane)
    plane.pass(soakMs)
    second.converges(plane)
    const fresh = new Plane()
    fresh.now = plane.now
    fresh.publish(release)
    const { response } = fresh.heartbeat("h1", { digests: [second.digest] })
    assert.deepStrictEqual(response.replay_from, { [id]: 1 })
    for (const row of [...first.rows, ...second.rows]) {
      assert.deepStrictEqual(fresh.post("h1", id, row), { _tag: "Applied" })
    }
    assert.strictEqual(fresh.recordOf(id, "h1").attempt, 2)
    fresh.heartbeat("h2")
    fresh.heartbeat("h3")
    fresh.pass(soakMs)
    assert.isUndefined(fresh.poll("h1"))
    assert.isDefined(fresh.poll("h2"))
  })

  it("gives the next attempt to a host whose attempt went to another closure", () => {
    const { first, plane, release } = secondAttempt()
    const fresh = new Plane()
    fresh.now = plane.now
    fresh.publish(release)
    first.reports(fresh)
    fresh.greets("h2")
    fresh.greets("h3")
    fresh.heartbeat("h1", { digests: [first.digest] })
    const dispatch = fresh.poll("h1")
    assert.strictEqual(dispatch?.attempt, 2)
    assert.strictEqual(dispatch?.target_closure, closureOf("dd", "h1"))
  })

  it("believes no attempt that would leave no next one", () => {
    const plane = new Plane()
    plane.publish(r1)
    const ack = { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: start, seq: 1 } as const
    assert.deepStrictEqual(plane.post("h1", id, { ...ack, attempt: 4_294_967_295 }), {
      _tag: "Refused",
      reason: "wrong-attempt",
      class: "guard"
    })
    assert.strictEqual(plane.recordOf(id, "h1").attempt, 1)
  })
})

describe("A wave whose soak ends by the clock alone", () => {
  it("is promoted by the next sweep, not by the next tick of the planner", () => {
    const plane = new Plane()
    plane.publish(r1)
    plane.hear(r1)
    const canary = dispatched(plane, "h1")
    canary.soaks(plane)
    plane.now += soakMs - 1
    // The host's clock is ahead of ours.
    plane.post("h1", id, {
      kind: "Converged",
      convergedAt: plane.now + 1,
      currentClosure: closureOf("a1", "h1"),
      seq: 6
    })
    assert.isUndefined(plane.poll("h2"))
    plane.now += 1
    plane.offer({ _tag: "LeaseSweep" })
    assert.isDefined(plane.poll("h2"))
  })
})

describe("Ten thousand hosts", () => {
  it("that are heard one after the other plan a recovering channel once, with the last of them", () => {
    const plane = new Plane()
    const hosts = Array.from({ length: 50 }, (_, index) => `n${index}`)
    plane.publish({ ref: "a1", waves: [hosts] })
    for (const host of hosts.toReversed()) plane.polls(host)
    const plans = hosts.filter((host) => {
      const input: Input = {
        _tag: "HeartbeatReceived",
        issuedAt: 0,
        heartbeat: { hostname: host, at: plane.now, journal_id: host, digests: [] },
        capabilities: capable
      }
      const planned = decide(plane.state, input, { wall: plane.now, monotonic: 0 }).state.dirty.size > 0
      plane.offer(input)
      return planned
    })
    assert.deepStrictEqual(plans, ["n49"])
    assert.isDefined(plane.poll("n7"))
  })
})

describe("A poll of a host whose dispatch is queued", () => {
  const poll: Input = {
    _tag: "Parked",
    host: "h1",
    waiterId: 7,
    capabilities: capable,
    issuedAt: 0,
    until: start + 60_000
  }
  const clocks = { wall: start, monotonic: 0 }

  it("is answered in its own decision, without a plan", () => {
    const plane = new Plane()
    plane.publish(r1)
    plane.hear(r1)
    const { actions, state } = decide(plane.state, poll, clocks)
    assert.strictEqual(state.dirty.size, 0)
    assert.isTrue(actions.some((action) => action._tag === "CompleteWaiter" && action.answer._tag === "Dispatch"))
  })

  it("waits for the plan when something happened to its channel in the same batch", () => {
    const plane = new Plane()
    plane.publish(r1)
    plane.hear(r1)
    const touched = decide(plane.state, { _tag: "PlanTick" }, clocks).state
    const { actions, state } = decide(touched, poll, clocks)
    assert.isAbove(state.dirty.size, 0)
    assert.isEmpty(actions)
  })
})

describe("A release that has grown old", () => {
  it("stays in force and is not dispatched until it is signed anew (D14)", () => {
    const plane = new Plane()
    plane.publish(r1)
    plane.hear(r1)
    const window = 180 * 60_000 + clockSlackMs
    plane.pass(window + 1)
    assert.isUndefined(plane.poll("h1"))
    assert.strictEqual(at(plane.state.verdicts, "h1")?.gate, "stale")
    plane.publish({ ...r1, signedAt: plane.now })
    assert.isDefined(plane.poll("h1"))
  })

  it("is planned once for each host that polls, and not for each of its polls", () => {
    const plane = new Plane()
    plane.publish(r1)
    plane.hear(r1)
    plane.now += 180 * 60_000 + clockSlackMs + 1
    const polled = () =>
      decide(
        plane.state,
        { _tag: "Parked", host: "h1", waiterId: 7, capabilities: capable, issuedAt: 0, until: plane.now + 60_000 },
        { wall: plane.now, monotonic: 0 }
      ).state.dirty.size
    assert.strictEqual(polled(), 1)
    plane.poll("h1")
    assert.strictEqual(polled(), 0)
  })

  it("is dispatched to the last moment of its window, and no longer than the operator's ceiling", () => {
    const plane = new Plane()
    plane.publish(r1)
    plane.hear(r1)
    plane.pass(180 * 60_000 + clockSlackMs)
    assert.isDefined(plane.poll("h1"))
    const careful = new Plane()
    careful.state = { ...careful.state, limits: { ...careful.state.limits, freshnessCeilingMs: 60_000 } }
    careful.publish(r1)
    careful.hear(r1)
    careful.pass(60_000 + clockSlackMs + 1)
    assert.isUndefined(careful.poll("h1"))
  })
})

describe("A page of the event log", () => {
  it.effect("ends before its answer fills the memory, and the next one goes on", () =>
    Effect.gen(function*() {
      const journal = yield* openJournal(new MemoryDisk("control plane"))
      const plane = new Plane(journal)
      plane.publish(r1)
      plane.hear(r1)
      const agent = dispatched(plane, "h1")
      agent.soaks(plane)
      const failureReason = "x".repeat(4096)
      const subResults = Array.from({ length: 300 }, (_, index) => ({
        controlId: `c${index}`,
        status: "fail" as const,
        framework: "f",
        effectiveMode: "enforce" as const,
        overrideReason: failureReason
      }))
      for (let seq = 6; seq <= 15; seq += 1) {
        plane.post("h1", id, {
          kind: "ProbeResult",
          probeName: "web",
          mode: "observe",
          status: "fail",
          observedAt: seq,
          subResults,
          seq
        })
      }
      const first = yield* journal.eventLog({ rolloutId: id, limit: 1000, afterSeq: 0 })
      const last = first.events.at(-1)?.seq ?? 0
      const second = yield* journal.eventLog({ rolloutId: id, limit: 1000, afterSeq: last })
      assert.isBelow(JSON.stringify(first).length, 8_000_000)
      assert.isAbove(second.events.length, 0)
      const all = (yield* journal.rows).filter((row) => row.rolloutId === id).length
      assert.isAtMost(first.events.length + second.events.length, all)
      assert.isBelow(first.events.length, all)
    }))
})

describe("A host that reports without end", () => {
  it.effect("is remembered after a restart as it was before: by its latest numbers, and no more of them", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("control plane")
      const plane = new Plane(yield* openJournal(disk))
      plane.publish(r1)
      plane.hear(r1)
      dispatched(plane, "h1").soaks(plane)
      const result = (seq: number) =>
        ({ kind: "ProbeResult", probeName: "web", mode: "observe", status: "pass", observedAt: seq, seq }) as const
      for (let seq = 6; seq <= 700; seq += 1) plane.post("h1", id, result(seq))
      const again = new Plane(yield* openJournal(disk))
      assert.deepStrictEqual(hostIn(again.state, id, "h1"), hostIn(plane.state, id, "h1"))
      assert.strictEqual(hostIn(again.state, id, "h1")?.ledger.seen.length, ledgerWindow)
      assert.deepStrictEqual(again.post("h1", id, result(6)), { _tag: "Duplicate" })
    }))
})
