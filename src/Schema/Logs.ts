/**
 * What a line of the log holds: its level, the part of the program that speaks (`target`), and its fields, each under one
 * name in both programs. Dashboards key on these names: targets of agent.md §1.4 and control-plane.md §9, `hostname` and
 * `rollout` as there.
 *
 * A line never carries a secret, a request body or an artifact.
 */
import type { Reason } from "./Reasons.ts"

/** How lines are written: one JSON object each for machines, `pretty` for a person at a terminal. */
export const logFormats = ["json", "pretty"] as const
export type LogFormat = typeof logFormats[number]

/**
 * From the least to the most pressing. `debug`: each poll and heartbeat; `info`: start, stop, steps of a rollout; `warn`: a
 * refusal, or something that is tried again; `error`: what ends the program, or what it cannot help.
 */
export const logLevels = ["debug", "info", "warn", "error"] as const
export type LogLevel = typeof logLevels[number]

/** Target → who speaks. */
export const logTargets = {
  // Both programs
  "artifact_cache": "artifacts on disk, which an outage leaves usable",
  "identity": "certificate and key of this end, read again when their files change",
  "journal": "what cannot be made durable",
  "logging": "the log itself",
  "runtime": "a library that the program is built on",
  "service_manager": "what systemd is told",
  "shutdown": "a worker or the program ends; `task` names the worker",
  // The agent
  "agent_activation": "fetches closures, switches, rolls back",
  "agent_advance_ticker": "soaks and failure thresholds",
  "agent_boot": "the agent starts",
  "agent_cert_renewal": "renewal of this host's certificate",
  "agent_enrollment": "the first certificate of this host",
  "agent_heartbeat": "heartbeats and the boot handshake",
  "agent_host": "the host itself: store, generations, facts",
  "agent_longpoll": "polls for a dispatch",
  "agent_manifest_cache": "verified artifacts that are kept for an outage",
  "agent_manifest_poll": "new artifacts",
  "agent_outbound": "delivery of events",
  "agent_probe": "health probes",
  "agent_reducer": "what was decided and committed",
  // The control plane
  "bootstrap_nonces": "the list of tokens that may enroll a host",
  "cp_boot": "the control plane starts and listens",
  "cp_manifest_poll": "releases: fetched, verified, refused",
  "cp_reducer": "what was decided and committed: rollouts, waves, channels",
  "cp_runtime": "requests and their answers",
  "dispatch": "dispatches to hosts",
  "events": "events of hosts",
  "heartbeat": "heartbeats of hosts",
  "issuance": "certificates that are issued to hosts, or refused",
  "operator_actions": "what operators pause, hold, freeze and clear",
  "revocations": "the list of hosts whose certificates are void"
} as const

export type LogTarget = keyof typeof logTargets

/** What every line has, in this order; no field may have these names. */
export const lineNames = ["timestamp", "level", "target", "message"] as const

/** Every field that a line may have besides those. Durations and times say their unit in the name. */
export interface LogFields {
  /** Why: of the catalogue, stable. */
  readonly reason?: Reason | undefined
  /** What exactly was found, in words: bounded, one line. */
  readonly detail?: string | undefined
  readonly hostname?: string | undefined
  /** Id of the rollout, `<channel>@<ref>`. */
  readonly rollout?: string | undefined
  readonly channel?: string | undefined
  /** Place in the rollout's waves, from 0. */
  readonly wave?: number | undefined
  readonly attempt?: number | undefined
  readonly closure?: string | undefined
  /** A state, before and after. */
  readonly from?: string | undefined
  readonly to?: string | undefined
  /** Kind and sequence number of an event. */
  readonly kind?: string | undefined
  readonly seq?: number | undefined
  readonly fromSeq?: number | undefined
  readonly toSeq?: number | undefined
  /** The rollout that took another one's place. */
  readonly by?: string | undefined
  /** How many rows: summarised; given up and never sent, or set aside. */
  readonly rows?: number | undefined
  readonly undelivered?: number | undefined
  readonly parked?: number | undefined
  /** A switch: forward or rollback, and which run of the attempt. */
  readonly purpose?: string | undefined
  readonly run?: number | undefined
  /** What came of a fetch, a poll or another try. */
  readonly outcome?: string | undefined
  /** `fleet.resolved` or the id of a rollout, and the SHA-256 of what verified. */
  readonly artifact?: string | undefined
  readonly hash?: string | undefined
  /** Id of one delivery of a dispatch. */
  readonly delivery?: string | undefined
  /** Common name that the other end proved. */
  readonly peer?: string | undefined
  /** Method and path of an HTTP request, and its status. */
  readonly request?: string | undefined
  readonly status?: number | undefined
  /** Equal lines that were not written since the last one. */
  readonly suppressed?: number | undefined
  /** Lines that were lost because nobody read them. */
  readonly lost?: number | undefined
  readonly file?: string | undefined
  readonly address?: string | undefined
  /** Worker, in lines of `shutdown`. */
  readonly task?: string | undefined
  readonly program?: string | undefined
  readonly version?: string | undefined
  readonly controlPlane?: string | undefined
  readonly releases?: string | undefined
  readonly stateDir?: string | undefined
}

/** A refusal, a retry and a failure say why (house rule 10). */
export type ReasonedFields = LogFields & { readonly reason: Reason }

/** One line as data. */
export interface LogMessage {
  readonly level: LogLevel
  readonly message: string
  readonly fields: LogFields
}
