/**
 * Turns a fleet declaration into the fleet that a release publishes, and refuses what can never work: all problems at
 * once, each with its place. A warning is something that works and may not be meant. Pure.
 */
import { Schema } from "effect"
import { artifactSchemaVersion, type FleetHost, type FleetResolved, type Wave } from "../Schema/Artifacts.ts"
import type { DeclaredHost, DeclaredPolicy, FleetDeclaration } from "../Schema/FleetDeclaration.ts"
import { ClosureName, RolloutId } from "../Schema/Primitives.ts"
import { selects, soakMs } from "../Trust/FleetAndManifests.ts"
import { findCircle } from "./Dependencies.ts"

/** One finding. `at` is the way to the place in the declaration, e.g. `hosts.web-1.closure`. */
export interface Finding {
  readonly at: string
  readonly message: string
}

export type Resolved =
  | { readonly ok: true; readonly fleet: FleetResolved; readonly warnings: ReadonlyArray<Finding> }
  | { readonly ok: false; readonly problems: ReadonlyArray<Finding>; readonly warnings: ReadonlyArray<Finding> }

const isClosureName = Schema.is(ClosureName)
const isRolloutId = Schema.is(RolloutId)

/** `ref` is the release's commit. The fleet is not signed yet: its `signedAt` is `null`. */
export function resolveDeclaration(declaration: FleetDeclaration, ref: string): Resolved {
  const hosts = Object.fromEntries(
    Object.entries(declaration.hosts).map(([name, host]) => [name, resolveHost(host, declaration)])
  )
  const fleet: FleetResolved = {
    schemaVersion: artifactSchemaVersion,
    hosts,
    channels: declaration.channels,
    rolloutPolicies: Object.fromEntries(
      Object.entries(declaration.rolloutPolicies).map(([name, policy]) => [name, resolvePolicy(policy)])
    ),
    waves: Object.fromEntries(
      Object.entries(declaration.channels).map(([channel, { rolloutPolicy }]) => [
        channel,
        resolveWaves(hosts, channel, own(declaration.rolloutPolicies, rolloutPolicy))
      ])
    ),
    edges: declaration.edges,
    channelEdges: declaration.channelEdges,
    disruptionBudgets: declaration.disruptionBudgets,
    meta: { schemaVersion: artifactSchemaVersion, signedAt: null, ciCommit: ref }
  }
  const problems = [
    ...refProblems(fleet, ref),
    ...closureProblems(declaration),
    ...hostProblems(fleet, declaration),
    ...channelProblems(declaration),
    ...policyProblems(declaration),
    ...edgeProblems(fleet),
    ...budgetProblems(declaration)
  ]
  const warnings = findWarnings(fleet, declaration)
  return problems.length === 0 ? { ok: true, fleet, warnings } : { ok: false, problems, warnings }
}

/** A member of a map by a name from outside; inherited ones do not count. */
function own<V>(map: { readonly [key: string]: V }, key: string): V | undefined {
  return Object.hasOwn(map, key) ? map[key] : undefined
}

function resolveHost(declared: DeclaredHost, { closures }: FleetDeclaration): FleetHost {
  const { closure, ...host } = declared
  return { ...host, closureHash: closure === null ? null : own(closures, closure) ?? closure }
}

function withSoak<W extends DeclaredPolicy["waves"][number]>(wave: W) {
  return { ...wave, soakMinutes: wave.soakMinutes ?? Math.ceil((wave.soakSeconds ?? 0) / 60) }
}

function resolvePolicy(policy: DeclaredPolicy): FleetResolved["rolloutPolicies"][string] {
  return { ...policy, waves: policy.waves.map(withSoak) }
}

/** `all-at-once` without waves means one wave of everybody, as every reader of the fleet takes it (protocol.md §8.1). */
function meansEverybody(policy: DeclaredPolicy): boolean {
  return policy.strategy === "all-at-once" && policy.waves.length === 0
}

