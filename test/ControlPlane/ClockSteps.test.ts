/** The control plane's clock is set back, or a host's is wrong: nothing waits for longer than it would have (D6, D8, D12). */
import { assert, describe, it } from "@effect/vitest"
import { HashMap } from "effect"
import { defaultLimits } from "../../src/ControlPlane/Limits.ts"
import { at } from "../../src/ControlPlane/State.ts"
import { why } from "../../src/ControlPlane/Why.ts"
import { soakLeftHere } from "../../src/Rollout/host/Evidence.ts"
import { dispatched, idOf, Plane, type Release, soakMs, start } from "../support/controlPlane.ts"

const year = 365 * 86_400_000
const r1: Release = { ref: "a1", waves: [["h1"], ["h2"]] }
const id = idOf(r1)

function ready(): Plane {
  const plane = new Plane()
  plane.publish(r1)
  plane.hear(r1)
  return plane
}

const queued = (plane: Plane) => HashMap.size(plane.state.queue)

describe("A clock that is set back by a year", () => {
  it("ends a lease, whose dispatch is offered again", () => {
    const plane = ready()
    assert.isDefined(plane.poll("h1"))
    plane.pass(-year)
    assert.isDefined(plane.poll("h1"))
    assert.strictEqual(queued(plane), 1)
  })

  it("ends polls, which their agents begin anew", () => {
    const plane = ready()
    const waiterId = plane.park("h2")
    plane.pass(-year)
    assert.strictEqual(plane.answerTo(waiterId)?._tag, "Nothing")
  })

  it("ends the pause after a rejection, and a later rejection by the right clock counts again", () => {
    const plane = ready()
    assert.isDefined(plane.poll("h1"))
    const reject = () =>
      plane.heartbeat("h1", { rejections: [{ rollout_id: id, reason: "stale", detail: "", at: plane.now }] })
    reject()
    assert.isUndefined(plane.poll("h1"))
    plane.pass(-year)
    assert.isDefined(plane.poll("h1"))
    reject()
    assert.isUndefined(plane.poll("h1"), "paused again")
  })

  it("begins the grace of a new database anew: silent hosts are waited for no longer than that", () => {
    const plane = new Plane()
    plane.publish(r1)
    plane.heartbeat("h1")
    assert.isDefined(at(plane.state.channels, "stable")?.recovery)
    plane.pass(-year)
    plane.pass(defaultLimits.recoveryGraceMs - 1)
    assert.isUndefined(plane.poll("h1"))
    plane.pass(1)
    assert.isDefined(plane.poll("h1"))
  })

  it("promotes a wave whose soak is over by the clock of its host", () => {
    const plane = ready()
    const h1 = dispatched(plane, "h1")
    h1.soaks(plane)
    plane.pass(soakMs)
    h1.converges(plane)
    plane.pass(-year)
    assert.isDefined(plane.poll("h2"))
  })
})

describe("The place of a host in its budgets, when the clock is set back by ten hours", () => {
  const budgeted: Release = {
    ref: "a1",
    waves: [["h1", "h2"]],
    budgets: [{ hosts: ["h1", "h2"], maxInFlight: 1 }]
  }
  const leased = () => {
    const plane = new Plane()
    plane.publish(budgeted)
    plane.hear(budgeted)
    plane.pass(0)
    return { plane, agent: dispatched(plane, "h1") }
  }
  const setBack = -10 * 3_600_000

  it("is free when it was silent for as long as any, by the clock as it is now", () => {
    const { agent, plane } = leased()
    agent.accepts(plane)
    plane.state = { ...plane.state, listeningSince: start - year }
    plane.now += setBack
    assert.isUndefined(plane.poll("h2"), "before the first tick nobody can tell")
    plane.pass(0)
    const ticks = defaultLimits.silentMs / 30_000
    for (let tick = 1; tick < ticks; tick++) plane.pass(30_000)
    assert.isUndefined(plane.poll("h2"))
    assert.strictEqual(why(plane.state, plane.now, "h1")?.since, start + setBack, "since it could be heard last")
    plane.pass(30_000)
    assert.isDefined(plane.poll("h2"))
  })

  it("is its own while its dispatch is not acknowledged, until it is heard", () => {
    const { plane } = leased()
    plane.pass(setBack)
    assert.isUndefined(plane.poll("h2"))
    plane.publish({ ...budgeted, ref: "b2", signedAt: start + 1, waves: [["h2"]] })
    plane.poll("h1")
    for (const _ of [1, 2]) {
      assert.isUndefined(plane.poll("h2"))
      plane.heartbeat("h1")
      plane.pass(0)
    }
    assert.isDefined(plane.poll("h2"))
  })
})

describe("A soak of a host that says that it is over", () => {
  const converged = () => {
    const plane = ready()
    const h1 = dispatched(plane, "h1")
    h1.soaks(plane)
    const begun = plane.now
    plane.pass(soakMs)
    h1.converges(plane)
    const record = plane.recordOf(id, "h1")
    assert.isTrue(record.state === "Converged")
    return { begun, record: record as Extract<typeof record, { state: "Converged" }> }
  }

  it("is told by our own clock when that of the host is a year ahead or behind, and not shortened", () => {
    const { begun, record } = converged()
    for (const ahead of [year, -year]) {
      const wrong = { ...record, activationCompletedAt: begun + ahead }
      assert.strictEqual(soakLeftHere(wrong, begun + soakMs - 1), 1, String(ahead))
      assert.strictEqual(soakLeftHere(wrong, begun + soakMs), 0, String(ahead))
    }
  })

  it("is not waited for when the time of its dispatch, or ours, is a year wrong", () => {
    const { begun, record } = converged()
    assert.strictEqual(soakLeftHere({ ...record, soakDueAt: begun + year }, begun + soakMs - 1), 1)
    assert.strictEqual(soakLeftHere({ ...record, soakDueAt: begun + year }, begun + soakMs), 0)
    assert.strictEqual(soakLeftHere(record, begun - year), 0)
  })
})
