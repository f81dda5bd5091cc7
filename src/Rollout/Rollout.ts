/**
 * The machine of one rollout, control plane only (protocol.md §5): 8 states × 8 events. Pure; times are fields of events.
 *
 * It leaves the original's table in three cells: Failed accepts a host's Reverted and becomes Reverted, or that state could
 * never be reached (P-8); Opening accepts RolloutTerminal, because a rollout without a host is complete (D15); and where the
 * original has "unimplemented", a clearance is refused by name: a stopped attempt stays stopped, and clearing it means
 * opening the next one with `nextAttempt` (D7).
 */
import type { RolloutRecord, RolloutStateName } from "../Schema/HostRecord.ts"
import type { HostStateName } from "../Schema/Wire.ts"

/** `at`: epoch ms. */
export type RolloutEvent =
  | { readonly kind: "RolloutOpened"; readonly at: number }
  | { readonly kind: "HostJoined"; readonly at: number; readonly hostname: string; readonly wave: number }
  | {
    readonly kind: "HostStateChanged"
    readonly at: number
    readonly hostname: string
    readonly from: HostStateName
    readonly to: HostStateName
  }
  /** `toWave` equal to `fromWave`: the last wave has converged and only the proof is pending. */
  | { readonly kind: "WaveAdvanced"; readonly at: number; readonly fromWave: number; readonly toWave: number }
  | { readonly kind: "RolloutTerminal"; readonly at: number }
  | { readonly kind: "SuccessorOpened"; readonly at: number; readonly successor: string }
  | { readonly kind: "RetentionExpired"; readonly at: number }
  | { readonly kind: "OperatorClearance"; readonly at: number; readonly operator: string; readonly reason: string }

export type RolloutEventKind = RolloutEvent["kind"]

export type RolloutEffect =
  | {
    readonly _tag: "RecordRolloutTransition"
    readonly from: RolloutStateName
    readonly to: RolloutStateName
    readonly at: number
  }
  | { readonly _tag: "UpdateCurrentWave"; readonly wave: number }

export type RolloutError =
  | { readonly _tag: "IllegalForState"; readonly from: RolloutStateName; readonly kind: RolloutEventKind }
  /** A clearance of a stopped attempt: `nextAttempt` is the way. */
  | { readonly _tag: "NeedsNewAttempt"; readonly from: RolloutStateName }

export type RolloutResult =
  | { readonly ok: true; readonly record: RolloutRecord; readonly effects: ReadonlyArray<RolloutEffect> }
  | { readonly ok: false; readonly error: RolloutError }

/** States in which hosts may be dispatched; every other one halts the rollout (D17). */
export function isLive(state: RolloutStateName): boolean {
  return state === "Opening" || state === "Active" || state === "Converging"
}

/** The record of a manifest that is seen for the first time. */
export function open(
  fields: Pick<
    RolloutRecord,
    "rolloutId" | "channel" | "targetRef" | "signedAt" | "manifestHash" | "attempt" | "openedAt"
  >
): RolloutRecord {
  return { ...fields, state: "Opening", currentWave: 0 }
}

/** The same rollout from its first wave on: cleared by an operator, pointed back to, or with other targets (D7, P-20). */
export function nextAttempt(
  record: RolloutRecord,
  manifest: Pick<RolloutRecord, "signedAt" | "manifestHash">,
  at: number
): RolloutRecord {
  const { channel, rolloutId, targetRef } = record
  const { manifestHash, signedAt } = manifest
  return open({ rolloutId, channel, targetRef, signedAt, manifestHash, attempt: record.attempt + 1, openedAt: at })
}

/** Folds one event. On refusal the record is as before. */
export function step(record: RolloutRecord, event: RolloutEvent): RolloutResult {
  switch (record.state) {
    case "Opening":
      return opening(record, event)
    case "Active":
    case "Converging":
      return running(record, event)
    case "Terminal":
      return terminal(record, event)
    case "Reverted":
    case "Failed":
      return stopped(record, event)
    case "Superseded":
      return superseded(record, event)
    case "Pruned":
      return illegal(record, event)
  }
}

