/** A host waits until every earlier wave is complete (control-plane.md §6.2, D11, D15). */
import type { Gate } from "../planner/View.ts"
import { pass } from "../planner/View.ts"

export const wavePromotion: Gate = ({ progress, wave }) => {
  if (wave <= progress.wave) return pass
  const first = progress.waitsFor[0]
  return {
    pass: false,
    gate: "wave-promotion",
    because: `wave ${progress.wave} of ${progress.waves} is not complete` +
      (first === undefined ? "" : `: ${first.hostname} ${first.because}`),
    clearedBy: progress.earliestAt === undefined
      ? `convergence of every host of wave ${progress.wave}`
      : `the end of the soak of wave ${progress.wave}`,
    ...(progress.earliestAt !== undefined && wave === progress.wave + 1 ? { earliestAt: progress.earliestAt } : {})
  }
}
