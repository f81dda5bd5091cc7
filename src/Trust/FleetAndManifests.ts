/**
 * How a fleet and its manifests belong together (protocol.md §8.1, §8.2; D14): who is selected, which manifest a channel
 * has, whether a manifest is the one that was asked for, and what policy a host's rollout follows.
 */
import type { FleetHost, FleetResolved, HostSetEntry, RolloutManifest, Selector } from "../Schema/Artifacts.ts"
import { artifactSchemaVersion } from "../Schema/Artifacts.ts"
import type { ResolvedPolicy } from "../Schema/HostRecord.ts"
import type { Millis } from "../Schema/Primitives.ts"
import type { Reason } from "../Schema/Reasons.ts"

/** Whether a host is selected: any clause suffices, an empty selector selects none. */
export function selects(selector: Selector, hostname: string, host: FleetHost): boolean {
  return selector.all
    || selector.hosts.includes(hostname)
    || selector.channel === host.channel
    || (selector.tags.length > 0 && selector.tags.every((tag) => host.tags.includes(tag)))
    || selector.tagsAny.some((tag) => host.tags.includes(tag))
}

/**
 * An `all-at-once` policy without waves gets the one wave that it means: everybody, no soak. Not in the signed bytes, so
 * done after verification (protocol.md §8.1).
 */
export function normaliseFleet(fleet: FleetResolved): FleetResolved {
  const isShort = (policy: FleetResolved["rolloutPolicies"][string]) =>
    policy.strategy === "all-at-once" && policy.waves.length === 0
  if (!Object.values(fleet.rolloutPolicies).some(isShort)) return fleet
  const everybody = {
    selector: { tags: [], tagsAny: [], hosts: [], channel: null, all: true },
    soakMinutes: 0
  }
  const policies = Object.entries(fleet.rolloutPolicies)
    .map(([name, policy]) => [name, isShort(policy) ? { ...policy, waves: [everybody] } : policy] as const)
  return { ...fleet, rolloutPolicies: Object.fromEntries(policies) }
}

/** The id of the channel's rollout; `undefined` when no host of the channel has a closure: there is nothing to roll out. */
export function rolloutIdOf(fleet: FleetResolved, channel: string): string | undefined {
  const isTarget = (host: FleetHost) => host.channel === channel && host.closureHash !== null
  return Object.values(fleet.hosts).some(isTarget) ? `${channel}@${fleet.meta.ciCommit ?? ""}` : undefined
}

/** As the release resolved them. */
const wavesOf = (fleet: FleetResolved, channel: string): FleetResolved["waves"][string] =>
  Object.hasOwn(fleet.waves, channel) ? fleet.waves[channel]! : []

function policyOf(fleet: FleetResolved, channel: string): FleetResolved["rolloutPolicies"][string] | undefined {
  const name = Object.hasOwn(fleet.channels, channel) ? fleet.channels[channel]!.rolloutPolicy : undefined
  return name !== undefined && Object.hasOwn(fleet.rolloutPolicies, name) ? fleet.rolloutPolicies[name] : undefined
}

/**
 * The channel's manifest as a release publishes it: hosts with a closure, each in the first wave that lists it (0 when none
 * does), and the budgets that touch one of them. `undefined` when there is nothing to roll out.
 */
export function projectManifest(fleet: FleetResolved, fleetHash: string, channel: string): RolloutManifest | undefined {
  const waveOf = new Map<string, number>()
  for (const [index, wave] of wavesOf(fleet, channel).entries()) {
    for (const host of wave.hosts) if (!waveOf.has(host)) waveOf.set(host, index)
  }
  const hostSet = Object.entries(fleet.hosts).flatMap(([hostname, host]): Array<HostSetEntry> =>
    host.channel !== channel || host.closureHash === null
      ? []
      : [{ hostname, waveIndex: waveOf.get(hostname) ?? 0, targetClosure: host.closureHash }]
  ).toSorted((a, b) => a.hostname < b.hostname ? -1 : 1)
  if (hostSet.length === 0) return undefined
  const ref = fleet.meta.ciCommit ?? ""
  const policy = policyOf(fleet, channel)
  const targets = new Set(hostSet.map((entry) => entry.hostname))
  const disruptionBudgets = fleet.disruptionBudgets
    .map((budget) => ({
      ...budget,
      hosts: Object.keys(fleet.hosts).filter((name) => selects(budget.selector, name, fleet.hosts[name]!)).toSorted()
    }))
    .filter((budget) => budget.hosts.some((host) => targets.has(host)))
  return {
    schemaVersion: artifactSchemaVersion,
    displayName: `${channel}@${ref === "" ? "unknown" : ref.slice(0, 8)}`,
    channel,
    channelRef: ref,
    fleetResolvedHash: fleetHash,
    hostSet,
    healthGate: policy?.healthGate ?? {},
    disruptionBudgets,
    meta: fleet.meta
  }
}

