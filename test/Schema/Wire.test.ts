/** Shapes of protocol.md §7, from JSON written by hand after it. */
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import {
  AgentEvent,
  AgentEventEnvelope,
  agentEventKinds,
  DispatchResponse,
  EventVerdict,
  heartbeatListLimit,
  HeartbeatRequest,
  HeartbeatResponse,
  NotReady,
  readTaken,
  takenText
} from "../../src/Schema/Wire.ts"

/** One JSON text per kind, exactly as a peer of the original writes it. */
const events: Record<string, string> = {
  DispatchAck:
    `{"kind":"DispatchAck","currentClosureAtDispatch":"aaaa-nixos-system-edge-07","receivedAt":"2026-06-01T08:00:01Z","seq":1}`,
  ActivationStarted:
    `{"kind":"ActivationStarted","startedAt":"2026-06-01T08:00:02Z","switchMethod":"systemd-run","seq":2}`,
  ActivationCompleted:
    `{"kind":"ActivationCompleted","observedCurrentClosure":"bbbb-nixos-system-edge-07","exitCode":0,"completedAt":"2026-06-01T08:00:09.250Z","seq":3}`,
  ActivationFailed:
    `{"kind":"ActivationFailed","exitCode":4,"stderrTail":"unit x failed","failedAt":"2026-06-01T08:00:09Z","seq":3}`,
  ActivationDeferred: `{"kind":"ActivationDeferred","component":"kernel","deferredAt":"2026-06-01T08:00:09Z","seq":3}`,
  ProbeTopologyDeclared:
    `{"kind":"ProbeTopologyDeclared","probes":[{"probeName":"web","kind":"http","mode":"enforce"}],"declaredAt":"2026-06-01T08:00:10Z","seq":4}`,
  ProbeObservedFirst:
    `{"kind":"ProbeObservedFirst","probeName":"web","mode":"enforce","observedAt":"2026-06-01T08:00:15Z","seq":5}`,
  ProbeResult:
    `{"kind":"ProbeResult","probeName":"nis2","mode":"enforce","status":"fail","observedAt":"2026-06-01T08:00:15Z","failureReason":"1 control failed","subResults":[{"controlId":"disk-crypt","status":"fail","framework":"nis2-essential","article":"art21.h","effectiveMode":"observe","overrideReason":"waiver 12"}],"seq":6}`,
  ProbeFailureFirst:
    `{"kind":"ProbeFailureFirst","probeName":"web","mode":"enforce","firstFailedAt":"2026-06-01T08:00:45Z","seq":7}`,
  Failed:
    `{"kind":"Failed","failedAt":"2026-06-01T08:02:45Z","sustainedDurationSecs":120,"failingProbes":["web"],"policyApplied":"rollback-and-halt","seq":8}`,
  RollbackComplete:
    `{"kind":"RollbackComplete","revertedToClosure":"aaaa-nixos-system-edge-07","exitCode":0,"completedAt":"2026-06-01T08:02:55Z","seq":9}`,
  Converged:
    `{"kind":"Converged","convergedAt":"2026-06-01T08:10:00Z","currentClosure":"bbbb-nixos-system-edge-07","seq":8}`
}

/** Hand-written JSON has wider types than the schemas: compared as data. */
function assertSame(actual: unknown, expected: unknown) {
  assert.deepStrictEqual(actual, expected)
}

const decodeEvent = Schema.decodeUnknownSync(AgentEvent)
const encodeEvent = Schema.encodeSync(AgentEvent)
const example = (kind: string): Record<string, unknown> => JSON.parse(events[kind]!)

