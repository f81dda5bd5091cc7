/**
 * Options of a program: what one is, and how their values are gathered from flags, environment and a JSON file, with every
 * problem at once and the place where each was given. Pure: the caller reads the file and the environment.
 *
 * A value is checked wherever it was given, also where a stronger source overrides it: what is wrong today in a file is
 * what the host runs with tomorrow.
 */
import { Result, Schema, SchemaIssue } from "effect"

/** How a value is written as text: a switch takes no value as a flag and `true`, `false`, `1` or `0` elsewhere. */
export type OptionKind = "text" | "number" | "switch"

/** What an option can hold. */
export type OptionValue = string | number | boolean

/** One option. `A` includes `undefined` exactly when it may be left out and has no default. */
export interface Option<A> {
  /** Without the leading dashes. */
  readonly flag: string
  readonly env: string
  readonly kind: OptionKind
  /** Checks a value that is already a string, number or boolean; never transforms it. */
  readonly schema: Schema.Codec<A>
  readonly required: boolean
  readonly fallback: A | undefined
  readonly description: string
}

/** An option of any type: for code that treats all alike. */
export type AnyOption = Option<OptionValue | undefined>

/** All options of one program, by their key in the configuration file. */
export interface OptionTable<Config> {
  readonly options: Readonly<Record<string, AnyOption>>
  /** The configuration, complete: every option has a value, or `undefined` where it may be left out. */
  readonly schema: Schema.Codec<Config>
}

const kebab = (key: string) => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

/** Makes options whose flags and environment names follow from their keys, as `maxBytes` gives `--max-bytes`, `<PREFIX>MAX_BYTES`. */
export function optionsFor(prefix: string) {
  const names = (key: string, env?: string) => ({
    flag: kebab(key),
    env: env ?? `${prefix}${kebab(key).replaceAll("-", "_").toUpperCase()}`
  })
  return {
    required: <A extends OptionValue>(
      key: string,
      schema: Schema.Codec<A>,
      description: string,
      env?: string
    ): Option<A> => ({ ...names(key, env), kind: "text", schema, required: true, fallback: undefined, description }),
    optional: <A extends OptionValue>(
      key: string,
      kind: OptionKind,
      schema: Schema.Codec<A>,
      description: string
    ): Option<A | undefined> => ({
      ...names(key),
      kind,
      schema: Schema.UndefinedOr(schema),
      required: false,
      fallback: undefined,
      description
    }),
    withDefault: <A extends OptionValue>(
      key: string,
      kind: OptionKind,
      schema: Schema.Codec<A>,
      fallback: A,
      description: string
    ): Option<A> => ({ ...names(key), kind, schema, required: false, fallback, description })
  }
}

/** Where a value came from. */
export type Source =
  | { readonly _tag: "Flag" }
  | { readonly _tag: "Environment" }
  | { readonly _tag: "File"; readonly file: string }
  | { readonly _tag: "Default" }

/** One thing that is wrong: `at` names its source as the operator wrote it. */
export interface ConfigProblem {
  readonly at: string
  readonly message: string
}

/** The file's JSON, read strictly (`Layers/ConfigFile.ts`); `Unreadable` when it could not be. */
export type ConfigFile =
  | { readonly _tag: "Read"; readonly file: string; readonly value: unknown }
  | { readonly _tag: "Unreadable"; readonly file: string; readonly message: string }

export interface ConfigSources {
  /** By option key; a switch is a boolean, everything else text. Absent = not given. */
  readonly flags: Readonly<Record<string, string | boolean | undefined>>
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly file: ConfigFile | undefined
}

/** A configuration, and where each of its values came from as a person finds it. */
export interface Gathered<Config> {
  readonly config: Config
  readonly sourceOf: (key: string) => string
}

interface Given {
  readonly source: Source
  readonly value: unknown
}

const strongestFirst = ["Flag", "Environment", "File"] as const

/** How a person finds the place where a value was given. */
export function describeSource(key: string, { env, flag }: AnyOption, source: Source): string {
  switch (source._tag) {
    case "Flag":
      return `flag --${flag}`
    case "Environment":
      return `environment ${env}`
    case "File":
      return `file ${source.file} key ${key}`
    case "Default":
      return "default"
  }
}

/** Text of a flag or an environment variable as a value of the option's kind; text that is none stays text and fails. */
function fromText(option: AnyOption, text: string): unknown {
  switch (option.kind) {
    case "text":
      return text
    case "number":
      return /^-?[0-9]+(?:\.[0-9]+)?$/.test(text) ? Number(text) : text
    case "switch":
      return text === "true" || text === "1" ? true : text === "false" || text === "0" ? false : text
  }
}

