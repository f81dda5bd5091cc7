/**
 * What `nixfleet-agent status --json` says: one document, stable within `schemaVersion`; fields may be added. Times are
 * RFC 3339. What is absent is unknown, or not the case; the text for people is a rendering of the same value.
 */
import { Schema } from "effect"
import { Timestamp, UInt32, UInt53 } from "./Primitives.ts"
import { HostStateName } from "./Wire.ts"

/** What something waits for. `until`: when that ends, or is given up; absent when it is not a matter of time. */
export const Wait = Schema.Struct({
  sentence: Schema.String,
  until: Schema.optionalKey(Timestamp),
  /** Of the catalogue, when something holds it. */
  reason: Schema.optionalKey(Schema.String)
})
export type Wait = typeof Wait.Type

/** Rows of one rollout in one state of delivery. */
export const RowsOf = Schema.Struct({
  count: UInt32,
  /** When the oldest of them happened; absent when there is none. */
  oldestAt: Schema.optionalKey(Timestamp)
})
export type RowsOf = typeof RowsOf.Type

export const RefusedRow = Schema.Struct({
  rolloutId: Schema.String,
  seq: UInt53,
  kind: Schema.String,
  at: Timestamp,
  /** The control plane's. */
  reason: Schema.String
})
export type RefusedRow = typeof RefusedRow.Type

/** One record. */
export const RolloutStatus = Schema.Struct({
  rolloutId: Schema.String,
  channel: Schema.String,
  state: HostStateName,
  /** Since when it is in this state. */
  since: Timestamp,
  /** The one record that may act on this host (D10). */
  current: Schema.Boolean,
  targetClosure: Schema.String,
  attempt: UInt32,
  lastEventSeq: UInt53,
  /** What the control plane said is durable there; absent until it says so. */
  ackedThrough: Schema.optionalKey(UInt53),
  /** When a newer rollout closed it. */
  closedAt: Schema.optionalKey(Timestamp),
  /** The control plane refused a change of state: the two records differ. */
  diverged: Schema.Boolean,
  /** Why it failed; of the catalogue. */
  reason: Schema.optionalKey(Schema.String),
  pending: RowsOf,
  parked: RowsOf,
  refused: RowsOf,
  /** Present for the current record alone: no other waits for anything but the delivery of its events. */
  waitsFor: Schema.optionalKey(Wait)
})
export type RolloutStatus = typeof RolloutStatus.Type

/** A dispatch that this host could not take (D8). */
export const RejectedDispatch = Schema.Struct({
  rolloutId: Schema.String,
  at: Timestamp,
  reason: Schema.String,
  detail: Schema.String
})

/** How the heartbeats go. While the agent runs, `at` is at most five minutes old; a change is there at once. */
export const ContactStatus = Schema.Struct({
  answered: Schema.Boolean,
  since: Timestamp,
  at: Timestamp,
  failure: Schema.optionalKey(Schema.Struct({ at: Timestamp, reason: Schema.String, detail: Schema.String }))
})
export type ContactStatus = typeof ContactStatus.Type

export const JournalStatus = Schema.Struct({
  /** Random, made with the journal (D2). */
  journalId: Schema.String,
  /** Absent until the first heartbeat of this journal has ended. */
  contact: Schema.optionalKey(ContactStatus),
  /** The current record first, then the newest. */
  rollouts: Schema.Array(RolloutStatus),
  rejections: Schema.Array(RejectedDispatch),
  /** The latest, at most 20. */
  refused: Schema.Array(RefusedRow),
  /** What the host as a whole waits for. */
  waitsFor: Wait
})
export type JournalStatus = typeof JournalStatus.Type

/** What takes the host back when the agent is gone (D11). */
export const GuardStatus = Schema.Struct({
  state: Schema.Literals(["armed", "fired"]),
  rolloutId: Schema.String,
  /** Where it takes the host back to. */
  closure: Schema.String,
  /** Armed: when it fires, if the agent gives no sign of life. */
  until: Schema.optionalKey(Timestamp),
  /** Armed, but its process is gone; fired, and its work is done. */
  ended: Schema.Boolean
})
export type GuardStatus = typeof GuardStatus.Type

/** The closure that is fetched now. */
export const FetchingStatus = Schema.Struct({
  closure: Schema.String,
  doneBytes: UInt53,
  /** Absent while nobody knows. */
  expectedBytes: Schema.optionalKey(UInt53)
})
export type FetchingStatus = typeof FetchingStatus.Type

export const AgentStatus = Schema.Struct({
  schemaVersion: Schema.Literal(1),
  at: Timestamp,
  host: Schema.String,
  controlPlane: Schema.String,
  stateDir: Schema.String,
  /** Whether an agent runs on the state directory, and its process id as it left it. */
  agent: Schema.Struct({ running: Schema.Boolean, pid: Schema.optionalKey(UInt32) }),
  /** Closures, as the links of the host and the journal say. */
  closures: Schema.Struct({
    running: Schema.optionalKey(Schema.String),
    profile: Schema.optionalKey(Schema.String),
    /** The last one that converged here: where a rollback goes. */
    lastConverged: Schema.optionalKey(Schema.String)
  }),
  /** Absent when there is none, or when it cannot be read. */
  guard: Schema.optionalKey(GuardStatus),
  /** Absent while nothing is fetched. */
  fetching: Schema.optionalKey(FetchingStatus),
  /** Absent when no agent ever ran on this state directory. */
  journal: Schema.optionalKey(JournalStatus)
})
export type AgentStatus = typeof AgentStatus.Type

export const AgentStatusJson = Schema.fromJsonString(AgentStatus)
