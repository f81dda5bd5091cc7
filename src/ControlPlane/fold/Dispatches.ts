/** What the rows of the dispatch queue mean (D8). */
import { HashMap } from "effect"
import { omit, optional } from "../../Rollout/host/Model.ts"
import type { DispatchRow, PlanAction } from "../../Schema/ControlPlaneJournal.ts"
import { splitRolloutId } from "../../Schema/Primitives.ts"
import { at, hostIn, type State, waitingIn } from "../State.ts"
import { putHost, waits } from "./Records.ts"
import type { Touched } from "./Touched.ts"

type DispatchAction = Extract<
  PlanAction,
  { action: "QueueDispatch" | "LeaseDispatch" | "ReleaseLease" | "RevokeDispatch" }
>

export function foldDispatchAction(state: State, action: DispatchAction, touched: Touched): State {
  switch (action.action) {
    case "QueueDispatch":
      return putDispatch(state, action.row, touched)
    case "LeaseDispatch":
      return leased(putDispatch(state, action.row, touched), action.row, touched)
    case "ReleaseLease":
      return released(state, action, touched)
    case "RevokeDispatch":
      return dropDispatch(state, action.host, touched)
  }
}

function putDispatch(state: State, row: DispatchRow, touched: Touched): State {
  touched.dispatches.add(row.host)
  const { host, rolloutId } = row
  const next = { ...state, queue: HashMap.set(state.queue, host, row) }
  // A row that takes the place of one of its own rollout is known to wait.
  return at(state.queue, host)?.rolloutId === rolloutId ? next : waits(next, rolloutId, host)
}

export function dropDispatch(state: State, host: string, touched: Touched): State {
  if (!HashMap.has(state.queue, host)) return state
  touched.dispatches.add(host)
  return { ...state, queue: HashMap.remove(state.queue, host) }
}

/** Leaves what another rollout has for the host: that is the other rollout's to take back. */
export function dropDispatchOf(state: State, rolloutId: string, host: string, touched: Touched): State {
  return at(state.queue, host)?.rolloutId === rolloutId ? dropDispatch(state, host, touched) : state
}

/** Deletes what a rollout that is no longer live has not yet delivered (D8). Costs the hosts of its channel. */
export function dropDispatchesOf(state: State, rolloutId: string, touched: Touched): State {
  return waitingIn(state, splitRolloutId(rolloutId).channel).toSorted()
    .reduce((next, host) => dropDispatchOf(next, rolloutId, host, touched), state)
}

/** The first lease of an attempt fixes when it was dispatched and when its soak is due (D8); each says until when it lasts. */
function leased(state: State, row: DispatchRow, touched: Touched): State {
  const counted = { ...state, nextDelivery: state.nextDelivery + 1 }
  const entry = hostIn(state, row.rolloutId, row.host)
  const { lease, soakDueAt } = row
  if (entry === undefined || lease === undefined || soakDueAt === undefined) return counted
  const { expiresAt: offeredUntil, leasedAt } = lease
  const offered = entry.leasedAt !== undefined
    ? { ...entry, offeredUntil }
    : { ...entry, record: { ...entry.record, dispatchedAt: leasedAt, soakDueAt }, leasedAt, offeredUntil }
  return putHost(counted, row.rolloutId, row.host, offered, touched)
}

/**
 * A poll that was aborted never got its answer: the host cannot know of this lease, and takes no place in its budgets by it. What
 * was in doubt before it still is (D17).
 */
function released(
  state: State,
  { because, deliveryId, host }: Extract<DispatchAction, { action: "ReleaseLease" }>,
  touched: Touched
): State {
  const row = at(state.queue, host)
  if (row?.lease?.deliveryId !== deliveryId) return state
  const next = putDispatch(state, omit(row, ["lease"]), touched)
  const entry = hostIn(state, row.rolloutId, host)
  return because === "expired" || entry === undefined
    ? next
    : putHost(
      next,
      row.rolloutId,
      host,
      { ...omit(entry, ["offeredUntil"]), ...optional("offeredUntil", row.lease.inDoubtUntil) },
      touched
    )
}
