/**
 * A control plane dispatches nothing on a channel that is new to its database until every host of its manifest has told what
 * it did, or a visible grace is over (D6): after a wipe it would otherwise repeat activations, failed ones included.
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
    because: "the channel is new to this database, and not all that these hosts have done is known here yet: " +
      named(missingHosts),
    clearedBy: "a heartbeat, a poll and the missing events of each of them, or the end of the grace",
    earliestAt: untilAt,
    hosts: missingHosts.slice(0, shownHosts)
  }
}
