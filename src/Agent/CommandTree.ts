/**
 * The agent's command line: `nixfleet-agent [run]`, `status`, `check`, and `journal export|reset`. Gathers the
 * configuration, runs the program or looks at its journal. `Main.ts` runs it.
 */
import { Console, Effect, Layer, Option, Result, Runtime, Schema, Stdio } from "effect"
import { CliError, Command, Flag, Prompt } from "effect/cli"
import { configFlag, exitCodes, givenFlags, optionFlags, underLog, Unusable, unusable } from "../Layers/CommandLine.ts"
import { readConfigFile } from "../Layers/ConfigFile.ts"
import { TrustFile } from "../Layers/Disk/TrustFile.ts"
import { report } from "../Layers/Findings.ts"
import { logOf } from "../Layers/Logging.ts"
import { processEnvironment } from "../Layers/ProcessEnvironment.ts"
import { agentOptions, configFileEnv } from "../Schema/AgentConfig.ts"
import { AgentStatus } from "../Schema/AgentStatus.ts"
import { version } from "../Schema/Version.ts"
import { printable } from "../Schema/Words.ts"
import { check } from "./Check.ts"
import { gatherConfig } from "./Config.ts"
import { deepCheck } from "./DeepCheck.ts"
import { exportJournal } from "./Export.ts"
import * as Program from "./Program.ts"
import { consequences, nobodyRuns, resetJournal, whatIsThere } from "./Reset.ts"
import { readStatus } from "./Status.ts"
import { renderStatus } from "./Status/Text.ts"

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
  "CertificateUnusable",
  "JournalUnusable",
  "NixUnusable",
  "NotEnrolled",
  "StateDirectoryLocked",
  "StateDirectoryUnusable",
  "TlsClientConfigError",
  "TlsIdentityError"
])

const runAgent = Effect.fnUntraced(function*(given: Effect.Success<typeof root>) {
  const { config } = yield* gather(given)
  const environment = processEnvironment()
  return yield* logOf("agent_boot").info("the agent starts", { version, controlPlane: config.controlPlaneUrl }).pipe(
    Effect.andThen(Program.run(config, environment)),
    underLog({
      ...config,
      environment,
      fields: { program: "nixfleet-agent", hostname: config.machineId },
      lasting: ofConfiguration
    })
  )
})

const runCommand = Command.make("run", {}, () => Effect.flatMap(root, runAgent)).pipe(
  Command.withDescription("Run the agent (also without a command)")
)

const deepFlag = Flag.Boolean("deep").pipe(
  Flag.withDefault(false),
  Flag.withDescription(
    "Also read the whole journal, and look for the closures that it counts on; while the agent runs, too"
  )
)

const checkCommand = Command.make("check", { deep: deepFlag }, ({ deep }) =>
  Effect.gen(function*() {
    const gathered = yield* gather(yield* root)
    const { config } = gathered
    const findings = yield* check(gathered).pipe(Effect.provide(Layer.mergeAll(
      TrustFile.layerFile(config.trustFile),
      Program.hostProbes(config)
    )))
    yield* report([...findings, ...deep ? yield* deepCheck(gathered, Program.hostReader(config)) : []])
  })).pipe(
    Command.withDescription("Look at the configuration and at everything it names, say what is right and what is wrong")
  )

/** What a command meets that only looks at a host needs a person. */
const forAPerson = <A, E extends { readonly message: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.mapError(effect, ({ message }) => new Unusable({ message: printable(message) }))

const statusCommand = Command.make(
  "status",
  { json: Flag.Boolean("json").pipe(Flag.withDefault(false), Flag.withDescription("Print JSON instead of text")) },
  ({ json }) =>
    Effect.gen(function*() {
      const { config } = yield* gather(yield* root)
      const status = yield* forAPerson(readStatus(config, Program.hostReader(config)))
      yield* Console.log(json ? JSON.stringify(encodeStatus(status), undefined, 2) : renderStatus(status))
    })
).pipe(Command.withDescription("Say what this host does and what it waits for; also while the agent runs"))

const encodeStatus = Schema.encodeSync(AgentStatus)

const exportCommand = Command.make(
  "export",
  {
    out: Flag.String("out").pipe(
      Flag.withMetavar("FILE"),
      Flag.withDescription("Write to this file, mode 0600, instead of standard output"),
      Flag.optional
    ),
    force: Flag.Boolean("force").pipe(Flag.withDefault(false), Flag.withDescription("Replace a file that exists"))
  },
  ({ force, out }) =>
    Effect.gen(function*() {
      const { config } = yield* gather(yield* root)
      const exported = yield* forAPerson(exportJournal(config, { file: Option.getOrUndefined(out), force }))
      if (exported === undefined) return yield* new Unusable({ message: `no agent ever ran on ${config.stateDir}` })
      const { records, rows, unreadable } = exported
      yield* Console.error(`${records} records and ${rows} rows exported, ${unreadable} that cannot be read`)
    })
).pipe(Command.withDescription("Write the whole journal as JSON lines; also while the agent runs"))

/** Nobody said yes (exit 64). */
class Unconfirmed extends Schema.TaggedError<Unconfirmed>()("Unconfirmed", { message: Schema.String }) {
  override readonly [CliError.userMessage] = this.message
  override readonly [Runtime.errorExitCode] = exitCodes.usage
  override readonly [Runtime.errorReported] = false
}

const confirmed = Effect.fnUntraced(function*(question: string) {
  const asks = yield* (yield* Stdio.Stdio).stdinIsTerminal
  if (!asks) return yield* new Unconfirmed({ message: `${question} Nobody can be asked here: say so with --yes` })
  if (!(yield* Prompt.run(Prompt.Confirm({ message: question })))) {
    return yield* new Unconfirmed({ message: "nothing was changed" })
  }
})

const resetCommand = Command.make(
  "reset",
  {
    yes: Flag.Boolean("yes").pipe(Flag.withDefault(false), Flag.withDescription("Do not ask")),
    discard: Flag.Boolean("discard").pipe(Flag.withDefault(false), Flag.withDescription("Keep no copy"))
  },
  ({ discard, yes }) =>
    Effect.gen(function*() {
      const { config } = yield* gather(yield* root)
      const found = yield* whatIsThere(config)
      if (found === undefined) return yield* Console.log(`no agent ever ran on ${config.stateDir}: nothing to reset`)
      yield* forAPerson(nobodyRuns(config))
      yield* Console.log(found.map(printable).join("\n"))
      if (!yes) yield* confirmed(discard ? "Delete it?" : "Set it aside?")
      const copy = yield* forAPerson(resetJournal(config, !discard))
      yield* Console.log([copy === undefined ? "deleted" : `set aside as ${copy}`, ...consequences].join("\n- "))
    })
).pipe(Command.withDescription("Let the next start make a new journal; the old one is kept beside it"))

const journalCommand = Command.make("journal").pipe(
  Command.withDescription("Save or replace the agent's journal"),
  Command.withSubcommands([exportCommand, resetCommand])
)

/** The whole command line. */
export const command = root.pipe(
  Command.withHandler(runAgent),
  Command.withSubcommands([runCommand, statusCommand, checkCommand, journalCommand])
)
