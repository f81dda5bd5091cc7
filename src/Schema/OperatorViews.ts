/**
 * What operators read (protocol.md §7.6, control-plane.md §2.4): names and casing of the original, with its constant fields
 * filled with what is known (W24). Optional fields are written as `null`, as there. Fields marked "additive" are ours; they
 * always travel, because every reader of these views ignores what it does not know.
 *
 * Owns shapes only; `src/ControlPlane/Views.ts` fills them, `src/Operator` shows them.
 */
import { Schema } from "effect"
import { defaulted, nullable, omittable, Timestamp, UInt32, UInt53 } from "./Primitives.ts"
import { HostStateName } from "./Wire.ts"

/** Most events in one answer; more are read page by page with `after_seq`. */
export const eventsPageLimit = 1000

/** Additive (D17): why a host waits, and what ends it. */
export const WaitsFor = Schema.Struct({
  /** Of the catalogue of reasons: the gate that holds it, or what the host is at. */
  gate: Schema.String,
  because: Schema.String,
  clearedBy: Schema.String,
  earliestAt: nullable(Timestamp)
})
export type WaitsFor = typeof WaitsFor.Type

/**
 * What kind of answer `why` gives: `held`: the control plane does not dispatch; `under-way`: the host, or somebody beside it, has
 * the next step; `stopped`: nothing goes on without a person; `not-rolled-out`: no release in force means the host.
 */
export const Standing = Schema.Literals(["at-target", "held", "under-way", "stopped", "not-rolled-out"])
export type Standing = typeof Standing.Type

/** Something that the explanation rests on, and when that was. */
export const Evidence = Schema.Struct({ fact: Schema.String, at: nullable(Timestamp) })
export type Evidence = typeof Evidence.Type

/** `GET /v1/hosts/{host}/why`: why a host is where it is, evaluated at `at` by the rules that decide (D17). */
export const Explanation = Schema.Struct({
  hostname: Schema.String,
  at: Timestamp,
  standing: Standing,
  /** Stable name of what it is about: the gate that holds, or a reason of the catalogue. */
  reason: Schema.String,
  /** The one sentence. Times in it are RFC 3339. */
  because: Schema.String,
  since: nullable(Timestamp),
  /** Who or what ends it; `null` when there is nothing to end. */
  clearedBy: nullable(Schema.String),
  /** When it may be over without anybody's doing. */
  earliestAt: nullable(Timestamp),
  evidence: Schema.Array(Evidence),
  channel: nullable(Schema.String),
  /** What the host's last heartbeat said it runs, and when that came. */
  runs: nullable(Schema.String),
  lastHeardAt: nullable(Timestamp),
  /** The rollout that it is about; waves count from 0, as everywhere on the wire. */
  rollout: nullable(Schema.Struct({
    rolloutId: Schema.String,
    state: Schema.String,
    wave: UInt32,
    waves: UInt32,
    attempt: UInt32,
    targetClosure: Schema.String,
    hostState: HostStateName
  }))
})
export type Explanation = typeof Explanation.Type

/** One host, in its newest rollout; also a host that is declared and was in none yet. */
export const HostStatusEntry = Schema.Struct({
  hostname: Schema.String,
  channel: Schema.String,
  /** What the fleet file in force declares. */
  declaredClosureHash: nullable(Schema.String),
  /** What the host's last heartbeat said it runs. */
  currentClosureHash: nullable(Schema.String),
  /** The target of a rollout that has not ended on this host yet. */
  pendingClosureHash: nullable(Schema.String),
  /** When the last heartbeat arrived, by the control plane's clock. */
  lastCheckinAt: nullable(Timestamp),
  lastRolloutId: nullable(Schema.String),
  converged: Schema.Boolean,
  outstandingComplianceFailures: UInt53,
  outstandingRuntimeGateErrors: UInt53,
  /** Events of the newest rollout that are durable here. */
  verifiedEventCount: UInt53,
  lastUptimeSecs: nullable(UInt53),
  rolloutState: nullable(HostStateName),
  pendingReboot: defaulted(Schema.Boolean, false),
  /** The declared closure when it is in quarantine. */
  quarantinedClosure: nullable(Schema.String),
  pin: nullable(Schema.Struct({ commit: Schema.String, reason: Schema.String, expiresAt: omittable(Timestamp) })),
  /** Enforced probes that fail at present. */
  outstandingHealthFailures: defaulted(UInt53, 0),
  /** Additive from here. */
  wave: nullable(UInt32),
  attempt: nullable(UInt32),
  soakDueAt: nullable(Timestamp),
  waitsFor: nullable(WaitsFor),
  agentVersion: nullable(Schema.String),
  /** Events that the agent has not delivered, and those it set aside (D5). */
  pendingEvents: nullable(UInt53),
  parkedEvents: nullable(UInt53),
  /** What the agent could not take, latest per rollout (D8). */
  rejections: defaulted(
    Schema.Array(
      Schema.Struct({ rolloutId: Schema.String, reason: Schema.String, detail: Schema.String, at: Timestamp })
    ),
    []
  ),
  /** What keeps the host from going forward, in its own words (D1): a full disk, for example. */
  held: nullable(Schema.Struct({ reason: Schema.String, detail: Schema.String, since: Timestamp })),
  /** What the host fetched when it was heard last. */
  fetching: nullable(
    Schema.Struct({ closure: Schema.String, doneBytes: UInt53, expectedBytes: nullable(UInt53) })
  ),
  /** The agent's record and ours differ (D4). */
  diverged: defaulted(Schema.Boolean, false),
  /** Its certificates that were issued before `notBefore` are void, and no newer one of it is known (control-plane.md §8). */
  revoked: nullable(
    Schema.Struct({ notBefore: Timestamp, reason: nullable(Schema.String), revokedBy: nullable(Schema.String) })
  )
})
export type HostStatusEntry = typeof HostStatusEntry.Type

