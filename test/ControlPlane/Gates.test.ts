/** Edges, budgets and carry-over in the control plane, from a signed release to the poll that is answered or not. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { disagreements } from "../../src/ControlPlane/Disagreements.ts"
import { foldLog } from "../../src/ControlPlane/Fold.ts"
import { Touched } from "../../src/ControlPlane/fold/Touched.ts"
import type { HostVerdict } from "../../src/ControlPlane/State.ts"
import { at } from "../../src/ControlPlane/State.ts"
import { MemoryDisk } from "../../src/Layers/Disk/MemoryDisk.ts"
import {
  Agent,
  capable,
  closureOf,
  dispatched,
  idOf,
  openJournal,
  Plane,
  type Release,
  soakMs,
  unitOf
} from "../support/controlPlane.ts"

const verdictOf = (plane: Plane, host: string): HostVerdict | undefined => at(plane.state.verdicts, host)
const because = (plane: Plane, host: string): string => {
  const verdict = verdictOf(plane, host)
  return verdict === undefined ? "nothing" : `${verdict.gate}: ${verdict.because}`
}

/** A plane on which everybody was heard. */
function heard(...releases: ReadonlyArray<Release>): Plane {
  const plane = new Plane()
  plane.publish(...releases)
  plane.hear(...releases)
  return plane
}

const parked = (host: string, waiterId: number, plane: Plane) =>
  ({ _tag: "Parked", host, waiterId, capabilities: capable, issuedAt: 0, until: plane.now + 60_000 }) as const

const three: Release = {
  ref: "a1",
  waves: [["h1", "h2", "h3"]],
  budgets: [{ hosts: ["h1", "h2", "h3"], maxInFlight: 1 }]
}