const kinds = {
  text: { type: "string", expected: "expected a string" },
  number: { type: "number", expected: "expected a number" },
  switch: { type: "boolean", expected: "expected true or false" }
} as const

const sentence = (issue: SchemaIssue.Issue): string =>
  SchemaIssue.makeFormatterStandardSchemaV1()(issue).issues.map((one) => one.message).join("; ")

/** What is wrong with a value; `undefined` when nothing is. */
function complaint(option: AnyOption, value: unknown): string | undefined {
  const { expected, type } = kinds[option.kind]
  if (typeof value !== type) return expected
  const checked = Schema.decodeUnknownResult(option.schema)(value)
  return Result.isSuccess(checked) ? undefined : sentence(checked.failure.issue)
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The keys of the file; what is not an option is a problem (D19). Absent when the file is of no use. */
function keysOf(
  file: ConfigFile,
  options: Readonly<Record<string, AnyOption>>,
  problems: Array<ConfigProblem>
): Readonly<Record<string, unknown>> | undefined {
  const at = `file ${file.file}`
  if (file._tag === "Unreadable") {
    problems.push({ at, message: file.message })
    return undefined
  }
  if (!isObject(file.value)) {
    problems.push({ at, message: "expected a JSON object" })
    return undefined
  }
  for (const key of Object.keys(file.value)) {
    if (!Object.hasOwn(options, key)) problems.push({ at: `${at} key ${key}`, message: "unknown key" })
  }
  return file.value
}

/** Every place where one option was given, strongest first. */
function givenFor(
  key: string,
  option: AnyOption,
  sources: ConfigSources,
  file: Readonly<Record<string, unknown>> | undefined
): ReadonlyArray<Given> {
  const flag = sources.flags[key]
  const env = sources.environment[option.env]
  return strongestFirst.flatMap((tag): ReadonlyArray<Given> => {
    switch (tag) {
      case "Flag":
        return flag === undefined
          ? []
          : [{ source: { _tag: tag }, value: typeof flag === "string" ? fromText(option, flag) : flag }]
      case "Environment":
        return env === undefined ? [] : [{ source: { _tag: tag }, value: fromText(option, env) }]
      case "File":
        return sources.file === undefined || file === undefined || !Object.hasOwn(file, key)
          ? []
          : [{ source: { _tag: tag, file: sources.file.file }, value: file[key] }]
    }
  })
}

/**
 * The whole configuration, or everything that is wrong with it. `crossCheck` holds the rules between options and runs once
 * each option is right by itself.
 */
export function gatherOptions<Config>(
  table: OptionTable<Config>,
  sources: ConfigSources,
  crossCheck: (gathered: Gathered<Config>) => ReadonlyArray<ConfigProblem>
): Result.Result<Gathered<Config>, ReadonlyArray<ConfigProblem>> {
  const problems: Array<ConfigProblem> = []
  const file = sources.file === undefined ? undefined : keysOf(sources.file, table.options, problems)
  // What a broken file would have given is unknown: then only what was given elsewhere is judged.
  const complete = sources.file === undefined || file !== undefined
  const values: Record<string, unknown> = {}
  const places = new Map<string, string>()
  for (const [key, option] of Object.entries(table.options)) {
    const given = givenFor(key, option, sources, file)
    for (const { source, value } of given) {
      const message = complaint(option, value)
      if (message !== undefined) problems.push({ at: describeSource(key, option, source), message })
    }
    const strongest = given[0]
    if (strongest === undefined && option.required && complete) {
      problems.push({
        at: `flag --${option.flag}`,
        message: `required, and not given (also as environment ${option.env} or file key ${key}): ${option.description}`
      })
    }
    values[key] = strongest === undefined ? option.fallback : strongest.value
    places.set(key, describeSource(key, option, strongest?.source ?? { _tag: "Default" }))
  }
  if (problems.length > 0) return Result.fail(problems)

  const config = Schema.decodeUnknownSync(table.schema)(values)
  const gathered: Gathered<Config> = { config, sourceOf: (key) => places.get(key) ?? "default" }
  const crossed = crossCheck(gathered)
  return crossed.length > 0 ? Result.fail(crossed) : Result.succeed(gathered)
}

/** Milliseconds of a configured time in seconds. */
export const millis = (configured: number): number => Math.round(configured * 1000)
