/**
 * A control plane whose database was wiped dispatches nothing on a channel until every host of its manifest has sent a
 * digest, or a visible grace is over (D6): otherwise it would repeat activations, failed ones included.
 */
import type { Gate } from "../planner/View.ts"
import { pass } from "../planner/View.ts"
import { named, shownHosts } from "./Words.ts"

export const recovery: Gate = ({ now, recovering }) => {
  if (recovering === undefined || recovering.missingHosts.length === 0 || now >= recovering.untilAt) return pass
  const { missingHosts, untilAt } = recovering
  return {
    pass: false,
    gate: "recovery",
    because: `this database is new, and these hosts of the channel have not reported yet: ${named(missingHosts)}`,
    clearedBy: "a heartbeat of each of them, or the end of the grace",
    earliestAt: untilAt,
    hosts: missingHosts.slice(0, shownHosts)
  }
}
