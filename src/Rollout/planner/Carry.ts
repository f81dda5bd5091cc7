/**
 * A host whose target does not change from one rollout to the next, and that has converged on it, goes over into the new one as
 * it is: no dispatch, no second activation, no second soak (C-W17, D17). The plan says for whom, the fold makes the record.
 */
import type { ConvergedRecord, PendingRecord } from "../../Schema/HostRecord.ts"

/** The record of a carried host, where `fresh` is what it would begin with otherwise. */
export function carriedOver(source: ConvergedRecord, fresh: PendingRecord): ConvergedRecord {
  return { ...source, ...fresh, soakDueAt: source.soakDueAt, state: "Converged" }
}
