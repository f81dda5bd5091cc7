/**
 * What operators see (control-plane.md §2.4, W24): pure projections of a published state. Everything is shown by the effective
 * record, in ascending order of names. `undefined`: there is no such thing.
 */
import { HashMap } from "effect"
import type { HostRecord } from "../Schema/HostRecord.ts"
import type {
  ChannelView,
  HostsResponse,
  HostStatusEntry,
  RolloutHosts,
  RolloutLifecycle,
  RolloutList,
  TerminalState
} from "../Schema/OperatorViews.ts"
import { formatTimestamp, type Millis } from "../Schema/Primitives.ts"
import type { Fetching } from "../Schema/Wire.ts"
import { effectiveRecord } from "./Effective.ts"
import { revocationOf } from "./Identities.ts"
import { Outlook } from "./Outlook.ts"
import {
  at,
  currentRolloutOf,
  declaredHost,
  type HostInRollout,
  plannedHost,
  type RolloutEntry,
  sorted,
  type State
} from "./State.ts"
import { waitOf } from "./Why.ts"
import { memberOf, membershipOf } from "./WhyAnswer.ts"

export { why } from "./Why.ts"

/** One entry a host: every host of the fleet in force, and every other one that still has a live record; or one of them. */
export function hosts(state: State, now: Millis, only?: string): HostsResponse {
  const outlook = new Outlook(state, now, only === undefined ? channelsOf(state) : [])
  const quarantined = new Set(state.quarantine.map(({ closure }) => closure))
  const names = only === undefined ? namesOf(state) : isShown(state, only) ? [only] : []
  return { hosts: names.map((host) => hostStatus(outlook, host, quarantined)) }
}

/** Those that something can be rolled out on: of all hosts they are looked at once. */
const channelsOf = ({ manifests }: State): ReadonlyArray<string> => [...manifests.keys()].toSorted()

const isShown = (state: State, host: string): boolean =>
  declaredHost(state, host) !== undefined || currentRolloutOf(state, host) !== undefined

function namesOf(state: State): ReadonlyArray<string> {
  const declared = Object.keys(state.artifacts?.fleet.value.hosts ?? {})
  const known = [...HashMap.entries(state.hosts)].flatMap(([host, entry]) => entry.rollouts.length > 0 ? [host] : [])
  return [...new Set([...declared, ...known])].toSorted()
}

function hostStatus(outlook: Outlook, host: string, quarantined: ReadonlySet<string>): HostStatusEntry {
  const { state } = outlook
  const declared = declaredHost(state, host)
  const seen = at(state.hosts, host)?.seen
  const membership = memberOf(state, currentRolloutOf(state, host), host)
  const record = membership?.record
  const closure = declared?.closureHash ?? null
  return {
    hostname: host,
    channel: declared?.channel ?? record?.channel ?? "",
    declaredClosureHash: closure,
    currentClosureHash: seen?.currentClosure ?? closureOf(record) ?? null,
    pendingClosureHash: record !== undefined && isUnderWay(record) ? record.targetClosure : null,
    lastCheckinAt: seen?.receivedAt ?? null,
    lastRolloutId: membership?.rolloutId ?? null,
    converged: record?.state === "Converged",
    outstandingComplianceFailures: 0,
    outstandingRuntimeGateErrors: 0,
    verifiedEventCount: membership?.entry.ledger.lastSeq ?? 0,
    lastUptimeSecs: seen?.uptimeSecs ?? null,
    rolloutState: record?.state ?? null,
    pendingReboot: record?.state === "Deferred",
    quarantinedClosure: closure !== null && quarantined.has(closure) ? closure : null,
    pin: declared?.pin === undefined ? null : declared.pin,
    outstandingHealthFailures: failingProbes(record),
    wave: (membership === undefined ? undefined : plannedHost(membership.rollout.plan, host)?.wave) ?? null,
    attempt: record?.attempt ?? null,
    soakDueAt: record?.state === "Soaking" ? record.soakDueAt : null,
    waitsFor: waitOf(outlook, host) ?? null,
    agentVersion: seen?.agentVersion ?? null,
    pendingEvents: seen?.pendingEvents ?? null,
    parkedEvents: seen?.parkedEvents ?? null,
    rejections: (seen?.rejections ?? []).map(({ rejection }) => ({
      rolloutId: rejection.rollout_id,
      reason: rejection.reason,
      detail: rejection.detail,
      at: rejection.at
    })),
    held: seen?.held ?? null,
    fetching: fetching(seen?.fetching),
    diverged: membership?.entry.record.diverged === true,
    revoked: revoked(state, host, seen?.issuedAt)
  }
}

function revoked({ identities }: State, host: string, heardWith: Millis | undefined): HostStatusEntry["revoked"] {
  const entry = revocationOf(identities, host, heardWith)
  return entry === undefined
    ? null
    : { notBefore: entry.notBefore, reason: entry.reason ?? null, revokedBy: entry.revokedBy ?? null }
}

function fetching(said: Fetching | undefined): HostStatusEntry["fetching"] {
  return said === undefined
    ? null
    : { closure: said.closure, doneBytes: said.done_bytes, expectedBytes: said.expected_bytes ?? null }
}

