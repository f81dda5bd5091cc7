/**
 * What holds single hosts of a channel back (control-plane.md §6.2): the edges and budgets of the release in force, prepared once
 * for every plan. Not frozen with a rollout: an operator widens a budget by signing it.
 */
import { type Budget, mostInFlight, type PlannedEdge, type PlannedOrder } from "../../Rollout/Planner.ts"
import type { FleetResolved, RolloutManifest, Selector } from "../../Schema/Artifacts.ts"

export function orderOf(fleet: FleetResolved, manifest: RolloutManifest): PlannedOrder {
  return { edges: edgesOf(fleet, manifest.channel), budgets: budgetsOf(manifest) }
}

/** Channels that come before this one, in the order of the fleet's edges. */
export function channelsBefore(fleet: FleetResolved, channel: string): ReadonlyArray<PlannedEdge> {
  return fleet.channelEdges.flatMap(({ gated, gates, reason }) => gated === channel ? [edge(gates, reason)] : [])
}

const edge = (gates: string, reason: string | null): PlannedEdge => ({ gates, ...(reason === null ? {} : { reason }) })

/** An edge between channels binds nobody (control-plane.md §6.2), nor one to a host that has nothing to run (D15). */
function edgesOf(fleet: FleetResolved, channel: string): PlannedOrder["edges"] {
  const edges = new Map<string, Array<PlannedEdge>>()
  for (const { gated, gates, reason } of fleet.edges) {
    const first = Object.hasOwn(fleet.hosts, gates) ? fleet.hosts[gates] : undefined
    if (first !== undefined && (first.channel !== channel || first.closureHash === null)) continue
    put(edges, gated, edge(gates, reason))
  }
  return edges
}

/** A budget without a limit limits nothing. */
function budgetsOf({ disruptionBudgets }: RolloutManifest): PlannedOrder["budgets"] {
  const budgets = new Map<string, Array<Budget>>()
  for (const { hosts, maxInFlight, maxInFlightPct, selector } of disruptionBudgets) {
    const max = mostInFlight({ maxInFlight, maxInFlightPct }, hosts.length)
    if (max === Infinity) continue
    const budget = { name: nameOf(selector), hosts, max }
    for (const host of hosts) put(budgets, host, budget)
  }
  return budgets
}

function put<V>(map: Map<string, Array<V>>, host: string, value: V): void {
  const known = map.get(host)
  if (known === undefined) map.set(host, [value])
  else known.push(value)
}

/** Equal selectors have one name, in whatever order they list things, and others another. */
function nameOf({ all, channel, hosts, tags, tagsAny }: Selector): string {
  const listed = (names: ReadonlyArray<string>) => [...new Set(names)].toSorted().join(", ")
  const clauses = [
    ...(all ? ["all hosts"] : []),
    ...(channel === null ? [] : [`channel ${channel}`]),
    ...(tags.length === 0 ? [] : [`tags ${listed(tags)}`]),
    ...(tagsAny.length === 0 ? [] : [`any of the tags ${listed(tagsAny)}`]),
    ...(hosts.length === 0 ? [] : [`hosts ${listed(hosts)}`])
  ]
  return clauses.length === 0 ? "no host" : clauses.join(" or ")
}
