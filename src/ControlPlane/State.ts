/**
 * What the control plane knows, in memory: the fold of its journal, and beside it what need not survive a restart (parked
 * polls, verdicts, what is dirty). Immutable; the reducer publishes each state after its commit, routes and workers read it
 * through `ControlPlaneState` and never change it.
 *
 * Maps are persistent (`HashMap`): an event of one host among 10,000 copies a path, never the fleet (D20). Their order is
 * that of hashes: whatever decides or is shown sorts first (house rule 6).
 */
import { Context, HashMap, type HashSet } from "effect"
import type { PlannedOrder } from "../Rollout/Planner.ts"
import type { FleetHost } from "../Schema/Artifacts.ts"
import type {
  ChannelRecovery,
  DispatchRow,
  HostSeen,
  Overlay,
  PlannedHost,
  Quarantine,
  RolloutPlan
} from "../Schema/ControlPlaneJournal.ts"
import type { HostRecord, RolloutRecord } from "../Schema/HostRecord.ts"
import type { Intervention } from "../Schema/Interventions.ts"
import type { Millis } from "../Schema/Primitives.ts"
import type { Taken } from "../Schema/Wire.ts"
import { type Identities, noIdentities } from "./Identities.ts"
import type { Capabilities, VerifiedArtifacts } from "./Input.ts"
import { defaultLimits, type Limits } from "./Limits.ts"
import { at, sorted } from "./Maps.ts"

export { at, sorted }

/** Sequence numbers whose content is remembered per (host, rollout); an older repetition counts as a duplicate. */
export const ledgerWindow = 512

/** Highest attempt that an agent is believed: a lie at the end of the number range must leave room for the next attempt. */
export const attemptLimit = 1_000_000

/** What was received of one host in one rollout, applied or refused (D2). */
export interface Ledger {
  /** Highest consumed sequence number; contiguous from 1 for agents that keep a journal. 0 = nothing yet. */
  readonly lastSeq: number
  /** Latest numbers with the content they came with, ascending; at most `ledgerWindow`. */
  readonly seen: ReadonlyArray<Received>
}

export interface Received {
  readonly seq: number
  /** First 16 hex digits of the SHA-256 of the canonical event. */
  readonly hash: string
  /** Absent for agents of the original. */
  readonly journalId?: string
}

/** One host in one rollout. */
export interface HostInRollout {
  readonly record: HostRecord
  readonly ledger: Ledger
  /** First lease of the present attempt: fixes when its soak is due (D8). */
  readonly leasedAt?: Millis
  /** End of the latest lease of the present attempt: whether the dispatch arrived is unknown until the host is heard later (D17). */
  readonly offeredUntil?: Millis
  readonly overlay?: Overlay
}

export interface RolloutEntry {
  readonly record: RolloutRecord
  /** Frozen at opening. */
  readonly plan: RolloutPlan
  /** By host name. Hosts that the plan lists, and those that an earlier attempt of it listed. */
  readonly hosts: HashMap.HashMap<string, HostInRollout>
}

export interface ChannelEntry {
  /** The rollout of the manifest in force; absent while the channel has none. */
  readonly current?: string
  /** Set while nothing may be dispatched because an older database may have been lost (D6). */
  readonly recovery?: ChannelRecovery
}

/** One host across rollouts. */
export interface HostEntry {
  /** Rollouts that list this host, or did; by the manifest that it began each with, newest first. */
  readonly rollouts: ReadonlyArray<string>
  /** Absent until it was heard in this database. */
  readonly seen?: HostSeen
  /** When `seen` was last made durable. */
  readonly seenStoredAt?: Millis
}

/** A poll that waits for its host's dispatch. */
export interface Waiter {
  readonly waiterId: number
  readonly capabilities: Capabilities
  /** When the certificate that asked was issued. */
  readonly issuedAt: Millis
  readonly until: Millis
}

/** What a host has shown by a poll: it has no dispatch in hand any more, whoever gave it. */
export interface Polled {
  /** What it said that it took last; absent for an agent that does not say so. */
  readonly taken?: Taken
  /** Since then, counted up to two: the first may have been composed before the poll, the second knows what the host took. */
  readonly heartbeats: number
}

/** Why a host waits (D17): named, with what ends it. `earliestAt` is set when only time is missing. */
export interface HostVerdict {
  readonly rolloutId: string
  readonly gate: string
  readonly because: string
  readonly clearedBy: string
  readonly earliestAt?: Millis
}

/** What a manifest in force asks for, prepared once for every plan. */
export interface PlannedManifest {
  readonly rolloutId: string
  readonly targetRef: string
  readonly signedAt: Millis
  readonly manifestHash: string
  /** Last moment at which it may be dispatched: it stays in force, but grows old (D14). */
  readonly freshUntil: Millis
  readonly plan: RolloutPlan
  readonly order: PlannedOrder
}

/** An event that was sent back for those before it. */
export interface GapAnswers {
  readonly seq: number
  readonly times: number
}

/** Refused events of one host that belong to no record here. */
export interface Audits {
  /** When the first of them came, epoch ms. */
  readonly since: Millis
  readonly count: number
}

