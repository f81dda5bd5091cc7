import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { hostOfCommonName } from "../../../src/ControlPlane/Api/Identity.ts"
import { noIdentities, revocationsInForce } from "../../../src/ControlPlane/Identities.ts"
import { emptyState } from "../../../src/ControlPlane/State.ts"
import {
  agent,
  apiRig,
  artifacts,
  getRequest,
  operator,
  peerNamed,
  postJson,
  stableId,
  suffix
} from "../../support/apiRig.ts"
import { textOf } from "../../support/tls.ts"

const everyRoute = [
  ["GET", "/v1/whoami"],
  ["GET", "/v1/agent/dispatch?wait=0"],
  ["POST", "/v1/agent/events"],
  ["POST", "/v1/agent/heartbeat"],
  ["GET", "/v1/fleet.resolved"],
  ["GET", "/v1/fleet.resolved/sig"],
  ["GET", `/v1/rollouts/${stableId}`],
  ["GET", `/v1/rollouts/${stableId}/sig`],
  ["GET", "/v1/channels/stable"],
  ["GET", "/v1/hosts"],
  ["GET", "/v1/rollouts"],
  ["GET", `/v1/rollouts/${stableId}/hosts`],
  ["GET", `/v1/rollouts/${stableId}/events`],
  ["GET", `/v1/rollouts/${stableId}/lifecycle`],
  ["GET", "/metrics"]
] as const
const request = (method: "GET" | "POST", path: string, headers: Readonly<Record<string, string>> = {}) =>
  method === "GET" ? getRequest(path, headers) : postJson(path, {}, headers)

const nobodyRevoked = revocationsInForce({ signedAt: 0, hash: "h", revocations: [] })