/** `GET /v1/hosts`, ascending by host name. */
export const HostsResponse = Schema.Struct({ hosts: Schema.Array(HostStatusEntry) })
export type HostsResponse = typeof HostsResponse.Type

/** `GET /v1/rollouts`: neither superseded, pruned nor terminal ones; newest first. */
export const RolloutList = Schema.Struct({
  rollouts: Schema.Array(Schema.Struct({
    rolloutId: Schema.String,
    channel: Schema.String,
    currentWave: UInt32,
    createdAt: Timestamp,
    hostStates: Schema.Record(Schema.String, HostStateName),
    /** Additive: the rollout's own state, and how many waves it has. */
    state: omittable(Schema.String),
    waves: omittable(UInt32)
  }))
})
export type RolloutList = typeof RolloutList.Type

/** `GET /v1/rollouts/{id}/lifecycle`. */
export const RolloutLifecycle = Schema.Struct({
  rolloutId: Schema.String,
  state: Schema.String,
  supersededAt: nullable(Timestamp),
  supersededBy: nullable(Schema.String),
  terminalAt: nullable(Timestamp)
})
export type RolloutLifecycle = typeof RolloutLifecycle.Type

export const TerminalState = Schema.Literals(["converged", "rolled-back", "failed"])
export type TerminalState = typeof TerminalState.Type

/** `GET /v1/rollouts/{id}/hosts`, ascending by wave, then host. */
export const RolloutHosts = Schema.Struct({
  rollout_id: Schema.String,
  hosts: Schema.Array(Schema.Struct({
    host: Schema.String,
    channel: Schema.String,
    wave: UInt32,
    targetClosureHash: Schema.String,
    targetChannelRef: Schema.String,
    dispatchedAt: Schema.String,
    terminalState: nullable(TerminalState),
    terminalAt: nullable(Timestamp),
    /** Additive from here. */
    state: omittable(HostStateName),
    attempt: omittable(UInt32),
    lastEventSeq: omittable(UInt53),
    soakDueAt: omittable(Timestamp),
    waitsFor: omittable(WaitsFor)
  }))
})
export type RolloutHosts = typeof RolloutHosts.Type

export const EventKind = Schema.Literals([
  "agent_event",
  "plan_action",
  "effect",
  "gate_decision",
  "verify_outcome",
  "manifest_poll",
  "rollout_event",
  /** Additive: what an operator did (`Interventions.ts`). */
  "operator_action"
])
export type EventKind = typeof EventKind.Type

/**
 * `GET /v1/rollouts/{id}/events?limit=&after_seq=`, ascending; an unknown rollout has none. A page may hold fewer than were
 * asked for; the last one is empty.
 */
export const RolloutEvents = Schema.Struct({
  rollout_id: Schema.String,
  /** Additive: differs when the control plane's database was replaced, so that a cursor means nothing any more. */
  log_id: omittable(Schema.String),
  events: Schema.Array(Schema.Struct({
    /** Position in the control plane's log; a cursor, not the agent's sequence number. */
    seq: UInt53,
    ts: Schema.String,
    kind: EventKind,
    host: nullable(Schema.String),
    payload: Schema.Unknown
  }))
})
export type RolloutEvents = typeof RolloutEvents.Type

/** `GET /v1/channels/{name}` (snake_case). */
export const ChannelView = Schema.Struct({
  name: Schema.String,
  declared_ci_commit: nullable(Schema.String),
  signed_at: nullable(Timestamp),
  freshness_window_minutes: UInt32,
  /** Additive: the rollout of the release in force; `null` when no host of the channel has anything to run. */
  rollout: Schema.optionalKey(Schema.NullOr(Schema.String))
})
export type ChannelView = typeof ChannelView.Type

/** `GET /healthz`, for everybody. */
export const Healthz = Schema.Struct({
  ok: Schema.Boolean,
  version: Schema.String,
  /** When the planner ran last. */
  last_tick_at: nullable(Timestamp),
  /** Additive: whether the signed artifacts are loaded. */
  ready: omittable(Schema.Boolean)
})
export type Healthz = typeof Healthz.Type

/** `GET /v1/whoami`. */
export const Whoami = Schema.Struct({
  cn: Schema.String,
  issuedAt: Timestamp,
  /** Additive: what the certificate may do (D16). */
  role: omittable(Schema.Literals(["agent", "operator"])),
  machineId: omittable(Schema.String)
})
export type Whoami = typeof Whoami.Type
