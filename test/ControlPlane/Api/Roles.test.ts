import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { match, routes } from "../../../src/ControlPlane/Api/Contract.ts"
import { noIdentities, revocationsInForce } from "../../../src/ControlPlane/Identities.ts"
import type { Peer } from "../../../src/Layers/Net/Exchange.ts"
import { agent, apiRig, getRequest, operator, peerNamed, postJson, stableId } from "../../support/apiRig.ts"

const now = 1_778_893_200_000
const revokedBefore = now - 1_000

/** Certificates, by who presents them. `undefined`: none. */
const roles = {
  none: undefined,
  agent: agent("web-1"),
  "other agent": agent("web-2"),
  operator,
  unmarked: peerNamed("operator-ada"),
  revoked: { ...agent("lab-1"), notBefore: revokedBefore - 1 },
  "issued after the revocation": { ...agent("lab-1"), notBefore: revokedBefore },
  expired: { ...agent("web-1"), notAfter: now - 1 }
} as const satisfies Readonly<Record<string, Peer | undefined>>
type Role = keyof typeof roles
const columns: ReadonlyArray<Role> = [
  "none",
  "agent",
  "other agent",
  "operator",
  "unmarked",
  "revoked",
  "issued after the revocation",
  "expired"
]

/**
 * What each is answered, in the order of `columns`. Requests are of web-1: bodies are empty where they may be (422), there is
 * no room for a poll (503), nothing is issued (501), an action is not for now (409), and of the views those are empty that the rig has none of (404).
 */
const table: ReadonlyArray<readonly [method: "GET" | "POST", path: string, answers: ReadonlyArray<number>]> = [
  ["GET", "/healthz", [200, 200, 200, 200, 200, 200, 200, 200]],
  ["POST", "/v1/enroll", [501, 501, 501, 501, 501, 501, 501, 501]],
  ["POST", "/v1/agent/renew", [401, 501, 501, 403, 403, 401, 501, 401]],
  ["GET", "/v1/whoami", [401, 200, 200, 200, 403, 401, 200, 401]],
  ["GET", "/v1/agent/dispatch?hostname=web-1", [401, 503, 403, 403, 403, 401, 403, 401]],
  ["POST", "/v1/agent/events", [401, 204, 403, 403, 403, 401, 403, 401]],
  ["POST", "/v1/agent/heartbeat", [401, 200, 403, 403, 403, 401, 403, 401]],
  ["GET", "/v1/fleet.resolved", [401, 200, 200, 200, 403, 401, 200, 401]],
  ["GET", "/v1/fleet.resolved/sig", [401, 200, 200, 200, 403, 401, 200, 401]],
  ["GET", `/v1/rollouts/${stableId}`, [401, 200, 200, 200, 403, 401, 200, 401]],
  ["GET", `/v1/rollouts/${stableId}/sig`, [401, 200, 200, 200, 403, 401, 200, 401]],
  ["GET", "/v1/channels/stable", [401, 403, 403, 404, 403, 401, 403, 401]],
  ["GET", "/v1/hosts", [401, 200, 200, 200, 403, 401, 200, 401]],
  ["GET", "/v1/hosts/web-1/why", [401, 404, 403, 404, 403, 401, 403, 401]],
  ["GET", "/v1/rollouts", [401, 403, 403, 200, 403, 401, 403, 401]],
  ["GET", `/v1/rollouts/${stableId}/hosts`, [401, 404, 404, 404, 403, 401, 404, 401]],
  ["GET", `/v1/rollouts/${stableId}/events`, [401, 403, 403, 200, 403, 401, 403, 401]],
  ["GET", `/v1/rollouts/${stableId}/lifecycle`, [401, 403, 403, 404, 403, 401, 403, 401]],
  ["GET", "/v1/snapshot", [401, 403, 403, 200, 403, 401, 403, 401]],
  ["POST", "/v1/operator/actions", [401, 403, 403, 409, 403, 401, 403, 401]],
  ["GET", "/v1/operator/actions", [401, 403, 403, 200, 403, 401, 403, 401]],
  ["GET", "/v1/quarantine", [401, 403, 403, 200, 403, 401, 403, 401]],
  ["GET", "/metrics", [401, 403, 403, 200, 403, 401, 403, 401]]
]

const bodies: Readonly<Record<string, unknown>> = {
  "/v1/agent/events": {
    hostname: "web-1",
    rolloutId: stableId,
    event: { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: "2026-04-24T10:00:00Z", seq: 1 }
  },
  "/v1/agent/heartbeat": { hostname: "web-1", at: "2026-04-24T10:00:00Z" },
  "/v1/operator/actions": { action: "ClearRollout", rolloutId: stableId, reason: "a test" }
}

describe("who may call what (D16)", () => {
  it("the table has every route", () => {
    const named = table.map(([method, path]) => {
      const found = match(method, path)
      return found._tag === "Found" ? found.route.name : found._tag
    })
    assert.deepStrictEqual(named.toSorted(), routes.map(({ name }) => name).toSorted())
  })

  for (const [method, path, answers] of table) {
    for (const [index, role] of columns.entries()) {
      it.effect(`${method} ${path} by ${role}: ${answers[index]}`, () =>
        Effect.gen(function*() {
          yield* TestClock.setTime(now)
          const rig = yield* apiRig()
          rig.room = false
          const revocations = [{ hostname: "lab-1", notBefore: revokedBefore }]
          const list = revocationsInForce({ signedAt: 0, hash: "", revocations })
          rig.state = { ...rig.state, identities: { ...noIdentities, revocations: list } }
          const request = method === "GET" ? getRequest(path) : postJson(path, bodies[path] ?? {})
          assert.strictEqual((yield* rig.call(request, roles[role])).status, answers[index])
        }))
    }
  }
})
