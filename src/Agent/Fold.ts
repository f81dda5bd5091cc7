/**
 * One row folded into its rollout: the only way in which a record changes (house rule 2). The reducer folds a row when it
 * writes it, `fold` does the same again from what was stored, so the two are equal by construction and compared by tests.
 */
import { Equal } from "effect"
import { learn, newPending, step, type StepError } from "../Rollout/Host.ts"
import type { Bookkeeping, Opened, Row } from "../Schema/AgentJournal.ts"
import type { HostRecord } from "../Schema/HostRecord.ts"
import type { AgentEvent } from "../Schema/Wire.ts"
import type { Folded } from "./State.ts"

/** `Orphan`: a row whose rollout was never opened; such a journal was not written by this program. */
export type FoldError = StepError | { readonly _tag: "Orphan"; readonly detail: string }

export type FoldResult =
  | { readonly ok: true; readonly folded: Folded }
  | { readonly ok: false; readonly error: FoldError }

const folds = (record: HostRecord, bookkeeping: Bookkeeping): FoldResult => ({
  ok: true,
  folded: { record, bookkeeping }
})

const orphan = (row: Row): FoldResult => ({
  ok: false,
  error: { _tag: "Orphan", detail: `${row.entry._tag} of ${row.rolloutId} without a dispatch before it` }
})

/** A record in such a state, or a closed one, has no future of its own; a failed one may still owe a rollback. */
export function isOver(record: HostRecord): boolean {
  return record.closedAt !== undefined || record.state === "Converged" || record.state === "Reverted" ||
    record.state === "Failed"
}

/** The end is stamped once, with the time of the row that led to it. */
function ended(bookkeeping: Bookkeeping, record: HostRecord, at: number): Bookkeeping {
  return bookkeeping.endedAt === undefined && isOver(record) ? { ...bookkeeping, endedAt: at } : bookkeeping
}

function opened(entry: Opened, row: Row): FoldResult {
  const { event, pending, policy, rollbackTarget } = entry
  if (event.kind !== "DispatchAck") return orphan(row)
  const facts = { policy, ...(rollbackTarget === undefined ? {} : { rollbackTarget }) }
  const result = step(newPending(pending), { origin: "Local", event, facts }, row.now)
  return result.ok ? folds(result.record, { openedSeq: event.seq, rollbackStarts: 0 }) : result
}

function stepped({ bookkeeping, record }: Folded, event: AgentEvent, row: Row): FoldResult {
  if (event.kind === "DispatchAck") return orphan(row)
  const result = step(record, { origin: "Local", event }, row.now)
  return result.ok ? folds(result.record, ended(bookkeeping, result.record, row.at)) : result
}

export function foldRow(before: Folded | undefined, row: Row): FoldResult {
  const { entry } = row
  switch (entry._tag) {
    case "Opened":
      return opened(entry, row)
    case "Summarised":
      return folds(entry.record, entry.bookkeeping)
    case "Stepped":
      return before === undefined ? orphan(row) : stepped(before, entry.event, row)
    case "RollbackStarted":
      return before === undefined
        ? orphan(row)
        : folds(before.record, { ...before.bookkeeping, rollbackStarts: before.bookkeeping.rollbackStarts + 1 })
    case "Booted":
      return before === undefined
        ? orphan(row)
        : folds(before.record, { ...before.bookkeeping, boots: (before.bookkeeping.boots ?? 0) + 1 })
    case "BaselineTaken":
      return before === undefined
        ? orphan(row)
        : folds(before.record, { ...before.bookkeeping, baseline: entry.baseline })
    case "ProbeLearned":
      return before === undefined ? orphan(row) : folds(learn(before.record, entry.fact), before.bookkeeping)
    case "Learned": {
      if (before === undefined) return orphan(row)
      const record = learn(before.record, entry.fact)
      return folds(record, ended(before.bookkeeping, record, row.at))
    }
  }
}

export type FoldedRows =
  | { readonly ok: true; readonly rollouts: ReadonlyMap<string, Folded> }
  | { readonly ok: false; readonly row: Row; readonly error: FoldError }

/** What the rows mean, by rollout id; rows in the order in which they were written. */
export function fold(rows: Iterable<Row>): FoldedRows {
  const rollouts = new Map<string, Folded>()
  for (const row of rows) {
    const result = foldRow(rollouts.get(row.rolloutId), row)
    if (!result.ok) return { ok: false, row, error: result.error }
    rollouts.set(row.rolloutId, result.folded)
  }
  return { ok: true, rollouts }
}

/** Rollouts whose stored record is not what its rows mean, with what is wrong; empty when all agree (house rule 2). */
export function disagreements(rows: Iterable<Row>, stored: ReadonlyMap<string, Folded>): ReadonlyArray<string> {
  const result = fold(rows)
  if (!result.ok) return [`${result.row.rolloutId}: its rows do not fold: ${JSON.stringify(result.error)}`]
  const ids = new Set([...result.rollouts.keys(), ...stored.keys()])
  return [...ids].toSorted().flatMap((id) => {
    const [means, says] = [result.rollouts.get(id), stored.get(id)]
    if (means === undefined) return [`${id}: stored without rows`]
    if (says === undefined) return [`${id}: rows without a stored record`]
    const same = Equal.equals(means.record, says.record) && Equal.equals(means.bookkeeping, says.bookkeeping)
    return same ? [] : [
      `${id}: stored as ${says.record.state} ${says.record.lastEventSeq}, rows mean ` +
      `${means.record.state} ${means.record.lastEventSeq}`
    ]
  })
}
