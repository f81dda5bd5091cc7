/**
 * What is true of the fleet and of this process at the moment of a scrape: read from one published state in one pass, so a
 * scrape costs O(hosts + rollouts) and the reducer nothing. Pure: time and everything measured are arguments.
 *
 * Labels are channels, states, gates and actions: their number does not grow with the fleet or with time. How long hosts are silent
 * is told as how many are silent for longer than some times, and by the longest silence of a channel; which ones they are
 * is what `nixfleet status` shows.
 */
import { HashMap } from "effect"
import type { Usage } from "../Layers/ProcessUsage.ts"
import type { Millis } from "../Schema/Primitives.ts"
import { commit } from "../Schema/Version.ts"
import { smallestWindowMs, withCeiling } from "../Trust/Freshness.ts"
import { effectiveRecord } from "./Effective.ts"
import { inboxCapacity } from "./Inbox.ts"
import type { JournalUsage } from "./Journal.ts"
import { Registry } from "./MetricsRegistry.ts"
import { at, type HostEntry, type State } from "./State.ts"

/** What a scrape finds beside the state. */
export interface Measured {
  /** Epoch ms. */
  readonly now: Millis
  readonly version: string
  /** Inputs that wait to be decided. */
  readonly inboxDepth: number
  readonly journal: JournalUsage
  readonly process: Usage
}

/** `None`: declared, and in no rollout yet. */
const hostStates = ["None", "Pending", "Activating", "Deferred", "Soaking", "Converged", "Failed", "Reverted"] as const
type HostState = typeof hostStates[number]

/** Seconds of silence: two heartbeats, then what an operator would call a hiccup, an outage and a host that is gone. */
const silences = [120, 300, 900, 3600, 86_400] as const

interface ChannelCounts {
  readonly states: Record<HostState, number>
  /** Hosts that were silent for longer than each of `silences`. */
  readonly silent: Array<number>
  neverHeard: number
  longestSilenceMs: number
  diverged: number
}

const noHosts = (): ChannelCounts => ({
  states: { None: 0, Pending: 0, Activating: 0, Deferred: 0, Soaking: 0, Converged: 0, Failed: 0, Reverted: 0 },
  silent: silences.map(() => 0),
  neverHeard: 0,
  longestSilenceMs: 0,
  diverged: 0
})

/** Every host of the fleet in force, and every other one that is still in a rollout, as in the view of hosts. */
function countHosts(state: State, now: Millis): ReadonlyMap<string, ChannelCounts> {
  const fleet = state.artifacts?.fleet.value
  const channels = new Map<string, ChannelCounts>()
  const countsOf = (channel: string): ChannelCounts => {
    const known = channels.get(channel)
    if (known !== undefined) return known
    const made = noHosts()
    channels.set(channel, made)
    return made
  }
  for (const channel of Object.keys(fleet?.channels ?? {})) countsOf(channel)

  const count = (host: string, declared: string | undefined, entry: HostEntry | undefined): void => {
    const rollout = entry?.rollouts[0] === undefined ? undefined : at(state.rollouts, entry.rollouts[0])
    const inRollout = rollout === undefined ? undefined : at(rollout.hosts, host)
    const channel = declared ?? rollout?.record.channel
    if (channel === undefined) return
    const counts = countsOf(channel)
    counts.states[
      inRollout === undefined || rollout === undefined ? "None" : effectiveRecord(inRollout, rollout.plan).state
    ] += 1
    if (inRollout?.record.diverged === true) counts.diverged += 1
    if (entry?.seen === undefined) {
      counts.neverHeard += 1
      return
    }
    const silentMs = Math.max(0, now - entry.seen.receivedAt)
    counts.longestSilenceMs = Math.max(counts.longestSilenceMs, silentMs)
    for (let index = 0; silentMs > (silences[index] ?? Number.POSITIVE_INFINITY) * 1000; index += 1) {
      counts.silent[index] = (counts.silent[index] ?? 0) + 1
    }
  }
  const declared = fleet?.hosts ?? {}
  for (const [host, { channel }] of Object.entries(declared)) count(host, channel, at(state.hosts, host))
  for (const [host, entry] of HashMap.entries(state.hosts)) {
    if (entry.rollouts.length > 0 && !Object.hasOwn(declared, host)) count(host, undefined, entry)
  }
  return channels
}

function writeHosts(registry: Registry, state: State, now: Millis): void {
  for (const [channel, counts] of countHosts(state, now)) {
    for (const name of hostStates) {
      registry.gauge("nixfleet_hosts", "Hosts by their state in their newest rollout.", counts.states[name], {
        channel,
        state: name
      })
    }
    for (const [index, seconds] of silences.entries()) {
      registry.gauge(
        "nixfleet_hosts_silent",
        "Hosts whose last heartbeat is older than so many seconds.",
        counts.silent[index] ?? 0,
        { channel, over_seconds: String(seconds) }
      )
    }
    registry.gauge("nixfleet_hosts_never_heard", "Hosts that sent no heartbeat yet.", counts.neverHeard, { channel })
    registry.gauge(
      "nixfleet_heartbeat_age_max_seconds",
      "Age of the oldest last heartbeat of a host.",
      counts.longestSilenceMs / 1000,
      { channel }
    )
    registry.gauge("nixfleet_hosts_diverged", "Hosts whose record differs from ours.", counts.diverged, { channel })
  }
}

