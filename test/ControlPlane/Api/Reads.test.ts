import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { EventsPage } from "../../../src/ControlPlane/Api/Api.ts"
import { JournalUnusable } from "../../../src/ControlPlane/Journal.ts"
import type { Explanation, HostStatusEntry, RolloutHosts } from "../../../src/Schema/OperatorViews.ts"
import { agent, apiRig, artifacts, getRequest, operator, stableId } from "../../support/apiRig.ts"
import { textOf } from "../../support/tls.ts"

describe("signed artifacts", () => {
  const manifest = artifacts.manifests.get(stableId)
  const parts = [
    ["/v1/fleet.resolved", "application/json", artifacts.fleet.bytes],
    ["/v1/fleet.resolved/sig", "application/octet-stream", artifacts.fleet.signature],
    [`/v1/rollouts/${stableId}`, "application/json", manifest?.bytes],
    [`/v1/rollouts/${stableId}/sig`, "application/octet-stream", manifest?.signature],
    [`/v1/rollouts/${encodeURIComponent(stableId)}`, "application/json", manifest?.bytes]
  ] as const
  for (const [path, type, bytes] of parts) {
    it.effect(`GET ${path}: byte for byte, to hosts and operators; 304 when the peer has it`, () =>
      Effect.gen(function*() {
        const rig = yield* apiRig()
        for (const peer of [agent("web-1"), operator]) {
          const response = yield* rig.call(getRequest(path), peer)
          assert.strictEqual(response.status, 200)
          assert.strictEqual(response.headers["content-type"], type)
          assert.deepStrictEqual(response.body, bytes)
          const etag = response.headers["etag"] ?? ""
          const again = yield* rig.call(getRequest(path, { "if-none-match": `"other", ${etag}` }), peer)
          assert.deepStrictEqual([again.status, again.body.length], [304, 0])
          const stale = yield* rig.call(getRequest(path, { "if-none-match": "\"other\"" }), peer)
          assert.strictEqual(stale.status, 200)
        }
      }))
  }

  it.effect("an unknown or malformed rollout id is 404", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      for (const id of ["stable@00", "stable", "@", "stable@XYZ", "..%2F..%2Fetc", "stable@0f@0f", "__proto__"]) {
        assert.strictEqual((yield* rig.call(getRequest(`/v1/rollouts/${id}`), operator)).status, 404, id)
        assert.strictEqual((yield* rig.call(getRequest(`/v1/rollouts/${id}/sig`), operator)).status, 404, id)
      }
    }))
})

const host = (hostname: string): HostStatusEntry => ({
  hostname,
  channel: "stable",
  declaredClosureHash: null,
  currentClosureHash: null,
  pendingClosureHash: null,
  lastCheckinAt: Date.UTC(2026, 5, 1),
  lastRolloutId: null,
  converged: false,
  outstandingComplianceFailures: 0,
  outstandingRuntimeGateErrors: 0,
  verifiedEventCount: 0,
  lastUptimeSecs: null,
  rolloutState: "Soaking",
  pendingReboot: false,
  quarantinedClosure: null,
  pin: null,
  outstandingHealthFailures: 0,
  wave: 0,
  attempt: 1,
  soakDueAt: null,
  waitsFor: null,
  agentVersion: null,
  pendingEvents: null,
  parkedEvents: null,
  rejections: [],
  held: null,
  fetching: null,
  diverged: false,
  revoked: null
})
const rolloutHost = (name: string): RolloutHosts["hosts"][number] => ({
  host: name,
  channel: "stable",
  wave: 0,
  targetClosureHash: "c",
  targetChannelRef: "def",
  dispatchedAt: "2026-06-01T08:00:00Z",
  terminalState: null,
  terminalAt: null
})

