/** Deadlines that the operator's configuration sets for what `Rollout/Owed.ts` asks for: one place for worker and `status`. */
import { type ActivationDuty, fetchDeadlineMs } from "../Rollout/Owed.ts"
import { type AgentConfig, millis } from "../Schema/AgentConfig.ts"

/** Until when a switch that cannot start yet is prepared: counted from the accepted dispatch, by the record's times, epoch ms. */
export const prepareUntil = (
  { fetchUntil }: Extract<ActivationDuty, { readonly _tag: "Switch" }>,
  { realiseDeadlineSecs }: AgentConfig
): number => fetchUntil - fetchDeadlineMs + millis(realiseDeadlineSecs)
