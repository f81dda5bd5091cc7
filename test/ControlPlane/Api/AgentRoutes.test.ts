import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { TestClock } from "effect/testing"
import { heartbeatBody } from "../../../src/ControlPlane/Api/AgentRoutes.ts"
import type { EventAnswer, PollAnswer } from "../../../src/ControlPlane/Input.ts"
import { type Capability, HeartbeatResponse, takenHeader } from "../../../src/Schema/Wire.ts"
import { sha256Hex } from "../../../src/Trust/CanonicalJson.ts"
import { agent, type ApiRig, apiRig, capable, getRequest, longAgo, postJson } from "../../support/apiRig.ts"
import { textOf, utf8 } from "../../support/tls.ts"

const web1 = agent("web-1")
const ack = {
  hostname: "web-1",
  rolloutId: "stable@0f3c9a",
  event: {
    kind: "DispatchAck",
    currentClosureAtDispatch: "aaaa-nixos-system-web-1",
    receivedAt: "2026-06-01T08:00:01Z",
    seq: 1
  }
}
const beat = { hostname: "web-1", current_closure: "bbbb-nixos-system-web-1", at: "2026-06-01T08:05:00Z" }

const postEvent = (rig: ApiRig, value: unknown, headers: Readonly<Record<string, string>> = {}) =>
  rig.call(postJson("/v1/agent/events", value, headers), web1)
const postBeat = (rig: ApiRig, value: unknown) => rig.call(postJson("/v1/agent/heartbeat", value), web1)

describe("POST /v1/agent/events", () => {
  it.effect("offers the envelope, the canonical text of what was received, and its hash", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      const body =
        "{\"event\":{\"seq\":1,\"kind\":\"DispatchAck\",\"new\":1E2,\"receivedAt\":\"2026-06-01T08:00:01Z\"," +
        "\"currentClosureAtDispatch\":\"\"},\"rolloutId\":\"stable@0f3c9a\",\"hostname\":\"web-1\"}"
      assert.strictEqual((yield* postEvent(rig, body, capable)).status, 204)
      const canonical = "{\"currentClosureAtDispatch\":\"\",\"kind\":\"DispatchAck\",\"new\":100," +
        "\"receivedAt\":\"2026-06-01T08:00:01Z\",\"seq\":1}"
      assert.deepStrictEqual(rig.offered, [{
        _tag: "EventReceived",
        envelope: {
          hostname: "web-1",
          rolloutId: "stable@0f3c9a",
          event: {
            kind: "DispatchAck",
            currentClosureAtDispatch: "",
            receivedAt: Date.UTC(2026, 5, 1, 8, 0, 1),
            seq: 1
          }
        },
        canonical,
        hash: sha256Hex(utf8(canonical)),
        capabilities: new Set<Capability>(["verdicts", "journal", "attempts"])
      }])
    }))

  const answers: ReadonlyArray<readonly [EventAnswer, number, unknown, number]> = [
    [{ _tag: "Applied" }, 204, undefined, 204],
    [{ _tag: "Duplicate" }, 204, undefined, 204],
    [{ _tag: "Refused", reason: "invariant", class: "guard" }, 409, { verdict: "refused", reason: "invariant" }, 204],
    [
      { _tag: "Refused", reason: "illegal-for-state", class: "illegal" },
      422,
      { verdict: "refused", reason: "illegal-for-state" },
      204
    ],
    [{ _tag: "Gap", replayFrom: 3 }, 425, { verdict: "gap", reason: "seq-gap", replay_from: 3 }, 503],
    [
      { _tag: "NotReady" },
      503,
      { error: "control plane not ready", reason: "awaiting first signed artifact" },
      503
    ]
  ]
  for (const [answer, status, body, toReference] of answers) {
    it.effect(`${answer._tag} is ${status} to a capable agent and ${toReference} to one of the original`, () =>
      Effect.gen(function*() {
        const rig = yield* apiRig()
        rig.eventAnswer = Effect.succeed(answer)
        const response = yield* postEvent(rig, ack, capable)
        assert.strictEqual(response.status, status)
        assert.deepStrictEqual(response.body.length === 0 ? undefined : JSON.parse(textOf(response.body)), body)
        const reference = yield* postEvent(rig, ack)
        assert.strictEqual(reference.status, toReference)
        if (toReference === 204) assert.strictEqual(reference.body.length, 0)
        if (toReference === 503) assert.isDefined(reference.headers["retry-after"])
      }))
  }

  it.effect("a full queue is 503 with Retry-After, named to capable agents", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      rig.eventAnswer = Effect.succeed({ _tag: "Busy" })
      const response = yield* postEvent(rig, ack, capable)
      assert.deepStrictEqual([response.status, response.headers["retry-after"]], [503, "2"])
      assert.deepStrictEqual(JSON.parse(textOf(response.body)), { verdict: "busy", reason: "queue-full" })
      const reference = yield* postEvent(rig, ack)
      assert.deepStrictEqual([reference.status, reference.body.length], [503, 0])
    }))

  it.effect("an event of another host is 403 and offered to nobody", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      assert.strictEqual((yield* postEvent(rig, { ...ack, hostname: "web-2" })).status, 403)
      assert.deepStrictEqual(rig.offered, [])
    }))

  it.effect("an event that cannot be read is a 422 without verdict to a capable agent, which keeps it, and 204 to another", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      const unreadable = [
        { ...ack, event: { kind: "SomethingNew", seq: 4 } },
        { ...ack, event: { ...ack.event, seq: -1 } },
        { ...ack, event: { ...ack.event, receivedAt: "yesterday" } },
        { ...ack, event: { kind: "DispatchAck", seq: 1 } }
      ]
      for (const envelope of unreadable) {
        const response = yield* postEvent(rig, envelope, capable)
        assert.deepStrictEqual([response.status, response.body.length], [422, 0])
        assert.strictEqual((yield* postEvent(rig, envelope)).status, 204)
      }
      assert.deepStrictEqual(rig.offered, [])
    }))
})

