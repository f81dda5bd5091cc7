/** The record that a host goes over with into a rollout of the same closure (C-W17): what the machine knows of it. */
import type { ConvergedRecord } from "../../Schema/HostRecord.ts"
import { at, hostIn, type State } from "../State.ts"

/**
 * The record of what the host took last, when it converged on this closure. A newer dispatch that may have arrived, or anything
 * that was only inferred, leaves that open.
 */
export function convergedRecord(state: State, host: string, closure: string): ConvergedRecord | undefined {
  for (const rolloutId of at(state.hosts, host)?.rollouts ?? []) {
    const entry = hostIn(state, rolloutId, host)
    if (entry === undefined) continue
    const { leasedAt, overlay, record } = entry
    if (record.state === "Pending" && leasedAt === undefined && overlay === undefined) continue
    return record.state === "Converged" && overlay === undefined && record.closedAt === undefined &&
        record.targetClosure === closure
      ? record
      : undefined
  }
  return undefined
}
