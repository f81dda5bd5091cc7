/**
 * The agent wire (protocol.md §7.2–§7.4): events, heartbeat, dispatch. Field names, casing and tags are the original's;
 * fields marked "additive" are ours (decisions.md D2–D8), travel only to a peer that announced the capability, and are
 * ignored by the original. Unknown fields are ignored everywhere (D19).
 */
import { Schema } from "effect"
import { defaulted, Int32, omittable, text, Timestamp, UInt32, UInt53, WireClosure, WireId } from "./Primitives.ts"

/** Value of `X-Nixfleet-Protocol` on every request (D19). */
export const protocolVersion = "1"
export const protocolHeader = "x-nixfleet-protocol"
/** Comma-separated capabilities on every request and answer of ours (D3). */
export const capabilitiesHeader = "x-nixfleet-capabilities"
/** Only for the rollout that the heartbeat named (D6). */
export const replayFromHeader = "x-nixfleet-replay-from"
/** On every poll of an agent of ours: which dispatch it took last. Additive: without it, heartbeats after the poll tell (D6, D17). */
export const takenHeader = "x-nixfleet-taken"

/** What is in the agent's journal, and not closed, of all that it ever took. */
export type Taken = { readonly rolloutId: string; readonly attempt: number } | "nothing"

/** `<rollout id> <attempt>`, or `nothing`. */
export const takenText = (taken: Taken): string => taken === "nothing" ? taken : `${taken.rolloutId} ${taken.attempt}`

/** Of what a newer agent may say else, nothing is known. */
export function readTaken(header: string | undefined): Taken | undefined {
  if (header === "nothing") return header
  const [, rolloutId, attempt] = /^(\S{1,512}) ([1-9]\d{0,8})$/.exec(header ?? "") ?? []
  return rolloutId === undefined ? undefined : { rolloutId, attempt: Number(attempt) }
}

/**
 * - `verdicts`: understands 409, 422, 425 with a JSON verdict (D4)
 * - `journal`: journal ids, digests, `replay_from`, rejections (D2, D6, D8)
 * - `attempts`: attempt numbers (D7)
 */
export const Capability = Schema.Literals(["verdicts", "journal", "attempts"])
export type Capability = typeof Capability.Type
export const allCapabilities: ReadonlyArray<Capability> = ["verdicts", "journal", "attempts"]

export const ProbeStatus = Schema.Literals(["pass", "fail"])
export type ProbeStatus = typeof ProbeStatus.Type
export const ProbeMode = Schema.Literals(["enforce", "observe", "disabled"])
export type ProbeMode = typeof ProbeMode.Type
export const OnHealthFailure = Schema.Literals(["halt", "rollback-and-halt"])
export type OnHealthFailure = typeof OnHealthFailure.Type
/**
 * What ended an activation besides its switch and its probes (D11): the guard took the host back because the agent was gone,
 * or the host was booted too often before the activation was settled.
 */
export const Casualty = Schema.Literals(["guard-fired", "boot-loop"])
export type Casualty = typeof Casualty.Type
export const HostStateName = Schema.Literals([
  "Pending",
  "Activating",
  "Deferred",
  "Soaking",
  "Converged",
  "Failed",
  "Reverted"
])
export type HostStateName = typeof HostStateName.Type

export const ProbeSubResult = Schema.Struct({
  controlId: text(255),
  status: ProbeStatus,
  framework: text(255),
  article: omittable(text(255)),
  effectiveMode: defaulted(ProbeMode, "enforce"),
  overrideReason: omittable(text(4096))
})

const probes = Schema.Array(Schema.Struct({ probeName: WireId, kind: WireId, mode: ProbeMode })).check(
  Schema.isMaxLength(1024)
)

/** Additive (D7): the attempt that the event belongs to; absent from peers of the original, which know only attempt 1. */
const attempt = omittable(UInt32)
const seq = UInt53