/** How many there are of each name. */
function countBy<A>(items: Iterable<A>, nameOf: (item: A) => string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>()
  for (const item of items) counts.set(nameOf(item), (counts.get(nameOf(item)) ?? 0) + 1)
  return counts
}

function writeChannels(registry: Registry, state: State, now: Millis): void {
  const { artifacts, limits, manifests } = state
  if (artifacts === undefined) return
  const { fleet } = artifacts
  const windowMs = withCeiling(smallestWindowMs(fleet.value), limits.freshnessCeilingMs)
  for (const channel of Object.keys(fleet.value.channels)) {
    const signedAt = Math.min(fleet.signedAt, manifests.get(channel)?.signedAt ?? fleet.signedAt)
    registry.gauge(
      "nixfleet_channel_signed_age_seconds",
      "Time since the release in force was signed.",
      (now - signedAt) / 1000,
      { channel }
    )
    registry.gauge(
      "nixfleet_channel_freshness_window_seconds",
      "Age from which the release is not dispatched any more.",
      windowMs / 1000,
      { channel }
    )
    registry.gauge(
      "nixfleet_channel_recovering",
      "1 while the channel, which is new to the database, waits to hear its hosts.",
      at(state.channels, channel)?.recovery === undefined ? 0 : 1,
      { channel }
    )
  }
}

function writeRollouts(registry: Registry, state: State): void {
  const byChannel = Map.groupBy(HashMap.values(state.rollouts), ({ record }) => record.channel)
  for (const [channel, rollouts] of byChannel) {
    for (const [name, count] of countBy(rollouts, ({ record }) => record.state)) {
      registry.gauge("nixfleet_rollouts", "Rollouts on record by their state.", count, { channel, state: name })
    }
  }
  for (const [gate, count] of countBy(HashMap.values(state.verdicts), (verdict) => verdict.gate)) {
    registry.gauge("nixfleet_hosts_waiting", "Hosts that a gate holds back now.", count, { gate })
  }
  const dispatches = countBy(HashMap.values(state.queue), ({ lease }) => lease === undefined ? "queued" : "leased")
  for (const name of ["queued", "leased"]) {
    registry.gauge(
      "nixfleet_dispatches_pending",
      "Dispatches that are not acknowledged yet.",
      dispatches.get(name) ?? 0,
      {
        state: name
      }
    )
  }
  registry.gauge(
    "nixfleet_quarantined_closures",
    "Releases in quarantine: channel, ref and closure.",
    state.quarantine.length
  )
  const held = countBy(HashMap.values(state.interventions), ({ action }) => action.action)
  for (const action of ["PauseRollout", "HoldHost", "Freeze"]) {
    registry.gauge("nixfleet_interventions", "What operators hold at present, by how.", held.get(action) ?? 0, {
      action
    })
  }
}

function writeProgram(registry: Registry, state: State, { inboxDepth, journal, version }: Measured): void {
  registry.gauge("nixfleet_cp_build_info", "The program that answers.", 1, { version, git_commit: commit })
  registry.gauge("nixfleet_polls_parked", "Polls of hosts that wait for a dispatch.", HashMap.size(state.parked))
  registry.gauge("nixfleet_inbox_depth", "Inputs that wait to be decided.", inboxDepth)
  registry.gauge("nixfleet_inbox_capacity", "Inputs that may wait; above it routes answer 503.", inboxCapacity)
  registry.total("nixfleet_event_log_rows_total", "Rows appended to the event log of this database.", journal.rows)
  registry.gauge("nixfleet_database_size_bytes", "Size of the database, without its write-ahead log.", journal.bytes)
}

/** Names as Prometheus' own clients have them. */
function writeProcess(registry: Registry, usage: Usage): void {
  registry.gauge(
    "process_start_time_seconds",
    "Start of the process, seconds since the epoch.",
    usage.startedAtSeconds
  )
  registry.total("process_cpu_seconds_total", "User and system time of the process.", usage.cpuSeconds)
  registry.gauge("process_resident_memory_bytes", "Resident memory of the process.", usage.residentBytes)
  registry.gauge("nodejs_heap_size_used_bytes", "JavaScript heap in use.", usage.heapUsedBytes)
  registry.total("nixfleet_event_loop_active_seconds_total", "Time the event loop worked.", usage.loopActiveSeconds)
  registry.total(
    "nixfleet_event_loop_idle_seconds_total",
    "Time the event loop had nothing to do.",
    usage.loopIdleSeconds
  )
}

/** The text of one scrape. */
export function metricsOfState(state: State, measured: Measured): string {
  const registry = new Registry()
  writeProgram(registry, state, measured)
  writeChannels(registry, state, measured.now)
  writeHosts(registry, state, measured.now)
  writeRollouts(registry, state)
  writeProcess(registry, measured.process)
  return registry.text
}
