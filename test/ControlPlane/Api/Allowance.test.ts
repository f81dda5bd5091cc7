import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger } from "effect"
import { TestClock } from "effect/testing"
import {
  eventBytes,
  lookCost,
  makeAllowance,
  networkOf,
  otherRequests,
  refusalLines
} from "../../../src/ControlPlane/Api/Allowance.ts"
import { agent, apiRig, getRequest, operator, postJson } from "../../support/apiRig.ts"

const heartbeat = (host: string) => postJson("/v1/agent/heartbeat", { hostname: host, at: "2026-06-01T08:00:00Z" })
const event = (host: string, bytes: number) =>
  postJson("/v1/agent/events", {
    hostname: host,
    rolloutId: "stable@aa",
    event: { kind: "ActivationStarted", startedAt: "2026-06-01T08:00:00Z", switchMethod: "x", seq: 1 },
    padding: "x".repeat(bytes)
  })

describe("an allowance", () => {
  it("grants its burst at once, then what time refills, and counts what it refused", () => {
    const take = makeAllowance({ burst: 3, perSecond: 1 })
    const granted = (now: number) => take("a", 1, now).granted
    assert.deepStrictEqual([granted(0), granted(0), granted(0), granted(0), granted(500)], [
      true,
      true,
      true,
      false,
      false
    ])
    assert.deepStrictEqual(take("a", 1, 1000), { granted: true, refused: 2 })
    assert.deepStrictEqual(take("b", 1, 1000), { granted: true, refused: 0 })
  })

  it("is not refilled by a clock that goes backwards", () => {
    const take = makeAllowance({ burst: 1, perSecond: 1 })
    assert.isTrue(take("a", 1, 5000).granted)
    assert.isFalse(take("a", 1, 0).granted)
  })
})

describe("one host's share", () => {
  it.effect("of requests: 503 with Retry-After, for this host only, and only for a while", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      for (let times = 0; times < otherRequests.burst; times += 1) {
        assert.strictEqual((yield* rig.call(heartbeat("web-1"), agent("web-1"))).status, 200)
      }
      const over = yield* rig.call(heartbeat("web-1"), agent("web-1"))
      assert.deepStrictEqual([over.status, over.headers["retry-after"]], [503, "30"])
      assert.strictEqual((yield* rig.call(heartbeat("web-2"), agent("web-2"))).status, 200)
      assert.strictEqual((yield* rig.call(event("web-1", 0), agent("web-1"))).status, 204)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* rig.call(heartbeat("web-1"), agent("web-1"))).status, 200)
    }))

  it.effect("of bytes: large events end it, and its heartbeats go on", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      const statuses = new Set<number>()
      for (let sent = 0; sent <= eventBytes.burst; sent += 2_000_000) {
        statuses.add((yield* rig.call(event("web-1", 2_000_000), agent("web-1"))).status)
      }
      assert.deepStrictEqual([...statuses], [204, 503])
      assert.strictEqual((yield* rig.call(heartbeat("web-1"), agent("web-1"))).status, 200)
    }))

  it.effect("a host that asks again and again why it waits is told to wait, and still polls and beats", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      const looks = otherRequests.burst / lookCost
      const statuses: Array<number> = []
      for (const path of ["/v1/hosts", "/v1/hosts/web-1/why"]) {
        for (let times = 0; times < looks; times += 1) {
          statuses.push((yield* rig.call(getRequest(path), agent("web-1"))).status)
        }
      }
      assert.deepStrictEqual([statuses[looks - 1], statuses[looks]], [200, 503])
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* rig.call(heartbeat("web-1"), agent("web-1"))).status, 200)
      assert.strictEqual((yield* rig.call(getRequest("/v1/hosts"), agent("web-1"))).status, 503)
      assert.strictEqual((yield* rig.call(getRequest("/v1/hosts"), agent("web-2"))).status, 200)
    }))

  it.effect("does not bind operators", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      for (let times = 0; times < otherRequests.burst + 10; times += 1) {
        assert.strictEqual((yield* rig.call(getRequest("/v1/hosts"), operator)).status, 200)
      }
    }))
})

describe("log lines about refused requests", () => {
  it.effect("are few for a peer that does not stop, and say how many were left out", () =>
    Effect.gen(function*() {
      const lines: Array<unknown> = []
      const logger = Logger.make(({ message }) => {
        lines.push(message)
      })
      const rig = yield* apiRig()
      const knock = rig.call(getRequest(`/${"x".repeat(9000)}`), undefined)
      yield* Effect.repeat(knock, { times: 999 }).pipe(Effect.provide(Logger.layer([logger])))
      assert.strictEqual(lines.length, refusalLines.burst)
      assert.isBelow(JSON.stringify(lines[0]).length, 600)
    }))
})

describe("the network that a share is counted by", () => {
  for (
    const [address, network] of [
      ["192.0.2.1", "192.0.2.1"],
      ["::ffff:192.0.2.1", "::ffff:192.0.2.1"],
      ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2"],
      ["2001:db8:1:2::6", "2001:db8:1:2"],
      ["2001:db8::1", "2001:db8:0:0"],
      ["2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:0"],
      ["2001:db8:1::3:4:5:6", "2001:db8:1:0"],
      ["::1", "0:0:0:0"],
      ["::", "0:0:0:0"],
      ["fe80::1%eth0", "fe80:0:0:0"],
      ["", ""]
    ] as const
  ) {
    it(`of ${address || "no address"} is ${network || "none"}`, () => assert.strictEqual(networkOf(address), network))
  }
})
