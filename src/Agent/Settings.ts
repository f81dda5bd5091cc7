/**
 * The agent's configuration as a service: what `Config.ts` gathered and checked, complete and unchanging for the life of
 * the process. Tests and the simulator build it with `layer(settings({ ... }))`.
 */
import { Context, Layer, Schema } from "effect"
import { AgentConfig, agentTable } from "../Schema/AgentConfig.ts"

export class Settings extends Context.Service<Settings, AgentConfig>()("nixfleet/Agent/Settings") {
  static readonly layer = (config: AgentConfig) => Layer.succeed(Settings, config)
}

/** What has no default. */
export type RequiredSettings = Pick<AgentConfig, "controlPlaneUrl" | "machineId" | "trustFile" | "archiveSource">

/** The defaults with the given values over them; throws when a given value is not legal. */
export function settings(given: RequiredSettings & Partial<AgentConfig>): AgentConfig {
  const defaults = Object.entries(agentTable.options).map(([key, { fallback }]) => [key, fallback] as const)
  return Schema.decodeUnknownSync(AgentConfig)({ ...Object.fromEntries(defaults), ...given })
}
