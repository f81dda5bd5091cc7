/** Deadlines that the operator's configuration sets for what `Rollout/Owed.ts` asks for: one place for worker and `status`. */
import { type ActivationDuty, fetchDeadlineMs } from "../Rollout/Owed.ts"
import { type AgentConfig, millis } from "../Schema/AgentConfig.ts"
import type { HostRecord } from "../Schema/HostRecord.ts"

/** Until when a switch that cannot start yet is prepared: counted from the accepted dispatch, by the record's times, epoch ms. */
export const prepareUntil = (
  { fetchUntil }: Extract<ActivationDuty, { readonly _tag: "Switch" }>,
  { realiseDeadlineSecs }: AgentConfig
): number => fetchUntil - fetchDeadlineMs + millis(realiseDeadlineSecs)

/** Silence of the agent that the guard waits for, ms. While a switch may run, the agent may be gone for as long as it takes. */
export const guardWindowMs = (
  state: HostRecord["state"],
  { guardWindowSecs, switchTimeoutSecs }: AgentConfig
): number => millis(guardWindowSecs) + (state === "Soaking" ? 0 : millis(switchTimeoutSecs))

/** Without a signal the host is looked at this often; a few times within the silence that the guard waits for, ms. */
export const lookEveryMs = ({ guardWindowSecs }: AgentConfig): number => Math.min(30_000, millis(guardWindowSecs) / 4)
