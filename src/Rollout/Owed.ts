/**
 * What is due on this host, from its records and from what is observed now (D7, D10, D11, house rule 5). A restart, a lost or
 * repeated intent and a supersession are one case: ask again. Nothing here remembers anything, so nothing can be forgotten.
 *
 * Only the current record causes anything; older ones, live or not, never do. The one thing that an older record can still
 * do is to delay: while a switch of it runs, no other may start.
 *
 * How a worker uses it, after every signal: read `current-system` and the switches of `switchesToRead`; ask `owed`; do that
 * one thing; ask again until the answer is `Idle`, or a `Hold` that only time or another signal ends.
 */
import type { HostRecord, SoakingRecord } from "../Schema/HostRecord.ts"
import type { Present } from "./owed/Advance.ts"
import { advanceDeferred, advanceSoaking } from "./owed/Advance.ts"
import { forward, forwardSwitch } from "./owed/Forward.ts"
import { casualty } from "./owed/Guard.ts"
import type { ActivationDuty, Entry, Idle, Observed, Settle, SwitchId } from "./owed/Model.ts"
import { hold, idle } from "./owed/Model.ts"
import { rollback, rollbackSwitch, rollbackUnderWay } from "./owed/Rollback.ts"

export { latestTime } from "./host/Clock.ts"
export { failingProbes, healthObstacle, rollbackClosure, soakLeft } from "./host/Evidence.ts"
export { deferralUntil } from "./owed/Advance.ts"
export type { Present } from "./owed/Advance.ts"
export { guardOwed, maxBoots, sameOrder } from "./owed/Guard.ts"
export {
  deferralDeadlineMs,
  driftGraceMs,
  exitCodes,
  fetchDeadlineMs,
  maxSwitchStarts,
  rollbackRetryMs,
  settleDeadlineMs
} from "./owed/Model.ts"
export type { ActivationDuty, Entry, Hold, Observed, Settle, SwitchId, SwitchState } from "./owed/Model.ts"

/** Newest first: by the manifest's signedAt, then by attempt, then by what makes the order total (D10). */
function newestFirst(a: HostRecord, b: HostRecord): number {
  return b.signedAt - a.signedAt || b.attempt - a.attempt || b.dispatchedAt - a.dispatchedAt ||
    (a.rolloutId < b.rolloutId ? -1 : 1)
}

/** The one record that may act: the newest that no other closed. It may have ended; then nothing is due. */
export function currentOf<E extends Entry>(entries: ReadonlyArray<E>): E | undefined {
  return entries.filter(({ record }) => record.closedAt === undefined)
    .toSorted((a, b) => newestFirst(a.record, b.record))[0]
}

export type Admission =
  /** `closes`: rollouts whose records the same commit closes, by id in ascending order (D10). */
  | { readonly _tag: "Admitted"; readonly closes: ReadonlyArray<string> }
  /** The attempt is in the journal: the control plane lacks its events; resend them (D6). */
  | { readonly _tag: "Known" }
  /** A newer manifest, or a newer attempt, has already been accepted. */
  | { readonly _tag: "Superseded"; readonly by: string }

/** Whether a verified dispatch may open a record, and what it closes. Equal signedAt: one release, another channel. */
export function admit(
  entries: ReadonlyArray<Entry>,
  dispatch: { readonly rolloutId: string; readonly attempt: number; readonly signedAt: number }
): Admission {
  const same = entries.find(({ record }) => record.rolloutId === dispatch.rolloutId)?.record
  if (same !== undefined && same.attempt === dispatch.attempt) return { _tag: "Known" }
  if (same !== undefined && same.attempt > dispatch.attempt) return { _tag: "Superseded", by: same.rolloutId }
  const newer = entries.map(({ record }) => record).filter((record) => record.signedAt > dispatch.signedAt)
    .toSorted(newestFirst)[0]
  if (newer !== undefined) return { _tag: "Superseded", by: newer.rolloutId }
  const closes = entries.map(({ record }) => record)
    .filter((record) => record.closedAt === undefined && record.rolloutId !== dispatch.rolloutId)
    .map((record) => record.rolloutId)
    .toSorted()
  return { _tag: "Admitted", closes }
}

/** The switches whose results `owed` needs, in a fixed order; empty when no switch can be under way or due. */
export function switchesToRead(entries: ReadonlyArray<Entry>): ReadonlyArray<SwitchId> {
  const current = currentOf(entries)?.record
  if (current?.state !== "Activating" && current?.state !== "Failed") return []
  return entries.flatMap(lastSwitches)
}

function lastSwitches({ bookkeeping, record }: Entry): ReadonlyArray<SwitchId> {
  switch (record.state) {
    case "Activating":
      return record.activationStarts === 0 ? [] : [forwardSwitch(record, record.activationStarts)]
    case "Failed": {
      const { rollbackStarts } = bookkeeping
      return rollbackUnderWay({ record, rollbackStarts }) ? [rollbackSwitch(record, rollbackStarts)] : []
    }
    default:
      return []
  }
}

/** What the Activation worker has to do next. `now`: epoch ms. */
export function owed(entries: ReadonlyArray<Entry>, observed: Observed, now: number): ActivationDuty {
  const current = currentOf(entries)
  if (current === undefined) return idle
  const duty = casualty(current, observed, now) ?? dutyOf(current, observed, now)
  // Two switches at once would race for one system, and what runs now will not run for long: wait for the one (D10).
  const running = observed.switches.find(({ state }) => state._tag === "Running")
  if (running !== undefined && duty._tag !== "Idle") return { _tag: "AwaitSwitch", id: running.id }
  const guarded = observed.guard?._tag === "Fired" && observed.guard.acting
  return guarded && (duty._tag === "Switch" || duty._tag === "Rollback")
    ? hold(current.record, "guard-acts", `the guard of ${observed.guard.order.rolloutId} has fired`)
    : duty
}

function dutyOf({ bookkeeping, record }: Entry, observed: Observed, now: number): ActivationDuty {
  const { boots = 0, rollbackStarts } = bookkeeping
  switch (record.state) {
    case "Activating":
      return forward({ record, boots }, observed, now)
    case "Failed":
      return rollback({ record, rollbackStarts }, observed, now)
    default:
      return idle
  }
}

/** The record whose probes run: the current one while it soaks, and no other (D10, D12). */
export function probesDue(entries: ReadonlyArray<Entry>): SoakingRecord | undefined {
  const record = currentOf(entries)?.record
  return record?.state === "Soaking" ? record : undefined
}

/** What the present moment makes due: Converged, Failed, or the end of a deferral. `now`: epoch ms. */
export function advance(entries: ReadonlyArray<Entry>, present: Present, now: number): Idle | Settle {
  const record = currentOf(entries)?.record
  switch (record?.state) {
    case "Soaking":
      return advanceSoaking(record, present, now)
    case "Deferred":
      return advanceDeferred(record, present, now)
    default:
      return idle
  }
}
