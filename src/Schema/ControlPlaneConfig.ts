/**
 * Every option of the control plane, once: its key in the configuration file, its flag, its environment name, its shape, its
 * default. Names of the original where it has the option (control-plane.md §10). Times are seconds, decimals allowed.
 *
 * Every option acts on something: an option that would do nothing is not declared.
 */
import { Schema, Struct } from "effect"
import { logFormats, logLevels } from "./Logs.ts"
import { type ConfigProblem, type Gathered, type Option, optionsFor, type OptionTable } from "./Options.ts"

const { optional, required, withDefault } = optionsFor("NIXFLEET_CP_")

const path = Schema.String.check(Schema.isPattern(/^[^\0]+$/, { message: "expected a path" }))
const absolutePath = Schema.String.check(Schema.isPattern(/^\/[^\0]*$/, { message: "expected an absolute path" }))
const address = Schema.String.check(
  Schema.isPattern(/^(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$/, { message: "expected host:port" })
)
const source = Schema.String.check(
  Schema.isPattern(/^(?:\/[^\0]*|https?:\/\/\S+)$/, { message: "expected an absolute directory or an http(s) address" })
)
const dnsSuffix = Schema.String.check(
  Schema.isPattern(/^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,200}[A-Za-z0-9])?$/, {
    message: "expected a DNS name without a leading dot"
  })
)
const commonNames = Schema.String.check(
  Schema.isPattern(/^[^,\u0000-\u001f\u007f]{1,64}(?:,[^,\u0000-\u001f\u007f]{1,64})*$/, {
    message: "expected common names, separated by commas"
  })
)
/** A cadence: at least 50 ms, so that a typing error cannot make a busy loop; at most 30 days. */
const seconds = Schema.Finite.check(Schema.isBetween({ minimum: 0.05, maximum: 2_592_000 }))

/** All options, in the order in which `--help` shows them. */
export const controlPlaneOptions = {
  listen: withDefault("listen", "text", address, "0.0.0.0:8080", "address to listen on, host:port"),
  tlsCert: required("tlsCert", path, "PEM file with this server's certificate"),
  tlsKey: required("tlsKey", path, "PEM file with its private key, mode 0600"),
  clientCa: required("clientCa", path, "PEM file with the authorities of client certificates"),
  agentCnSuffix: required("agentCnSuffix", dnsSuffix, "what follows agent-<host>. in the common names of hosts"),
  operatorCn: optional(
    "operatorCn",
    "text",
    commonNames,
    "common names, separated by commas, of operators whose certificates do not say that they are one, as certificates of the " +
      "original"
  ),
  issuanceCaCert: optional(
    "issuanceCaCert",
    "text",
    path,
    "PEM file with the certificate of the authority that enrolls hosts and renews their certificates; unset: nobody is"
  ),
  issuanceCaKey: optional("issuanceCaKey", "text", path, "PEM file with its private key, mode 0600"),
  issuanceCaSignCommand: optional(
    "issuanceCaSignCommand",
    "text",
    path,
    "instead of the key: a command for /bin/sh that signs the file $NIXFLEET_INPUT and writes the raw signature to $NIXFLEET_OUTPUT"
  ),
  agentCertValiditySecs: withDefault(
    "agentCertValiditySecs",
    "number",
    Schema.Int.check(Schema.isBetween({ minimum: 10, maximum: 31_536_000 })),
    2_592_000,
    "how long a host's certificate is valid; agents renew theirs at half of it"
  ),
  trustFile: withDefault(
    "trustFile",
    "text",
    path,
    "/etc/nixfleet/cp/trust.json",
    "JSON file with the release keys that are trusted; read anew at each poll"
  ),
  releasesSource: required(
    "releasesSource",
    source,
    "directory or address of the signed artifacts: fleet.resolved.json and rollouts/<id>.json, each with its .sig"
  ),
  releasesTokenFile: optional(
    "releasesTokenFile",
    "text",
    path,
    "file with a bearer token for an https releases address, mode 0600; read at each poll"
  ),
  stateDir: withDefault(
    "stateDir",
    "text",
    absolutePath,
    "/var/lib/nixfleet-cp",
    "directory of the journal, the artifact cache and the trust memory, mode 0700"
  ),
  freshnessWindowSecs: optional(
    "freshnessWindowSecs",
    "number",
    Schema.Int.check(Schema.isBetween({ minimum: 60, maximum: 31_536_000 })),
    "upper bound for the age of an artifact; unset: the smallest signed window alone decides"
  ),
  strict: withDefault(
    "strict",
    "switch",
    Schema.Boolean,
    false,
    "refuse requests without the header X-Nixfleet-Protocol, serve nothing before a signed list of revocations is in force, and take no " +
      "authority's key from a file unless allowFileCaKey is given"
  ),
  allowFileCaKey: withDefault(
    "allowFileCaKey",
    "switch",
    Schema.Boolean,
    false,
    "with strict: take the authority's private key from a file all the same"
  ),
  logFormat: withDefault(
    "logFormat",
    "text",
    Schema.Literals(logFormats),
    "json",
    "json: one object a line; pretty: for people"
  ),
  logLevel: withDefault(
    "logLevel",
    "text",
    Schema.Literals(logLevels),
    "info",
    "least level that is logged: debug, info, warn or error"
  ),
  artifactPollSecs: withDefault("artifactPollSecs", "number", seconds, 30, "time between two looks at the releases"),
  planSecs: withDefault("planSecs", "number", seconds, 15, "time between two plans when nothing else asks for one"),
  sweepSecs: withDefault("sweepSecs", "number", seconds, 1, "time between two looks at expired leases and polls"),
  leaseSecs: withDefault(
    "leaseSecs",
    "number",
    seconds,
    90,
    "how long a dispatch may stay unacknowledged before it is offered again"
  ),
  heartbeatSecs: withDefault(
    "heartbeatSecs",
    "number",
    seconds,
    60,
    "heartbeat period that the agents are configured to"
  ),
  recoveryGraceSecs: withDefault(
    "recoveryGraceSecs",
    "number",
    seconds,
    150,
    "how long a new database waits for silent hosts before it dispatches on a channel; at least two heartbeats"
  )
} as const

