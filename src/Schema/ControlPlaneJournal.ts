/**
 * What the control plane's journal stores as JSON (D1): the frozen plan of a rollout, the delivery state of a dispatch, what
 * was last heard of a host, a quarantine, and the payloads of the event log (control-plane.md §5). Records of hosts and
 * rollouts are `HostRecord.ts`. Times are epoch milliseconds.
 *
 * Additive within a major version: a field that is new has a default or is optional, and an unknown field is ignored, so
 * that an older binary opens a newer minor one (D1).
 */
import { Schema } from "effect"
import { RolloutRecord } from "./HostRecord.ts"
import type { RecordedAction } from "./Interventions.ts"
import { defaulted, EpochMillis, UInt32, UInt53 } from "./Primitives.ts"
import { Fetching, HostHold, HostStateName, OnHealthFailure, Rejection, RolloutDigest } from "./Wire.ts"
import type { AgentEvent } from "./Wire.ts"

const optional = Schema.optionalKey

/** One host's place in a rollout, as the manifest that opened it says. */
export const PlannedHost = Schema.Struct({ wave: UInt32, targetClosure: Schema.String })
export type PlannedHost = typeof PlannedHost.Type

/**
 * Topology and policy of one rollout, frozen when it opened (control-plane.md §6.6, D14): events of a rollout that is long
 * superseded are judged by it, whatever the fleet says today.
 */
export const RolloutPlan = Schema.Struct({
  hosts: Schema.Record(Schema.String, PlannedHost),
  /** Soak of each wave, milliseconds; its length is the number of waves. */
  soakMs: Schema.Array(UInt53),
  onHealthFailure: OnHealthFailure,
  /** `healthGate.systemdFailedUnits.max` of the policy, which the hosts keep to; absent where there is none. */
  maxFailedUnits: optional(UInt32)
})
export type RolloutPlan = typeof RolloutPlan.Type

/** A dispatch that waits for, or is on its way to, its host (D8). At most one for a host: the newest rollout's. */
export const DispatchRow = Schema.Struct({
  host: Schema.String,
  rolloutId: Schema.String,
  attempt: UInt32,
  targetClosure: Schema.String,
  enqueuedAt: EpochMillis,
  /** Fixed at the first lease of the attempt, whatever happens to later ones (D8). */
  soakDueAt: optional(EpochMillis),
  /** How often this attempt was offered. */
  deliveries: UInt32,
  /** The delivery that is on its way. A DispatchAck settles it and removes the row. */
  lease: optional(
    Schema.Struct({
      deliveryId: Schema.String,
      waiterId: UInt53,
      leasedAt: EpochMillis,
      expiresAt: EpochMillis,
      /** What was `offeredUntil` before this lease, if anything was: the host may be at that still. */
      inDoubtUntil: optional(EpochMillis)
    })
  )
})
export type DispatchRow = typeof DispatchRow.Type

/** A release that must not be dispatched: by (channel, ref), and its closure wherever it turns up (D11). */
export const Quarantine = Schema.Struct({
  channel: Schema.String,
  ref: Schema.String,
  closure: Schema.String,
  at: EpochMillis,
  /** The host whose failure it was. */
  host: Schema.String
})
export type Quarantine = typeof Quarantine.Type

/** Why a host is not offered its dispatch again at once (D8). */
export const RejectionBackoff = Schema.Struct({
  rejection: Schema.toType(Rejection),
  count: UInt32,
  until: EpochMillis
})
export type RejectionBackoff = typeof RejectionBackoff.Type

/** What the last heartbeat of a host said. Rewritten when it says something new, else at most every few minutes. */
export const HostSeen = Schema.Struct({
  host: Schema.String,
  /** The host's own clock. */
  at: EpochMillis,
  /** Ours. */
  receivedAt: EpochMillis,
  /** When the certificate was issued that it came with; unknown of one that an older version heard. */
  issuedAt: optional(EpochMillis),
  /** Any text: a newer minor version may know more of them than this one. */
  capabilities: Schema.Array(Schema.String),
  currentClosure: optional(Schema.String),
  uptimeSecs: optional(UInt53),
  agentVersion: optional(Schema.String),
  journalId: optional(Schema.String),
  digests: defaulted(Schema.Array(Schema.toType(RolloutDigest)), []),
  pendingEvents: optional(UInt53),
  parkedEvents: optional(UInt53),
  /** Latest per rollout. */
  rejections: defaulted(Schema.Array(RejectionBackoff), []),
  /** What keeps the host from going forward, in its own words. */
  held: optional(Schema.toType(HostHold)),
  /** What it fetches. */
  fetching: optional(Schema.toType(Fetching))
})
export type HostSeen = typeof HostSeen.Type

