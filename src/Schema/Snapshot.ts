/**
 * The lines of `GET /v1/snapshot`: what a control plane plans by, as JSON, one object a line, told apart by `line`. First the
 * header, last the end with the number of lines before it, so that an answer that was cut off is known by its missing end. Times
 * are epoch milliseconds, as in the journal.
 *
 * No secret is in it: neither keys nor bootstrap nonces.
 */
import { Schema } from "effect"
import {
  ChannelRecovery,
  DispatchRow,
  HostSeen,
  Overlay,
  Quarantine,
  RevocationsInForce,
  RolloutPlan
} from "./ControlPlaneJournal.ts"
import { HostRecord, RolloutRecord } from "./HostRecord.ts"
import { Intervention } from "./Interventions.ts"
import { EpochMillis, UInt53 } from "./Primitives.ts"

/** Most bytes of a snapshot: some 20,000 hosts with a few rollouts each. A larger one is refused. */
export const snapshotLimitBytes = 60 * 1_048_576

const optional = Schema.optionalKey

const line = <Name extends string, Fields extends Schema.Struct.Fields>(name: Name, fields: Fields) =>
  Schema.Struct({ line: Schema.tag(name), ...fields })

export const HeaderLine = line("header", {
  format: Schema.Literal(1),
  takenAt: EpochMillis,
  databaseId: Schema.String,
  nextDelivery: UInt53,
  /** Times that its decisions go by, ms. */
  limits: Schema.Struct({
    leaseMs: UInt53,
    heartbeatMs: UInt53,
    recoveryGraceMs: UInt53,
    silentMs: UInt53,
    freshnessCeilingMs: optional(UInt53)
  }),
  lastPlanAt: optional(EpochMillis),
  listeningSince: optional(EpochMillis)
})

/** A signed artifact in force: `fleet.resolved`, or a rollout's manifest by the rollout's id. `text`: the bytes that verified. */
export const ArtifactLine = line("artifact", {
  name: Schema.String,
  signedAt: EpochMillis,
  hash: Schema.String,
  text: Schema.String
})

export const RolloutLine = line("rollout", { record: RolloutRecord, plan: RolloutPlan })

/** One host in one rollout; the rollout's own line is before it. */
export const RecordLine = line("record", {
  record: HostRecord,
  /** Last sequence number that was received. */
  lastSeq: UInt53,
  leasedAt: optional(EpochMillis),
  offeredUntil: optional(EpochMillis),
  overlay: optional(Overlay)
})

export const ChannelLine = line("channel", {
  channel: Schema.String,
  current: optional(Schema.String),
  recovery: optional(ChannelRecovery)
})

export const DispatchLine = line("dispatch", { row: DispatchRow })
export const QuarantineLine = line("quarantine", { quarantine: Quarantine })
/** What an operator lifted from it. */
export const LiftedLine = line("lifted", { quarantine: Quarantine })
export const InterventionLine = line("intervention", { intervention: Intervention })
/** Whose certificates are void. */
export const RevocationsLine = line("revocations", { list: RevocationsInForce })
export const SeenLine = line("seen", { seen: HostSeen })
export const EndLine = line("end", { lines: UInt53 })

export const SnapshotLine = Schema.Union([
  HeaderLine,
  ArtifactLine,
  RolloutLine,
  RecordLine,
  ChannelLine,
  DispatchLine,
  QuarantineLine,
  LiftedLine,
  InterventionLine,
  RevocationsLine,
  SeenLine,
  EndLine
])
export type SnapshotLine = typeof SnapshotLine.Type
