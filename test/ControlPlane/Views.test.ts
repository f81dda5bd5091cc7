import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Views from "../../src/ControlPlane/Views.ts"
import { HostsResponse, RolloutHosts, RolloutList } from "../../src/Schema/OperatorViews.ts"
import { closureOf, dispatched, idOf, Plane, type Release, soakMs, start } from "../support/controlPlane.ts"

const r1: Release = { ref: "a1", waves: [["h1"], ["h3", "h2"]] }
const id = idOf(r1)

function ready(): Plane {
  const plane = new Plane()
  plane.publish(r1)
  plane.hear(r1)
  return plane
}

const statusOf = (plane: Plane, host: string) =>
  Views.hosts(plane.state, plane.now).hosts.find(({ hostname }) => hostname === host)

describe("Views (W24)", () => {
  it("a host without heartbeat and without rollout is shown, with what is declared", () => {
    const plane = new Plane()
    plane.offer({
      _tag: "ArtifactsVerified",
      artifacts: (() => {
        const other = new Plane()
        other.publish(r1)
        const artifacts = other.state.artifacts
        return artifacts === undefined ? assert.fail("no artifacts") : { ...artifacts, manifests: new Map() }
      })()
    })
    assert.isNull(Views.channel(plane.state, "stable")?.rollout, "nothing of the channel is to be rolled out")
    assert.deepInclude(statusOf(plane, "h2"), {
      channel: "stable",
      declaredClosureHash: closureOf("a1", "h2"),
      lastCheckinAt: null,
      lastRolloutId: null,
      rolloutState: null
    })
  })

  it("says when a host was heard, what it runs, what it waits for and what ends that", () => {
    const plane = ready()
    plane.heartbeat("h2", {
      current_closure: "0-before",
      uptime_secs: 77,
      agent_version: "1.2.3",
      pending_events: 4,
      rejections: [{ rollout_id: id, reason: "stale", detail: "too old", at: plane.now }]
    })
    const status = statusOf(plane, "h2")
    assert.deepInclude(status, {
      currentClosureHash: "0-before",
      pendingClosureHash: closureOf("a1", "h2"),
      lastCheckinAt: start,
      lastUptimeSecs: 77,
      agentVersion: "1.2.3",
      pendingEvents: 4,
      wave: 1,
      attempt: 1,
      rolloutState: "Pending",
      converged: false
    })
    assert.strictEqual(status?.waitsFor?.gate, "wave-promotion")
    assert.strictEqual(status?.rejections[0]?.reason, "stale")
  })

  it("shows how far a host's fetch was in its last heartbeat, which alone makes nothing durable", () => {
    const plane = ready()
    dispatched(plane, "h1").accepts(plane)
    const closure = closureOf("a1", "h1")
    plane.heartbeat("h1", { fetching: { closure, done_bytes: 1 } })
    assert.deepStrictEqual(statusOf(plane, "h1")?.fetching, { closure, doneBytes: 1, expectedBytes: null })
    const rows = plane.writes.length
    plane.heartbeat("h1", { fetching: { closure, done_bytes: 31, expected_bytes: 120 } })
    assert.deepStrictEqual(statusOf(plane, "h1")?.fetching, { closure, doneBytes: 31, expectedBytes: 120 })
    plane.heartbeat("h1")
    assert.isNull(statusOf(plane, "h1")?.fetching)
    assert.strictEqual(plane.writes.length, rows)
  })

  it("shows soak, failing probes and the quarantined closure", () => {
    const plane = ready()
    const h1 = dispatched(plane, "h1")
    h1.soaks(plane)
    assert.deepInclude(statusOf(plane, "h1"), { rolloutState: "Soaking", soakDueAt: start + soakMs })
    h1.rollsBack(plane)
    assert.deepInclude(statusOf(plane, "h1"), {
      rolloutState: "Reverted",
      quarantinedClosure: closureOf("a1", "h1"),
      pendingClosureHash: null,
      outstandingHealthFailures: 1
    })
  })

  it("rollouts, their hosts by wave and name, and their life", () => {
    const plane = ready()
    dispatched(plane, "h1").soaks(plane)
    assert.deepInclude(Views.rollouts(plane.state).rollouts[0], {
      rolloutId: id,
      state: "Active",
      currentWave: 0,
      waves: 2,
      hostStates: { h1: "Soaking", h2: "Pending", h3: "Pending" }
    })
    assert.deepStrictEqual(
      Views.rolloutHosts(plane.state, plane.now, id)?.hosts.map(({ host, wave }) => [host, wave]),
      [
        ["h1", 0],
        ["h2", 1],
        ["h3", 1]
      ]
    )
    plane.publish({ ...r1, ref: "b2", signedAt: start + 1 })
    assert.deepInclude(Views.lifecycle(plane.state, id), { state: "Superseded", supersededBy: "stable@b2" })
    assert.deepStrictEqual(Views.rollouts(plane.state).rollouts.map(({ rolloutId }) => rolloutId), ["stable@b2"])
    assert.isUndefined(Views.lifecycle(plane.state, "stable@ffff"))
    assert.isUndefined(Views.rolloutHosts(plane.state, plane.now, "stable@ffff"))
  })

  it("channels are those of the fleet in force", () => {
    const plane = ready()
    assert.deepStrictEqual(Views.channel(plane.state, "stable"), {
      name: "stable",
      declared_ci_commit: "a1",
      signed_at: start,
      freshness_window_minutes: 180,
      rollout: id
    })
    assert.isUndefined(Views.channel(plane.state, "constructor"))
  })

  it("every view can be written as its schema says", () => {
    const plane = ready()
    dispatched(plane, "h1").soaks(plane)
    Schema.encodeSync(HostsResponse)(Views.hosts(plane.state, plane.now))
    Schema.encodeSync(RolloutList)(Views.rollouts(plane.state))
    const view = Views.rolloutHosts(plane.state, plane.now, id)
    assert.isDefined(view)
    if (view !== undefined) Schema.encodeSync(RolloutHosts)(view)
  })
})