describe("bodies of agents", () => {
  const valid = JSON.stringify(ack)
  const syntax = [
    "",
    "{",
    valid.slice(0, -1),
    `${valid}x`,
    `\uFEFF${valid}`,
    valid.replace("\"seq\":1", "\"seq\":1,\"seq\":2"),
    valid.replace("web-1", "\\ud800"),
    valid.replace("\"seq\":1", "\"seq\":9007199254740993"),
    "[".repeat(200) + "]".repeat(200)
  ]
  for (const path of ["/v1/agent/events", "/v1/agent/heartbeat"] as const) {
    it.effect(`${path}: what is not strict JSON is 400`, () =>
      Effect.gen(function*() {
        const rig = yield* apiRig()
        for (const text of syntax) {
          assert.strictEqual((yield* rig.call(postJson(path, text), web1)).status, 400, text.slice(0, 40))
        }
        const notUtf8 = { ...postJson(path, ""), body: Uint8Array.of(0x7b, 0xff, 0x7d) }
        assert.strictEqual((yield* rig.call(notUtf8, web1)).status, 400)
        assert.deepStrictEqual(rig.offered, [])
      }))

    it.effect(`${path}: JSON of another shape is 422`, () =>
      Effect.gen(function*() {
        const rig = yield* apiRig()
        const shapes = ["null", "[]", "1", "{}", "{\"hostname\":1}", "{\"hostname\":\"web-1\"}", "{\"__proto__\":{}}"]
        for (const text of shapes) {
          assert.strictEqual((yield* rig.call(postJson(path, text), web1)).status, 422, text)
        }
        assert.deepStrictEqual(rig.offered, [])
      }))

    it.effect(`${path}: another content type is 415`, () =>
      Effect.gen(function*() {
        const rig = yield* apiRig()
        for (const type of ["text/plain", "", "application/jsonx"]) {
          const body = { ...postJson(path, ack), headers: { "content-type": type } }
          assert.strictEqual((yield* rig.call(body, web1)).status, 415, type)
        }
        const none = { ...postJson(path, ack), headers: {} }
        assert.strictEqual((yield* rig.call(none, web1)).status, 415)
      }))
  }

  it.effect("a content type with parameters passes", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      const headers = { "content-type": "Application/JSON; charset=utf-8" }
      assert.strictEqual((yield* postEvent(rig, ack, headers)).status, 204)
    }))
})

