import { assert, describe, it } from "@effect/vitest"
import { HashMap } from "effect"
import { at } from "../../src/ControlPlane/State.ts"
import type { UnnumberedEvent } from "../../src/Rollout/Host.ts"
import {
  Agent,
  closureOf,
  dispatched,
  idOf,
  Plane,
  reference,
  type Release,
  soakMs,
  start
} from "../support/controlPlane.ts"

const r1: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"], ["h4"]] }
const r2: Release = { ref: "b2", waves: r1.waves, signedAt: start + 1000 }

function ready(release: Release = r1): Plane {
  const plane = new Plane()
  plane.publish(release)
  plane.hear(release)
  return plane
}

const rolloutState = (plane: Plane, release: Release) => at(plane.state.rollouts, idOf(release))?.record.state
const gateOf = (plane: Plane, host: string) => at(plane.state.verdicts, host)?.gate

describe("Waves (D12, D15)", () => {
  it("1 → 2 → 3: each waits for the soak and the evidence of the one before, and the last one ends the rollout", () => {
    const plane = ready()
    for (const host of ["h2", "h3", "h4"]) assert.isUndefined(plane.poll(host), `${host} waits for wave 0`)
    const h1 = dispatched(plane, "h1")
    h1.soaks(plane)
    plane.pass(soakMs - 1)
    assert.isUndefined(plane.poll("h2"))
    plane.pass(1)
    h1.converges(plane)

    const h2 = dispatched(plane, "h2")
    const h3 = dispatched(plane, "h3")
    h2.soaks(plane)
    h3.soaks(plane)
    plane.pass(soakMs)
    h2.converges(plane)
    assert.isUndefined(plane.poll("h4"), "h3 has not converged")
    h3.converges(plane)

    const h4 = dispatched(plane, "h4")
    h4.soaks(plane)
    plane.pass(soakMs)
    h4.converges(plane)
    assert.strictEqual(rolloutState(plane, r1), "Terminal")
    assert.strictEqual(at(plane.state.rollouts, idOf(r1))?.record.currentWave, 2)
  })

  it("a Converged that comes before its soak is over here promotes nothing until it is", () => {
    const plane = ready()
    const h1 = dispatched(plane, "h1")
    h1.soaks(plane)
    plane.post("h1", idOf(r1), {
      kind: "Converged",
      convergedAt: plane.now,
      currentClosure: h1.record.targetClosure,
      seq: h1.record.lastEventSeq + 1
    })
    const waiterId = plane.park("h2")
    assert.isUndefined(plane.answerTo(waiterId))
    assert.strictEqual(at(plane.state.verdicts, "h2")?.earliestAt, start + soakMs)
    plane.pass(soakMs - 1)
    assert.isUndefined(plane.poll("h2"))
    plane.pass(1)
    assert.isDefined(plane.poll("h2"))
  })

  it("a Converged without evidence of its probes promotes nothing until the digest confirms it", () => {
    const plane = ready()
    const h1 = dispatched(plane, "h1")
    h1.accepts(plane)
    h1.tells(plane, {
      kind: "ActivationCompleted",
      observedCurrentClosure: h1.record.targetClosure,
      exitCode: 0,
      completedAt: plane.now
    })
    plane.pass(soakMs)
    const seq = h1.record.lastEventSeq + 1
    plane.post("h1", idOf(r1), {
      kind: "Converged",
      convergedAt: plane.now,
      currentClosure: h1.record.targetClosure,
      seq
    })
    assert.isTrue(plane.recordOf(idOf(r1), "h1").unproven)
    assert.isUndefined(plane.poll("h2"))
    const digest = { ...h1.digest, state: "Converged" as const, last_event_seq: seq }
    plane.heartbeat("h1", { digests: [digest] })
    assert.isDefined(plane.poll("h3"))
  })
})

describe("Verdicts (D17)", () => {
  it("are kept for hosts that wait, logged when they change, and not when they do not", () => {
    const plane = ready()
    assert.strictEqual(gateOf(plane, "h2"), "wave-promotion")
    assert.isUndefined(gateOf(plane, "h1"))
    const logged = () => plane.log.filter(({ entry }) => entry.kind === "gate_decision").length
    const before = logged()
    for (let n = 0; n < 10; n++) plane.pass(15_000)
    assert.strictEqual(logged(), before)
    assert.strictEqual(plane.log.length, plane.log.filter(({ now }) => now === start).length, "ticks write nothing")
  })
})

