/**
 * The control plane's configuration as a service: gathered, checked and unchanging for the life of the process. Tests and the
 * simulator build it with `layer(settings({ ... }))`.
 */
import { Context, Layer, Schema } from "effect"
import { ControlPlaneConfig, controlPlaneOptions } from "../Schema/ControlPlaneConfig.ts"
import type { AnyOption } from "../Schema/Options.ts"

export class Settings extends Context.Service<Settings, ControlPlaneConfig>()("nixfleet/ControlPlane/Settings") {
  static readonly layer = (config: ControlPlaneConfig) => Layer.succeed(Settings, config)
}

/** What has no default. */
export type RequiredSettings = Pick<
  ControlPlaneConfig,
  "tlsCert" | "tlsKey" | "clientCa" | "agentCnSuffix" | "releasesSource"
>

/** The defaults with the given values over them; throws when a given value is not legal. */
export function settings(given: RequiredSettings & Partial<ControlPlaneConfig>): ControlPlaneConfig {
  const options: Readonly<Record<string, AnyOption>> = controlPlaneOptions
  const defaults = Object.fromEntries(Object.entries(options).map(([key, option]) => [key, option.fallback]))
  return Schema.decodeUnknownSync(ControlPlaneConfig)({ ...defaults, ...given })
}