const explanation = (hostname: string, at: number): Explanation => ({
  hostname,
  at,
  standing: "held",
  reason: "wave-promotion",
  because: "wave 1 of 2 is not complete: web-0 is soaking",
  since: null,
  clearedBy: "the end of the soak of wave 1",
  earliestAt: Date.UTC(2026, 5, 1),
  evidence: [{ fact: "web-0: it soaks", at: null }],
  channel: "stable",
  runs: null,
  lastHeardAt: null,
  rollout: null
})

describe("views of the fleet", () => {
  const projections = {
    hosts: (_state: unknown, _now: number, only?: string) => ({
      hosts: [host("web-1"), host("web-2")].filter(({ hostname }) => only === undefined || hostname === only)
    }),
    why: (_state: unknown, now: number, name: string) => name === "web-1" ? explanation(name, now) : undefined,
    rollouts: () => ({ rollouts: [] }),
    rolloutHosts: (_state: unknown, _now: number, rolloutId: string, only?: string) =>
      rolloutId === stableId
        ? {
          rollout_id: rolloutId,
          hosts: [rolloutHost("web-1"), rolloutHost("web-2")].filter((row) => only === undefined || row.host === only)
        }
        : undefined,
    lifecycle: (_state: unknown, rolloutId: string) =>
      rolloutId === stableId
        ? { rolloutId, state: "Active", supersededAt: null, supersededBy: null, terminalAt: null }
        : undefined,
    channel: (_state: unknown, name: string) =>
      name === "stable"
        ? { name, declared_ci_commit: "def", signed_at: Date.UTC(2026, 5, 1), freshness_window_minutes: 180 }
        : undefined
  }

  it.effect("an operator sees every host, a host only itself", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig({ projections })
      const names = (peer: typeof operator) =>
        Effect.map(
          rig.call(getRequest("/v1/hosts"), peer),
          (response) => JSON.parse(textOf(response.body)).hosts.map((entry: { hostname: string }) => entry.hostname)
        )
      assert.deepStrictEqual(yield* names(operator), ["web-1", "web-2"])
      assert.deepStrictEqual(yield* names(agent("web-2")), ["web-2"])
      assert.deepStrictEqual(yield* names(agent("db-1")), [])
      const own = yield* rig.call(getRequest(`/v1/rollouts/${stableId}/hosts`), agent("web-1"))
      assert.deepStrictEqual(JSON.parse(textOf(own.body)), { rollout_id: stableId, hosts: [rolloutHost("web-1")] })
      assert.strictEqual((yield* rig.call(getRequest(`/v1/rollouts/${stableId}/hosts`), agent("db-1"))).status, 404)
    }))

  it.effect("an operator may ask why any host waits, a host only of itself", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig({ projections })
      const asked = (name: string, peer: typeof operator) => rig.call(getRequest(`/v1/hosts/${name}/why`), peer)
      const answered = yield* asked("web-1", operator)
      assert.strictEqual(answered.status, 200)
      assert.deepInclude(JSON.parse(textOf(answered.body)), {
        hostname: "web-1",
        standing: "held",
        earliestAt: "2026-06-01T00:00:00Z",
        since: null,
        evidence: [{ fact: "web-0: it soaks", at: null }]
      })
      assert.strictEqual((yield* asked("web-1", agent("web-1"))).status, 200)
      assert.strictEqual((yield* asked("web-1", agent("web-2"))).status, 403)
      assert.strictEqual((yield* asked("none", agent("web-2"))).status, 403)
    }))

  it.effect("of a host that nobody knows there is nothing to explain, whatever it is called", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      const status = (path: string) => Effect.map(rig.call(getRequest(path), operator), (response) => response.status)
      for (const name of ["none", "__proto__", "constructor", "..%2f..", "a%00b", "x".repeat(5_000)]) {
        assert.strictEqual(yield* status(`/v1/hosts/${name}/why`), 404, name)
      }
      for (const path of ["/v1/hosts//why", "/v1/hosts/%ff/why", "/v1/hosts/a/b/why", "/v1/hosts/a/why/"]) {
        assert.strictEqual(yield* status(path), 404, path)
      }
      const posted = yield* rig.call({ ...getRequest("/v1/hosts/a/why"), method: "POST" }, operator)
      assert.strictEqual(posted.status, 405)
    }))

  it.effect("absent values are written as null and times as RFC 3339", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig({ projections })
      const [entry] = JSON.parse(textOf((yield* rig.call(getRequest("/v1/hosts"), operator)).body)).hosts
      assert.strictEqual(entry.lastCheckinAt, "2026-06-01T00:00:00Z")
      assert.strictEqual(entry.pin, null)
      assert.strictEqual(entry.lastUptimeSecs, null)
      const channel = yield* rig.call(getRequest("/v1/channels/stable"), operator)
      assert.deepStrictEqual(JSON.parse(textOf(channel.body)), {
        name: "stable",
        declared_ci_commit: "def",
        signed_at: "2026-06-01T00:00:00Z",
        freshness_window_minutes: 180
      })
      const lifecycle = yield* rig.call(getRequest(`/v1/rollouts/${stableId}/lifecycle`), operator)
      assert.deepStrictEqual(JSON.parse(textOf(lifecycle.body)), {
        rolloutId: stableId,
        state: "Active",
        supersededAt: null,
        supersededBy: null,
        terminalAt: null
      })
    }))

  it.effect("an unknown rollout or channel is 404, an id of another shape 400", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig({ projections })
      const status = (path: string) => Effect.map(rig.call(getRequest(path), operator), (response) => response.status)
      assert.strictEqual(yield* status("/v1/channels/none"), 404)
      assert.strictEqual(yield* status("/v1/channels/__proto__"), 404)
      for (const view of ["hosts", "lifecycle"]) {
        assert.strictEqual(yield* status(`/v1/rollouts/stable@00/${view}`), 404)
      }
      for (const view of ["hosts", "lifecycle", "events"]) {
        for (const id of ["stable", "stable@", "Stable@0f", "stable@0f@0f", "a%20b@0f", "%2e%2e"]) {
          assert.strictEqual(yield* status(`/v1/rollouts/${id}/${view}`), 400, `${id} ${view}`)
        }
      }
    }))

  it.effect("a page with a row that cannot be read is a named refusal, not a defect", () =>
    Effect.gen(function*() {
      const unusable = new JournalUnusable({ reason: "journal-unreadable", message: "the payload of row 5" })
      const rig = yield* apiRig({ eventLog: () => Effect.fail(unusable) })
      const response = yield* rig.call(getRequest(`/v1/rollouts/${stableId}/events`), operator)
      assert.deepStrictEqual([response.status, response.body.length], [500, 0])
    }))

  it.effect("events are read page by page, at least 1 and at most 1000 at a time", () =>
    Effect.gen(function*() {
      const pages: Array<EventsPage> = []
      const rig = yield* apiRig({
        eventLog: (page) =>
          Effect.sync(() => {
            pages.push(page)
            return {
              rollout_id: page.rolloutId,
              events: [{ seq: 5, ts: "2026-06-01T08:00:00Z", kind: "agent_event", host: null, payload: { a: 1 } }]
            }
          })
      })
      const path = `/v1/rollouts/${stableId}/events`
      for (const query of ["", "?limit=0", "?limit=7&after_seq=4", "?limit=5000"]) {
        const response = yield* rig.call(getRequest(`${path}${query}`), operator)
        assert.deepStrictEqual(JSON.parse(textOf(response.body)).events, [
          { seq: 5, ts: "2026-06-01T08:00:00Z", kind: "agent_event", host: null, payload: { a: 1 } }
        ])
      }
      assert.deepStrictEqual(pages.map(({ afterSeq, limit }) => [limit, afterSeq]), [[1000, 0], [1, 0], [7, 4], [
        1000,
        0
      ]])
      for (const query of ["limit=-1", "limit=x", "after_seq=1e3", "limit=", "after_seq=9999999999999999999"]) {
        assert.strictEqual((yield* rig.call(getRequest(`${path}?${query}`), operator)).status, 400, query)
      }
    }))
})
