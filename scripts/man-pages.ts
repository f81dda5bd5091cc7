/**
 * Man pages of the three programs, `<name>.1`, from what their command lines are made of: the help of each command as data,
 * and the tables of options with their environment names. Nothing about a command is written here a second time; only what
 * no table holds (exit codes in words) is.
 */
import { NodeServices } from "@effect/platform-node"
import { Console, Effect, Layer, Option } from "effect"
import { CliOutput, Command, type HelpDoc } from "effect/cli"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { command as agentCommand } from "../src/Agent/CommandTree.ts"
import { command as controlPlaneCommand } from "../src/ControlPlane/CommandTree.ts"
import { exitCodes } from "../src/Layers/CommandLine.ts"
import { root as operatorCommand } from "../src/Operator/Root.ts"
import { agentOptions, configFileEnv as agentConfigEnv } from "../src/Schema/AgentConfig.ts"
import {
  configFileEnv as operatorConfigEnv,
  connectionOptions,
  defaultConfigFile
} from "../src/Schema/ConnectionConfig.ts"
import { configFileEnv as controlPlaneConfigEnv, controlPlaneOptions } from "../src/Schema/ControlPlaneConfig.ts"
import type { AnyOption } from "../src/Schema/Options.ts"

interface Page {
  readonly name: string
  readonly summary: string
  readonly helpOf: (path: ReadonlyArray<string>) => Promise<HelpDoc.HelpDoc>
  /** By key of the configuration file. */
  readonly options: Readonly<Record<string, AnyOption>>
  readonly configEnv: string
  readonly files: ReadonlyArray<readonly [name: string, text: string]>
  readonly exits: ReadonlyArray<readonly [code: number, text: string]>
}

/** Help as data: the formatter is where the command line hands it over. */
const helpWith =
  <Name extends string, Input, E, R, ContextInput>(command: Command.Command<Name, Input, ContextInput, E, R>) =>
  (path: ReadonlyArray<string>): Promise<HelpDoc.HelpDoc> => {
    const docs: Array<HelpDoc.HelpDoc> = []
    const { formatCliError, formatError, formatErrors, formatVersion } = CliOutput.defaultFormatter({ colors: false })
    const formatter: CliOutput.Formatter = {
      formatCliError,
      formatError,
      formatErrors,
      formatVersion,
      formatHelpDoc: (doc) => {
        docs.push(doc)
        return ""
      }
    }
    const silent: Console.Console = { ...console, log: () => {}, error: () => {} }
    return Effect.runPromise(
      Command.runWith(command, { version: "", renderErrors: false })([...path, "--help"]).pipe(
        Effect.ignore,
        Effect.provideService(Console.Console, silent),
        Effect.provide(Layer.merge(NodeServices.layer, CliOutput.layer(formatter)))
      ) as Effect.Effect<void>
    ).then(() => {
      const [doc] = docs
      if (doc === undefined) throw new Error(`no help of ${path.join(" ")}`)
      return doc
    })
  }