describe("Supersession (D8, D10)", () => {
  it("purges the older rollout's queue in the commit that opens the newer one", () => {
    const plane = ready()
    assert.strictEqual(at(plane.state.queue, "h1")?.rolloutId, idOf(r1))
    plane.publish(r2)
    assert.strictEqual(rolloutState(plane, r1), "Superseded")
    assert.deepStrictEqual(
      HashMap.toEntries(plane.state.queue).map(([host, row]) => [host, row.rolloutId]),
      [["h1", idOf(r2)]]
    )
    assert.strictEqual(plane.poll("h1")?.rollout_id, idOf(r2))
  })

  it("a host that the newer release leaves out loses its queued row as well", () => {
    const wide: Release = { ref: "a1", waves: [["h1", "h2", "h3"]] }
    const plane = ready(wide)
    plane.publish({ ref: "b2", waves: [["h1"]], signedAt: start + 1000 })
    assert.deepStrictEqual(HashMap.toEntries(plane.state.queue).map(([host]) => host), ["h1"])
    assert.isUndefined(plane.poll("h3"))
  })

  it("events of the older rollout keep folding and dispatch nothing", () => {
    const plane = ready()
    const old = dispatched(plane, "h1")
    old.soaks(plane)
    plane.publish(r2)
    plane.pass(soakMs)
    old.converges(plane)
    assert.strictEqual(plane.recordOf(idOf(r1), "h1").state, "Converged")
    assert.strictEqual(rolloutState(plane, r1), "Superseded")
    assert.isUndefined(plane.poll("h2"))
  })

  it("the acknowledgement of the newer rollout closes the host's older record, as the agent does", () => {
    const plane = ready()
    dispatched(plane, "h1").soaks(plane)
    plane.publish(r2)
    const dispatch = plane.poll("h1")
    assert.isDefined(dispatch)
    if (dispatch !== undefined) new Agent("h1", dispatch, start + 1000).accepts(plane)
    assert.isDefined(plane.recordOf(idOf(r1), "h1").closedAt)
  })

  it("a superseded rollout never pulls a host back", () => {
    const plane = ready()
    plane.publish(r2)
    const h1 = dispatched(plane, "h1")
    h1.soaks(plane)
    plane.pass(soakMs)
    h1.converges(plane)
    for (let n = 0; n < 20; n++) {
      plane.pass(60_000)
      assert.isUndefined(plane.poll("h1"))
    }
  })
})

describe("Halt (D17)", () => {
  const wide: Release = { ref: "a1", waves: [["h1", "h2", "h3"]] }

  it("a queued row of an offline host is deleted when another host fails, and nothing is dispatched when it returns", () => {
    const plane = ready(wide)
    const failing = dispatched(plane, "h1")
    assert.isTrue(HashMap.has(plane.state.queue, "h3"))
    failing.soaks(plane)
    failing.rollsBack(plane)
    assert.strictEqual(rolloutState(plane, wide), "Reverted")
    assert.strictEqual(HashMap.size(plane.state.queue), 0)
    plane.pass(3_600_000)
    assert.isUndefined(plane.poll("h3"))
    assert.strictEqual(gateOf(plane, "h3"), "rollout-state")
  })

  it("the rows and the rollout's new state are in one commit", () => {
    const plane = ready(wide)
    const failing = dispatched(plane, "h1")
    failing.accepts(plane)
    const rows = plane.writes.length
    failing.tells(plane, { kind: "ActivationFailed", exitCode: 1, stderrTail: "", failedAt: plane.now })
    const tags = plane.writes.slice(rows).map(({ _tag }) => _tag)
    assert.includeMembers(tags, ["AppendLog", "PutHostRecord", "PutRollout", "DropDispatch"])
  })

  it("a host that its release left out meanwhile halts nothing by failing", () => {
    const plane = ready(wide)
    const left = dispatched(plane, "h1")
    left.accepts(plane)
    plane.publish({ ...wide, waves: [["h2", "h3"]], signedAt: start + 1000 })
    left.tells(plane, {
      kind: "ActivationFailed",
      exitCode: 1,
      stderrTail: "",
      failedAt: plane.now,
      closureAtFault: false
    })
    assert.strictEqual(plane.recordOf(idOf(wide), "h1").state, "Failed")
    assert.strictEqual(rolloutState(plane, wide), "Active")
    assert.isDefined(plane.poll("h2"))
  })

  it("a failure that only a digest tells halts as well", () => {
    const plane = ready(wide)
    const h1 = dispatched(plane, "h1")
    h1.soaks(plane)
    plane.heartbeat("h1", { digests: [{ ...h1.digest, state: "Failed" }] })
    assert.strictEqual(rolloutState(plane, wide), "Failed")
    assert.isUndefined(plane.poll("h2"))
  })
})