describe("disruption budgets (D17)", () => {
  it("of polls that are answered in one batch only as many get their dispatch as the budget allows", () => {
    const plane = heard(three)
    plane.batch(parked("h3", 101, plane), parked("h2", 102, plane), parked("h1", 103, plane))
    const answers = [101, 102, 103].map((id) => plane.answerTo(id)?._tag)
    assert.deepStrictEqual(answers, ["Dispatch", undefined, undefined])
    assert.strictEqual(
      because(plane, "h1"),
      "disruption-budget: the budget of hosts h1, h2, h3 lets 1 of its 3 hosts be in flight, and 1 is: " +
        "h3 has a dispatch on its way (stable@a1)"
    )
  })

  it("what waits goes by wave, then name, and the next as soon as one has converged", () => {
    const plane = heard(three)
    const agent = dispatched(plane, "h2")
    agent.soaks(plane)
    plane.pass(soakMs)
    assert.match(because(plane, "h1"), /h2 is soaking \(stable@a1\)$/)
    const waiting = { h3: plane.park("h3"), h1: plane.park("h1") }
    agent.converges(plane)
    assert.strictEqual(plane.answerTo(waiting.h1)?._tag, "Dispatch")
    assert.isUndefined(plane.answerTo(waiting.h3))
    assert.match(because(plane, "h3"), /h1 has a dispatch on its way/)
  })

  it("a host that does not poll takes no place", () => {
    const plane = heard(three)
    assert.isDefined(plane.poll("h3"), "h1 and h2 are queued before it")
  })

  it("polls of hosts that wait for a place plan nothing and write nothing", () => {
    const plane = heard(three)
    dispatched(plane, "h1")
    plane.poll("h2")
    const before = plane.writes.length
    for (let time = 0; time < 3; time++) plane.poll("h2")
    assert.strictEqual(plane.writes.length, before)
  })

  it("a host that soaks under a superseded rollout keeps its place, and never keeps itself out", () => {
    const plane = heard(three)
    dispatched(plane, "h1").soaks(plane)
    plane.publish({ ...three, ref: "b2", signedAt: plane.now + 1 })
    assert.isUndefined(plane.poll("h2"))
    assert.match(because(plane, "h2"), /h1 is soaking \(stable@a1\)/)
    assert.strictEqual(plane.poll("h1")?.rollout_id, "stable@b2")
  })

  it("a dispatch that was never acknowledged keeps its place until its host has polled again and twice knows nothing of it", () => {
    const plane = heard(three)
    dispatched(plane, "h1")
    plane.pass(90_000)
    plane.heartbeat("h2")
    assert.isUndefined(plane.poll("h2"))
    assert.match(because(plane, "h2"), /h1 did not acknowledge its dispatch yet/)
    plane.now += 1
    for (const _ of [1, 2, 3]) plane.heartbeat("h1")
    plane.pass(0)
    assert.isUndefined(plane.poll("h2"), "it may be verifying it still")
    plane.publish({ ...three, ref: "b2", signedAt: plane.now, waves: [["h2", "h3"]] })
    assert.isUndefined(plane.poll("h1"))
    plane.heartbeat("h1")
    plane.pass(0)
    assert.match(because(plane, "h2"), /h1 did not acknowledge/, "what was said before the poll may arrive after it")
    plane.heartbeat("h1")
    plane.pass(0)
    assert.isDefined(plane.poll("h2"))
  })

  it("the next poll of an agent that says what it took last ends that doubt at once", () => {
    const plane = heard(three)
    dispatched(plane, "h1")
    plane.pass(90_000)
    const waiterId = plane.park("h2")
    assert.match(because(plane, "h2"), /h1 did not acknowledge its dispatch yet/)
    plane.polls("h1", { rolloutId: "stable@a1", attempt: 1 })
    plane.pass(0)
    assert.match(
      because(plane, "h2"),
      /h1 did not acknowledge its dispatch yet/,
      "it has it, and its events are to come"
    )
    plane.polls("h1", { rolloutId: "stable@0f", attempt: 1 })
    assert.strictEqual(plane.answerTo(waiterId)?._tag, "Dispatch")
  })

  it("a place that the plan's own action frees is given in the same pass", () => {
    const plane = heard(three)
    dispatched(plane, "h1")
    plane.polls("h1", "nothing")
    const waiterId = plane.park("h2")
    assert.match(because(plane, "h2"), /h1 has a dispatch on its way/)
    // The next release takes back what h1 never got.
    plane.publish({ ...three, ref: "b2", signedAt: plane.now + 1 })
    assert.strictEqual(plane.answerTo(waiterId)?._tag, "Dispatch")
  })

  it("what an agent has left for another rollout holds no place, also where that one could not be acknowledged", () => {
    const plane = heard(three)
    dispatched(plane, "h1").accepts(plane)
    const next: Release = { ...three, ref: "b2", signedAt: plane.now + 1 }
    plane.publish(next)
    const agent = dispatched(plane, "h1")
    const waves = [["h2"], ["h1", "h3"]]
    plane.publish({ ...next, signedAt: plane.now + 2, closures: { h1: closureOf("c3", "h1") }, waves })
    agent.does({ kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: plane.now }, plane.now)
    assert.deepInclude(plane.post("h1", "stable@b2", agent.rows[0]!), { _tag: "Refused", reason: "wrong-attempt" })
    agent.does({ kind: "ActivationFailed", exitCode: 1, stderrTail: "", failedAt: plane.now }, plane.now)
    plane.pass(90_001)
    plane.polls("h1", { rolloutId: "stable@b2", attempt: 1 })
    for (const _ of [1, 2]) plane.heartbeat("h1", { digests: [agent.digest] })
    plane.pass(0)
    assert.isDefined(plane.poll("h2"))
  })

  it("what its poll said before the next dispatch left says nothing of that one", () => {
    const plane = heard(three)
    plane.polls("h1", "nothing")
    dispatched(plane, "h1")
    plane.pass(90_000)
    assert.isUndefined(plane.poll("h2"))
    assert.match(because(plane, "h2"), /h1 did not acknowledge its dispatch yet/)
    plane.polls("h1", "nothing")
    assert.isDefined(plane.poll("h2"))
  })

  it("nor does a new release free the place of such a dispatch", () => {
    const plane = heard(three)
    const agent = dispatched(plane, "h1")
    plane.publish({ ...three, ref: "b2", signedAt: plane.now + 1 })
    assert.isUndefined(plane.poll("h2"))
    agent.accepts(plane)
    plane.pass(0)
    assert.isUndefined(plane.poll("h2"))
    assert.match(because(plane, "h2"), /h1 is activating \(stable@a1\)/)
  })

  it("a new attempt under the same id leaves what the host does its place", () => {
    const plane = heard(three)
    const agent = dispatched(plane, "h1")
    agent.accepts(plane)
    plane.publish({ ...three, signedAt: plane.now + 1, closures: { h1: closureOf("b2", "h1") } })
    assert.strictEqual(plane.recordOf("stable@a1", "h1").state, "Pending")
    assert.isUndefined(plane.poll("h2"))
    plane.now += 1
    plane.heartbeat("h1", { digests: [agent.digest] })
    plane.pass(0)
    assert.isUndefined(plane.poll("h2"), "it says that it still activates")
    plane.heartbeat("h1", { digests: [{ ...agent.digest, state: "Failed" }] })
    assert.isDefined(plane.poll("h1"), "its place is for its next attempt")
  })

  it("what a host was at when it took another rollout keeps no place by a digest of that time", () => {
    const plane = heard(three)
    const first = dispatched(plane, "h1")
    first.accepts(plane)
    plane.publish({ ...three, ref: "b2", signedAt: plane.now + 1 })
    const second = dispatched(plane, "h1")
    plane.publish({ ...three, signedAt: plane.now + 2, waves: [["h2", "h3"], ["h1"]] })
    second.soaks(plane)
    plane.pass(soakMs)
    second.converges(plane)
    plane.polls("h1")
    for (const _ of [1, 2]) plane.heartbeat("h1", { digests: [first.digest, second.digest] })
    plane.pass(0)
    assert.isUndefined(plane.poll("h2"), "it goes by the first")
    for (const _ of [1, 2]) plane.heartbeat("h1", { digests: [second.digest, first.digest] })
    plane.pass(0)
    assert.isDefined(plane.poll("h2"))
  })

  it("a host that its release leaves out, or that goes to another channel, keeps its place while it is at it", () => {
    for (const other of [[], ["h1"]]) {
      const plane = heard(three)
      plane.pass(0)
      const agent = dispatched(plane, "h1")
      agent.soaks(plane)
      const left: Release = { ...three, waves: [["h2", "h3"]], signedAt: plane.now + 1 }
      const joined: Release = { channel: "edge", ref: "a1", waves: [["e1", ...other]], signedAt: plane.now + 1 }
      plane.publish(left, joined)
      assert.isUndefined(plane.poll("h2"))
      assert.match(because(plane, "h2"), /h1 is soaking \(stable@a1\)/)
      plane.pass(soakMs)
      agent.converges(plane)
      assert.isDefined(plane.poll("h2"))
    }
  })

  it("nor does an attempt that went to another closure, or whose journal is gone", () => {
    const accepted = () => {
      const plane = heard(three)
      const agent = dispatched(plane, "h1")
      agent.accepts(plane)
      plane.now += 1000
      return { agent, plane }
    }
    const elsewhere = accepted()
    const digest = { ...elsewhere.agent.digest, target_closure: closureOf("ff", "h1") }
    elsewhere.plane.heartbeat("h1", { digests: [digest] })
    const forgotten = accepted()
    forgotten.plane.heartbeat("h1", { journal_id: "another" })
    for (const { plane } of [elsewhere, forgotten]) {
      assert.deepInclude(plane.recordOf("stable@a1", "h1"), { state: "Pending", attempt: 2 })
      assert.isUndefined(plane.poll("h2"))
      assert.isDefined(plane.poll("h1"), "its place is for its next attempt")
    }
  })

  it("a journal that is gone with what a superseded rollout began keeps no place for ever", () => {
    const plane = heard(three)
    plane.pass(0)
    dispatched(plane, "h1").accepts(plane)
    plane.publish({ ...three, ref: "b2", signedAt: plane.now + 1, waves: [["h2", "h3"], ["h1"]] })
    plane.now += 1000
    plane.poll("h1")
    for (const _ of [1, 2]) {
      assert.isUndefined(plane.poll("h2"))
      plane.heartbeat("h1", { journal_id: "another" })
      plane.pass(1000)
    }
    assert.isDefined(plane.poll("h2"))
  })

  it("a poll that was aborted leaves in doubt what was so before it", () => {
    const aborted = (plane: Plane) => {
      const waiterId = plane.park("h1")
      assert.strictEqual(plane.answerTo(waiterId)?._tag, "Dispatch")
      plane.offer({ _tag: "Unparked", host: "h1", waiterId })
      assert.isUndefined(plane.poll("h2"))
      assert.match(because(plane, "h2"), /h1 did not acknowledge its dispatch yet/)
    }
    const unacknowledged = heard(three)
    dispatched(unacknowledged, "h1")
    unacknowledged.pass(90_000)
    aborted(unacknowledged)
    const underWay = heard(three)
    dispatched(underWay, "h1").accepts(underWay)
    underWay.publish({ ...three, signedAt: underWay.now + 1, closures: { h1: closureOf("b2", "h1") } })
    aborted(underWay)
  })

  it("a poll that was aborted before its answer frees the place at once", () => {
    const plane = heard(three)
    const waiterId = plane.park("h1")
    plane.offer({ _tag: "Unparked", host: "h1", waiterId })
    assert.isDefined(plane.poll("h2"))
  })

  it("hosts of two channels share the budget that selects both", () => {
    const budgets = [{ hosts: ["e1", "s1"], maxInFlight: 1 }]
    const first: Release = { channel: "edge", ref: "a1", waves: [["e1"]], budgets }
    const second: Release = { channel: "stable", ref: "a1", waves: [["s1"]] }
    const plane = heard(first, second)
    const taken = plane.park("s1")
    assert.strictEqual(plane.answerTo(taken)?._tag, "Dispatch")
    const waiting = plane.park("e1")
    assert.match(because(plane, "e1"), /s1 has a dispatch on its way \(stable@a1\)/)
    plane.offer({ _tag: "Unparked", host: "s1", waiterId: taken })
    assert.strictEqual(plane.answerTo(waiting)?._tag, "Dispatch", "its place is given back, and taken at once")
  })

  it("a deferred host gives its place away", () => {
    const plane = heard(three)
    const agent = dispatched(plane, "h1")
    const waiting = plane.park("h2")
    agent.accepts(plane)
    agent.tells(plane, { kind: "ActivationStarted", startedAt: plane.now, switchMethod: "test" })
    assert.isUndefined(plane.answerTo(waiting))
    agent.tells(plane, { kind: "ActivationDeferred", component: "kernel", deferredAt: plane.now })
    assert.strictEqual(plane.answerTo(waiting)?._tag, "Dispatch")
  })

  /** Time in which only some are heard, with the ticks of a program that runs. */
  const passAwake = (plane: Plane, ms: number, ...awake: ReadonlyArray<string>) => {
    for (let passed = 0; passed < ms; passed += 30_000) {
      plane.pass(30_000)
      for (const host of awake) plane.heartbeat(host)
    }
  }

  it("a silent host leaves the count after an hour in which it could be heard", () => {
    const plane = heard(three)
    plane.pass(0)
    dispatched(plane, "h1").accepts(plane)
    passAwake(plane, 59 * 60_000, "h2")
    assert.isUndefined(plane.poll("h2"))
    // The program slept: nobody could be heard.
    plane.pass(24 * 3_600_000)
    plane.publish({ ...three, signedAt: plane.now })
    assert.isUndefined(plane.poll("h2"))
    passAwake(plane, 60 * 60_000, "h2")
    assert.isDefined(plane.poll("h2"))
  })

  it("a widened budget that is signed anew holds at once", () => {
    const plane = heard(three)
    dispatched(plane, "h1")
    assert.isUndefined(plane.poll("h2"))
    plane.publish({ ...three, signedAt: plane.now + 1, budgets: [{ hosts: ["h1", "h2", "h3"], maxInFlightPct: 67 }] })
    assert.isDefined(plane.poll("h2"))
    assert.isUndefined(plane.poll("h3"))
  })
})

