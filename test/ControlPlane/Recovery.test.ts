import { assert, describe, it } from "@effect/vitest"
import { HashMap } from "effect"
import { defaultLimits } from "../../src/ControlPlane/Limits.ts"
import { at } from "../../src/ControlPlane/State.ts"
import { type Agent, closureOf, dispatched, idOf, Plane, type Release, soakMs, start } from "../support/controlPlane.ts"

const r1: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"]] }
const id = idOf(r1)

/** Wave 0 has converged, h2 soaks, h3 has acknowledged. */
function midRollout(): { readonly plane: Plane; readonly agents: Readonly<Record<"h1" | "h2" | "h3", Agent>> } {
  const plane = new Plane()
  plane.publish(r1)
  plane.hear(r1)
  const h1 = dispatched(plane, "h1")
  h1.soaks(plane)
  plane.pass(soakMs)
  h1.converges(plane)
  const h2 = dispatched(plane, "h2")
  h2.soaks(plane)
  const h3 = dispatched(plane, "h3")
  h3.accepts(plane)
  return { plane, agents: { h1, h2, h3 } }
}

/** The same moment with an empty database. */
function wiped(before: Plane): Plane {
  const plane = new Plane()
  plane.now = before.now
  plane.publish(r1)
  return plane
}

/** When a dispatch was made and when its soak is due are counted anew from what the agent says. */
const ofTheLease: ReadonlySet<string> = new Set(["dispatchedAt", "soakDueAt"])
const essence = (plane: Plane, host: string) =>
  Object.fromEntries(Object.entries(plane.recordOf(id, host)).filter(([key]) => !ofTheLease.has(key)))

const dispatches = (plane: Plane) =>
  plane.actions.filter((action) => action._tag === "CompleteWaiter" && action.answer._tag === "Dispatch").length

