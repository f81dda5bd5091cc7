/**
 * A host waits until every earlier wave is complete (control-plane.md §6.2, D11, D15). Sentences count waves from 1, as
 * people do; data counts from 0, as the wire does.
 */
import type { Gate } from "../planner/View.ts"
import { pass } from "../planner/View.ts"

export const wavePromotion: Gate = ({ progress, wave }) => {
  if (wave <= progress.wave) return pass
  const present = progress.wave + 1
  const first = progress.waitsFor[0]
  return {
    pass: false,
    gate: "wave-promotion",
    because: `wave ${present} of ${progress.waves} is not complete` +
      (first === undefined ? "" : `: ${first.hostname} ${first.because}`),
    clearedBy: progress.converged && progress.earliestAt !== undefined
      ? `the end of the soak of wave ${present}`
      : `convergence of every host of wave ${present}`,
    hosts: progress.waitsFor.map(({ hostname }) => hostname),
    ...(progress.earliestAt !== undefined && wave === present ? { earliestAt: progress.earliestAt } : {})
  }
}
