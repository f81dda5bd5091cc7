/** Polls and leases (D8, D9): who waits, what a poll that ended gives back, what is over. */
import { HashMap } from "effect"
import type { DispatchRow } from "../../Schema/ControlPlaneJournal.ts"
import { splitRolloutId } from "../../Schema/Primitives.ts"
import type { Taken } from "../../Schema/Wire.ts"
import type { Draft } from "../Draft.ts"
import { isRevoked } from "../Identities.ts"
import type { Parked, Unparked } from "../Input.ts"
import { at, sorted } from "../State.ts"
import { isLeftToPlanner } from "./Holds.ts"
import { flightsOf, inFlightOf } from "./InFlight.ts"
import { offer } from "./Offer.ts"
import { markArrived } from "./Recovery.ts"

/** One poll a host, the newest wins: an older one is a connection that its agent has given up. */
export function decideParked(draft: Draft, { capabilities, host, issuedAt, taken, until, waiterId }: Parked): void {
  // Let in before the revocation was decided.
  if (isRevoked(draft.state.identities, host, issuedAt)) return endRevoked(draft, host, waiterId)
  const older = at(draft.state.parked, host)
  if (older !== undefined) endPoll(draft, host, older.waiterId)
  draft.park(host, { waiterId, capabilities, issuedAt, until })
  notePoll(draft, host, taken)
  // What is queued passed every gate, and what closes one again marks the channel in the same batch: a poll changes no plan, and
  // ten thousand of them plan nothing (D20).
  const row = at(draft.state.queue, host)
  if (row === undefined || row.lease !== undefined) return
  const { channel } = splitRolloutId(row.rolloutId)
  if (draft.state.dirty.has(channel)) return
  if (isLeftToPlanner(draft.state, row)) return
  const hold = offer(draft, row, flightsOf(draft))
  const known = at(draft.state.verdicts, host)
  if (hold === undefined) draft.judge(host, undefined)
  // Told already: the next poll of each of ten thousand hosts under a stale release must plan nothing.
  else if (known?.rolloutId !== hold.rolloutId || known.gate !== hold.gate) draft.mark(channel)
}

/** The first poll after a lease, or after a start, may end a doubt: the host's place in its budgets is free at once. */
function notePoll(draft: Draft, host: string, taken: Taken | undefined): void {
  const { now, state: before } = draft
  if (!draft.polls(host, taken)) return
  markArrived(draft, before, host)
  const isFree = inFlightOf(before, now, host) !== undefined && inFlightOf(draft.state, now, host) === undefined
  if (isFree) draft.markAll()
}

/** A poll that was aborted gives its place, or the lease that was never written, back (D8). */
export function decideUnparked(draft: Draft, { host, waiterId }: Unparked): void {
  if (at(draft.state.parked, host)?.waiterId === waiterId) draft.unpark(host)
  const row = at(draft.state.queue, host)
  if (row?.lease?.waiterId === waiterId) release(draft, row, "aborted")
}

/** Ends what is over: leases that nobody acknowledged, polls whose time has come, and waits that only time was to end (D9). */
export function decideSweep(draft: Draft): void {
  const { leaseMs } = draft.state.limits
  for (const { earliestAt, rolloutId } of HashMap.values(draft.state.verdicts)) {
    if (isOver(earliestAt, draft.now)) draft.mark(splitRolloutId(rolloutId).channel)
  }
  for (
    const [, row] of sorted(
      HashMap.filter(draft.state.queue, ({ lease }) => isOver(lease?.expiresAt, draft.now, leaseMs))
    )
  ) {
    release(draft, row, "expired")
  }
  for (
    const [host, { waiterId }] of sorted(
      HashMap.filter(draft.state.parked, ({ until }) => isOver(until, draft.now, longestPollMs))
    )
  ) {
    draft.unpark(host)
    endPoll(draft, host, waiterId)
  }
}

/** `longestMs`: more than that cannot be left, unless the clock was set back; then nobody knows how much it is, and it is over. */
const isOver = (end: number | undefined, now: number, longestMs = Infinity): boolean =>
  end !== undefined && (end <= now || end - now > longestMs)

/** Longer than any poll that a route parks (D9). */
const longestPollMs = 120_000

function endPoll(draft: Draft, host: string, waiterId: number): void {
  draft.act({ _tag: "CompleteWaiter", host, waiterId, answer: { _tag: "Nothing" } })
}

export function endRevoked(draft: Draft, host: string, waiterId: number): void {
  draft.act({ _tag: "CompleteWaiter", host, waiterId, answer: { _tag: "Revoked" } })
}

function release(draft: Draft, row: DispatchRow, because: "expired" | "aborted"): void {
  const { host, lease, rolloutId } = row
  if (lease === undefined) return
  const { deliveryId } = lease
  draft.record({ host, rolloutId }, {
    kind: "plan_action",
    payload: { action: "ReleaseLease", host, deliveryId, because }
  })
  draft.log("dispatch", "warn", "a dispatch was not acknowledged and is offered again", {
    hostname: host,
    rollout: rolloutId,
    reason: because === "expired" ? "lease-expired" : "poll-aborted"
  })
  // Hosts of other channels may share a budget with this one.
  draft.markAll()
}
