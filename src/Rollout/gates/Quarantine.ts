/**
 * What has failed on a host for its own fault is not dispatched again (D11): the closure anywhere, and its rollout as a whole
 * while the manifest still names that closure. A manifest of the same ref with repaired targets is another attempt (P-20).
 */
import type { Gate, Verdict } from "../planner/View.ts"
import { pass } from "../planner/View.ts"

const held = (because: string, clearedBy: string, host: string | undefined): Verdict => ({
  pass: false,
  gate: "quarantine",
  because,
  clearedBy,
  ...(host === undefined ? {} : { hosts: [host] })
})

export const quarantine: Gate = ({ condemnedBy, quarantined, rollout, targetClosure }) => {
  const failedOn = (closure: string) => quarantined.get(closure) ?? "a host"
  if (quarantined.has(targetClosure)) {
    return held(
      `${targetClosure} is quarantined: it failed on ${failedOn(targetClosure)}`,
      `publishing a repaired closure, under this ref or a new one, or nixfleet quarantine clear ${targetClosure}`,
      quarantined.get(targetClosure)
    )
  }
  return condemnedBy === undefined ? pass : held(
    `${rollout.rolloutId} is quarantined: ${condemnedBy}, which its manifest names, failed on ${failedOn(condemnedBy)}`,
    `publishing a manifest that no longer names ${condemnedBy}, or nixfleet quarantine clear ${rollout.rolloutId}`,
    quarantined.get(condemnedBy)
  )
}
