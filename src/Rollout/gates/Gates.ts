/**
 * The gates in their order; the first that does not pass is the verdict. A new gate is a file beside this one and a line
 * here: what stops a whole rollout comes first, then what people hold, then what ends without them; what holds single hosts
 * comes last. `DisruptionBudget.ts` comes after all of them, and is asked again whenever a dispatch is about to leave.
 *
 * The original's last gate, `compliance-wave`, holds a wave while probes of earlier waves fail. It has no place of its own
 * here: a wave is complete only with proof that every enforced probe passed (D12), so it could never hold what
 * `wave-promotion` lets go; and of a host that has converged no probe is on the wire any more, nor are compliance frameworks.
 */
import type { Candidate, Gate, Verdict } from "../planner/View.ts"
import { pass } from "../planner/View.ts"
import { channelEdges } from "./ChannelEdges.ts"
import { freeze } from "./Freeze.ts"
import { held } from "./Held.ts"
import { hostEdges } from "./HostEdges.ts"
import { paused } from "./Paused.ts"
import { quarantine } from "./Quarantine.ts"
import { recovery } from "./Recovery.ts"
import { rolloutState } from "./RolloutState.ts"
import { wavePromotion } from "./WavePromotion.ts"

export const gates: ReadonlyArray<Gate> = [
  rolloutState,
  freeze,
  paused,
  held,
  recovery,
  quarantine,
  channelEdges,
  wavePromotion,
  hostEdges
]

/** Whether a host may be queued; the plan asks this again of what is queued or leased already (D8). */
export function judge(candidate: Candidate): Verdict {
  for (const gate of gates) {
    const verdict = gate(candidate)
    if (!verdict.pass) return verdict
  }
  return pass
}
