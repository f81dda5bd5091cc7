/**
 * How long rows are kept (D6): until the control plane has acknowledged them and a while after a later rollout ended here;
 * then one row stands for them, and stays in the digest. Both are bounded: the oldest rollouts that are never acknowledged
 * are given up, with a warning, and the oldest summaries forgotten. One rollout at a time, so that a commit stays small.
 */
import type { RolloutEntry } from "../State.ts"
import { entriesOf } from "../State.ts"
import { raiseFloor } from "./Delivery.ts"
import type { Draft } from "./Draft.ts"
import { type Limits, summaryLimit, unacknowledgedLimit } from "./Limits.ts"

/** A control plane that never acknowledges by number (the original) has acknowledged what it answered with success. */
function isAcknowledged({ lane, record }: RolloutEntry): boolean {
  const delivered = lane.nextSeq > record.lastEventSeq && lane.parked.length === 0
  return delivered && (lane.ackedThrough === undefined || lane.ackedThrough >= record.lastEventSeq)
}

const isSummary = ({ lane, record }: RolloutEntry): boolean => lane.firstKeptSeq > record.lastEventSeq

/** Whether a rollout dispatched after this one ended long enough ago. */
function isOutlived(entry: RolloutEntry, all: ReadonlyArray<RolloutEntry>, before: number): boolean {
  return entry.record.closedAt !== undefined &&
    all.some((later) =>
      later.record.dispatchedAt > entry.record.dispatchedAt && (later.bookkeeping.endedAt ?? Infinity) <= before
    )
}

export function retain(draft: Draft, limits: Limits): void {
  const all = entriesOf(draft.state)
  const before = draft.now.wall - limits.retentionMs
  const summaries = all.filter(isSummary)
  const oldest = summaries.toSorted((a, b) => a.record.dispatchedAt - b.record.dispatchedAt)[0]
  if (oldest !== undefined && summaries.length > summaryLimit) return forget(draft, oldest)
  const outlived = all.filter((entry) => !isSummary(entry) && isOutlived(entry, all, before))
  const next = outlived.find(isAcknowledged)
  if (next !== undefined) return summarise(draft, next)
  const lost = outlived.toSorted((a, b) => a.record.dispatchedAt - b.record.dispatchedAt)[0]
  if (lost === undefined || outlived.length <= unacknowledgedLimit) return
  draft.tell("warn", "rows that were never acknowledged are given up", {
    rollout: lost.record.rolloutId,
    reason: "never-acknowledged",
    undelivered: lost.record.lastEventSeq + 1 - lost.lane.nextSeq,
    parked: lost.lane.parked.length
  })
  summarise(draft, lost)
}

function summarise(draft: Draft, entry: RolloutEntry): void {
  const { bookkeeping, lane, record } = entry
  const { attempt, rolloutId } = record
  const { wall } = draft.now
  draft.write({
    _tag: "Summarise",
    row: { rolloutId, attempt, at: wall, now: wall, entry: { _tag: "Summarised", record, bookkeeping } }
  })
  const beyond = record.lastEventSeq + 1
  draft.setLane(entry, { ...lane, nextSeq: beyond, firstKeptSeq: beyond, parked: [] })
  draft.tell("info", "rows of an old rollout summarised", { rollout: rolloutId, rows: beyond - lane.firstKeptSeq })
}

/** Its numbers are never used again, even when the same rollout comes back (D2). */
function forget(draft: Draft, { record }: RolloutEntry): void {
  const rollouts = new Map(draft.state.rollouts)
  rollouts.delete(record.rolloutId)
  draft.state = { ...draft.state, rollouts }
  draft.write({ _tag: "ForgetRollout", rolloutId: record.rolloutId })
  raiseFloor(draft, record.rolloutId, record.lastEventSeq)
}
