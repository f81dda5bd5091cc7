/**
 * Which driver of `Activator` this host has, from the configuration: that of Nix where nothing else is said, that of archives
 * where these come from somewhere. Nothing is guessed from what lies on the disk: a driver whose host is not there says so at
 * its start.
 */
import { Effect, FileSystem, Result } from "effect"
import type { Layer } from "effect"
import { bad, type Finding, good, writable } from "../Layers/Findings.ts"
import type { Activator, HostReader } from "../Layers/Host/Activator.ts"
import { defaultArchiveLimits } from "../Layers/Host/Archive.ts"
import * as ArchiveActivator from "../Layers/Host/ArchiveActivator.ts"
import { type GuardLauncher, launchGuardInSession } from "../Layers/Host/GuardLaunch.ts"
import { launchGuardUnit } from "../Layers/Host/GuardUnit.ts"
import * as NixActivator from "../Layers/Host/nix/NixActivator.ts"
import { hostSystem, isSystemdHost, serviceLauncher } from "../Layers/Host/nix/System.ts"
import { nixFindings } from "../Layers/Host/nix/Tools.ts"
import { processEnvironment } from "../Layers/ProcessEnvironment.ts"
import { type AgentConfig, type AgentOptionName, millis } from "../Schema/AgentConfig.ts"

export interface HostDriver {
  readonly activator: Layer.Layer<Activator, ActivatorSetupFailure>
  /** The host as those see it who only look. */
  readonly reader: HostReader
  /** The directory whose disk takes what a switch writes; there once the activator's layer is built. */
  readonly directory: string
  /** What `check` says about it. */
  readonly findings: (where: (name: AgentOptionName) => string) => Effect.Effect<
    ReadonlyArray<Finding>,
    never,
    FileSystem.FileSystem
  >
}

type ActivatorSetupFailure =
  | ArchiveActivator.ActivatorSetupError
  | NixActivator.NixSilent
  | NixActivator.NixUnusable

const archiveDriver = (config: AgentConfig, source: string): HostDriver => {
  const driver = ArchiveActivator.archiveActivatorConfig({
    source,
    systemDir: config.systemDir,
    limits: { ...defaultArchiveLimits, maxBytes: config.maxArchiveBytes },
    realiseTimeoutMs: millis(config.realiseDeadlineSecs),
    switchTimeoutMs: millis(config.switchTimeoutSecs),
    launch: serviceLauncher(processEnvironment())
  })
  return {
    activator: ArchiveActivator.layer(driver),
    reader: ArchiveActivator.archiveHost(driver),
    directory: config.systemDir,
    findings: (where) =>
      Effect.all([
        writable(config.systemDir, where("systemDir")),
        listed(source, where("archiveSource"))
      ])
  }
}

const listed = Effect.fnUntraced(function*(source: string, at: string) {
  if (!source.startsWith("/")) return good(at, `archive driver: closures come from ${source}`)
  const read = yield* Effect.result((yield* FileSystem.FileSystem).readDirectory(source))
  return Result.isSuccess(read)
    ? good(at, `archive driver: closures come from ${source}`)
    : bad(at, `${source} cannot be listed`)
})

const nixDriver = (config: AgentConfig, system: "nixos" | "darwin"): HostDriver => {
  const driver = NixActivator.nixActivatorConfig({
    environment: processEnvironment(),
    recordsDir: `${config.stateDir}/switches`,
    system,
    realiseTimeoutMs: millis(config.realiseDeadlineSecs),
    switchTimeoutMs: millis(config.switchTimeoutSecs)
  })
  return {
    activator: NixActivator.layer(driver),
    reader: NixActivator.nixHost(driver),
    directory: driver.nix.stateDir,
    findings: (where) => nixFindings(driver, where("driver"))
  }
}

/** Below the state directory: the guard of one host, whatever its driver. */
export const guardDirectory = ({ stateDir }: Pick<AgentConfig, "stateDir">): string => `${stateDir}/guard`

/** A unit where the agent is a service of systemd, whose end would take a mere session with it. */
export const hostGuardLauncher = (): GuardLauncher =>
  isSystemdHost() && processEnvironment()["NOTIFY_SOCKET"] !== undefined ? launchGuardUnit : launchGuardInSession

export function hostDriver(config: AgentConfig): HostDriver {
  switch (config.driver) {
    case "nix":
      return nixDriver(config, "nixos")
    case "darwin":
      return nixDriver(config, "darwin")
    case "archive":
    case "auto":
      // The configuration has said that an archive driver without a source is none.
      return config.archiveSource === undefined
        ? nixDriver(config, hostSystem)
        : archiveDriver(config, config.archiveSource)
  }
}