/** The twelve event kinds (protocol.md §7.2), tagged by `kind`. */
export const AgentEvent = Schema.Union([
  Schema.Struct({
    kind: Schema.Literal("DispatchAck"),
    currentClosureAtDispatch: WireClosure,
    receivedAt: Timestamp,
    /** Additive (D8): the delivery that this settles. */
    deliveryId: omittable(WireId),
    attempt,
    seq
  }),
  Schema.Struct({
    kind: Schema.Literal("ActivationStarted"),
    startedAt: Timestamp,
    switchMethod: text(255),
    attempt,
    seq
  }),
  Schema.Struct({
    kind: Schema.Literal("ActivationCompleted"),
    observedCurrentClosure: WireClosure,
    exitCode: Int32,
    completedAt: Timestamp,
    attempt,
    seq
  }),
  Schema.Struct({
    kind: Schema.Literal("ActivationDeferred"),
    component: text(255),
    deferredAt: Timestamp,
    attempt,
    seq
  }),
  Schema.Struct({
    kind: Schema.Literal("ActivationFailed"),
    exitCode: Int32,
    stderrTail: text(16_384),
    failedAt: Timestamp,
    /** Additive (D11): whether the closure was at fault; only then is it quarantined. */
    closureAtFault: omittable(Schema.Boolean),
    /** Additive (D11): the switch itself failed when absent. */
    cause: omittable(Casualty),
    attempt,
    seq
  }),
  Schema.Struct({ kind: Schema.Literal("ProbeTopologyDeclared"), probes, declaredAt: Timestamp, attempt, seq }),
  Schema.Struct({
    kind: Schema.Literal("ProbeObservedFirst"),
    probeName: WireId,
    mode: ProbeMode,
    observedAt: Timestamp,
    attempt,
    seq
  }),
  Schema.Struct({
    kind: Schema.Literal("ProbeResult"),
    probeName: WireId,
    mode: ProbeMode,
    status: ProbeStatus,
    observedAt: Timestamp,
    failureReason: omittable(text(4096)),
    subResults: omittable(Schema.Array(ProbeSubResult).check(Schema.isMaxLength(4096))),
    attempt,
    seq
  }),
  Schema.Struct({
    kind: Schema.Literal("ProbeFailureFirst"),
    probeName: WireId,
    mode: ProbeMode,
    firstFailedAt: Timestamp,
    attempt,
    seq
  }),
  Schema.Struct({
    kind: Schema.Literal("Failed"),
    failedAt: Timestamp,
    sustainedDurationSecs: UInt53,
    failingProbes: Schema.Array(WireId).check(Schema.isMaxLength(1024)),
    policyApplied: OnHealthFailure,
    /** Additive (D12): `sustained-failure` when absent. */
    cause: omittable(Schema.Literals(["sustained-failure", "closure-drift", ...Casualty.literals])),
    attempt,
    seq
  }),
  Schema.Struct({
    kind: Schema.Literal("RollbackComplete"),
    revertedToClosure: WireClosure,
    exitCode: Int32,
    completedAt: Timestamp,
    attempt,
    seq
  }),
  Schema.Struct({
    kind: Schema.Literal("Converged"),
    convergedAt: Timestamp,
    currentClosure: WireClosure,
    attempt,
    seq
  })
])
export type AgentEvent = typeof AgentEvent.Type
export type AgentEventKind = AgentEvent["kind"]
export const agentEventKinds: ReadonlyArray<AgentEventKind> = [
  "DispatchAck",
  "ActivationStarted",
  "ActivationCompleted",
  "ActivationDeferred",
  "ActivationFailed",
  "ProbeTopologyDeclared",
  "ProbeObservedFirst",
  "ProbeResult",
  "ProbeFailureFirst",
  "Failed",
  "RollbackComplete",
  "Converged"
]

/** Body of `POST /v1/agent/events`. */
export const AgentEventEnvelope = Schema.Struct({
  hostname: WireId,
  rolloutId: WireId,
  event: AgentEvent,
  signature: omittable(text(1024)),
  /** Additive (D2): the agent journal that numbered this event. */
  journalId: omittable(WireId)
})
export type AgentEventEnvelope = typeof AgentEventEnvelope.Type

/** Why an event was not taken, to capable agents (D4). `reason` is a name of the catalogue (`Reasons.ts`). */
export const EventVerdict = Schema.Struct({
  verdict: Schema.Literals(["refused", "gap", "busy"]),
  reason: WireId,
  /** For `gap` (425): resend from this sequence number. */
  replay_from: omittable(UInt53)
})
export type EventVerdict = typeof EventVerdict.Type

/** Additive (D6): what the agent's journal says about one rollout. */
export const RolloutDigest = Schema.Struct({
  rollout_id: WireId,
  state: HostStateName,
  target_closure: WireClosure,
  attempt: UInt32,
  last_event_seq: UInt53,
  reason: omittable(WireId),
  /** Set when the failure was the closure's fault (D11): a wiped control plane rebuilds its quarantine from this. */
  quarantined: omittable(Schema.Boolean),
  /** Set when a state change was refused by the control plane and the records differ (D4). */
  diverged: omittable(Schema.Boolean)
})
export type RolloutDigest = typeof RolloutDigest.Type

