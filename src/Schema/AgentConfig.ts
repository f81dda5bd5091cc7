/**
 * Every option of the agent, once: its key in the configuration file, its flag, its environment name, its shape, its
 * default. `Options.ts` gathers the values (flag > environment > file > default) and reports what is wrong; this file
 * says what is right. The first rows are the original's (agent.md §1.1), with its names; the cadences and
 * limits below are its constants (agent.md §2.3), configurable here. Times are seconds, decimals allowed down to a
 * millisecond.
 *
 * Every option acts on something: an option that would do nothing is not declared.
 */
import { Schema, Struct } from "effect"
import { logFormats, logLevels } from "./Logs.ts"
import { millis, type Option, optionsFor, type OptionTable } from "./Options.ts"
import { Hostname } from "./Primitives.ts"

const { optional, required, withDefault } = optionsFor("NIXFLEET_AGENT_")

const path = Schema.String.check(Schema.isPattern(/^[^\0]+$/, { message: "expected a path" }))
const absolutePath = Schema.String.check(Schema.isPattern(/^\/[^\0]*$/, { message: "expected an absolute path" }))
const isAddress = (text: string): boolean | string => URL.canParse(text) || "expected an address that can be parsed"
const controlPlaneUrl = Schema.String.check(
  Schema.isPattern(/^https?:\/\/(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[1-9][0-9]{0,4})?\/?$/, {
    message: "expected https://host or https://host:port, without a path"
  }),
  Schema.makeFilter(isAddress)
)
const archiveSource = Schema.String.check(
  Schema.isPattern(/^(?:\/[^\0]*|https?:\/\/\S+)$/, {
    message: "expected an absolute directory or an http(s) address"
  }),
  Schema.makeFilter((source: string) => source.startsWith("/") || isAddress(source))
)
/** A cadence or time-out: at least 50 ms, so that a typing error cannot make a busy loop; at most 30 days. */
const seconds = Schema.Finite.check(Schema.isBetween({ minimum: 0.05, maximum: 2_592_000 }))
/** Each look is a pulse of the watchdog, whose unit wants one a minute. */
const tickSeconds = Schema.Finite.check(Schema.isBetween({ minimum: 0.05, maximum: 30 }))
const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
const secs = (key: string, fallback: number, description: string) =>
  withDefault(key, "number", seconds, fallback, description)

/** Mebibyte. */
const MiB = 1_048_576