describe("channel edges (D15, C-W16)", () => {
  const edge: Release = { channel: "edge", ref: "a1", waves: [["e1"]] }
  const stable: Release = { channel: "stable", ref: "a1", waves: [["s1"]], after: ["edge"] }

  it("the channel after begins in the batch in which the one before is complete", () => {
    const plane = heard(edge, stable)
    const agent = dispatched(plane, "e1")
    agent.soaks(plane)
    plane.pass(0)
    assert.strictEqual(
      because(plane, "s1"),
      "channel-edges: channel edge comes first: edge@a1 is in wave 1 of 1: e1 is soaking"
    )
    plane.pass(soakMs)
    const waiting = plane.park("s1")
    assert.isUndefined(plane.answerTo(waiting))
    agent.converges(plane)
    assert.strictEqual(plane.answerTo(waiting)?._tag, "Dispatch")
  })

  it("a failed one holds the channels after it", () => {
    const plane = heard(edge, stable)
    const agent = dispatched(plane, "e1")
    agent.soaks(plane)
    agent.rollsBack(plane)
    assert.match(because(plane, "s1"), /edge@a1 is Reverted/)
    assert.strictEqual(
      verdictOf(plane, "s1")?.clearedBy,
      "a new ref on channel edge, or nixfleet rollout clear edge@a1 once the cause is repaired; and its completion"
    )
  })

  it("one of which nothing is known holds; one without hosts does not", () => {
    const unit = unitOf(edge, stable)
    const manifests = new Map([...unit.manifests].filter(([id]) => id !== idOf(edge)))
    const plane = new Plane()
    plane.offer({ _tag: "ArtifactsVerified", artifacts: { ...unit, manifests } })
    plane.hear(edge, stable)
    assert.match(because(plane, "s1"), /no verified manifest of it is in force/)

    const undeclared = heard({ ...stable, after: ["nowhere"] })
    assert.match(because(undeclared, "s1"), /the fleet has no such channel/)

    const empty = heard({ ...edge, waves: [] }, stable)
    assert.isDefined(empty.poll("s1"))
  })

  it("the same id with other targets must be complete once more", () => {
    const plane = heard(edge, stable)
    const agent = dispatched(plane, "e1")
    agent.soaks(plane)
    plane.pass(soakMs)
    agent.converges(plane)
    const repaired = { ...edge, closures: { e1: closureOf("b2", "e1") }, signedAt: plane.now }
    plane.publish(repaired, { ...stable, ref: "b2", signedAt: plane.now })
    assert.isUndefined(plane.poll("s1"))
    assert.match(because(plane, "s1"), /edge@a1 is in wave 1 of 1: e1 was not activated yet/)
  })
})

