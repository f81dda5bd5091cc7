/**
 * A channel waits until the rollouts of the channels before it are complete (control-plane.md §6.2). One of which nothing is
 * known holds (D15, C-W16); one that has nothing to roll out is complete.
 */
import type { Gate } from "../planner/View.ts"
import { pass } from "../planner/View.ts"
import { reasoned } from "./Words.ts"

export const channelEdges: Gate = ({ predecessors }) => {
  const first = predecessors[0]
  if (first === undefined) return pass
  const others = predecessors.length - 1
  return {
    pass: false,
    gate: "channel-edges",
    because: `channel ${first.channel} comes first${reasoned(first.reason)}: ${first.because}` +
      (others === 0 ? "" : `; ${others} more ${others === 1 ? "channel comes" : "channels come"} first`),
    clearedBy: first.clearedBy,
    ...(first.hosts === undefined ? {} : { hosts: first.hosts }),
    ...(others === 0 && first.earliestAt !== undefined ? { earliestAt: first.earliestAt } : {})
  }
}