describe("POST /v1/agent/heartbeat", () => {
  it.effect("offers the heartbeat and answers as the original does, without an empty list", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      rig.heartbeatAnswer = Effect.succeed({
        _tag: "Heartbeat",
        response: { received_at: Date.UTC(2026, 5, 1, 8, 5), bootstrap_rollouts: [] }
      })
      const response = yield* postBeat(rig, beat)
      assert.strictEqual(response.status, 200)
      assert.strictEqual(response.headers["content-type"], "application/json")
      assert.isUndefined(response.headers["x-nixfleet-replay-from"])
      assert.strictEqual(textOf(response.body), "{\"received_at\":\"2026-06-01T08:05:00Z\"}")
      assert.deepStrictEqual(rig.offered, [{
        _tag: "HeartbeatReceived",
        heartbeat: {
          hostname: "web-1",
          current_closure: "bbbb-nixos-system-web-1",
          at: Date.UTC(2026, 5, 1, 8, 5)
        },
        capabilities: new Set<Capability>(),
        issuedAt: longAgo
      }])
    }))

  it.effect("carries snapshots, replay marks and the replay header when the reducer gives them", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      rig.heartbeatAnswer = Effect.succeed({
        _tag: "Heartbeat",
        replayFrom: 7,
        response: {
          bootstrap_rollouts: [{
            rolloutId: "stable@0f3c9a",
            hostname: "web-1",
            channel: "stable",
            state: "Soaking",
            targetClosure: "bbbb-nixos-system-web-1",
            dispatchedAt: Date.UTC(2026, 5, 1, 8),
            lastEventSeq: 3
          }],
          replay_from: { "stable@0f3c9a": 4 }
        }
      })
      const response = yield* postBeat(rig, beat)
      assert.strictEqual(response.headers["x-nixfleet-replay-from"], "7")
      assert.deepStrictEqual(JSON.parse(textOf(response.body)), {
        bootstrap_rollouts: [{
          rolloutId: "stable@0f3c9a",
          hostname: "web-1",
          channel: "stable",
          state: "Soaking",
          targetClosure: "bbbb-nixos-system-web-1",
          dispatchedAt: "2026-06-01T08:00:00Z",
          lastEventSeq: 3
        }],
        replay_from: { "stable@0f3c9a": 4 }
      })
    }))

  it.effect("of another host is 403; a full queue or a late reducer is 503 with Retry-After", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      assert.strictEqual((yield* postBeat(rig, { ...beat, hostname: "web-2" })).status, 403)
      rig.heartbeatAnswer = Effect.succeed({ _tag: "Busy" })
      const full = yield* postBeat(rig, beat)
      assert.deepStrictEqual([full.status, full.headers["retry-after"]], [503, "2"])
    }))
})

