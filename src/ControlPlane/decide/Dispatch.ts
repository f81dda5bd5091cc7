/** Polls and leases (D8, D9): who waits, what a poll that ended gives back, what is over. */
import { HashMap } from "effect"
import type { DispatchRow } from "../../Schema/ControlPlaneJournal.ts"
import { splitRolloutId } from "../../Schema/Primitives.ts"
import type { Draft } from "../Draft.ts"
import type { Parked, Unparked } from "../Input.ts"
import { at, currentRolloutOf, hostIn, sorted } from "../State.ts"

/** One poll a host, the newest wins: an older one is a connection that its agent has given up. */
export function decideParked(draft: Draft, { capabilities, host, until, waiterId }: Parked): void {
  const older = at(draft.state.parked, host)
  if (older !== undefined) endPoll(draft, host, older.waiterId)
  draft.park(host, { waiterId, capabilities, until })
  // A poll of a host for which nothing is queued changes no plan: ten thousand idle polls plan nothing (D20).
  const row = at(draft.state.queue, host)
  if (row !== undefined && row.lease === undefined) draft.mark(splitRolloutId(row.rolloutId).channel)
}

/** A poll that was aborted gives its place, or the lease that was never written, back (D8). */
export function decideUnparked(draft: Draft, { host, outcome, waiterId }: Unparked): void {
  if (at(draft.state.parked, host)?.waiterId === waiterId) draft.unpark(host)
  const row = at(draft.state.queue, host)
  if (outcome === "aborted" && row?.lease?.waiterId === waiterId) release(draft, row, "aborted")
}

/** Ends what is over: leases that nobody acknowledged, and polls whose time has come (D9). */
export function decideSweep(draft: Draft): void {
  for (const [, row] of sorted(HashMap.filter(draft.state.queue, ({ lease }) => isOver(lease?.expiresAt, draft.now)))) {
    release(draft, row, "expired")
  }
  for (
    const [host, { waiterId }] of sorted(HashMap.filter(draft.state.parked, ({ until }) => isOver(until, draft.now)))
  ) {
    draft.unpark(host)
    endPoll(draft, host, waiterId)
  }
}

const isOver = (end: number | undefined, now: number): boolean => end !== undefined && end <= now

function endPoll(draft: Draft, host: string, waiterId: number): void {
  draft.act({ _tag: "CompleteWaiter", host, waiterId, answer: { _tag: "Nothing" } })
}

function release(draft: Draft, row: DispatchRow, because: "expired" | "aborted"): void {
  const { host, lease, rolloutId } = row
  if (lease === undefined) return
  const { deliveryId } = lease
  draft.record({ host, rolloutId }, {
    kind: "plan_action",
    payload: { action: "ReleaseLease", host, deliveryId, because }
  })
  draft.log("info", "a dispatch was not acknowledged and is offered again", { host, rollout: rolloutId, because })
  draft.mark(splitRolloutId(rolloutId).channel)
}

/** Why a queued dispatch is not handed to its host although it polls; `undefined` when nothing is in the way. */
export interface Hold {
  readonly gate: string
  readonly because: string
  readonly clearedBy: string
  readonly earliestAt?: number
}

/** What only concerns this one host (D6, D7, D8, D10): asked at each offer, after the rollout's gates. */
export function holdOf(draft: Draft, row: DispatchRow, capabilities: ReadonlySet<string>): Hold | undefined {
  const { attempt, host, rolloutId } = row
  const newest = currentRolloutOf(draft.state, host)
  if (newest !== rolloutId) {
    return {
      gate: "superseded",
      because: `${newest ?? "no rollout"} is newer for this host`,
      clearedBy: "nothing: the newer rollout is the one to follow"
    }
  }
  const seen = at(draft.state.hosts, host)?.seen
  const entry = hostIn(draft.state, rolloutId, host)
  const digest = seen?.digests.find((one) => one.rollout_id === rolloutId)
  if (digest !== undefined && digest.attempt >= attempt && digest.last_event_seq > (entry?.ledger.lastSeq ?? 0)) {
    return {
      gate: "awaiting-replay",
      because: `the host has events up to ${digest.last_event_seq} that are not here yet`,
      clearedBy: "their delivery"
    }
  }
  if (entry?.overlay !== undefined) {
    return {
      gate: "already-there",
      because: `the host says that it is ${entry.overlay.state} in this rollout`,
      clearedBy: "its events, or a heartbeat that says otherwise"
    }
  }
  if (attempt > 1 && !capabilities.has("attempts")) {
    return {
      gate: "attempt-not-supported",
      because: `the agent of this host cannot do attempt ${attempt} of a rollout`,
      clearedBy: "publishing a new ref on the channel"
    }
  }
  const refused = seen?.rejections.find(({ rejection }) => rejection.rollout_id === rolloutId)
  return refused === undefined || refused.until <= draft.now ? undefined : {
    gate: "rejected-by-host",
    because: `the host could not take it: ${refused.rejection.reason}`,
    clearedBy: "the end of a pause that doubles with each rejection",
    earliestAt: refused.until
  }
}
