/**
 * What operators may do to rollouts and hosts beside publishing (D7, D8, D17): what they ask (`POST /v1/operator/actions`), what
 * is in force, and what they are shown. Times are RFC 3339 on the wire and epoch milliseconds in memory and in the journal.
 *
 * An action that holds ends by its counterpart or at its time, so that nothing stays held because it was forgotten. Owns
 * shapes and names only; what an action means is the control plane's decision and fold.
 */
import { Schema } from "effect"
import { defaulted, EpochMillis, Hostname, nullable, RolloutId, Timestamp, WireClosure } from "./Primitives.ts"

/** Longest that anything may be held, ms: 90 days. What is meant for longer belongs into the fleet's declaration. */
export const longestHoldMs = 90 * 86_400_000

/** Why, for whoever reads it in a week: 1 to 500 characters on one line, and not only blanks. */
export const ActionReason = Schema.String.check(
  Schema.isPattern(/^(?=.*\S)[^\u0000-\u001f\u007f\u2028\u2029]{1,500}$/, {
    message: "expected a reason of 1 to 500 characters on one line"
  })
)

export const ChannelName = Schema.String.check(
  Schema.isPattern(/^[a-z0-9_-]{1,64}$/, { message: "expected a channel: a-z 0-9 _ -, 1 to 64 long" })
)

const closure = WireClosure.check(Schema.isNonEmpty())

/** Nothing new is dispatched of the rollout. Asked again it takes the place of the one before, as the others that hold do. */
export const PauseRollout = Schema.Struct({
  action: Schema.Literal("PauseRollout"),
  rolloutId: RolloutId,
  reason: ActionReason,
  until: Timestamp
})
/** Nothing is dispatched to the host, and it leaves its budgets and the completeness of its wave (D17). */
export const HoldHost = Schema.Struct({
  action: Schema.Literal("HoldHost"),
  host: Hostname,
  reason: ActionReason,
  until: Timestamp
})
/** Nothing new is dispatched on the channel; `null`: on any. The key is required: left out by mistake it must not mean all. */
export const Freeze = Schema.Struct({
  action: Schema.Literal("Freeze"),
  channel: Schema.NullOr(ChannelName),
  reason: ActionReason,
  until: Timestamp
})

/** What holds until it is ended, or its time is over. */
export const HoldingAction = Schema.Union([PauseRollout, HoldHost, Freeze])
export type HoldingAction = typeof HoldingAction.Type

/** What ends one of them. */
export const EndingAction = Schema.Union([
  Schema.Struct({ action: Schema.Literal("ResumeRollout"), rolloutId: RolloutId, reason: ActionReason }),
  Schema.Struct({ action: Schema.Literal("ReleaseHost"), host: Hostname, reason: ActionReason }),
  Schema.Struct({
    action: Schema.Literal("Unfreeze"),
    channel: Schema.NullOr(ChannelName),
    reason: ActionReason
  })
])
export type EndingAction = typeof EndingAction.Type

/** What happens at once, and is over. */
export const ClearingAction = Schema.Union([
  /** A halted rollout rolls again: hosts that failed or went back begin their next attempt (D7), its quarantine is lifted. */
  Schema.Struct({ action: Schema.Literal("ClearRollout"), rolloutId: RolloutId, reason: ActionReason }),
  /** Of a closure, wherever it failed, or of what failed under one rollout. A rollout that is halted stays halted. */
  Schema.Struct({
    action: Schema.Literal("ClearQuarantine"),
    of: Schema.Union([Schema.Struct({ closure }), Schema.Struct({ rolloutId: RolloutId })]),
    reason: ActionReason
  })
])
export type ClearingAction = typeof ClearingAction.Type

export const OperatorAction = Schema.Union([HoldingAction, EndingAction, ClearingAction])
export type OperatorAction = typeof OperatorAction.Type

/** Something that holds now: who asked for it, and when it was recorded. */
export const Intervention = Schema.Struct({
  action: Schema.toType(HoldingAction),
  /** Common name of the operator's certificate. */
  actor: Schema.String,
  at: EpochMillis
})
export type Intervention = typeof Intervention.Type

/** One row of the audit: what an operator did, or what ended by itself, because its time or its rollout was over. */
export const RecordedAction = Schema.Union([
  Schema.Struct({ by: Schema.Literal("operator"), actor: Schema.String, action: Schema.toType(OperatorAction) }),
  Schema.Struct({ by: Schema.Literal("itself"), action: Schema.toType(EndingAction) })
])
export type RecordedAction = typeof RecordedAction.Type

/** What an action is about, as a person says it. Of those that hold, one of a subject is in force. */
export function subjectOf(action: OperatorAction): string {
  switch (action.action) {
    case "PauseRollout":
    case "ResumeRollout":
    case "ClearRollout":
      return rolloutSubject(action.rolloutId)
    case "HoldHost":
    case "ReleaseHost":
      return hostSubject(action.host)
    case "Freeze":
    case "Unfreeze":
      return channelSubject(action.channel)
    case "ClearQuarantine":
      return "closure" in action.of ? `closure ${action.of.closure}` : rolloutSubject(action.of.rolloutId)
  }
}

export const rolloutSubject = (rolloutId: string): string => `rollout ${rolloutId}`
export const hostSubject = (host: string): string => `host ${host}`
export const channelSubject = (channel: string | null): string =>
  channel === null ? "all channels" : `channel ${channel}`

/** `POST /v1/operator/actions`, 200: recorded and durable, with what it changed and what it could not. */
export const ActionTaken = Schema.Struct({
  action: OperatorAction,
  actor: Schema.String,
  at: Timestamp,
  /** Hosts that are under way, and go on: what has left cannot be recalled. */
  goOn: defaulted(Schema.Array(Schema.String), []),
  /** Hosts that begin their next attempt. */
  restarted: defaulted(Schema.Array(Schema.String), []),
  /** Of these, those whose agents do a rollout once: they need a new ref on the channel (D7). */
  needNewRef: defaulted(Schema.Array(Schema.String), []),
  /** What left the quarantine. */
  lifted: defaulted(Schema.Array(Schema.Struct({ rolloutId: Schema.String, closure: Schema.String })), []),
  /** Rollouts that stay halted although their quarantine was lifted: `rollout clear` restarts them. */
  halted: defaulted(Schema.Array(Schema.String), [])
})
export type ActionTaken = typeof ActionTaken.Type

/** A refusal of the same route: 404 nothing of that name, 409 not in this state, 422 a time that cannot be. */
export const ActionRefused = Schema.Struct({ error: Schema.String, reason: Schema.String })
export type ActionRefused = typeof ActionRefused.Type

/** Most rows of the audit in one answer. */
export const recentActionsLimit = 50

/** `GET /v1/operator/actions`: what holds now, ascending by subject, and what was done last, newest first. */
export const ActionsResponse = Schema.Struct({
  inForce: Schema.Array(Schema.Struct({ action: HoldingAction, actor: Schema.String, at: Timestamp })),
  /** `actor: null`: it ended by itself. */
  recent: Schema.Array(Schema.Struct({ action: OperatorAction, actor: nullable(Schema.String), at: Timestamp }))
})
export type ActionsResponse = typeof ActionsResponse.Type

/** `GET /v1/quarantine`, in order of recording. */
export const QuarantineResponse = Schema.Struct({
  quarantine: Schema.Array(
    Schema.Struct({ rolloutId: Schema.String, closure: Schema.String, host: Schema.String, at: Timestamp })
  )
})
export type QuarantineResponse = typeof QuarantineResponse.Type