/** Text that troff prints as it is. */
const plain = (text: string): string =>
  text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll("…", "...").split("\n")
    .map((line) => /^[.']/.test(line) ? `\\&${line}` : line).join("\n")
const bold = (text: string): string => `\\fB${plain(text)}\\fR`
const italic = (text: string): string => `\\fI${plain(text)}\\fR`
const sentence = (text: string): string => /[.!?]$/.test(text) ? text : `${text}.`

const item = (head: string, text: string): string => `.TP\n${head}\n${text}`

function flagItem(flag: HelpDoc.FlagDoc, options: Page["options"]): string {
  const names = [`--${flag.name}`, ...flag.aliases].map(bold).join(", ")
  const head = flag.type === "boolean" ? names : `${names} ${italic(flag.type)}`
  const described = sentence(Option.getOrElse(flag.description, () => ""))
  const [key, option] = Object.entries(options).find(([, { flag: name }]) => name === flag.name) ?? []
  const elsewhere = option === undefined || key === undefined
    ? ""
    : `\nEnvironment ${bold(option.env)}, key ${bold(key)}.`
  return item(head, `${plain(described)}${elsewhere}`)
}

const argumentItem = ({ description, name, required }: HelpDoc.ArgDoc): string =>
  item(italic(required ? name : `[${name}]`), plain(sentence(Option.getOrElse(description, () => ""))))

/** Every command that does something, in the order of its help. */
async function commands(page: Page, path: ReadonlyArray<string> = []): Promise<ReadonlyArray<HelpDoc.HelpDoc>> {
  const doc = await page.helpOf(path)
  const below = (doc.subcommands ?? []).flatMap((group) => group.commands.map(({ name }) => [...path, name]))
  if (below.length === 0) return [doc]
  return (await Promise.all(below.map((one) => commands(page, one)))).flat()
}

function commandSection(doc: HelpDoc.HelpDoc, page: Page): string {
  const tabled = new Set(Object.values(page.options).map(({ flag }) => flag))
  const [own, shared] = [
    doc.flags.filter(({ name }) => !tabled.has(name)),
    doc.flags.filter(({ name }) => tabled.has(name))
  ]
  const takes = shared.length > 0 || (doc.inheritedFlags ?? []).length > 0
  return [
    `.SS ${plain((doc.commandPath ?? []).slice(1).join(" "))}`,
    plain(sentence(doc.description)),
    ".PP",
    bold(doc.usage),
    ...(doc.args ?? []).map(argumentItem),
    ...own.filter(({ name }) => name !== "config").map((flag) => flagItem(flag, {})),
    ...(takes ? [".PP", "Takes the options under OPTIONS as well."] : [])
  ].join("\n")
}

async function render(page: Page, version: string): Promise<string> {
  const root = await page.helpOf([])
  const all = await commands(page)
  const known = [root, ...all].flatMap(({ flags, inheritedFlags = [] }) => flags.concat(inheritedFlags))
  const tabled = ["config", ...Object.values(page.options).map(({ flag }) => flag)].flatMap((name) =>
    known.find((flag) => flag.name === name) ?? []
  )
  return [
    `.TH ${plain(page.name.toUpperCase())} 1 "" "nixfleet ${plain(version)}" "nixfleet"`,
    ".SH NAME",
    `${plain(page.name)} \\- ${plain(page.summary)}`,
    ".SH SYNOPSIS",
    bold(root.usage),
    ".SH DESCRIPTION",
    plain(sentence(root.description)),
    ".SH COMMANDS",
    ...all.map((doc) => commandSection(doc, page)),
    ".SH OPTIONS",
    "A flag wins over the environment, and that over the configuration file.",
    ...tabled.map((flag) => flagItem(flag, page.options)),
    ".PP",
    "With every command:",
    ...(root.globalFlags ?? []).map((flag) => flagItem(flag, {})),
    ".SH ENVIRONMENT",
    "Every option above names its variable. Besides:",
    item(bold(page.configEnv), `Configuration file, when ${bold("--config")} is not given.`),
    item(bold("NO_COLOR"), "No colours, whatever the value."),
    ".SH FILES",
    ...page.files.map(([name, text]) => item(italic(name), plain(sentence(text)))),
    ".SH EXIT STATUS",
    ...page.exits.map(([code, text]) => item(bold(String(code)), plain(sentence(text)))),
    ".SH SEE ALSO",
    pages.filter(({ name }) => name !== page.name).map(({ name }) => `${bold(name)}(1)`).join(", "),
    ""
  ].join("\n")
}

const programExits: Page["exits"] = [
  [0, "It was told to stop, or did what was asked"],
  [1, "It cannot go on; the log says why, and a new start may help"],
  [exitCodes.usage, "The command line is wrong"],
  [exitCodes.configuration, "The configuration, or something that it names, cannot be used: a person has to look"]
]

/** Options whose default is a place on the disk. */
const placesOf = (options: Page["options"]): Page["files"] =>
  Object.values(options).flatMap(({ description, fallback }) =>
    typeof fallback === "string" && fallback.startsWith("/") ? [[fallback, description]] : []
  )

const pages: ReadonlyArray<Page> = [
  {
    name: "nixfleet",
    summary: "signed releases of a fleet of hosts, and how they are rolled out",
    helpOf: helpWith(operatorCommand),
    options: connectionOptions,
    configEnv: operatorConfigEnv,
    files: [[`~/.config/${defaultConfigFile}`, "Configuration file, when no other is named; it may be missing"]],
    exits: [
      [0, "Done; with --exit-code, rollout wait and --follow: converged"],
      [1, "What was asked for was refused or did not work"],
      [2, "Asked, and not converged yet"],
      [3, "Asked, and it will not converge without a person"],
      [exitCodes.usage, "The command line is wrong"],
      [exitCodes.configuration, "A file that a person writes is wrong: declaration, trust, key, connection"]
    ]
  },
  {
    name: "nixfleet-agent",
    summary: "brings one host to the closure that its control plane dispatches",
    helpOf: helpWith(agentCommand),
    options: agentOptions,
    configEnv: agentConfigEnv,
    files: placesOf(agentOptions),
    exits: programExits
  },
  {
    name: "nixfleet-control-plane",
    summary: "rolls signed releases out to a fleet of hosts",
    helpOf: helpWith(controlPlaneCommand),
    options: controlPlaneOptions,
    configEnv: controlPlaneConfigEnv,
    files: placesOf(controlPlaneOptions),
    exits: programExits
  }
]

/** Writes the pages into `directory`; answers their names. */
export async function writeManPages(directory: string, version: string): Promise<ReadonlyArray<string>> {
  mkdirSync(directory, { recursive: true })
  for (const page of pages) writeFileSync(join(directory, `${page.name}.1`), await render(page, version))
  return pages.map(({ name }) => `${name}.1`)
}
