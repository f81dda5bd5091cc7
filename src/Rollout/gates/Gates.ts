/**
 * The gates in their order; the first that does not pass is the verdict. A new gate is a file beside this one and a line
 * here: what stops a whole rollout comes first, what holds single hosts comes last.
 */
import type { Candidate, Gate, Verdict } from "../planner/View.ts"
import { pass } from "../planner/View.ts"
import { quarantine } from "./Quarantine.ts"
import { recovery } from "./Recovery.ts"
import { rolloutState } from "./RolloutState.ts"
import { wavePromotion } from "./WavePromotion.ts"

export const gates: ReadonlyArray<Gate> = [rolloutState, recovery, quarantine, wavePromotion]

/** Whether a host may be dispatched now; the plan asks this again of what is queued or leased already (D8). */
export function judge(candidate: Candidate): Verdict {
  for (const gate of gates) {
    const verdict = gate(candidate)
    if (!verdict.pass) return verdict
  }
  return pass
}