describe("the door of the control plane", () => {
  it.effect("healthz needs neither a certificate nor readiness", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      rig.state = emptyState("db")
      const response = yield* rig.call(getRequest("/healthz"))
      assert.strictEqual(response.status, 200)
      assert.deepStrictEqual(JSON.parse(textOf(response.body)), {
        ok: true,
        version: "0.0.0-test",
        last_tick_at: null,
        ready: false
      })
      rig.state = { ...rig.state, artifacts, lastPlanAt: 1_780_000_000_000 }
      const later = JSON.parse(textOf((yield* rig.call(getRequest("/healthz"))).body))
      assert.deepStrictEqual([later.last_tick_at, later.ready], ["2026-05-28T20:26:40Z", true])
    }))

  for (const [method, path] of everyRoute) {
    it.effect(`${method} ${path}: 503 with Retry-After 30 until an artifact is verified, before anything else is asked`, () =>
      Effect.gen(function*() {
        const rig = yield* apiRig()
        rig.state = emptyState("db")
        const response = yield* rig.call(request(method, path, { "x-nixfleet-protocol": "2" }))
        assert.strictEqual(response.status, 503)
        assert.strictEqual(response.headers["retry-after"], "30")
        assert.deepStrictEqual(JSON.parse(textOf(response.body)), {
          error: "control plane not ready",
          reason: "awaiting first signed artifact"
        })
      }))

    it.effect(`${method} ${path}: 401 without a certificate, without one name in it, before and after its validity`, () =>
      Effect.gen(function*() {
        const rig = yield* apiRig()
        const peers = [
          undefined,
          peerNamed(undefined),
          { ...agent("web-1"), notBefore: 1 },
          { ...agent("web-1"), notAfter: -1 }
        ]
        for (const peer of peers) assert.strictEqual((yield* rig.call(request(method, path), peer)).status, 401)
        assert.deepStrictEqual(rig.offered, [])
      }))

    it.effect(`${method} ${path}: 403 for a name of no role`, () =>
      Effect.gen(function*() {
        const rig = yield* apiRig()
        for (const name of ["agent-web-1.other.test", "agent-web-1", "agent-.fleet.test", "web-1", "lab-1"]) {
          assert.strictEqual((yield* rig.call(request(method, path), peerNamed(name))).status, 403, name)
        }
        assert.deepStrictEqual(rig.offered, [])
      }))

    it.effect(`${method} ${path}: the protocol header decides before the certificate`, () =>
      Effect.gen(function*() {
        const rig = yield* apiRig()
        const status = (value: string) =>
          Effect.map(rig.call(request(method, path, { "x-nixfleet-protocol": value })), (response) => response.status)
        for (const value of ["2", "0", "-1", "11"]) assert.strictEqual(yield* status(value), 426, value)
        for (const value of ["", "one", "1.0", "1 1", "9".repeat(30)]) {
          assert.strictEqual(yield* status(value), 400, value)
        }
        assert.strictEqual(yield* status("1"), 401)
      }))
  }

  it.effect("a strict control plane wants the protocol header; healthz is exempt", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig({ strict: true })
      rig.state = { ...rig.state, identities: { ...noIdentities, revocations: nobodyRevoked } }
      assert.strictEqual((yield* rig.call(getRequest("/v1/whoami"), operator)).status, 400)
      assert.strictEqual(
        (yield* rig.call(getRequest("/v1/whoami", { "x-nixfleet-protocol": "1" }), operator)).status,
        200
      )
      assert.strictEqual((yield* rig.call(getRequest("/healthz"))).status, 200)
    }))

  it.effect("a strict control plane serves nobody before a list of revocations is in force, and says so", () =>
    Effect.gen(function*() {
      const ours = { "x-nixfleet-protocol": "1" }
      for (const strict of [true, false]) {
        const rig = yield* apiRig({ strict })
        const before = yield* rig.call(getRequest("/v1/whoami", ours), operator)
        const health = JSON.parse(textOf((yield* rig.call(getRequest("/healthz"))).body))
        assert.deepStrictEqual([before.status, health.ready], strict ? [503, false] : [200, true])
        if (strict) assert.include(textOf(before.body), "awaiting first signed list of revocations")
        rig.state = { ...rig.state, identities: { ...noIdentities, revocations: nobodyRevoked } }
        assert.strictEqual((yield* rig.call(getRequest("/v1/whoami", ours), operator)).status, 200)
      }
    }))

  const agentOnly = everyRoute.filter(([, path]) => path.startsWith("/v1/agent/"))
  for (const [method, path] of agentOnly) {
    it.effect(`${method} ${path}: 403 for an operator`, () =>
      Effect.gen(function*() {
        const rig = yield* apiRig()
        assert.strictEqual((yield* rig.call(request(method, path), operator)).status, 403)
        assert.deepStrictEqual(rig.offered, [])
      }))
  }

  for (
    const path of [
      "/v1/channels/stable",
      "/v1/rollouts",
      `/v1/rollouts/${stableId}/events`,
      `/v1/rollouts/${stableId}/lifecycle`,
      "/metrics"
    ]
  ) {
    it.effect(`GET ${path}: 403 for a host`, () =>
      Effect.gen(function*() {
        const rig = yield* apiRig()
        assert.strictEqual((yield* rig.call(getRequest(path), agent("web-1"))).status, 403)
      }))
  }

  it.effect("whoami tells the name, the role and since when", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      const whoami = (peer: typeof operator) =>
        Effect.map(rig.call(getRequest("/v1/whoami"), peer), (response) => JSON.parse(textOf(response.body)))
      assert.deepStrictEqual(yield* whoami(agent("web-1")), {
        cn: `agent-web-1.${suffix}`,
        issuedAt: "1970-01-01T00:00:00Z",
        role: "agent",
        machineId: "web-1"
      })
      assert.deepStrictEqual(yield* whoami(operator), {
        cn: "operator-ada",
        issuedAt: "1970-01-01T00:00:00Z",
        role: "operator"
      })
    }))

  it.effect("unknown paths are 404, known paths with another method 405, and both say what we understand", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      for (
        const path of [
          "/",
          "/v1",
          "/v1/nothing",
          "/v1/rollouts/",
          "/v1/rollouts/a/b/c",
          "/v1/channels/%zz",
          "//v1/hosts"
        ]
      ) {
        assert.strictEqual((yield* rig.call(getRequest(path), operator)).status, 404, path)
      }
      const wrong = yield* rig.call(postJson("/v1/hosts", {}), operator)
      assert.deepStrictEqual([wrong.status, wrong.headers["allow"]], [405, "GET"])
      assert.strictEqual((yield* rig.call(getRequest("/v1/agent/events"), agent("web-1"))).headers["allow"], "POST")
      assert.strictEqual(wrong.headers["x-nixfleet-capabilities"], "verdicts,journal,attempts")
    }))

  const limits: Readonly<Record<string, number>> = { "/v1/agent/heartbeat": 524_288, "/v1/agent/events": 2_097_152 }
  for (const [method, path] of everyRoute) {
    const limit = limits[path] ?? 4096
    it.effect(`${method} ${path}: a body above ${limit} bytes is 413 also where no server cut it`, () =>
      Effect.gen(function*() {
        const rig = yield* apiRig()
        // A poll that is let through must not wait.
        rig.room = false
        const peer = path.startsWith("/v1/agent/") ? agent("web-1") : operator
        const status = (bytes: number) =>
          Effect.map(
            rig.call({ ...request(method, path), body: new Uint8Array(bytes).fill(0x20) }, peer),
            (response) => response.status
          )
        assert.strictEqual(yield* status(limit + 1), 413)
        assert.notStrictEqual(yield* status(limit), 413)
        assert.deepStrictEqual(rig.offered, [])
      }))
  }
})

describe("names of hosts in certificates", () => {
  const table: ReadonlyArray<readonly [string, string | undefined]> = [
    ["agent-web-1.fleet.test", "web-1"],
    ["agent-web.1.fleet.test", "web.1"],
    ["agent-agent-x.fleet.test", "agent-x"],
    ["agent-.fleet.test", undefined],
    ["agent-fleet.test", undefined],
    ["agent-web-1.fleet.test.", undefined],
    ["agent-web-1.xfleet.test", undefined],
    ["Agent-web-1.fleet.test", undefined],
    ["agent-../etc.fleet.test", undefined],
    ["agent-a b.fleet.test", undefined],
    ["web-1", undefined]
  ]
  for (const [name, host] of table) {
    it(`${name} is ${host ?? "no host"}`, () => assert.strictEqual(hostOfCommonName(name, suffix), host))
  }
})