describe("Quarantine (D11)", () => {
  it("holds the release that failed, and its closure in every other one", () => {
    const plane = ready()
    const h1 = dispatched(plane, "h1")
    h1.soaks(plane)
    h1.rollsBack(plane)
    assert.deepInclude(plane.state.quarantine[0], { channel: "stable", ref: "a1", closure: closureOf("a1", "h1") })

    const again: Release = { ...r2, closures: { h1: closureOf("a1", "h1") } }
    plane.publish(again)
    assert.isUndefined(plane.poll("h1"))
    assert.strictEqual(gateOf(plane, "h1"), "quarantine")

    const repaired: Release = { ref: "c3", waves: r1.waves, signedAt: start + 2000 }
    plane.publish(repaired)
    assert.strictEqual(plane.poll("h1")?.rollout_id, idOf(repaired))
  })

  it("does not hold the same ref once its manifest names a repaired closure (P-20)", () => {
    const plane = ready()
    const h1 = dispatched(plane, "h1")
    h1.soaks(plane)
    h1.rollsBack(plane)
    plane.publish({ ...r1, signedAt: start + 1000 })
    assert.isUndefined(plane.poll("h1"), "signed again is not repaired")
    plane.publish({ ...r1, signedAt: start + 2000, closures: { h1: closureOf("ff", "h1") } })
    assert.deepInclude(plane.poll("h1"), { target_closure: closureOf("ff", "h1"), attempt: 2 })
  })
})

describe("Evidence (D12)", () => {
  it("an agent of the original that declared no probes completes its wave after the soak", () => {
    const two: Release = { ref: "a1", waves: [["h1"], ["h2"]] }
    const plane = ready(two)
    plane.heartbeat("h1", {}, reference)
    const dispatch = plane.poll("h1", reference)
    assert.isDefined(dispatch)
    if (dispatch === undefined) return
    const target = dispatch.target_closure
    const happened: ReadonlyArray<UnnumberedEvent> = [
      { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: plane.now },
      { kind: "ActivationCompleted", observedCurrentClosure: target, exitCode: 0, completedAt: plane.now },
      { kind: "Converged", convergedAt: plane.now + soakMs, currentClosure: target }
    ]
    for (const [index, event] of happened.entries()) {
      if (event.kind === "Converged") plane.pass(soakMs - 1)
      plane.post("h1", idOf(two), { ...event, seq: index + 1 }, { capabilities: reference })
    }
    assert.isUndefined(plane.poll("h2"), "a millisecond of the soak is left here")
    plane.pass(1)
    assert.strictEqual(plane.poll("h2")?.rollout_id, idOf(two))
  })
})