describe("events", () => {
  it("there are twelve kinds", () => assert.sameMembers([...agentEventKinds], Object.keys(events)))

  it.each(Object.keys(events))("%s survives the round trip byte for key", (kind) => {
    assertSame(encodeEvent(decodeEvent(example(kind))), example(kind))
  })

  it.each(Object.keys(events))("%s ignores unknown fields", (kind) => {
    assertSame(encodeEvent(decodeEvent({ ...example(kind), later: { x: 1 } })), example(kind))
  })

  it.each(Object.keys(events))("%s carries an attempt when both sides know them", (kind) => {
    const withAttempt = { ...example(kind), attempt: 2 }
    assertSame(encodeEvent(decodeEvent(withAttempt)), withAttempt)
  })

  it.each(
    Object.entries(events).flatMap(([kind, json]) =>
      Object.keys(JSON.parse(json)).map((field) => [kind, field] as const)
    )
      .filter(([, field]) => !["failureReason", "subResults"].includes(field))
  )("%s without %s is refused", (kind, field) => {
    const { [field]: _, ...rest } = example(kind)
    assert.throws(() => decodeEvent(rest))
  })

  it.each([
    ["unknown kind", { ...example("Converged"), kind: "Levitated" }],
    ["kind in another case", { ...example("Converged"), kind: "converged" }],
    ["negative seq", { ...example("Converged"), seq: -1 }],
    ["fractional seq", { ...example("Converged"), seq: 1.5 }],
    ["seq beyond a double", { ...example("Converged"), seq: 2 ** 53 }],
    ["seq as text", { ...example("Converged"), seq: "8" }],
    ["exit code beyond 32 bits", { ...example("ActivationCompleted"), exitCode: 2 ** 31 }],
    ["time without zone", { ...example("Converged"), convergedAt: "2026-06-01T08:10:00" }],
    ["time as number", { ...example("Converged"), convergedAt: 1780 }],
    ["unknown policy", { ...example("Failed"), policyApplied: "halt-only" }],
    ["null list", { ...example("Failed"), failingProbes: null }],
    ["too many probes", { ...example("Failed"), failingProbes: Array.from({ length: 1025 }, () => "p") }],
    ["oversized tail", { ...example("ActivationFailed"), stderrTail: "x".repeat(16_385) }],
    ["closure that is a path", { ...example("Converged"), currentClosure: "/nix/store/x" }],
    ["control characters", { ...example("ProbeObservedFirst"), probeName: "a\u0000b" }],
    ["array", [example("Converged")]],
    ["null", null]
  ])("%s is refused", (_name, value) => assert.throws(() => decodeEvent(value)))

  it("a sub-result without a mode is enforced", () => {
    const json = example("ProbeResult")
    json["subResults"] = [{ controlId: "c", status: "pass", framework: "f" }]
    const event = decodeEvent(json)
    assert.strictEqual(event.kind === "ProbeResult" ? event.subResults?.[0]?.effectiveMode : undefined, "enforce")
  })

  it("the closure before the first dispatch may be unknown: an empty string", () => {
    assert.strictEqual(
      encodeEvent(decodeEvent({ ...example("DispatchAck"), currentClosureAtDispatch: "" })).kind,
      "DispatchAck"
    )
  })
})

describe("envelope", () => {
  const json = { hostname: "edge-07", rolloutId: "stable@0f3c9a", event: example("DispatchAck") }
  const decode = Schema.decodeUnknownSync(AgentEventEnvelope)

  it("outer keys are camelCase and optional keys are left out", () => {
    assertSame(
      Schema.encodeSync(AgentEventEnvelope)(decode({ ...json, signature: null, journalId: null })),
      json
    )
  })
  it("rollout_id is not rolloutId", () => {
    assert.throws(() => decode({ hostname: "edge-07", rollout_id: "stable@0f3c9a", event: example("DispatchAck") }))
  })
})

