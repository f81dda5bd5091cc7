/**
 * How long rows are kept (D6): until the control plane has acknowledged them and a while after a later rollout ended here;
 * then one row stands for them, and stays in the digest. The number of those is bounded too. One rollout at a time, so that
 * a commit stays small.
 */
import type { RolloutEntry } from "../State.ts"
import { entriesOf } from "../State.ts"
import { raiseFloor } from "./Delivery.ts"
import type { Draft } from "./Draft.ts"
import { type Limits, summaryLimit } from "./Limits.ts"

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
  const next = all.find((entry) => !isSummary(entry) && isAcknowledged(entry) && isOutlived(entry, all, before))
  if (next !== undefined) summarise(draft, next)
}

function summarise(draft: Draft, entry: RolloutEntry): void {
  const { bookkeeping, lane, record } = entry
  const { attempt, rolloutId } = record
  const { wall } = draft.now
  draft.write({
    _tag: "Summarise",
    row: { rolloutId, attempt, at: wall, now: wall, entry: { _tag: "Summarised", record, bookkeeping } }
  })
  draft.setLane(entry, { ...lane, firstKeptSeq: record.lastEventSeq + 1, refused: 0 })
  draft.tell("info", "rows of an old rollout summarised", { rolloutId, rows: lane.nextSeq - lane.firstKeptSeq })
}

/** Its numbers are never used again, even when the same rollout comes back (D2). */
function forget(draft: Draft, { record }: RolloutEntry): void {
  const rollouts = new Map(draft.state.rollouts)
  rollouts.delete(record.rolloutId)
  draft.state = { ...draft.state, rollouts }
  draft.write({ _tag: "ForgetRollout", rolloutId: record.rolloutId })
  raiseFloor(draft, record.rolloutId, record.lastEventSeq)
}