describe("A wiped database (D6)", () => {
  it("has the same records once every agent has replayed, and dispatched nothing on the way", () => {
    const { agents, plane: before } = midRollout()
    const plane = wiped(before)
    for (const host of ["h1", "h2", "h3"]) plane.park(host)
    for (const agent of Object.values(agents)) {
      assert.strictEqual(dispatches(plane), 0)
      agent.reports(plane)
    }
    for (const host of ["h1", "h2", "h3"]) assert.deepStrictEqual(essence(plane, host), essence(before, host))
    assert.strictEqual(dispatches(plane), 0)
    assert.strictEqual(at(plane.state.rollouts, id)?.record.currentWave, 1)
    assert.isUndefined(at(plane.state.channels, "stable")?.recovery)
  })

  it("waits for a host that was heard and whose events are not here yet", () => {
    const { agents, plane: before } = midRollout()
    const plane = wiped(before)
    const waiterId = plane.park("h1")
    plane.heartbeat("h2", { digests: [agents.h2.digest] })
    plane.heartbeat("h3", { digests: [agents.h3.digest] })
    const { response } = plane.heartbeat("h1", { digests: [agents.h1.digest] })
    assert.deepStrictEqual(response.replay_from, { [id]: 1 })
    assert.isUndefined(plane.answerTo(waiterId))
    assert.strictEqual(at(plane.state.verdicts, "h1")?.gate, "recovery")
  })

  it("waits for a silent host until the grace is over, and shows it", () => {
    const plane = new Plane()
    plane.publish(r1)
    plane.heartbeat("h1")
    plane.heartbeat("h2")
    plane.pass(defaultLimits.recoveryGraceMs - 1)
    assert.isUndefined(plane.poll("h1"))
    const verdict = at(plane.state.verdicts, "h1")
    assert.strictEqual(verdict?.gate, "recovery")
    assert.strictEqual(verdict?.earliestAt, start + defaultLimits.recoveryGraceMs)
    const waiterId = plane.park("h1")
    plane.pass(1)
    assert.strictEqual(plane.answerTo(waiterId)?._tag, "Dispatch")
  })

  it("a host whose events are missing is not dispatched after the grace either", () => {
    const { agents, plane: before } = midRollout()
    const plane = wiped(before)
    plane.heartbeat("h1", { digests: [agents.h1.digest] })
    plane.pass(defaultLimits.recoveryGraceMs)
    assert.isUndefined(plane.poll("h1"))
    assert.strictEqual(at(plane.state.verdicts, "h1")?.gate, "awaiting-replay")
  })

  it("an agent that keeps a journal is heard only when it says what is in it", () => {
    const plane = new Plane()
    plane.publish({ ref: "a1", waves: [["h1"]] })
    const waiterId = plane.park("h1")
    plane.offer({
      _tag: "HeartbeatReceived",
      issuedAt: 0,
      heartbeat: { hostname: "h1", at: plane.now },
      capabilities: new Set(["journal", "verdicts", "attempts"])
    })
    assert.isUndefined(plane.answerTo(waiterId))
    plane.heartbeat("h1")
    assert.strictEqual(plane.answerTo(waiterId)?._tag, "Dispatch")
  })

  it("a host that was heard and does not poll may have a dispatch of the lost database in its hands", () => {
    const plane = new Plane()
    plane.publish({ ref: "a1", waves: [["h1", "h2"]], budgets: [{ hosts: ["h1", "h2"], maxInFlight: 1 }] })
    plane.heartbeat("h1")
    const waiterId = plane.park("h2")
    plane.heartbeat("h2")
    assert.isUndefined(plane.answerTo(waiterId))
    // What it took is in no heartbeat that was heard so far.
    plane.polls("h1", { rolloutId: "stable@a1", attempt: 1 })
    assert.isUndefined(plane.answerTo(waiterId))
    plane.heartbeat("h1", {
      digests: [{
        rollout_id: "stable@a1",
        state: "Activating",
        target_closure: closureOf("a1", "h1"),
        attempt: 1,
        last_event_seq: 1
      }]
    })
    assert.isUndefined(plane.answerTo(waiterId))
    plane.post("h1", "stable@a1", { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: plane.now, seq: 1 })
    assert.isUndefined(plane.answerTo(waiterId))
    assert.match(at(plane.state.verdicts, "h2")?.because ?? "", /h1 is activating/)
  })

  it("what a host tells of the channel that it left may be the last word that its new one waits for", () => {
    const plane = new Plane()
    const left: Release = { channel: "edge", ref: "a1", waves: [["h1"]] }
    plane.publish(left)
    plane.hear(left)
    const agent = dispatched(plane, "h1")
    plane.polls("h1", { rolloutId: "edge@a1", attempt: 1 })
    plane.publish({ ref: "b2", waves: [["h1"]], signedAt: start + 1000 })
    assert.isDefined(at(plane.state.channels, "stable")?.recovery)
    agent.accepts(plane)
    assert.isUndefined(at(plane.state.channels, "stable")?.recovery)
    assert.strictEqual(plane.poll("h1")?.rollout_id, "stable@b2")
  })

  it("what a host took long ago is no riddle to a new database", () => {
    const plane = new Plane()
    plane.publish({ ref: "a1", waves: [["h1"]] })
    const digest = { state: "Converged", target_closure: closureOf("0f", "h1"), attempt: 2, last_event_seq: 7 } as const
    plane.heartbeat("h1", { digests: [{ rollout_id: "stable@0f", ...digest }] })
    plane.polls("h1", { rolloutId: "stable@0f", attempt: 2 })
    assert.isDefined(plane.poll("h1"))
  })

  it("quarantine is rebuilt from digests, also of rollouts that are not known here", () => {
    const plane = new Plane()
    plane.publish(r1)
    plane.heartbeat("h1", {
      digests: [{
        rollout_id: "stable@0bad",
        state: "Reverted",
        target_closure: closureOf("a1", "h1"),
        attempt: 1,
        last_event_seq: 9,
        quarantined: true
      }]
    })
    plane.greets("h2")
    plane.greets("h3")
    assert.isUndefined(plane.poll("h1"))
    assert.strictEqual(at(plane.state.verdicts, "h1")?.gate, "quarantine")
  })

  it("a host cannot condemn closures of another channel", () => {
    const plane = new Plane()
    plane.publish(r1)
    plane.heartbeat("h1", {
      digests: [{
        rollout_id: "edge@0bad",
        state: "Reverted",
        target_closure: closureOf("a1", "h1"),
        attempt: 1,
        last_event_seq: 9,
        quarantined: true
      }]
    })
    assert.deepStrictEqual(plane.state.quarantine, [])
  })

  it("a rollout that had failed is halted again once its host has replayed", () => {
    const before = new Plane()
    before.publish(r1)
    before.hear(r1)
    const h1 = dispatched(before, "h1")
    h1.soaks(before)
    h1.rollsBack(before)
    const plane = wiped(before)
    h1.reports(plane)
    plane.heartbeat("h2")
    plane.heartbeat("h3")
    assert.strictEqual(at(plane.state.rollouts, id)?.record.state, "Reverted")
    assert.strictEqual(HashMap.size(plane.state.queue), 0)
    assert.deepInclude(plane.state.quarantine[0], { channel: "stable", ref: "a1" })
  })
})
