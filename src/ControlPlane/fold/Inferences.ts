/** What follows from heartbeats for records and quarantine: facts that consume no sequence number (D2, D4, D6, D8). */
import { learn } from "../../Rollout/Host.ts"
import { optional } from "../../Rollout/host/Model.ts"
import type { Effect, LogRow, Overlay } from "../../Schema/ControlPlaneJournal.ts"
import { at, hostIn, type HostInRollout, plannedHost, type State } from "../State.ts"
import { dropDispatchOf } from "./Dispatches.ts"
import { quarantine } from "./Quarantine.ts"
import { putHost, withoutOverlay } from "./Records.ts"
import { begunAnew, hostChanged, pending } from "./Rollouts.ts"
import { type Touched, UnfoldableRow } from "./Touched.ts"

export function foldEffect(state: State, row: LogRow, payload: Effect, touched: Touched): State {
  switch (payload.effect) {
    case "Quarantined":
      return quarantine(state, payload.quarantine, touched)
    case "Overlaid":
      return overlaid(state, row, payload.overlay, touched)
    case "OverlayEnded":
      return onHost(state, row, touched, withoutOverlay)
    case "Confirmed":
      return onHost(state, row, touched, (entry) => ({
        ...withoutOverlay(entry),
        record: learn(entry.record, { kind: "Confirmed" })
      }))
    case "AttemptFollowed":
      return attemptFollowed(state, row, payload.attempt, touched)
    case "Rejected":
      return rejected(state, row, touched)
  }
}

/** A failure that only a digest tells halts the rollout as an event of the host would (D4, D17). */
function overlaid(state: State, row: LogRow, overlay: Overlay, touched: Touched): State {
  const before = hostIn(state, row.rolloutId ?? "", row.host ?? "")?.record.state
  const next = onHost(state, row, touched, (entry) => ({ ...entry, overlay }))
  const failed = overlay.state === "Failed" || overlay.state === "Reverted"
  return failed && before !== undefined ? hostChanged(next, row, { from: before, to: overlay.state }, touched) : next
}

/**
 * What was queued for the attempt before is not this one's; its place among the host's rollouts is. A record that was closed stays
 * so, and of a host that was left out none begins.
 */
function attemptFollowed(state: State, row: LogRow, attempt: number, touched: Touched): State {
  const { host = "", rolloutId = "" } = row
  const rollout = at(state.rollouts, rolloutId)
  if (rollout === undefined) throw new UnfoldableRow(row, "no record was opened before it")
  const next = dropDispatchOf(state, rolloutId, host, touched)
  return onHost(next, row, touched, (entry) => {
    const { lastEventSeq, signedAt } = entry.record
    const fresh = pending(rollout.record, rollout.plan, host, attempt, row.now, lastEventSeq)
    const closedAt = entry.record.closedAt ?? (plannedHost(rollout.plan, host) === undefined ? row.now : undefined)
    return begunAnew(entry, { ...fresh, signedAt, ...optional("closedAt", closedAt) }, row.now)
  })
}

function onHost(
  state: State,
  row: LogRow,
  touched: Touched,
  change: (entry: HostInRollout) => HostInRollout
): State {
  const { host = "", rolloutId = "" } = row
  const entry = hostIn(state, rolloutId, host)
  if (entry === undefined) throw new UnfoldableRow(row, "no record was opened before it")
  return putHost(state, rolloutId, host, change(entry), touched)
}

/** A dispatch that the host said it cannot take is not on its way any more; the back-off itself is in what was last heard. */
function rejected(state: State, row: LogRow, touched: Touched): State {
  const { host = "", rolloutId = "" } = row
  return dropDispatchOf(state, rolloutId, host, touched)
}
