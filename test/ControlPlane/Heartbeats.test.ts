import { assert, describe, it } from "@effect/vitest"
import { at, hostIn } from "../../src/ControlPlane/State.ts"
import { closureOf, dispatched, idOf, Plane, reference, type Release, soakMs } from "../support/controlPlane.ts"

const r1: Release = { ref: "a1", waves: [["h1"], ["h2"]] }
const id = idOf(r1)

function ready(): Plane {
  const plane = new Plane()
  plane.publish(r1)
  plane.hear(r1)
  return plane
}

describe("Heartbeats (D6)", () => {
  it("tell what is durable here, and where what is missing begins", () => {
    const plane = ready()
    const h1 = dispatched(plane, "h1")
    h1.soaks(plane)
    h1.does({ kind: "ProbeObservedFirst", probeName: "web", mode: "enforce", observedAt: plane.now }, plane.now)
    const { response } = plane.heartbeat("h1", { digests: [h1.digest] })
    assert.deepStrictEqual(response.acked_through, { [id]: 5 })
    assert.deepStrictEqual(response.replay_from, { [id]: 6 })
    assert.strictEqual(response.received_at, plane.now)
  })

  it("name in the header only the rollout that the request named", () => {
    const plane = ready()
    dispatched(plane, "h1").accepts(plane)
    assert.strictEqual(plane.heartbeat("h1", { rollout_id: id }).replayFrom, 1)
    assert.isUndefined(plane.heartbeat("h1").replayFrom)
    assert.isUndefined(plane.heartbeat("h1", { rollout_id: "stable@ffff" }).replayFrom)
  })

  it("never move a record and never consume a number", () => {
    const plane = ready()
    for (const closure of [closureOf("a1", "h1"), "0-before"]) {
      plane.heartbeat("h1", { current_closure: closure })
      plane.heartbeat("h1", { current_closure: closure }, reference)
    }
    assert.strictEqual(plane.recordOf(id, "h1").state, "Pending")
    assert.strictEqual(hostIn(plane.state, id, "h1")?.ledger.lastSeq, 0)
  })

  it("write nothing when they say nothing new, and again after five minutes", () => {
    const plane = ready()
    plane.heartbeat("h2")
    const rows = plane.writes.length
    for (let n = 0; n < 4; n++) {
      plane.now += 60_000
      plane.heartbeat("h2", { uptime_secs: n })
    }
    assert.strictEqual(plane.writes.length, rows)
    plane.now += 60_000
    plane.heartbeat("h2", { uptime_secs: 9 })
    assert.deepStrictEqual(plane.writes.slice(rows).map(({ _tag }) => _tag), ["PutSeen"])
  })

  it("a digest that agrees heals a record that had diverged", () => {
    const plane = ready()
    const h1 = dispatched(plane, "h1")
    h1.accepts(plane)
    plane.post("h1", id, { kind: "Converged", convergedAt: plane.now, currentClosure: "x", seq: 2 })
    assert.isTrue(plane.recordOf(id, "h1").diverged)
    plane.heartbeat("h1", { digests: [{ ...h1.digest, last_event_seq: 2 }] })
    assert.isUndefined(plane.recordOf(id, "h1").diverged)
  })

  it("a digest that differs is shown in place of the record until the next event", () => {
    const plane = ready()
    const h1 = dispatched(plane, "h1")
    h1.accepts(plane)
    plane.heartbeat("h1", { digests: [{ ...h1.digest, state: "Soaking" }] })
    assert.deepInclude(hostIn(plane.state, id, "h1")?.overlay, { origin: "digest", state: "Soaking" })
    assert.strictEqual(plane.recordOf(id, "h1").state, "Activating")
    h1.tells(plane, { kind: "ActivationStarted", startedAt: plane.now, switchMethod: "test" })
    assert.isUndefined(hostIn(plane.state, id, "h1")?.overlay)
  })

  it("a digest of an agent whose events are still on their way is no difference", () => {
    const plane = ready()
    const h1 = dispatched(plane, "h1")
    h1.accepts(plane)
    h1.does({ kind: "ActivationStarted", startedAt: plane.now, switchMethod: "test" }, plane.now)
    plane.heartbeat("h1", { digests: [{ ...h1.digest, state: "Failed" }] })
    assert.isUndefined(hostIn(plane.state, id, "h1")?.overlay)
  })
})