function closureOf(record: HostRecord | undefined): string | undefined {
  return record !== undefined && "currentClosure" in record ? record.currentClosure : undefined
}

/** Its rollout has not ended on this host. */
function isUnderWay({ closedAt, state }: HostRecord): boolean {
  return closedAt === undefined &&
    (state === "Pending" || state === "Activating" || state === "Deferred" || state === "Soaking")
}

/** Enforced probes that fail at present. */
function failingProbes(record: HostRecord | undefined): number {
  if (record === undefined || !("probes" in record)) return 0
  return Object.values(record.probes).filter(({ mode, status }) => mode === "enforce" && status === "fail").length
}

/** Rollouts that are neither superseded, pruned nor terminal; newest first. */
export function rollouts(state: State): RolloutList {
  const ended: ReadonlySet<string> = new Set(["Superseded", "Pruned", "Terminal"])
  const shown = sorted(state.rollouts)
    .filter(([, { record }]) => !ended.has(record.state))
    .toSorted(([, a], [, b]) => b.record.openedAt - a.record.openedAt)
  return {
    rollouts: shown.map(([rolloutId, rollout]) => ({
      rolloutId,
      channel: rollout.record.channel,
      currentWave: rollout.record.currentWave,
      createdAt: rollout.record.openedAt,
      hostStates: Object.fromEntries(
        sorted(rollout.hosts).map(([host, entry]) => [host, effectiveRecord(entry, rollout.plan).state])
      ),
      state: rollout.record.state,
      waves: rollout.plan.soakMs.length
    }))
  }
}

export function lifecycle(state: State, rolloutId: string): RolloutLifecycle | undefined {
  const record = at(state.rollouts, rolloutId)?.record
  return record === undefined ? undefined : {
    rolloutId,
    state: record.state,
    supersededAt: record.supersededAt ?? null,
    supersededBy: record.supersededBy ?? null,
    terminalAt: record.terminalAt ?? null
  }
}

/** Ascending by wave, then host; or one of them. */
export function rolloutHosts(state: State, now: Millis, rolloutId: string, only?: string): RolloutHosts | undefined {
  const rollout = at(state.rollouts, rolloutId)
  if (rollout === undefined) return undefined
  const outlook = new Outlook(state, now)
  const waveOf = (host: string) => plannedHost(rollout.plan, host)?.wave ?? 0
  const asked = only === undefined ? rollout.hosts : HashMap.filter(rollout.hosts, (_, host) => host === only)
  const rows = sorted(asked).toSorted(([a], [b]) => waveOf(a) - waveOf(b))
  return { rollout_id: rolloutId, hosts: rows.map(([host, entry]) => rolloutHost(outlook, rollout, host, entry)) }
}

function rolloutHost(
  outlook: Outlook,
  { plan, record: { channel: name, rolloutId, targetRef } }: RolloutEntry,
  host: string,
  entry: HostInRollout
): RolloutHosts["hosts"][number] {
  const record = effectiveRecord(entry, plan)
  const waits = membershipOf(outlook.state, host)?.rolloutId === rolloutId ? waitOf(outlook, host) : undefined
  return {
    host,
    channel: name,
    wave: plannedHost(plan, host)?.wave ?? 0,
    targetClosureHash: record.targetClosure,
    targetChannelRef: targetRef,
    dispatchedAt: formatTimestamp(record.dispatchedAt),
    ...ending(record),
    state: record.state,
    attempt: record.attempt,
    lastEventSeq: entry.ledger.lastSeq,
    soakDueAt: record.soakDueAt,
    ...(waits === undefined ? {} : { waitsFor: waits })
  }
}

/** How the rollout ended on a host, and when; both `null` while it has not. */
function ending(
  record: HostRecord
): { readonly terminalState: TerminalState | null; readonly terminalAt: number | null } {
  switch (record.state) {
    case "Converged":
      return { terminalState: "converged", terminalAt: record.convergedAt }
    case "Failed":
      return { terminalState: "failed", terminalAt: record.failedAt }
    case "Reverted":
      return { terminalState: "rolled-back", terminalAt: record.revertedAt }
    case "Pending":
    case "Activating":
    case "Deferred":
    case "Soaking":
      return { terminalState: null, terminalAt: null }
  }
}

export function channel(state: State, name: string): ChannelView | undefined {
  const fleet = state.artifacts?.fleet
  const declared = fleet !== undefined && Object.hasOwn(fleet.value.channels, name)
    ? fleet.value.channels[name]
    : undefined
  return fleet === undefined || declared === undefined ? undefined : {
    name,
    declared_ci_commit: fleet.value.meta.ciCommit,
    signed_at: fleet.signedAt,
    freshness_window_minutes: declared.freshnessWindow,
    rollout: rolloutInForce(state, name) ?? null
  }
}

/** Also one whose rollout is not opened yet. */
function rolloutInForce({ artifacts }: State, channelName: string): string | undefined {
  for (const [rolloutId, { value }] of artifacts?.manifests ?? []) if (value.channel === channelName) return rolloutId
  return undefined
}