function resolveWaves(
  hosts: FleetResolved["hosts"],
  channel: string,
  policy: DeclaredPolicy | undefined
): ReadonlyArray<Wave> {
  let left = Object.keys(hosts).filter((name) => hosts[name]!.channel === channel).toSorted()
  if (policy === undefined) return []
  if (meansEverybody(policy)) return [{ hosts: left, soakMinutes: 0 }]
  return policy.waves.map((wave): Wave => {
    const { selector, ...soak } = withSoak(wave)
    const selected = new Set(left.filter((name) => selects(selector, name, hosts[name]!)))
    left = left.filter((name) => !selected.has(name))
    return { ...soak, hosts: [...selected] }
  })
}

function* refProblems(fleet: FleetResolved, ref: string): Iterable<Finding> {
  // Channel names are checked by their shape; an example of one leaves only the ref to be wrong here.
  const channel = Object.keys(fleet.channels)[0] ?? "channel"
  if (!isRolloutId(`${channel}@${ref}`)) {
    yield { at: "ref", message: `${JSON.stringify(ref)} is not a commit: 1 to 128 lower-case hex digits` }
  }
}

function* closureProblems({ closures, hosts }: FleetDeclaration): Iterable<Finding> {
  const wrong = (text: string) => `${JSON.stringify(text)} is not a closure: <hash>-<name>, without a path`
  for (const [name, closure] of Object.entries(closures)) {
    if (!isClosureName(closure)) yield { at: `closures.${name}`, message: wrong(closure) }
  }
  for (const [name, { closure }] of Object.entries(hosts)) {
    if (closure === null || own(closures, closure) !== undefined || isClosureName(closure)) continue
    yield { at: `hosts.${name}.closure`, message: `${wrong(closure)}; nor is it a name from closures` }
  }
}

function* hostProblems(fleet: FleetResolved, declaration: FleetDeclaration): Iterable<Finding> {
  const inWave = new Set(Object.values(fleet.waves).flatMap((waves) => waves.flatMap((wave) => wave.hosts)))
  for (const [name, host] of Object.entries(fleet.hosts)) {
    const channel = own(declaration.channels, host.channel)
    if (channel === undefined) {
      yield { at: `hosts.${name}.channel`, message: `there is no channel ${host.channel}` }
      continue
    }
    const policy = own(declaration.rolloutPolicies, channel.rolloutPolicy)
    if (policy === undefined || host.closureHash === null || inWave.has(name)) continue
    yield {
      at: `hosts.${name}`,
      message: `no wave of policy ${channel.rolloutPolicy} selects it, so it would never be rolled out`
    }
  }
}

function* channelProblems({ channels, rolloutPolicies }: FleetDeclaration): Iterable<Finding> {
  for (const [name, channel] of Object.entries(channels)) {
    const at = `channels.${name}`
    const { freshnessWindow, signingIntervalMinutes } = channel
    if (freshnessWindow === 0) {
      yield { at: `${at}.freshnessWindow`, message: "0 minutes: every release would be stale at once" }
    }
    if (freshnessWindow < 2 * signingIntervalMinutes) {
      yield {
        at: `${at}.freshnessWindow`,
        message: `${freshnessWindow} minutes do not hold two signing intervals of ${signingIntervalMinutes} minutes`
      }
    }
    const policy = own(rolloutPolicies, channel.rolloutPolicy)
    if (policy === undefined) {
      yield { at: `${at}.rolloutPolicy`, message: `there is no policy ${channel.rolloutPolicy}` }
      continue
    }
    for (const [index, wave] of policy.waves.entries()) {
      if (soakMs(withSoak(wave)) <= freshnessWindow * 60_000) continue
      yield {
        at: `rolloutPolicies.${channel.rolloutPolicy}.waves[${index}]`,
        message: `soaks longer than the ${freshnessWindow} minutes for which channel ${name} believes a release`
      }
    }
  }
}

function* policyProblems(declaration: FleetDeclaration): Iterable<Finding> {
  for (const [name, policy] of Object.entries(declaration.rolloutPolicies)) {
    const at = `rolloutPolicies.${name}.waves`
    if (policy.waves.length === 0 && !meansEverybody(policy)) {
      yield { at, message: `strategy ${policy.strategy} needs at least one wave` }
    }
    for (const [index, wave] of policy.waves.entries()) {
      yield* selectorProblems(wave.selector, `${at}[${index}].selector`, declaration)
      if (wave.soakMinutes === undefined && wave.soakSeconds === undefined) {
        yield { at: `${at}[${index}]`, message: "says neither soakMinutes nor soakSeconds" }
      }
    }
  }
}

