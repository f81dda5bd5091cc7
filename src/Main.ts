/**
 * The agent's command line: `nixfleet-agent [run]` and `nixfleet-agent check`. Gathers the configuration, runs the program,
 * and turns its end into an exit code (D18). Everything else is below.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, Layer, Option, Result } from "effect"
import { Command } from "effect/cli"
import { check } from "./Agent/Check.ts"
import { gatherConfig } from "./Agent/Config.ts"
import * as Program from "./Agent/Program.ts"
import { configFlag, endOf, givenFlags, logging, optionFlags, teardown, unusable } from "./Layers/CommandLine.ts"
import { readConfigFile } from "./Layers/ConfigFile.ts"
import { TrustFile } from "./Layers/Disk/TrustFile.ts"
import * as NodeProbes from "./Layers/Host/NodeProbes.ts"
import { processEnvironment } from "./Layers/ProcessEnvironment.ts"
import { agentOptions, configFileEnv } from "./Schema/AgentConfig.ts"
import { version } from "./Schema/Version.ts"

const flags = {
  config: configFlag(configFileEnv),
  options: optionFlags(agentOptions)
}

const root = Command.make("nixfleet-agent").pipe(
  Command.withDescription(
    "Brings this host to the closure that its control plane dispatches, and reports how it went. Each option is also " +
      "an environment variable, NIXFLEET_AGENT_… , and a key of the configuration file; a flag wins over the " +
      "environment, and that over the file."
  ),
  Command.withSharedFlags(flags)
)

/** The configuration from flags, environment and file; all problems at once. */
const gather = Effect.fnUntraced(function*({ config, options }: Effect.Success<typeof root>) {
  const environment = processEnvironment()
  const file = Option.getOrUndefined(config) ?? environment[configFileEnv]
  const gathered = gatherConfig({
    flags: givenFlags(options),
    environment,
    file: file === undefined ? undefined : yield* readConfigFile(file)
  })
  return Result.isFailure(gathered) ? yield* unusable(gathered.failure) : gathered.success
})

/** A start that fails for one of these needs a person; the rest exits 1 and the service manager tries again. */
const ofConfiguration: ReadonlySet<string> = new Set([
  "ActivatorSetupError",
  "JournalUnusable",
  "LockUnusable",
  "StateDirectoryLocked",
  "StateDirectoryUnusable",
  "TlsClientConfigError",
  "TlsIdentityError"
])

const runAgent = Effect.fnUntraced(function*(given: Effect.Success<typeof root>) {
  const { config } = yield* gather(given)
  return yield* Effect.logInfo("the agent starts").pipe(
    Effect.annotateLogs({ version, machineId: config.machineId, controlPlane: config.controlPlaneUrl }),
    Effect.andThen(Program.run(config, processEnvironment())),
    Effect.onInterrupt(() => Effect.logInfo("the agent stopped because it was told to")),
    Effect.annotateLogs({ program: "nixfleet-agent" }),
    Effect.mapError(endOf(ofConfiguration)),
    Effect.provide(logging(config.logFormat))
  )
})

const runCommand = Command.make("run", {}, () => Effect.flatMap(root, runAgent)).pipe(
  Command.withDescription("Run the agent (also without a command)")
)

const checkCommand = Command.make("check", {}, () =>
  Effect.gen(function*() {
    const gathered = yield* gather(yield* root)
    const { config } = gathered
    const findings = yield* check(gathered).pipe(Effect.provide(Layer.mergeAll(
      TrustFile.layerFile(config.trustFile),
      NodeProbes.layer({ declarationFile: config.healthChecksFile, environment: NodeProbes.defaultProbeEnvironment })
    )))
    for (const { at, ok, text } of findings) yield* Console.log(`${ok ? "ok   " : "wrong"}  ${text} (${at})`)
    const wrong = findings.filter(({ ok }) => !ok)
    if (wrong.length > 0) return yield* unusable(wrong.map(({ at, text }) => ({ at, message: text })))
  })).pipe(
    Command.withDescription("Look at the configuration and at everything it names, say what is right and what is wrong")
  )

root.pipe(
  Command.withHandler(runAgent),
  Command.withSubcommands([runCommand, checkCommand]),
  Command.run({ version }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ teardown })
)
