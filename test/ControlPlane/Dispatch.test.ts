import { assert, describe, it } from "@effect/vitest"
import { HashMap } from "effect"
import { defaultLimits } from "../../src/ControlPlane/Limits.ts"
import { dispatched, idOf, Plane, reference, type Release, soakMs, start } from "../support/controlPlane.ts"

const r1: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"]] }

/** A plane that knows the release, has heard every host, and has dispatched nothing yet. */
function ready(release: Release = r1): Plane {
  const plane = new Plane()
  plane.publish(release)
  plane.hear(release)
  return plane
}

describe("Leases (D8)", () => {
  it("a dispatch whose answer was lost is offered again after its lease, not before", () => {
    const plane = ready()
    const first = plane.poll("h1")
    assert.strictEqual(first?.rollout_id, idOf(r1))

    const second = plane.park("h1")
    plane.pass(defaultLimits.leaseMs - 1)
    assert.strictEqual(plane.answerTo(second)?._tag, "Nothing", "its own time was over before the lease")
    const third = plane.park("h1")
    assert.isUndefined(plane.answerTo(third))
    plane.pass(1)
    const answer = plane.answerTo(third)
    assert.strictEqual(answer?._tag, "Dispatch")
    if (answer?._tag !== "Dispatch") return
    assert.notStrictEqual(answer.dispatch.delivery_id, first?.delivery_id)
    assert.strictEqual(answer.dispatch.soak_due_at, first?.soak_due_at, "fixed at the first lease of the attempt")
    assert.strictEqual(answer.dispatch.enqueued_at, first?.enqueued_at)
  })

  it("the soak is counted from the first lease, not from the opening", () => {
    const plane = ready()
    plane.pass(3_600_000)
    assert.strictEqual(plane.poll("h1")?.soak_due_at, start + 3_600_000 + soakMs)
  })

  it("a DispatchAck settles the lease: nothing is offered again", () => {
    const plane = ready()
    dispatched(plane, "h1").accepts(plane)
    plane.pass(defaultLimits.leaseMs * 2)
    assert.isUndefined(plane.poll("h1"))
    assert.strictEqual(HashMap.size(plane.state.queue), 0)
  })

  it("a poll that was aborted before the write gives its lease back at once", () => {
    const plane = ready()
    const waiterId = plane.park("h1")
    assert.strictEqual(plane.answerTo(waiterId)?._tag, "Dispatch")
    plane.offer({ _tag: "Unparked", host: "h1", waiterId })
    assert.isDefined(plane.poll("h1"))
  })

  it("the abort of another poll releases nothing", () => {
    const plane = ready()
    const waiterId = plane.park("h1")
    plane.offer({ _tag: "Unparked", host: "h1", waiterId: waiterId + 7 })
    assert.isUndefined(plane.poll("h1"))
  })

  it("a rejection takes the dispatch back and pauses it, longer each time", () => {
    const plane = ready()
    assert.isDefined(plane.poll("h1"))
    for (const pauseMs of [60_000, 120_000, 240_000]) {
      plane.heartbeat("h1", {
        rejections: [{ rollout_id: idOf(r1), reason: "stale", detail: "", at: plane.now }]
      })
      plane.pass(pauseMs - 1)
      const waiterId = plane.park("h1")
      assert.isUndefined(plane.answerTo(waiterId), `still paused after ${pauseMs - 1} ms`)
      plane.pass(1)
      assert.strictEqual(plane.answerTo(waiterId)?._tag, "Dispatch")
    }
  })

  it("the same rejection told again does not lengthen the pause", () => {
    const plane = ready()
    plane.poll("h1")
    const rejections = [{ rollout_id: idOf(r1), reason: "stale", detail: "", at: plane.now }]
    plane.heartbeat("h1", { rejections })
    plane.pass(59_999)
    plane.heartbeat("h1", { rejections })
    plane.pass(1)
    assert.isDefined(plane.poll("h1"))
  })

  it("new fields go only to a peer that announced them", () => {
    const plane = ready()
    const dispatch = plane.poll("h1", reference)
    assert.deepStrictEqual(Object.keys(dispatch ?? {}).toSorted(), [
      "enqueued_at",
      "hostname",
      "rollout_id",
      "soak_due_at",
      "target_closure"
    ])
  })
})

describe("Polls (D9)", () => {
  it("a dispatch wakes exactly the poll of its host", () => {
    const release: Release = { ref: "a1", waves: [["h1"], Array.from({ length: 50 }, (_, n) => `w${n}`)] }
    const plane = new Plane()
    plane.hear(release)
    const polls = new Map(release.waves.flat().map((host) => [host, plane.park(host)]))
    plane.publish(release)
    const woken = plane.actions.filter((action) => action._tag === "CompleteWaiter")
    assert.deepStrictEqual(woken.map((action) => action.host), ["h1"])
    assert.strictEqual(woken[0]?.waiterId, polls.get("h1"))
    assert.strictEqual(HashMap.size(plane.state.parked), 50)
  })

  it("a host has one poll, the newest; the older one is told that there is nothing", () => {
    const plane = ready()
    const older = plane.park("h2")
    const newer = plane.park("h2")
    assert.deepStrictEqual(plane.answerTo(older), { _tag: "Nothing" })
    assert.isUndefined(plane.answerTo(newer))
  })

  it("a poll ends when its time is over, not before", () => {
    const plane = ready()
    const waiterId = plane.park("h2")
    plane.pass(59_999)
    assert.isUndefined(plane.answerTo(waiterId))
    plane.pass(1)
    assert.deepStrictEqual(plane.answerTo(waiterId), { _tag: "Nothing" })
  })

  it("idle polls write nothing and plan nothing", () => {
    const plane = ready()
    const rows = plane.writes.length
    const before = plane.state.lastPlanAt
    for (let n = 0; n < 100; n++) plane.park("h2")
    assert.strictEqual(plane.writes.length, rows)
    assert.strictEqual(plane.state.lastPlanAt, before)
  })
})
