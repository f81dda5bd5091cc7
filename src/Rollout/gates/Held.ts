/** Nothing is dispatched to a host that an operator holds, whatever the rollout (D8, D17). */
import type { Gate } from "../planner/View.ts"
import { pass } from "../planner/View.ts"

export const held: Gate = ({ held: hold, hostname }) =>
  hold === undefined ? pass : {
    pass: false,
    gate: "held",
    because: `the host is held ${hold.by}`,
    clearedBy: `nixfleet host release ${hostname}`,
    earliestAt: hold.until
  }