function* selectorProblems(
  selector: DeclaredPolicy["waves"][number]["selector"],
  at: string,
  { channels, hosts }: FleetDeclaration
): Iterable<Finding> {
  const clauses = selector.tags.length + selector.tagsAny.length + selector.hosts.length
  if (clauses === 0 && selector.channel === null && !selector.all) {
    yield { at, message: "has no clause and can never select a host" }
  }
  for (const name of selector.hosts) {
    if (!Object.hasOwn(hosts, name)) yield { at: `${at}.hosts`, message: `there is no host ${name}` }
  }
  if (selector.channel !== null && !Object.hasOwn(channels, selector.channel)) {
    yield { at: `${at}.channel`, message: `there is no channel ${selector.channel}` }
  }
}

function* edgeProblems(fleet: FleetResolved): Iterable<Finding> {
  const ends = ["gated", "gates"] as const
  for (const [index, edge] of fleet.edges.entries()) {
    for (const end of ends) {
      if (!Object.hasOwn(fleet.hosts, edge[end])) {
        yield { at: `edges[${index}].${end}`, message: `there is no host ${edge[end]}` }
      }
    }
  }
  for (const [index, edge] of fleet.channelEdges.entries()) {
    for (const end of ends) {
      if (!Object.hasOwn(fleet.channels, edge[end])) {
        yield { at: `channelEdges[${index}].${end}`, message: `there is no channel ${edge[end]}` }
      }
    }
  }
  const circle = findCircle(fleet)
  if (circle !== undefined) {
    yield { at: "edges", message: `these wait for each other, and none could ever start: ${circle.join(" → ")}` }
  }
}

function* budgetProblems(declaration: FleetDeclaration): Iterable<Finding> {
  for (const [index, budget] of declaration.disruptionBudgets.entries()) {
    const at = `disruptionBudgets[${index}]`
    const { maxInFlight, maxInFlightPct } = budget
    if (maxInFlight === null && maxInFlightPct === null) {
      yield { at, message: "limits nothing: give maxInFlight or maxInFlightPct" }
    }
    if (maxInFlight === 0) {
      yield { at: `${at}.maxInFlight`, message: "0 hosts in flight: its hosts would wait for ever" }
    }
    if (maxInFlightPct !== null && (maxInFlightPct === 0 || maxInFlightPct > 100)) {
      yield { at: `${at}.maxInFlightPct`, message: `${maxInFlightPct} is not a percentage from 1 to 100` }
    }
    yield* selectorProblems(budget.selector, `${at}.selector`, declaration)
  }
}

/** A wave without hosts is complete at once (D15) and a budget without hosts holds nobody: both work, neither is likely meant. */
function findWarnings(fleet: FleetResolved, declaration: FleetDeclaration): ReadonlyArray<Finding> {
  const used = new Set(Object.values(fleet.channels).map((channel) => channel.rolloutPolicy))
  const names = Object.keys(fleet.hosts)
  const populated = new Set(Object.values(fleet.hosts).map((host) => host.channel))
  return [
    ...Object.keys(fleet.channels).filter((channel) => !populated.has(channel))
      .map((channel) => ({ at: `channels.${channel}`, message: "no host is on it" })),
    ...Object.keys(declaration.rolloutPolicies).filter((policy) => !used.has(policy))
      .map((policy) => ({ at: `rolloutPolicies.${policy}`, message: "no channel uses it" })),
    ...Object.entries(fleet.waves).filter(([channel]) => populated.has(channel)).flatMap(([channel, waves]) =>
      [...waves.entries()].filter(([, wave]) => wave.hosts.length === 0).map(([index]) => ({
        at: `rolloutPolicies.${fleet.channels[channel]!.rolloutPolicy}.waves[${index}]`,
        message: `selects no host of channel ${channel} that an earlier wave has not`
      }))
    ),
    ...[...fleet.disruptionBudgets.entries()]
      .filter(([, budget]) => !names.some((name) => selects(budget.selector, name, fleet.hosts[name]!)))
      .map(([index]) => ({ at: `disruptionBudgets[${index}].selector`, message: "selects no host" }))
  ]
}