/** All options, in the order in which `--help` shows them. */
export const agentOptions = {
  controlPlaneUrl: required(
    "controlPlaneUrl",
    controlPlaneUrl,
    "address of the control plane, https://host[:port]",
    "NIXFLEET_AGENT_CP_URL"
  ),
  machineId: required("machineId", Hostname, "this host's name, as in its client certificate"),
  trustFile: required(
    "trustFile",
    path,
    "JSON file with the release keys that are trusted; read anew at each verification"
  ),
  caCert: optional("caCert", "text", path, "PEM file with the authorities of the control plane's certificate"),
  clientCert: optional("clientCert", "text", path, "PEM file with this host's certificate; needs --client-key"),
  clientKey: optional(
    "clientKey",
    "text",
    path,
    "PEM or OpenSSH ed25519 private key of the certificate; needs --client-cert"
  ),
  bootstrapTokenFile: optional(
    "bootstrapTokenFile",
    "text",
    path,
    "token with which a host that has no good certificate enrolls; not read otherwise"
  ),
  generateKey: withDefault(
    "generateKey",
    "switch",
    Schema.Boolean,
    false,
    "make the client key when there is none, before enrolling"
  ),
  manifestFreshnessWindowSecs: optional(
    "manifestFreshnessWindowSecs",
    "number",
    between(60, 31_536_000),
    "upper bound for the age of a manifest; unset: the channel's signed window alone decides"
  ),
  stateDir: withDefault(
    "stateDir",
    "text",
    absolutePath,
    "/var/lib/nixfleet-agent",
    "directory of the journal and of the artifact cache, mode 0700"
  ),

  insecure: withDefault(
    "insecure",
    "switch",
    Schema.Boolean,
    false,
    "allow a control plane address that starts with http://"
  ),
  evidenceKeyFile: withDefault(
    "evidenceKeyFile",
    "text",
    absolutePath,
    "/etc/ssh/ssh_host_ed25519_key.pub",
    "OpenSSH public key with which compliance evidence of this host is signed"
  ),
  healthChecksFile: withDefault(
    "healthChecksFile",
    "text",
    absolutePath,
    "/etc/nixfleet/agent/health-checks.json",
    "declaration of the health probes"
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

  driver: withDefault(
    "driver",
    "text",
    Schema.Literals(["auto", "nix", "darwin", "archive"]),
    "auto",
    "what activates closures: nix (NixOS), darwin (nix-darwin), archive (hosts without Nix); auto: archive when " +
      "--archive-source is given, else the one of this system"
  ),
  archiveSource: optional(
    "archiveSource",
    "text",
    archiveSource,
    "directory or address from which the archive driver fetches closures"
  ),
  systemDir: withDefault(
    "systemDir",
    "text",
    absolutePath,
    "/var/lib/nixfleet-system",
    "where the archive driver unpacks closures, with the generations and the current-system link"
  ),
  maxArchiveBytes: withDefault(
    "maxArchiveBytes",
    "number",
    between(1024, Number.MAX_SAFE_INTEGER),
    2048 * MiB,
    "archive driver: largest closure archive, and largest size of its unpacked files"
  ),
  realiseDeadlineSecs: secs("realiseDeadlineSecs", 1800, "how long a closure that cannot be fetched is tried again"),
  switchTimeoutSecs: secs("switchTimeoutSecs", 300, "how long a switch may run before it is ended"),
  guardWindowSecs: secs(
    "guardWindowSecs",
    600,
    "silence of the agent after which an activation that is not settled is taken back without it; a running switch may " +
      "take its time-out besides. Must be well above what a restart of the agent takes (RestartSec of its unit: " +
      "10), or a restart is taken for the end. Not armed when the policy is halt"
  ),
  switchPollSecs: secs("switchPollSecs", 2, "pause between two looks at a running switch"),

  heartbeatSecs: secs("heartbeatSecs", 60, "time between two heartbeats"),
  heartbeatTimeoutSecs: secs("heartbeatTimeoutSecs", 10, "time-out of one heartbeat"),
  pollWaitSecs: withDefault(
    "pollWaitSecs",
    "number",
    between(1, 60),
    60,
    "how long the control plane may hold a dispatch poll"
  ),
  pollTimeoutSecs: secs("pollTimeoutSecs", 65, "time-out of a dispatch poll; more than --poll-wait-secs"),
  drainSecs: secs(
    "drainSecs",
    15,
    "time between two looks for undelivered events, when nothing wakes the sender earlier"
  ),
  eventTimeoutSecs: secs("eventTimeoutSecs", 10, "time-out of the delivery of one event"),
  parkAfterAttempts: withDefault(
    "parkAfterAttempts",
    "number",
    between(1, 1000),
    8,
    "answers without a verdict after which an event is set aside, still replayable"
  ),
  manifestPollSecs: secs("manifestPollSecs", 30, "time between two looks for a new fleet file"),
  artifactTimeoutSecs: secs("artifactTimeoutSecs", 30, "time-out of one artifact fetch"),
  advanceSecs: withDefault(
    "advanceSecs",
    "number",
    tickSeconds,
    5,
    "time between two looks at soaks and failure thresholds"
  ),
  sustainedFailureSecs: secs(
    "sustainedFailureSecs",
    120,
    "how long an enforced probe must fail without a pass before the rollout fails here"
  ),
  inconclusiveSecs: secs(
    "inconclusiveSecs",
    600,
    "how long a probe may be unable to run, holding the rollout, before that counts as a failure"
  ),
  probeResultSecs: secs("probeResultSecs", 300, "time between two reports of a probe whose status does not change"),
  retentionDays: withDefault(
    "retentionDays",
    "number",
    between(1, 3650),
    30,
    "how long the delivered events of a finished rollout are kept"
  ),
  maxArtifactBytes: withDefault(
    "maxArtifactBytes",
    "number",
    between(1024, 1024 * MiB),
    16 * MiB,
    "largest fleet file or manifest"
  ),
  maxAnswerBytes: withDefault(
    "maxAnswerBytes",
    "number",
    between(1024, 64 * MiB),
    MiB,
    "largest answer to a heartbeat, a poll or an event"
  )
} as const

export type AgentOptionName = keyof typeof agentOptions

interface FieldOf extends Struct.Lambda {
  <A>(option: Option<A>): Schema.Codec<A>
  readonly "~lambda.out": this["~lambda.in"] extends Option<infer A> ? Schema.Codec<A> : never
}
const fieldOf = Struct.lambda<FieldOf>((option) => option.schema)

/** The agent's configuration, complete: every option has a value, or `undefined` where it may be left out. */
export const AgentConfig = Schema.Struct(Struct.map(agentOptions, fieldOf))
export type AgentConfig = typeof AgentConfig.Type

export const agentTable: OptionTable<AgentConfig> = { options: agentOptions, schema: AgentConfig }

/** Where `--config` may come from besides the flag. */
export const configFileEnv = "NIXFLEET_AGENT_CONFIG"

export { millis }