/**
 * What is inferred of a host in a rollout beyond its own events (D2): from the heartbeats of an agent of the original, or
 * from the digest of one whose record here differs (D4). It never consumes a sequence number and gives way to real events.
 */
export const Overlay = Schema.Struct({
  origin: Schema.Literals(["heartbeat", "digest"]),
  state: HostStateName,
  since: EpochMillis
})
export type Overlay = typeof Overlay.Type

/**
 * A database that sees a channel for the first time may have lost an older one: nothing is dispatched there until every host
 * was heard and nobody owes events, or the grace is over (D6).
 */
export const ChannelRecovery = Schema.Struct({ since: EpochMillis, until: EpochMillis })
export type ChannelRecovery = typeof ChannelRecovery.Type

/** What the planner and the dispatch queue did (control-plane.md §6.1), tagged by `action`. Enough to do it again. */
export const PlanAction = Schema.Union([
  /**
   * A verified manifest whose rollout has no record; every planned host begins attempt 1. `carried` hosts, if any, go over from
   * an older rollout as converged (C-W17).
   */
  Schema.Struct({
    action: Schema.Literal("OpenRollout"),
    rollout: RolloutRecord,
    plan: RolloutPlan,
    carried: optional(Schema.Array(Schema.String))
  }),
  /** The same id again, with other targets or after it was superseded (D7): `restarted` hosts begin a new attempt. */
  Schema.Struct({
    action: Schema.Literal("ReopenRollout"),
    rollout: RolloutRecord,
    plan: RolloutPlan,
    restarted: Schema.Array(Schema.String),
    carried: optional(Schema.Array(Schema.String))
  }),
  /** The same targets in other bytes (signed again), or in force again: the channel's current rollout. */
  Schema.Struct({
    action: Schema.Literal("RefreshRollout"),
    rolloutId: Schema.String,
    manifestHash: Schema.String,
    signedAt: EpochMillis
  }),
  /** A channel that has no rollout in force any more. */
  Schema.Struct({ action: Schema.Literal("CloseChannel"), channel: Schema.String }),
  Schema.Struct({ action: Schema.Literal("QueueDispatch"), row: DispatchRow }),
  Schema.Struct({ action: Schema.Literal("LeaseDispatch"), row: DispatchRow }),
  Schema.Struct({
    action: Schema.Literal("ReleaseLease"),
    host: Schema.String,
    deliveryId: Schema.String,
    because: Schema.Literals(["expired", "aborted"])
  }),
  /** A queued or leased dispatch that must not go out any more. */
  Schema.Struct({ action: Schema.Literal("RevokeDispatch"), host: Schema.String, because: Schema.String }),
  Schema.Struct({ action: Schema.Literal("BeginRecovery"), channel: Schema.String, recovery: ChannelRecovery }),
  Schema.Struct({ action: Schema.Literal("EndRecovery"), channel: Schema.String, because: Schema.String })
])
export type PlanAction = typeof PlanAction.Type

/** What happened to a rollout that no event of a host tells (control-plane.md §6.4). */
export const RolloutHappening = Schema.Union([
  Schema.Struct({ event: Schema.Literal("WaveAdvanced"), fromWave: UInt32, toWave: UInt32 }),
  Schema.Struct({ event: Schema.Literal("RolloutTerminal") })
])
export type RolloutHappening = typeof RolloutHappening.Type

/** What follows from heartbeats: facts about records that consume no sequence number (D2). */
export const Effect = Schema.Union([
  Schema.Struct({ effect: Schema.Literal("Quarantined"), quarantine: Quarantine }),
  Schema.Struct({ effect: Schema.Literal("Overlaid"), overlay: Overlay }),
  Schema.Struct({ effect: Schema.Literal("OverlayEnded"), because: Schema.String }),
  /** The agent's digest says the same as the record (D6). */
  Schema.Struct({ effect: Schema.Literal("Confirmed") }),
  /**
   * The agent is ahead of a database that was wiped, or has lost the journal of its attempt: its record here begins `attempt`,
   * and its numbers go on (D6, D7).
   */
  Schema.Struct({ effect: Schema.Literal("AttemptFollowed"), attempt: UInt32 }),
  /** The agent could not take its dispatch (D8). */
  Schema.Struct({ effect: Schema.Literal("Rejected"), backoff: RejectionBackoff })
])
export type Effect = typeof Effect.Type

/** Why a host waits (D17): named, with what ends it. */
export const GateDecision = Schema.Struct({
  gate: Schema.String,
  because: Schema.String,
  clearedBy: Schema.String,
  earliestAt: optional(EpochMillis)
})
export type GateDecision = typeof GateDecision.Type

/** What became of a signed artifact (control-plane.md §5). */
export const VerifyOutcome = Schema.Struct({
  artifact: Schema.String,
  outcome: Schema.Literals(["accepted", "refused"]),
  hash: optional(Schema.String),
  reason: optional(Schema.String),
  detail: optional(Schema.String)
})
export type VerifyOutcome = typeof VerifyOutcome.Type

