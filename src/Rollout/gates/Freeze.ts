/** Nothing new is dispatched on a frozen channel, whatever its rollout (D8). Who is under way goes on. */
import type { Gate } from "../planner/View.ts"
import { pass } from "../planner/View.ts"

export const freeze: Gate = ({ frozen }) => {
  if (frozen === undefined) return pass
  const { channel, until } = frozen
  return {
    pass: false,
    gate: "frozen",
    because: `${channel === null ? "every channel" : `channel ${channel}`} is frozen ${frozen.by}`,
    clearedBy: channel === null ? "nixfleet unfreeze" : `nixfleet unfreeze --channel ${channel}`,
    earliestAt: until
  }
}