describe("Attempts (D7)", () => {
  it("the same id with other targets opens a new attempt for the hosts whose target changed, and only for them", () => {
    const wide: Release = { ref: "a1", waves: [["h1", "h2"]] }
    const plane = ready(wide)
    const h1 = dispatched(plane, "h1")
    h1.soaks(plane)
    const h2 = dispatched(plane, "h2")
    h2.accepts(plane)
    plane.publish({ ...wide, signedAt: start + 1000, closures: { h2: closureOf("ff", "h2") } })
    const again = plane.poll("h2")
    assert.strictEqual(again?.attempt, 2)
    assert.strictEqual(again?.target_closure, closureOf("ff", "h2"))
    assert.strictEqual(again?.last_event_seq, h2.record.lastEventSeq, "numbers go on where they were")
    assert.strictEqual(plane.recordOf(idOf(wide), "h1").state, "Soaking")
    assert.strictEqual(plane.recordOf(idOf(wide), "h1").attempt, 1)
    if (again !== undefined) new Agent("h2", again, start + 1000).accepts(plane)
    assert.strictEqual(plane.recordOf(idOf(wide), "h2").state, "Activating")
  })

  it("the same targets signed again change nothing for the hosts", () => {
    const plane = ready()
    dispatched(plane, "h1").soaks(plane)
    const before = plane.recordOf(idOf(r1), "h1")
    plane.publish({ ...r1, signedAt: start + 1000 })
    assert.strictEqual(plane.recordOf(idOf(r1), "h1"), before)
    assert.strictEqual(at(plane.state.rollouts, idOf(r1))?.record.signedAt, start + 1000)
  })

  it("a channel that is pointed back begins a new attempt everywhere", () => {
    const plane = ready()
    plane.publish(r2)
    plane.publish({ ...r1, signedAt: start + 2000 })
    const dispatch = plane.poll("h1")
    assert.deepInclude(dispatch, { rollout_id: idOf(r1), attempt: 2 })
    assert.strictEqual(rolloutState(plane, r2), "Superseded")
  })

  it("an agent that knows no attempts is told nothing that it would ignore", () => {
    const plane = ready()
    plane.publish(r2)
    plane.publish({ ...r1, signedAt: start + 2000 })
    assert.isUndefined(plane.poll("h1", reference))
    assert.strictEqual(gateOf(plane, "h1"), "attempt-not-supported")
    assert.isDefined(plane.poll("h1"))
  })

  it("a host that goes to another channel is dispatched there at once, and its old channel takes nothing of that back", () => {
    const old: Release = { channel: "x", ref: "r1", waves: [["h1", "h2"]] }
    const other: Release = { channel: "a", ref: "r1", waves: [["a1"]] }
    const plane = new Plane()
    plane.publish(old, other)
    plane.hear(old, other)
    assert.strictEqual(at(plane.state.queue, "h1")?.rolloutId, idOf(old))
    const left: Release = { ...old, waves: [["h2"]], signedAt: start + 1000 }
    const joined: Release = { ...other, waves: [["a1", "h1"]], signedAt: start + 1000 }
    plane.publish(left, joined)
    assert.strictEqual(at(plane.state.queue, "h1")?.rolloutId, idOf(other))
    assert.isDefined(plane.poll("h1"))
    plane.publish({ ...left, closures: { h2: closureOf("ff", "h2") }, signedAt: start + 2000 }, joined)
    assert.strictEqual(plane.recordOf(idOf(old), "h2").attempt, 2)
    assert.isDefined(at(plane.state.queue, "h1")?.lease, "it is on its way still")
  })

  it("a channel that was without hosts begins anew those that come back from another one", () => {
    const here: ReadonlyArray<Release> = [
      { channel: "edge", ref: "c1", waves: [["h1"]] },
      { channel: "stable", ref: "c1", waves: [["s1"]] }
    ]
    const there: Release = { channel: "stable", ref: "c2", waves: [["h1", "s1"]], signedAt: start + 1000 }
    const back = here.map((release) => ({ ...release, signedAt: start + 2000 }))
    for (const isTaken of [true, false]) {
      const plane = new Plane()
      plane.publish(...here)
      plane.hear(...here)
      dispatched(plane, "h1").soaks(plane)
      plane.publish(there)
      if (isTaken) {
        const dispatch = plane.poll("h1")
        if (dispatch === undefined) return assert.fail("h1 was not dispatched")
        new Agent("h1", dispatch, start + 1000).accepts(plane)
      }
      plane.publish(...back)
      assert.deepInclude(plane.poll("h1"), { rollout_id: "edge@c1", attempt: 2 })
    }
  })

  it("a channel without a manifest dispatches nothing any more", () => {
    const plane = ready()
    plane.publish({ channel: "edge", ref: "e1", waves: [["x1"]] })
    assert.isUndefined(plane.poll("h1"))
    assert.isFalse(HashMap.has(plane.state.queue, "h1"))
  })
})