/** The signed list of revocations in force (protocol.md §8.3). */
export const RevocationsInForce = Schema.Struct({
  signedAt: EpochMillis,
  hash: Schema.String,
  revocations: Schema.Array(Schema.Struct({
    hostname: Schema.String,
    /** Certificates of the host that were issued earlier are void. */
    notBefore: EpochMillis,
    reason: optional(Schema.String),
    revokedBy: optional(Schema.String)
  }))
})
export type RevocationsInForce = typeof RevocationsInForce.Type

/** The signed list of tokens that may enroll a host (protocol.md §8.4). */
export const NoncesInForce = Schema.Struct({
  signedAt: EpochMillis,
  hash: Schema.String,
  nonces: Schema.Array(
    Schema.Struct({ nonce: Schema.String, hostname: Schema.String, expiresAt: EpochMillis })
  )
})
export type NoncesInForce = typeof NoncesInForce.Type

/** A token that was used: from then on it is good for this one key (D16). */
export const NonceUse = Schema.Struct({
  nonce: Schema.String,
  host: Schema.String,
  /** As tokens name keys: base64 of the SHA-256 of the raw key. */
  fingerprint: Schema.String
})
export type NonceUse = typeof NonceUse.Type

/** A certificate that was issued here: the audit of control-plane.md §8.3. */
export const Issued = Schema.Struct({
  host: Schema.String,
  commonName: Schema.String,
  fingerprint: Schema.String,
  /** Hex, as certificates are shown. */
  serial: Schema.String,
  notBefore: EpochMillis,
  notAfter: EpochMillis,
  by: Schema.Union([
    Schema.Struct({ request: Schema.Literal("enroll"), nonce: Schema.String }),
    /** `notBefore` is that of the certificate which asked for it. */
    Schema.Struct({ request: Schema.Literal("renew"), notBefore: EpochMillis })
  ])
})
export type Issued = typeof Issued.Type

/**
 * Certificates of one host that were renewed one from the other: when the first was issued, and the last. Revoking the first
 * revokes them all, also those that were renewed before the revocation arrived here.
 */
export const RenewalChain = Schema.Struct({ firstAt: EpochMillis, lastAt: EpochMillis })
export type RenewalChain = typeof RenewalChain.Type

/** Who may hold a certificate, and who was given one (control-plane.md §8). */
export const IdentityFact = Schema.Union([
  Schema.Struct({ fact: Schema.Literal("RevocationsInForce"), list: RevocationsInForce }),
  Schema.Struct({ fact: Schema.Literal("NoncesInForce"), list: NoncesInForce }),
  Schema.Struct({ fact: Schema.Literal("NonceUsed"), use: NonceUse }),
  Schema.Struct({ fact: Schema.Literal("CertificateIssued"), issued: Issued })
])
export type IdentityFact = typeof IdentityFact.Type

/** Beside the event's own bytes: what the journal must know to fold it again, and what became of it (D4). */
export const EventOutcome = Schema.Struct({
  outcome: Schema.Literals(["applied", "refused"]),
  /** Of a refusal. */
  reason: optional(Schema.String),
  hash: Schema.String,
  journalId: optional(Schema.String),
  /** The refused event would have changed the record's state (D4). */
  diverged: optional(Schema.Boolean),
  /** The agent cannot supply the events before this one; they were given up. */
  afterGap: optional(Schema.Boolean)
})
export type EventOutcome = typeof EventOutcome.Type

/** One row of the event log; `kind` as in control-plane.md §5. */
export type LogEntry =
  | {
    readonly kind: "agent_event"
    readonly event: AgentEvent
    /** RFC 8785 text of the event as it was received. */
    readonly canonical: string
    readonly outcome: EventOutcome
    /** False for an event that consumed no number: of an unknown rollout, or with another event's number. */
    readonly numbered: boolean
  }
  | { readonly kind: "plan_action"; readonly payload: PlanAction }
  | { readonly kind: "rollout_event"; readonly payload: RolloutHappening }
  | { readonly kind: "effect"; readonly payload: Effect }
  | { readonly kind: "gate_decision"; readonly payload: GateDecision }
  | { readonly kind: "verify_outcome"; readonly payload: VerifyOutcome }
  | { readonly kind: "identity"; readonly payload: IdentityFact }
  | { readonly kind: "operator_action"; readonly payload: RecordedAction }

/** A row with its place: `now` is when it was decided, epoch milliseconds. */
export interface LogRow {
  readonly now: number
  readonly host?: string
  readonly rolloutId?: string
  readonly entry: LogEntry
}

/** Another major version is refused, a newer minor one opens (D1). */
export const controlPlaneJournalVersion = { major: 1, minor: 1 } as const