describe("heartbeat", () => {
  const decode = Schema.decodeUnknownSync(HeartbeatRequest)

  it("the original's request is enough", () => {
    const json = { hostname: "edge-07", current_closure: "bbbb-nixos-system-edge-07", at: "2026-06-01T08:05:00Z" }
    assertSame(Schema.encodeSync(HeartbeatRequest)(decode(json)), json)
  })

  it("ours carries digests and rejections", () => {
    const json = {
      hostname: "edge-07",
      at: "2026-06-01T08:05:00Z",
      uptime_secs: 12,
      journal_id: "j-1",
      last_event_seq_by_rollout: { "stable@0f": 4 },
      digests: [{
        rollout_id: "stable@0f",
        state: "Failed",
        target_closure: "bbbb-x",
        attempt: 1,
        last_event_seq: 4,
        reason: "sustained-failure",
        quarantined: true
      }],
      rejections: [{ rollout_id: "stable@1a", reason: "Stale", detail: "old", at: "2026-06-01T08:05:00Z" }],
      boot: true,
      pending_events: 0,
      parked_events: 1
    }
    assertSame(Schema.encodeSync(HeartbeatRequest)(decode(json)), json)
  })

  describe("of a host that fetches", () => {
    const json = (fetching: unknown) => ({ hostname: "edge-07", at: "2026-06-01T08:05:00Z", fetching })

    it.each([
      [{ closure: "bbbb-x", done_bytes: 31, expected_bytes: 120 }],
      [{ closure: "bbbb-x", done_bytes: 0 }],
      [{ closure: "bbbb-x", done_bytes: Number.MAX_SAFE_INTEGER, expected_bytes: 0 }]
    ])("%j survives the round trip", (fetching) => {
      assertSame(Schema.encodeSync(HeartbeatRequest)(decode(json(fetching))), json(fetching))
    })

    it.each([
      [{ done_bytes: 31 }],
      [{ closure: "bbbb-x" }],
      [{ closure: "b".repeat(100_000), done_bytes: 31 }],
      [{ closure: "bbbb-x", done_bytes: -1 }],
      [{ closure: "bbbb-x", done_bytes: 1.5 }],
      [{ closure: "bbbb-x", done_bytes: 2 ** 53 }],
      [{ closure: "bbbb-x", done_bytes: "31" }],
      [{ closure: "bbbb-x", done_bytes: 31, expected_bytes: "all" }],
      [[]],
      ["26 %"]
    ])("%j is refused", (fetching) => {
      assert.throws(() => decode(json(fetching)))
    })
  })

  it("lists are bounded", () => {
    const digest = { rollout_id: "r", state: "Pending", target_closure: "t", attempt: 1, last_event_seq: 0 }
    const digests = Array.from({ length: heartbeatListLimit + 1 }, () => digest)
    assert.throws(() => decode({ hostname: "h", at: "2026-06-01T08:05:00Z", digests }))
  })

  it("the original's answer, with camelCase snapshots inside", () => {
    const json = {
      received_at: "2026-06-01T08:05:00Z",
      bootstrap_rollouts: [{
        rolloutId: "stable@0f3c9a",
        hostname: "edge-07",
        channel: "stable",
        state: "Soaking",
        targetClosure: "bbbb-nixos-system-edge-07",
        dispatchedAt: "2026-06-01T08:00:00Z",
        soakDueAt: "2026-06-01T08:10:00Z",
        lastEventSeq: 3
      }]
    }
    const response = Schema.decodeUnknownSync(HeartbeatResponse)(json)
    assertSame(Schema.encodeSync(HeartbeatResponse)(response), json)
  })

  it("an empty object is an answer; null snapshots are not", () => {
    const decodeAnswer = Schema.decodeUnknownSync(HeartbeatResponse)
    assertSame(decodeAnswer({}), { bootstrap_rollouts: [] })
    assert.throws(() => decodeAnswer({ bootstrap_rollouts: null }))
  })
})

describe("what an agent took last", () => {
  it("is read as it was written", () => {
    for (const taken of ["nothing", { rolloutId: "stable@0f3c9a", attempt: 999_999_999 }] as const) {
      assert.deepStrictEqual(readTaken(takenText(taken)), taken)
    }
  })

  it.each([
    undefined,
    "",
    "nothing ",
    "stable@0f3c9a",
    "stable@0f3c9a 0",
    "stable@0f3c9a 01",
    "stable@0f3c9a -1",
    "stable@0f3c9a 1.5",
    "stable@0f3c9a 1 1",
    "stable@0f3c9a  1",
    " 1",
    "stable@0f3c9a 9999999999",
    `${"a".repeat(513)} 1`
  ])("%j says nothing", (text) => assert.isUndefined(readTaken(text)))
})

describe("dispatch and verdicts", () => {
  it("the original's dispatch is snake_case", () => {
    const json = {
      hostname: "edge-07",
      rollout_id: "stable@0f3c9a",
      target_closure: "bbbb-nixos-system-edge-07",
      soak_due_at: "2026-06-01T08:10:00Z",
      enqueued_at: "2026-06-01T08:00:00Z"
    }
    const decode = Schema.decodeUnknownSync(DispatchResponse)
    assertSame(Schema.encodeSync(DispatchResponse)(decode(json)), json)
    const ours = { ...json, attempt: 2, delivery_id: "d-1", last_event_seq: 7 }
    assertSame(Schema.encodeSync(DispatchResponse)(decode(ours)), ours)
    assert.throws(() => decode({ ...json, rollout_id: "" }))
    assert.throws(() => decode(null))
  })

  it("a verdict names its reason; a gap says from where", () => {
    const decode = Schema.decodeUnknownSync(EventVerdict)
    assertSame(decode({ verdict: "gap", reason: "seq-gap", replay_from: 3 }), {
      verdict: "gap",
      reason: "seq-gap",
      replay_from: 3
    })
    assert.throws(() => decode({ verdict: "maybe", reason: "x" }))
    assert.throws(() => decode({ error: "control plane not ready", reason: "awaiting first signed artifact" }))
  })

  it("the readiness body is not a verdict", () => {
    assertSame(
      Schema.decodeUnknownSync(NotReady)({
        error: "control plane not ready",
        reason: "awaiting first signed artifact"
      }),
      { error: "control plane not ready", reason: "awaiting first signed artifact" }
    )
  })
})
