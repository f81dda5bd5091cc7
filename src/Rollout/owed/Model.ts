/** The vocabulary of `../Owed.ts`: what is known on the host, what is due, and the limits that bound it. */
import type { GuardState } from "../../Schema/GuardOrder.ts"
import type { HostRecord } from "../../Schema/HostRecord.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import type { UnnumberedEvent } from "../host/Model.ts"

/** Switches that one activation may start: the first, and one re-run after a lost one (D7). */
export const maxSwitchStarts = 2
/** How long fetching the target may be retried, counted from the accepted dispatch (D11). */
export const fetchDeadlineMs = 60 * 60_000
/** How long an ended switch may wait for a readable `current-system` before the activation fails (house rule 8). */
export const settleDeadlineMs = 10 * 60_000
/** Wait between a failed rollback and the next; `maxRollbacks` of them are tried. */
export const rollbackRetryMs = 60_000
/** A deferral that no reboot has completed by then fails the activation (D11). */
export const deferralDeadlineMs = 7 * 24 * 60 * 60_000
/** Another closure than the target counts as lasting drift after this time (D12): longer than any switch moves the link. */
export const driftGraceMs = 60_000

/**
 * One rollout in the agent's journal. `rollbackStarts`: rollbacks begun in the present attempt, journaled before each; `boots`:
 * boots of the host while its activation was not settled.
 */
export interface Entry {
  readonly record: HostRecord
  readonly bookkeeping: { readonly rollbackStarts: number; readonly boots?: number }
}

/** The record that may act (D10), and how often a rollback of it was begun. */
export interface Current<R extends HostRecord> {
  readonly record: R
  readonly rollbackStarts: number
}

/** Which run of which switch; names its result on the host (the shape of the Activator's `SwitchId`). */
export interface SwitchId {
  readonly rolloutId: string
  readonly attempt: number
  readonly purpose: "forward" | "rollback"
  readonly run: number
}

/** What became of a switch (the shape of the Activator's `SwitchResult`). */
export type SwitchState =
  | { readonly _tag: "Running" }
  | { readonly _tag: "Exited"; readonly code: number; readonly stderrTail: string }
  | { readonly _tag: "TimedOut"; readonly stderrTail: string }
  | { readonly _tag: "Killed"; readonly signal: string; readonly stderrTail: string }
  | { readonly _tag: "Lost" }

export interface Observed {
  /** Closure behind `current-system`, re-read for this question; `undefined` = none, or it could not be read. */
  readonly running: string | undefined
  /** States of the switches that `switchesToRead` named. */
  readonly switches: ReadonlyArray<{ readonly id: SwitchId; readonly state: SwitchState }>
  /** What the guard is doing; absent where it was not looked at. */
  readonly guard?: GuardState
}

/** A fact that is due to be told to the reducer; the reducer numbers and guards it. `event.attempt` is set. */
export interface Settle {
  readonly _tag: "Settle"
  readonly rolloutId: string
  readonly event: UnnumberedEvent
}

/** Something is owed but must not happen now; look again on any signal, and at `until` when it is set. */
export interface Hold {
  readonly _tag: "Hold"
  readonly rolloutId: string
  readonly reason: Reason
  readonly detail: string
  readonly until?: number
}

export interface Idle {
  readonly _tag: "Idle"
}

export const idle: Idle = { _tag: "Idle" }

export type ActivationDuty =
  | Idle
  | Hold
  | Settle
  /**
   * Realise `closure` (transient trouble may be retried until `fetchUntil`; then, and for any other trouble, the fact due
   * is ActivationFailed); offer ActivationStarted; only when that is accepted set the profile and start the switch `id`.
   * A switch of somebody else that holds the host is waited for, under the same `id`.
   */
  | { readonly _tag: "Switch"; readonly id: SwitchId; readonly closure: string; readonly fetchUntil: number }
  /** A switch runs: poll its result, then look again. Nothing else may switch meanwhile. */
  | { readonly _tag: "AwaitSwitch"; readonly id: SwitchId }
  /**
   * Journal the beginning of the rollback; only when that is accepted realise `closure`, set the profile and start the
   * switch `id`. Any trouble on the way is ActivationFailed: no second beginning without one.
   */
  | { readonly _tag: "Rollback"; readonly id: SwitchId; readonly closure: string }

export function settle(record: HostRecord, event: UnnumberedEvent): Settle {
  return { _tag: "Settle", rolloutId: record.rolloutId, event: { ...event, attempt: record.attempt } }
}

export function hold(record: HostRecord, reason: Reason, detail: string, until?: number): Hold {
  return { _tag: "Hold", rolloutId: record.rolloutId, reason, detail, ...(until === undefined ? {} : { until }) }
}

/** The state of one switch; `undefined` when it was not read, e.g. because the record advanced in between. */
export function stateOf(observed: Observed, id: SwitchId): SwitchState | undefined {
  return observed.switches.find((reading) =>
    reading.id.rolloutId === id.rolloutId && reading.id.attempt === id.attempt && reading.id.purpose === id.purpose &&
    reading.id.run === id.run
  )?.state
}

/** Exit codes of the wire for ends that are not a switch's own exit (agent.md §8.1 uses -1 to -3). */
export const exitCodes = {
  unrealised: -1,
  untrusted: -2,
  notActivated: -3,
  timedOut: -4,
  killed: -5,
  lost: -6,
  unreadable: -7,
  deferralOver: -8,
  guardFired: -9,
  bootLoop: -10
} as const