describe("Agents of the original (D2, D6)", () => {
  const target = closureOf("a1", "h1")
  const seen = { current_closure: target }

  it("a host that runs its target without a word soaks in full before it counts, and is not dispatched meanwhile", () => {
    const plane = ready()
    plane.heartbeat("h1", seen, reference)
    assert.isUndefined(plane.poll("h1", reference))
    plane.now += soakMs - 1
    plane.heartbeat("h1", seen, reference)
    plane.pass(0)
    assert.isUndefined(plane.poll("h2"))
    plane.now += 1
    plane.heartbeat("h1", seen, reference)
    assert.isDefined(plane.poll("h2"))
    assert.strictEqual(plane.recordOf(id, "h1").state, "Pending", "the record is the events' alone")
  })

  it("an inference ends when the host runs something else", () => {
    const plane = ready()
    plane.heartbeat("h1", seen, reference)
    plane.heartbeat("h1", { current_closure: "0-before" }, reference)
    assert.isUndefined(hostIn(plane.state, id, "h1")?.overlay)
    assert.isDefined(plane.poll("h1", reference))
  })

  it("an inference gives way to the acknowledgement that was only late", () => {
    const plane = ready()
    const dispatch = plane.poll("h1", reference)
    assert.isDefined(dispatch)
    plane.heartbeat("h1", seen, reference)
    const ack = { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: plane.now, seq: 1 } as const
    assert.deepStrictEqual(plane.post("h1", id, ack, { capabilities: reference }), { _tag: "Applied" })
    assert.isUndefined(hostIn(plane.state, id, "h1")?.overlay)
    assert.strictEqual(plane.recordOf(id, "h1").state, "Activating")
  })

  it("get a snapshot when they have apparently restarted, and in no other heartbeat", () => {
    const plane = ready()
    const dispatch = plane.poll("h1", reference)
    assert.isDefined(dispatch)
    const ack = { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: plane.now, seq: 1 } as const
    plane.post("h1", id, ack, { capabilities: reference })
    const snapshots = (ms: number) => {
      plane.now += ms
      return plane.heartbeat("h1", {}, reference).response.bootstrap_rollouts
    }
    assert.deepStrictEqual(snapshots(60_000), [])
    assert.deepStrictEqual(snapshots(60_900), [], "late by a second")
    assert.deepStrictEqual(snapshots(180_000), [], "an outage keeps the rhythm")
    const [snapshot] = snapshots(23_000)
    assert.deepInclude(snapshot, { rolloutId: id, state: "Activating", lastEventSeq: 1, targetClosure: target })
    assert.deepStrictEqual(snapshots(60_000), [])
  })

  it("get their snapshot again when they say nothing of a soak that is over: they did not hear the one of their start", () => {
    const plane = ready()
    assert.isDefined(plane.poll("h1", reference))
    const told = { capabilities: reference }
    const ack = { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: plane.now, seq: 1 } as const
    plane.post("h1", id, ack, told)
    const completed = { kind: "ActivationCompleted", observedCurrentClosure: target, exitCode: 0, seq: 2 } as const
    plane.post("h1", id, { ...completed, completedAt: plane.now }, told)
    const snapshots = () => {
      plane.now += 60_000
      return plane.heartbeat("h1", seen, reference).response.bootstrap_rollouts
    }
    // The soak, and then the periods for which a living agent may be silent.
    for (let ms = 60_000; ms < soakMs + 180_000; ms += 60_000) assert.deepStrictEqual(snapshots(), [], `after ${ms} ms`)
    assert.deepInclude(snapshots()[0], { rolloutId: id, state: "Soaking", lastEventSeq: 2 })
    const failing = { kind: "ProbeResult", probeName: "web", mode: "enforce", status: "fail", seq: 3 } as const
    plane.post("h1", id, { ...failing, observedAt: plane.now }, told)
    assert.deepStrictEqual(snapshots(), [], "one whose probe fails is not silent")
  })

  it("never get a snapshot of a record that is Pending or was closed", () => {
    const plane = ready()
    plane.heartbeat("h1", {}, reference)
    plane.now += 7_000
    assert.deepStrictEqual(plane.heartbeat("h1", {}, reference).response.bootstrap_rollouts, [])
  })

  it("the answer holds nothing that they do not know", () => {
    const plane = ready()
    assert.deepStrictEqual(Object.keys(plane.heartbeat("h1", {}, reference).response).toSorted(), [
      "bootstrap_rollouts",
      "received_at"
    ])
    assert.strictEqual(at(plane.state.hosts, "h1")?.seen?.capabilities.length, 0)
  })
})