describe("GET /v1/agent/dispatch", () => {
  const parkedOf = (rig: ApiRig) => rig.offered.flatMap((input) => input._tag === "Parked" ? [input] : [])
  const park = Effect.fnUntraced(function*(rig: ApiRig, path = "/v1/agent/dispatch?wait=60") {
    const poll = yield* Effect.forkChild(rig.call(getRequest(path, capable), web1))
    yield* Effect.yieldNow
    return { poll, parked: parkedOf(rig).at(-1) }
  })
  const dispatch: PollAnswer = {
    _tag: "Dispatch",
    dispatch: {
      hostname: "web-1",
      rollout_id: "stable@0f3c9a",
      target_closure: "bbbb-nixos-system-web-1",
      soak_due_at: Date.UTC(2026, 5, 1, 8, 10),
      enqueued_at: Date.UTC(2026, 5, 1, 8)
    }
  }

  it.effect("parks one waiter for the certificate's host, with a deadline of 54 to 60 seconds", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      yield* TestClock.setTime(1_000_000)
      const untils = new Set<number>()
      for (let round = 0; round < 50; round++) {
        const { parked } = yield* park(rig)
        assert.strictEqual(parked?.host, "web-1")
        assert.deepStrictEqual(parked?.capabilities, new Set(["verdicts", "journal", "attempts"]))
        untils.add((parked?.until ?? 0) - 1_000_000)
      }
      const waits = [...untils]
      assert.isAtLeast(Math.min(...waits), 54_000)
      assert.isAtMost(Math.max(...waits), 60_000)
      assert.isTrue(waits.every(Number.isInteger))
      assert.isAbove(untils.size, 20)
    }))

  it.effect("what the agent took last is passed on; what cannot be read says nothing", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      for (const taken of ["nothing", "stable@0f3c9a 2", "everything", undefined]) {
        const headers = taken === undefined ? {} : { [takenHeader]: taken }
        yield* Effect.forkChild(rig.call(getRequest("/v1/agent/dispatch", { ...capable, ...headers }), web1))
        yield* Effect.yieldNow
      }
      assert.deepStrictEqual(parkedOf(rig).map((parked) => parked.taken), [
        "nothing",
        { rolloutId: "stable@0f3c9a", attempt: 2 },
        undefined,
        undefined
      ])
    }))

  it.effect("wait is clamped to 0 to 60 seconds, and 60 when absent; anything else is 400", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      const waits = yield* Effect.forEach(
        ["?wait=10", "?wait=0", "?wait=999999999", ""],
        (query) => Effect.map(park(rig, `/v1/agent/dispatch${query}`), ({ parked }) => parked?.until ?? -1)
      )
      assert.isTrue((waits[0] ?? 0) >= 9_000 && (waits[0] ?? 0) <= 10_000)
      assert.strictEqual(waits[1], 0)
      assert.isTrue((waits[2] ?? 0) >= 54_000 && (waits[2] ?? 0) <= 60_000)
      assert.isTrue((waits[3] ?? 0) >= 54_000 && (waits[3] ?? 0) <= 60_000)
      for (const wait of ["-1", "1.5", "x", "", "%20"]) {
        assert.strictEqual((yield* rig.call(getRequest(`/v1/agent/dispatch?wait=${wait}`), web1)).status, 400, wait)
      }
    }))

  it.effect("is answered by its waiter: 200 with the dispatch, 204 for nothing, 503 with Retry-After when stopping", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      const finish = Effect.fnUntraced(function*(answer: PollAnswer) {
        const { parked, poll } = yield* park(rig)
        assert.isTrue(rig.waiters.complete(parked?.waiterId ?? 0, answer))
        return yield* Fiber.join(poll)
      })
      const found = yield* finish(dispatch)
      assert.strictEqual(found.status, 200)
      assert.deepStrictEqual(JSON.parse(textOf(found.body)), {
        hostname: "web-1",
        rollout_id: "stable@0f3c9a",
        target_closure: "bbbb-nixos-system-web-1",
        soak_due_at: "2026-06-01T08:10:00Z",
        enqueued_at: "2026-06-01T08:00:00Z"
      })
      const nothing = yield* finish({ _tag: "Nothing" })
      assert.deepStrictEqual([nothing.status, nothing.body.length], [204, 0])
      const { poll } = yield* park(rig)
      rig.waiters.drain()
      const draining = yield* Fiber.join(poll)
      assert.deepStrictEqual([draining.status, draining.headers["retry-after"]], [503, "5"])
      const late = yield* rig.call(getRequest("/v1/agent/dispatch"), web1)
      assert.strictEqual(late.status, 503)
      assert.strictEqual(rig.waiters.size(), 0)
    }))

  it.effect("a poll that its client ends gives the lease back and leaves no waiter", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      const { parked, poll } = yield* park(rig)
      yield* Fiber.interrupt(poll)
      assert.deepStrictEqual(rig.offered.at(-1), {
        _tag: "Unparked",
        host: "web-1",
        waiterId: parked?.waiterId ?? 0
      })
      assert.strictEqual(rig.waiters.size(), 0)
    }))

  it.effect("without room in the queue it is 503 with Retry-After and leaves no waiter", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      rig.room = false
      const response = yield* rig.call(getRequest("/v1/agent/dispatch"), web1)
      assert.deepStrictEqual([response.status, response.headers["retry-after"]], [503, "2"])
      assert.strictEqual(rig.waiters.size(), 0)
    }))

  it.effect("a host may name itself in the query, and no other host", () =>
    Effect.gen(function*() {
      const rig = yield* apiRig()
      assert.strictEqual((yield* rig.call(getRequest("/v1/agent/dispatch?hostname=web-2"), web1)).status, 403)
      assert.deepStrictEqual(rig.offered, [])
      assert.isDefined((yield* park(rig, "/v1/agent/dispatch?hostname=web-1")).parked)
    }))
})

describe("the body of a heartbeat's answer", () => {
  const snapshot = {
    rolloutId: "stable@aa",
    hostname: "web-1",
    channel: "stable",
    state: "Soaking",
    targetClosure: "t",
    dispatchedAt: 5,
    lastEventSeq: 7
  } as const
  it.each<HeartbeatResponse>([
    { bootstrap_rollouts: [] },
    { received_at: 1_780_000_000_000, bootstrap_rollouts: [] },
    { received_at: 1_780_000_000_001, bootstrap_rollouts: [], acked_through: {}, replay_from: {} },
    { received_at: 1, bootstrap_rollouts: [], acked_through: { "stable@aa": 3, "a b": 0 }, replay_from: { x: 1 } },
    { received_at: 1, bootstrap_rollouts: [snapshot], acked_through: { "stable@aa": 3 } }
  ])("is what the schema writes, without an empty list of snapshots: %j", (response) => {
    const { bootstrap_rollouts, ...rest } = Schema.encodeSync(HeartbeatResponse)(response)
    const expected = bootstrap_rollouts?.length === 0 ? rest : { ...rest, bootstrap_rollouts }
    assert.deepStrictEqual(JSON.parse(JSON.stringify(heartbeatBody(response))), expected)
  })
})
