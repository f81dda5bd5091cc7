/** Only Opening, Active and Converging dispatch: a failed rollout halts, whatever its waves say (D17, P-9). */
import type { Gate } from "../planner/View.ts"
import { pass } from "../planner/View.ts"
import { isLive } from "../Rollout.ts"
import { named, shownHosts } from "./Words.ts"

export const rolloutState: Gate = ({ failed, held, rollout }) => {
  // What is complete without a held host rolls again for it: the hold is what keeps it.
  if (isLive(rollout.state) || (rollout.state === "Terminal" && held !== undefined)) return pass
  const stopped = rollout.state === "Failed" || rollout.state === "Reverted"
  return {
    pass: false,
    gate: "rollout-state",
    because: stopped
      ? `the rollout is halted: it is ${rollout.state}, because ${
        failed.length === 0 ? "a host of it" : named(failed)
      } failed`
      : `the rollout is ${rollout.state}`,
    clearedBy: stopped
      ? `a new ref on the channel, or nixfleet rollout clear ${rollout.rolloutId} once the cause is repaired`
      : "publishing a new ref on the channel",
    hosts: failed.slice(0, shownHosts)
  }
}
