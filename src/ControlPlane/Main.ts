/**
 * The control plane's command line: `nixfleet-control-plane serve`. Gathers the configuration, runs the program, and turns its
 * end into an exit code (D18). Everything else is below.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Effect, Option, Result } from "effect"
import { Command } from "effect/cli"
import { configFlag, endOf, givenFlags, logging, optionFlags, teardown, unusable } from "../Layers/CommandLine.ts"
import { readConfigFile } from "../Layers/ConfigFile.ts"
import { processEnvironment } from "../Layers/ProcessEnvironment.ts"
import { configFileEnv, controlPlaneOptions, controlPlaneTable, crossCheck } from "../Schema/ControlPlaneConfig.ts"
import { gatherOptions } from "../Schema/Options.ts"
import { version } from "../Schema/Version.ts"
import * as Program from "./Program.ts"

/** A start that fails for one of these needs a person; the rest exits 1 and the service manager tries again. */
const ofConfiguration: ReadonlySet<string> = new Set([
  "CacheWriteFailed",
  "JournalUnusable",
  "LockUnusable",
  "StateDirectoryLocked",
  "StateDirectoryUnusable",
  "TlsIdentityError",
  "TrustMemoryUnreadable"
])

const serve = Command.make(
  "serve",
  { config: configFlag(configFileEnv), options: optionFlags(controlPlaneOptions) },
  Effect.fnUntraced(function*(given) {
    const environment = processEnvironment()
    const file = Option.getOrUndefined(given.config) ?? environment[configFileEnv]
    const gathered = gatherOptions(controlPlaneTable, {
      flags: givenFlags(given.options),
      environment,
      file: file === undefined ? undefined : yield* readConfigFile(file)
    }, crossCheck)
    if (Result.isFailure(gathered)) return yield* unusable(gathered.failure)
    const { config } = gathered.success
    return yield* Effect.logInfo("the control plane starts").pipe(
      Effect.annotateLogs({
        version,
        listen: config.listen,
        releases: config.releasesSource,
        stateDir: config.stateDir
      }),
      Effect.andThen(Program.run(config, environment)),
      Effect.onInterrupt(() => Effect.logInfo("the control plane stopped because it was told to")),
      Effect.annotateLogs({ program: "nixfleet-control-plane" }),
      Effect.mapError(endOf(ofConfiguration)),
      Effect.provide(logging(config.logFormat))
    )
  })
).pipe(Command.withDescription(
  "Rolls signed releases out to the hosts of a fleet. Each option is also an environment variable, NIXFLEET_CP_… , and a key of " +
    "the configuration file; a flag wins over the environment, and that over the file."
))

Command.make("nixfleet-control-plane").pipe(
  Command.withDescription("The control plane of a fleet of hosts"),
  Command.withSubcommands([serve]),
  Command.run({ version }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({ teardown })
)