export interface State {
  readonly limits: Limits
  /** Random, made with the database; delivery ids start with it, so that none repeats after a wipe. */
  readonly databaseId: string
  readonly nextDelivery: number
  /** The verified unit in force; absent until the first one (not ready). */
  readonly artifacts?: VerifiedArtifacts
  /** Who may hold a certificate, and which are void. */
  readonly identities: Identities
  /** By channel: the manifests of the unit in force. A channel whose policy is missing has none and holds. Not durable. */
  readonly manifests: ReadonlyMap<string, PlannedManifest>
  /** By rollout id. */
  readonly rollouts: HashMap.HashMap<string, RolloutEntry>
  /** By channel. */
  readonly channels: HashMap.HashMap<string, ChannelEntry>
  /** By host name. */
  readonly hosts: HashMap.HashMap<string, HostEntry>
  /** Dispatches by host: at most one a host. */
  readonly queue: HashMap.HashMap<string, DispatchRow>
  /** Polls by host: one a host, the newest. Not durable. */
  readonly parked: HashMap.HashMap<string, Waiter>
  /** In order of their recording. */
  readonly quarantine: ReadonlyArray<Quarantine>
  /** By `quarantineKey`: what an operator lifted. A digest that tells of the same failure again does not put it back. */
  readonly lifted: HashMap.HashMap<string, Quarantine>
  /** By subject (`subjectOf`): what operators hold back. */
  readonly interventions: HashMap.HashMap<string, Intervention>
  /** By host: why it waits. Not durable; each change is logged. */
  readonly verdicts: HashMap.HashMap<string, HostVerdict>
  /**
   * By channel: the hosts to which `queue` or `verdicts` hold something of it, and maybe some that have lost it since the
   * channel's last plan. A plan asks here, so that it costs what its own channels hold and not the fleet. Not durable.
   */
  readonly waiting: HashMap.HashMap<string, HashSet.HashSet<string>>
  /** By host that has polled since its last lease, or since this program started. Not durable. */
  readonly polled: HashMap.HashMap<string, Polled>
  /** By rollout and host, for each rollout has a lane of its own (D5): the latest gap, to bound how often it is answered. Not durable. */
  readonly gaps: HashMap.HashMap<string, GapAnswers>
  /** By host: refused events of the present hour, to bound how many are written down. Not durable. */
  readonly audits: HashMap.HashMap<string, Audits>
  /** By channel in recovery: the hosts that its last plan waited for and that were not heard since. Not durable. */
  readonly missing: HashMap.HashMap<string, HashSet.HashSet<string>>
  /** Channels whose plan must be looked at before the next commit. Empty in every published state. */
  readonly dirty: ReadonlySet<string>
  /** When the last tick came, for `healthz`, and to know whether hosts could be heard. Not durable. */
  readonly lastPlanAt?: Millis
  /** Since when hosts can be heard without a pause. Not durable. */
  readonly listeningSince?: Millis
}

export function emptyState(databaseId: string, limits: Limits = defaultLimits): State {
  return {
    limits,
    databaseId,
    identities: noIdentities,
    manifests: new Map(),
    nextDelivery: 1,
    rollouts: HashMap.empty(),
    channels: HashMap.empty(),
    hosts: HashMap.empty(),
    queue: HashMap.empty(),
    parked: HashMap.empty(),
    quarantine: [],
    lifted: HashMap.empty(),
    interventions: HashMap.empty(),
    verdicts: HashMap.empty(),
    waiting: HashMap.empty(),
    polled: HashMap.empty(),
    gaps: HashMap.empty(),
    audits: HashMap.empty(),
    missing: HashMap.empty(),
    dirty: new Set()
  }
}

/** One host in one rollout. */
export function hostIn(state: State, rolloutId: string, host: string): HostInRollout | undefined {
  const rollout = at(state.rollouts, rolloutId)
  return rollout === undefined ? undefined : at(rollout.hosts, host)
}

/** The rollout of the newest manifest that lists this host: the only one that may be dispatched to it (D10). */
export function currentRolloutOf(state: State, host: string): string | undefined {
  return at(state.hosts, host)?.rollouts[0]
}

/** Hosts of `waiting`, in no order: a pass asks for all of them and acts on few. */
export const waitingIn = (state: State, channel: string): ReadonlyArray<string> => [...at(state.waiting, channel) ?? []]

/** What the fleet in force says about a host. Names come from the wire: only own properties count. */
export function declaredHost(state: State, host: string): FleetHost | undefined {
  const hosts = state.artifacts?.fleet.value.hosts
  return hosts !== undefined && Object.hasOwn(hosts, host) ? hosts[host] : undefined
}

/** A host's place in a rollout; only own properties count. */
export function plannedHost(plan: RolloutPlan, host: string): PlannedHost | undefined {
  return Object.hasOwn(plan.hosts, host) ? plan.hosts[host] : undefined
}

/** The published state. `current` is synchronous and always a state whose commit is done. */
export class ControlPlaneState extends Context.Service<ControlPlaneState, {
  readonly current: () => State
}>()("nixfleet/ControlPlane/State") {}