function opening(record: RolloutRecord, event: RolloutEvent): RolloutResult {
  switch (event.kind) {
    case "HostJoined":
      return enter(record, "Active", event.at)
    case "RolloutTerminal":
      return enter(record, "Terminal", event.at)
    case "SuccessorOpened":
      return supersede(record, event.successor, event.at)
    default:
      return illegal(record, event)
  }
}

function running(record: RolloutRecord, event: RolloutEvent): RolloutResult {
  switch (event.kind) {
    case "HostJoined":
      return unchanged(record)
    case "HostStateChanged":
      return event.to === "Failed" || event.to === "Reverted" ? enter(record, event.to, event.at) : unchanged(record)
    case "WaveAdvanced":
      return event.toWave > event.fromWave
        ? enter(record, "Active", event.at, event.toWave)
        : enter(record, "Converging", event.at)
    case "RolloutTerminal":
      return enter(record, "Terminal", event.at)
    case "SuccessorOpened":
      return supersede(record, event.successor, event.at)
    default:
      return illegal(record, event)
  }
}

function terminal(record: RolloutRecord, event: RolloutEvent): RolloutResult {
  switch (event.kind) {
    case "HostJoined":
    case "HostStateChanged":
    case "RolloutTerminal":
      return unchanged(record)
    case "SuccessorOpened":
      return supersede(record, event.successor, event.at)
    case "RetentionExpired":
      return enter(record, "Pruned", event.at)
    default:
      return illegal(record, event)
  }
}

function stopped(record: RolloutRecord, event: RolloutEvent): RolloutResult {
  switch (event.kind) {
    case "HostJoined":
    case "WaveAdvanced":
    case "RolloutTerminal":
      return unchanged(record)
    case "HostStateChanged":
      return event.to === "Reverted" ? enter(record, "Reverted", event.at) : unchanged(record)
    case "SuccessorOpened":
      return supersede(record, event.successor, event.at)
    case "RetentionExpired":
      return enter(record, "Pruned", event.at)
    case "OperatorClearance":
      return { ok: false, error: { _tag: "NeedsNewAttempt", from: record.state } }
    case "RolloutOpened":
      return illegal(record, event)
  }
}

function superseded(record: RolloutRecord, event: RolloutEvent): RolloutResult {
  switch (event.kind) {
    case "HostJoined":
    case "HostStateChanged":
    case "WaveAdvanced":
    case "RolloutTerminal":
    case "SuccessorOpened":
      return unchanged(record)
    case "RetentionExpired":
      return enter(record, "Pruned", event.at)
    default:
      return illegal(record, event)
  }
}

function illegal(record: RolloutRecord, event: RolloutEvent): RolloutResult {
  return { ok: false, error: { _tag: "IllegalForState", from: record.state, kind: event.kind } }
}

function unchanged(record: RolloutRecord): RolloutResult {
  return { ok: true, record, effects: [] }
}

/** Effects in the original's order: the transition when the state changes, then the wave when it rises. */
function enter(record: RolloutRecord, to: RolloutStateName, at: number, toWave = record.currentWave): RolloutResult {
  const moved = to !== record.state
  const risen = toWave > record.currentWave
  return {
    ok: true,
    record: {
      ...record,
      state: to,
      currentWave: risen ? toWave : record.currentWave,
      ...(to === "Terminal" && moved ? { terminalAt: at } : {})
    },
    effects: [
      ...(moved ? [{ _tag: "RecordRolloutTransition" as const, from: record.state, to, at }] : []),
      ...(risen ? [{ _tag: "UpdateCurrentWave" as const, wave: toWave }] : [])
    ]
  }
}

function supersede(record: RolloutRecord, successor: string, at: number): RolloutResult {
  const result = enter(record, "Superseded", at)
  return result.ok
    ? { ...result, record: { ...result.record, supersededAt: at, supersededBy: successor } }
    : result
}
