/** What has failed on a host for its own fault is not dispatched again: by (channel, ref), and by closure anywhere (D11). */
import type { Gate, Verdict } from "../planner/View.ts"
import { pass } from "../planner/View.ts"

const quarantined = (because: string): Verdict => ({
  pass: false,
  gate: "quarantine",
  because,
  clearedBy: "publishing a new ref with a repaired closure"
})

export const quarantine: Gate = ({ quarantine: held, rollout, targetClosure }) => {
  if (held.rollouts.has(rollout.rolloutId)) {
    return quarantined(`${rollout.rolloutId} is quarantined: it failed on a host`)
  }
  if (held.closures.has(targetClosure)) return quarantined(`${targetClosure} is quarantined: it failed on a host`)
  return pass
}
