/**
 * The control plane's command line: `nixfleet-control-plane serve` and `check`. Gathers the configuration and runs the program.
 * `Main.ts` runs it.
 */
import { Effect, Layer, Option, Result } from "effect"
import { Command, Flag } from "effect/cli"
import { configFlag, givenFlags, optionFlags, underLog, unusable } from "../Layers/CommandLine.ts"
import { readConfigFile } from "../Layers/ConfigFile.ts"
import { TrustFile } from "../Layers/Disk/TrustFile.ts"
import { report } from "../Layers/Findings.ts"
import { logOf } from "../Layers/Logging.ts"
import { processEnvironment } from "../Layers/ProcessEnvironment.ts"
import { configFileEnv, controlPlaneOptions, controlPlaneTable, crossCheck } from "../Schema/ControlPlaneConfig.ts"
import { gatherOptions } from "../Schema/Options.ts"
import { version } from "../Schema/Version.ts"
import { check, deepCheck, exposed } from "./Check.ts"
import * as Program from "./Program.ts"

/** A start that fails for one of these needs a person; the rest exits 1 and the service manager tries again. */
const ofConfiguration: ReadonlySet<string> = new Set([
  "CacheWriteFailed",
  "IssuerUnusable",
  "JournalUnusable",
  "StateDirectoryLocked",
  "StateDirectoryUnusable",
  "TlsIdentityError",
  "TrustMemoryUnreadable"
])

const flags = { config: configFlag(configFileEnv), options: optionFlags(controlPlaneOptions) }

interface Given {
  readonly config: Option.Option<string>
  readonly options: Parameters<typeof givenFlags>[0]
}

/** The configuration from flags, environment and file; all problems at once. */
const gather = Effect.fnUntraced(function*({ config, options }: Given) {
  const environment = processEnvironment()
  const file = Option.getOrUndefined(config) ?? environment[configFileEnv]
  const gathered = gatherOptions(controlPlaneTable, {
    flags: givenFlags(options),
    environment,
    file: file === undefined ? undefined : yield* readConfigFile(file)
  }, crossCheck)
  return Result.isFailure(gathered) ? yield* unusable(gathered.failure) : gathered.success
})

const serve = Command.make(
  "serve",
  flags,
  Effect.fnUntraced(function*(given) {
    const gathered = yield* gather(given)
    const exposures = yield* exposed(gathered)
    if (exposures.length > 0) return yield* unusable(exposures.map(({ at, text }) => ({ at, message: text })))
    const { config } = gathered
    const environment = processEnvironment()
    const started = logOf("cp_boot").info("the control plane starts", {
      version,
      address: config.listen,
      releases: config.releasesSource,
      stateDir: config.stateDir
    })
    return yield* Effect.andThen(started, Program.run(config, environment)).pipe(
      underLog({ ...config, environment, fields: { program: "nixfleet-control-plane" }, lasting: ofConfiguration })
    )
  })
).pipe(Command.withDescription(
  "Rolls signed releases out to the hosts of a fleet. Each option is also an environment variable, NIXFLEET_CP_… , and a key of " +
    "the configuration file; a flag wins over the environment, and that over the file."
))

const checkCommand = Command.make(
  "check",
  {
    ...flags,
    deep: Flag.Boolean("deep").pipe(
      Flag.withDefault(false),
      Flag.withDescription("Also read the whole journal; while the control plane runs, too")
    )
  },
  Effect.fnUntraced(function*({ deep, ...given }) {
    const gathered = yield* gather(given)
    const { config } = gathered
    const findings = yield* check(gathered).pipe(
      Effect.provide(Layer.mergeAll(TrustFile.layerFile(config.trustFile), Program.releasesSource(config)))
    )
    yield* report([...findings, ...deep ? yield* deepCheck(gathered) : []])
  })
).pipe(
  Command.withDescription("Look at the configuration and at everything it names, say what is right and what is wrong")
)

/** The whole command line. */
export const command = Command.make("nixfleet-control-plane").pipe(
  Command.withDescription("The control plane of a fleet of hosts"),
  Command.withSubcommands([serve, checkCommand])
)