interface FieldOf extends Struct.Lambda {
  <A>(option: Option<A>): Schema.Codec<A>
  readonly "~lambda.out": this["~lambda.in"] extends Option<infer A> ? Schema.Codec<A> : never
}
const fieldOf = Struct.lambda<FieldOf>((option) => option.schema)

/** The control plane's configuration, complete. */
export const ControlPlaneConfig = Schema.Struct(Struct.map(controlPlaneOptions, fieldOf))
export type ControlPlaneConfig = typeof ControlPlaneConfig.Type

export const controlPlaneTable: OptionTable<ControlPlaneConfig> = {
  options: controlPlaneOptions,
  schema: ControlPlaneConfig
}

/** Where `--config` may come from besides the flag. */
export const configFileEnv = "NIXFLEET_CP_CONFIG"

/** Host and port of `listen`; brackets of an IPv6 address removed. */
export function listenAddress(listen: string): { readonly host: string; readonly port: number } {
  const colon = listen.lastIndexOf(":")
  return { host: listen.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(listen.slice(colon + 1)) }
}

/** The names of a list that is separated by commas. */
export const namesOf = (list: string | undefined): ReadonlyArray<string> =>
  list === undefined ? [] : list.split(",").map((name) => name.trim())

/** An authority has a certificate, and one key. */
function issuanceProblems({ config, sourceOf }: Gathered<ControlPlaneConfig>): ReadonlyArray<ConfigProblem> {
  const { issuanceCaCert, issuanceCaKey, issuanceCaSignCommand } = config
  if (issuanceCaKey !== undefined && issuanceCaSignCommand !== undefined) {
    return [{ at: sourceOf("issuanceCaSignCommand"), message: "is given instead of issuanceCaKey, and not beside it" }]
  }
  if (config.strict && issuanceCaKey !== undefined && !config.allowFileCaKey) {
    return [{
      at: sourceOf("issuanceCaKey"),
      message: "a file is not taken with strict: keep the key behind issuanceCaSignCommand, or give allowFileCaKey"
    }]
  }
  const hasKey = issuanceCaKey !== undefined || issuanceCaSignCommand !== undefined
  if (issuanceCaCert !== undefined && !hasKey) {
    return [{
      at: sourceOf("issuanceCaCert"),
      message: "is of no use without the authority's key: give issuanceCaKey or issuanceCaSignCommand too"
    }]
  }
  if (issuanceCaCert === undefined && hasKey) {
    return [{
      at: sourceOf(issuanceCaKey === undefined ? "issuanceCaSignCommand" : "issuanceCaKey"),
      message: "is of no use without the authority's certificate: give issuanceCaCert too"
    }]
  }
  return []
}

/** Rules between options. */
export function crossCheck({ config, sourceOf }: Gathered<ControlPlaneConfig>): ReadonlyArray<ConfigProblem> {
  const problems: Array<ConfigProblem> = []
  if (listenAddress(config.listen).port > 65_535) {
    problems.push({ at: sourceOf("listen"), message: "a port is at most 65535" })
  }
  if (config.releasesTokenFile !== undefined && !config.releasesSource.startsWith("https://")) {
    problems.push({
      at: sourceOf("releasesTokenFile"),
      message: `a token is only sent over https, and the releases come from ${config.releasesSource}`
    })
  }
  if (config.sweepSecs > 4) {
    problems.push({
      at: sourceOf("sweepSecs"),
      message: "must be at most 4: a poll of 60 s has to be answered before the client gives up after 65 s"
    })
  }
  problems.push(...issuanceProblems({ config, sourceOf }))
  if (config.recoveryGraceSecs < 2 * config.heartbeatSecs) {
    problems.push({
      at: sourceOf("recoveryGraceSecs"),
      message: "must be at least two heartbeats, or a host that lives could be missed"
    })
  }
  return problems
}