/** Most characters of a rejection's detail. */
export const rejectionDetailLimit = 1024

/** Additive (D8): what the agent could not take, latest per rollout. */
export const Rejection = Schema.Struct({
  rollout_id: WireId,
  reason: WireId,
  detail: text(rejectionDetailLimit),
  at: Timestamp
})
export type Rejection = typeof Rejection.Type

/** Additive: what keeps the host from going forward, whatever is dispatched (D1, house rule 8); `reason` of the catalogue. */
export const HostHold = Schema.Struct({
  reason: WireId,
  detail: text(rejectionDetailLimit),
  since: Timestamp
})
export type HostHold = typeof HostHold.Type

/** Additive: the closure that the host fetches now, and how much of it has come. */
export const Fetching = Schema.Struct({
  closure: WireClosure,
  done_bytes: UInt53,
  /** Absent while nobody knows. */
  expected_bytes: omittable(UInt53)
})
export type Fetching = typeof Fetching.Type

/** Most digests and rejections in one heartbeat; older ones are left out first. */
export const heartbeatListLimit = 64

/** Body of `POST /v1/agent/heartbeat` (snake_case). */
export const HeartbeatRequest = Schema.Struct({
  hostname: WireId,
  rollout_id: omittable(WireId),
  current_closure: omittable(WireClosure),
  at: Timestamp,
  /** Additive (D6) from here. */
  uptime_secs: omittable(UInt53),
  agent_version: omittable(text(255)),
  journal_id: omittable(WireId),
  last_event_seq_by_rollout: omittable(Schema.Record(WireId, UInt53)),
  digests: omittable(Schema.Array(RolloutDigest).check(Schema.isMaxLength(heartbeatListLimit))),
  rejections: omittable(Schema.Array(Rejection).check(Schema.isMaxLength(heartbeatListLimit))),
  /** True on the first heartbeat of a process: the boot handshake. */
  boot: omittable(Schema.Boolean),
  /** Rows that wait to be delivered, and rows parked after repeated refusals that carried no verdict (D5). */
  pending_events: omittable(UInt53),
  parked_events: omittable(UInt53),
  /** Absent while the host can go forward. */
  held: omittable(HostHold),
  /** Absent while the host fetches nothing. */
  fetching: omittable(Fetching)
})
export type HeartbeatRequest = typeof HeartbeatRequest.Type

/** Bookkeeping for a rollout that the agent's journal does not know; never switches anything (D6). */
export const HostRolloutSnapshot = Schema.Struct({
  rolloutId: WireId,
  hostname: WireId,
  channel: WireId,
  state: HostStateName,
  targetClosure: WireClosure,
  currentClosureAtDispatch: omittable(WireClosure),
  currentClosure: omittable(WireClosure),
  dispatchedAt: Timestamp,
  dispatchAckedAt: omittable(Timestamp),
  activationStartedAt: omittable(Timestamp),
  activationCompletedAt: omittable(Timestamp),
  soakDueAt: omittable(Timestamp),
  lastEventSeq: UInt53
})
export type HostRolloutSnapshot = typeof HostRolloutSnapshot.Type

/** Answer to a heartbeat. Every field is optional in the original, so the status must be read first (A-W54). */
export const HeartbeatResponse = Schema.Struct({
  received_at: omittable(Timestamp),
  bootstrap_rollouts: defaulted(Schema.Array(HostRolloutSnapshot), []),
  /** Additive (D6): first sequence number that the control plane lacks, by rollout. */
  replay_from: omittable(Schema.Record(WireId, UInt53)),
  /** Additive (D6): last sequence number that is durable at the control plane, by rollout. */
  acked_through: omittable(Schema.Record(WireId, UInt53))
})
export type HeartbeatResponse = typeof HeartbeatResponse.Type

/** 200 body of `GET /v1/agent/dispatch` (snake_case); the agent reads 204, an empty body and `null` as "no work" (D9). */
export const DispatchResponse = Schema.Struct({
  hostname: WireId,
  rollout_id: WireId,
  target_closure: WireClosure,
  soak_due_at: Timestamp,
  enqueued_at: Timestamp,
  /** Additive (D7, D8, D2). */
  attempt: omittable(UInt32),
  delivery_id: omittable(WireId),
  last_event_seq: omittable(UInt53)
})
export type DispatchResponse = typeof DispatchResponse.Type

/** 503 body until the first signed artifact is verified. */
export const NotReady = Schema.Struct({ error: text(255), reason: text(255) })
/** Seconds of `Retry-After` while not ready. */
export const notReadyRetryAfterSeconds = 30