describe("host edges (control-plane.md §6.2)", () => {
  const release: Release = { ref: "a1", waves: [["app", "db"]], edges: [["db", "app"]] }

  it("a host waits for the one before it to converge", () => {
    const plane = heard(release)
    assert.isUndefined(plane.poll("app"))
    assert.strictEqual(because(plane, "app"), "host-edges: db comes first: it was not activated yet")
    const agent = dispatched(plane, "db")
    agent.soaks(plane)
    plane.pass(soakMs)
    const waiting = plane.park("app")
    assert.isUndefined(plane.answerTo(waiting))
    agent.converges(plane)
    assert.strictEqual(plane.answerTo(waiting)?._tag, "Dispatch")
  })

  it("an edge to a host that the fleet does not have holds; one to a host of another channel does not", () => {
    const unknown = heard({ ...release, edges: [["ghost", "app"]] })
    assert.match(because(unknown, "app"), /ghost comes first: stable@a1 has no such host/)
    const other = heard({ ...release, edges: [["e1", "app"]] }, { channel: "edge", ref: "a1", waves: [["e1"]] })
    assert.isDefined(other.poll("app"))
  })
})

describe("carry-over (C-W17, D17)", () => {
  const first: Release = { ref: "a1", waves: [["h1"], ["h2"]] }
  const same = { h1: closureOf("a1", "h1") }

  /** h1 has converged on its closure and says so. */
  function converged(plane: Plane, says: Parameters<Plane["heartbeat"]>[1] = {}): Agent {
    const agent = dispatched(plane, "h1")
    agent.soaks(plane)
    plane.pass(soakMs)
    agent.converges(plane)
    plane.heartbeat("h1", { digests: [agent.digest], current_closure: agent.record.targetClosure, ...says })
    return agent
  }

  const next = (plane: Plane, fields: Partial<Release> = {}): Release => ({
    ...first,
    ref: "b2",
    signedAt: plane.now,
    closures: same,
    ...fields
  })

  it("a host that converged on its target goes over without dispatch, and its wave is complete at once", () => {
    const plane = heard(first)
    const agent = converged(plane)
    plane.publish(next(plane))
    assert.isUndefined(plane.poll("h1"))
    const record = plane.recordOf("stable@b2", "h1")
    assert.deepStrictEqual([record.state, record.attempt, record.lastEventSeq], ["Converged", 1, 0])
    assert.strictEqual(dispatched(plane, "h2").rolloutId, "stable@b2", "wave 2 is open")
    // What it says from then on is of the rollout that it knows.
    agent.reports(plane)
    assert.strictEqual(plane.recordOf("stable@b2", "h1").state, "Converged")
  })

  const doubts: ReadonlyArray<readonly [string, Parameters<Plane["heartbeat"]>[1], Partial<Release>]> = [
    ["its digest does not say so", { digests: [] }, {}],
    ["it runs something else", { current_closure: "0-other" }, {}],
    ["its target changes", {}, { closures: {} }]
  ]
  for (const [name, says, release] of doubts) {
    it(`a host is dispatched when ${name}`, () => {
      const plane = heard(first)
      converged(plane, says)
      plane.publish(next(plane, release))
      assert.strictEqual(plane.recordOf("stable@b2", "h1").state, "Pending")
      assert.isDefined(plane.poll("h1"))
    })
  }

  it("one that soaks is dispatched: it has not converged", () => {
    const plane = heard(first)
    const agent = dispatched(plane, "h1")
    agent.soaks(plane)
    plane.heartbeat("h1", { digests: [agent.digest], current_closure: agent.record.targetClosure })
    plane.publish(next(plane))
    assert.isDefined(plane.poll("h1"))
  })

  it("one that took another closure since, or may have, is dispatched", () => {
    for (const isTaken of [true, false]) {
      const plane = heard(first)
      const agent = converged(plane)
      plane.publish(next(plane, { closures: {} }))
      const other = dispatched(plane, "h1")
      if (isTaken) other.soaks(plane)
      plane.heartbeat("h1", { digests: [agent.digest], current_closure: agent.record.targetClosure })
      plane.publish(next(plane, { ref: "c3", signedAt: plane.now + 1 }))
      assert.strictEqual(plane.recordOf("stable@c3", "h1").state, "Pending")
    }
  })

  it("a channel pointed back is a new attempt for those that left its closure, and none for those that did not", () => {
    const plane = heard(first)
    converged(plane)
    const h2 = dispatched(plane, "h2")
    h2.soaks(plane)
    plane.pass(soakMs)
    h2.converges(plane)
    plane.publish(next(plane))
    dispatched(plane, "h2").soaks(plane)
    plane.publish({ ...first, signedAt: plane.now + 1 })
    assert.deepStrictEqual(
      ["h1", "h2"].map((host) => plane.recordOf("stable@a1", host)).map(({ attempt, state }) => `${state} ${attempt}`),
      ["Converged 2", "Pending 2"]
    )
    assert.strictEqual(plane.poll("h2")?.attempt, 2)
  })

  it("the same release signed anew is no new rollout, and moves nobody", () => {
    const plane = heard(first)
    converged(plane)
    const before = plane.log.length
    plane.publish({ ...first, signedAt: plane.now + 1 })
    const actions = plane.log.slice(before).flatMap(({ entry }) =>
      entry.kind === "plan_action" ? [entry.payload.action] : []
    )
    assert.deepStrictEqual(actions, ["RefreshRollout"])
  })

  it.effect("what was carried, and what was offered, is what the log means, after a restart too", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("control plane")
      const plane = yield* Effect.scoped(Effect.gen(function*() {
        const before = new Plane(yield* openJournal(disk))
        before.publish(first)
        before.hear(first)
        converged(before)
        before.publish(next(before))
        dispatched(before, "h2")
        return before
      }))
      const { initial, rows } = yield* openJournal(disk)
      const folded = foldLog(plane.state.databaseId, yield* rows, new Touched())
      assert.deepStrictEqual(disagreements(folded, initial), [])
      assert.deepStrictEqual(disagreements(plane.state, initial), [])
    }))
})