/** A manifest that verified and still is not the one to follow, by a name of the catalogue. */
export interface Mismatch {
  readonly reason: Extract<Reason, `manifest-${string}`>
  readonly detail: string
}

/** The manifest must be the one that was asked for: its own channel and ref make the id (protocol.md §8.8). */
export function checkManifestId(manifest: RolloutManifest, rolloutId: string): Mismatch | undefined {
  const own = `${manifest.channel}@${manifest.channelRef}`
  return own === rolloutId
    ? undefined
    : { reason: "manifest-other-rollout", detail: `asked for ${rolloutId}, the manifest is of ${own}` }
}

/** Fleet and manifests are one unit: the manifest names the fleet it was made from (D14). */
export function checkManifestFleet(manifest: RolloutManifest, fleetHash: string): Mismatch | undefined {
  return manifest.fleetResolvedHash === fleetHash ? undefined : {
    reason: "manifest-other-fleet",
    detail: `the manifest is of fleet ${manifest.fleetResolvedHash}, the verified fleet is ${fleetHash}`
  }
}

/**
 * A manifest sends each host where its fleet sends it, and only hosts of its channel: else two channels could pull one host
 * apart, and neither rollout would ever end (D14). And in no wave that the fleet does not have: room is made for each.
 */
export function checkManifestHosts(manifest: RolloutManifest, fleet: FleetResolved): Mismatch | undefined {
  const { channel } = manifest
  const waves = Math.max(wavesOf(fleet, channel).length, policyOf(fleet, channel)?.waves.length ?? 0, 1)
  for (const { hostname, targetClosure, waveIndex } of manifest.hostSet) {
    const host = Object.hasOwn(fleet.hosts, hostname) ? fleet.hosts[hostname] : undefined
    if (host?.channel !== channel) {
      return { reason: "manifest-other-fleet", detail: `${hostname} is not on channel ${channel} in the fleet` }
    }
    if (host.closureHash !== targetClosure) {
      const said = host.closureHash ?? "no closure"
      return { reason: "manifest-other-target", detail: `the fleet says ${said} for ${hostname}, not ${targetClosure}` }
    }
    if (waveIndex >= waves) {
      const detail =
        `${hostname} is in wave ${waveIndex}, counted from 0, and channel ${channel} has ${waves} in the fleet`
      return { reason: "manifest-other-fleet", detail }
    }
  }
  return undefined
}

/** The entry of one host; `undefined` when the manifest does not list it. Entries are ascending by name. */
export function hostEntry(manifest: RolloutManifest, hostname: string): HostSetEntry | undefined {
  let low = 0
  let high = manifest.hostSet.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (manifest.hostSet[middle]!.hostname < hostname) low = middle + 1
    else high = middle
  }
  const entry = manifest.hostSet[low]
  return entry?.hostname === hostname ? entry : undefined
}

/** What a dispatch asks of this host must be what the manifest says about it. */
export function checkHostTarget(manifest: RolloutManifest, hostname: string, target: string): Mismatch | undefined {
  const entry = hostEntry(manifest, hostname)
  if (entry === undefined) {
    return { reason: "manifest-host-missing", detail: `the manifest does not list ${hostname}` }
  }
  return entry.targetClosure === target ? undefined : {
    reason: "manifest-other-target",
    detail: `dispatched ${target}, the manifest says ${entry.targetClosure}`
  }
}

/** Soak of a wave whose length no signed file tells (protocol.md §8.1). */
export const fallbackSoakMs: Millis = 60 * 60_000

/** The soak in ms: `soakSeconds` wins over `soakMinutes` (D12). */
export function soakMs(wave: { readonly soakMinutes: number; readonly soakSeconds?: number }): Millis {
  return wave.soakSeconds === undefined ? wave.soakMinutes * 60_000 : wave.soakSeconds * 1000
}

/**
 * What one host's rollout follows to its end (D14): the policy of its channel and the soak of its wave. `undefined` when the
 * fleet has no such channel or policy: without a policy nothing may be activated (house rule 8).
 */
export function resolvePolicy(
  fleet: FleetResolved,
  channel: string,
  waveIndex: number,
  sustainedFailureMs: Millis
): ResolvedPolicy | undefined {
  const policy = policyOf(fleet, channel)
  if (policy === undefined) return undefined
  const wave = wavesOf(fleet, channel)[waveIndex] ?? policy.waves[waveIndex]
  const gate = policy.healthGate.systemdFailedUnits
  return {
    onHealthFailure: policy.onHealthFailure,
    soakMs: wave === undefined ? fallbackSoakMs : soakMs(wave),
    sustainedFailureMs,
    ...(gate === undefined ? {} : { maxFailedUnits: gate.max })
  }
}
