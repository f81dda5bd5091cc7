/**
 * What a person must do something about before a release can get everywhere: what its files say that can never work, who is held
 * back by more than its order, and who gets nowhere in the forecast. Pure.
 */
import type { Forecast, HostForecast, RolloutForecast } from "../ControlPlane/Forecast.ts"
import type { VerifiedArtifacts } from "../ControlPlane/Input.ts"
import { at, type State } from "../ControlPlane/State.ts"
import { budgetGate, mostInFlight } from "../Rollout/Planner.ts"
import type { FleetResolved } from "../Schema/Artifacts.ts"
import { formatTimestamp, type Millis } from "../Schema/Primitives.ts"
import { resolvePolicy, selects, soakMs } from "../Trust/FleetAndManifests.ts"
import { clockSlackMs, smallestWindowMs, withCeiling } from "../Trust/Freshness.ts"
import { findCircle } from "./Dependencies.ts"

export interface Conflict {
  /** Stable: of those in this file, or the name of the gate that holds the hosts back. */
  readonly kind: string
  /** What is in the way, as a sentence without its end. */
  readonly what: string
  /** What to do about it, as an order; or what ends it. */
  readonly remedy: string
  /** Whom it concerns, ascending; empty when that is no host. */
  readonly hosts: ReadonlyArray<string>
}

export interface Planned {
  /** Before the forecast; that of an empty control plane when there is none. */
  readonly state: State
  readonly artifacts: VerifiedArtifacts
  readonly forecast: Forecast
  /** A control plane was asked. */
  readonly isLive: boolean
}

export function conflictsOf(planned: Planned): ReadonlyArray<Conflict> {
  const fleet = planned.artifacts.fleet.value
  return [
    ...neverMet(fleet),
    ...inNoWave(fleet),
    ...circles(fleet),
    ...longSoaks(fleet),
    ...emptyChannels(fleet),
    ...withoutPolicy(fleet),
    ...untimely(planned),
    ...(planned.isLive ? unheard(planned) : []),
    ...heldBack(planned.forecast),
    ...unreached(planned.forecast)
  ]
}

function* neverMet(fleet: FleetResolved): Iterable<Conflict> {
  for (const [index, { maxInFlight, maxInFlightPct, selector }] of fleet.disruptionBudgets.entries()) {
    const hosts = Object.entries(fleet.hosts).flatMap(([name, host]) =>
      host.closureHash !== null && selects(selector, name, host) ? [name] : []
    ).toSorted()
    if (hosts.length === 0 || mostInFlight({ maxInFlight, maxInFlightPct }, hosts.length) > 0) continue
    yield {
      kind: "budget-never-met",
      what: `disruptionBudgets[${index}] lets none of its hosts be in flight`,
      remedy: "publish a release in which it lets at least one",
      hosts
    }
  }
}

function* inNoWave(fleet: FleetResolved): Iterable<Conflict> {
  const inWave = new Set(Object.values(fleet.waves).flatMap((waves) => waves.flatMap((wave) => wave.hosts)))
  const byChannel = Map.groupBy(
    Object.entries(fleet.hosts).filter(([name, { closureHash }]) => closureHash !== null && !inWave.has(name)),
    ([, { channel }]) => channel
  )
  for (const [channel, hosts] of byChannel) {
    const policy = fleet.rolloutPolicies[fleet.channels[channel]?.rolloutPolicy ?? ""]
    if (policy?.strategy === "all-at-once") continue
    yield {
      kind: "host-in-no-wave",
      what: `no wave of channel ${channel} lists them, so they would go with its first`,
      remedy: "let a wave of the channel's policy select them",
      hosts: hosts.map(([name]) => name).toSorted()
    }
  }
}

function* circles(fleet: FleetResolved): Iterable<Conflict> {
  const circle = findCircle(fleet)
  if (circle === undefined) return
  yield {
    kind: "edge-cycle",
    what: `these wait for each other, and none can ever start: ${circle.join(" → ")}`,
    remedy: "publish a release without one of these edges",
    hosts: []
  }
}

function* longSoaks(fleet: FleetResolved): Iterable<Conflict> {
  for (const [channel, { freshnessWindow }] of Object.entries(fleet.channels)) {
    const waves = Object.hasOwn(fleet.waves, channel) ? fleet.waves[channel] ?? [] : []
    for (const [index, wave] of waves.entries()) {
      if (soakMs(wave) <= freshnessWindow * 60_000) continue
      yield {
        kind: "soak-beyond-freshness",
        what:
          `wave ${
            index + 1
          } of channel ${channel} soaks longer than the ${freshnessWindow} minutes for which a release ` +
          "is believed",
        remedy: "shorten the soak, or lengthen the channel's freshness window",
        hosts: []
      }
    }
  }
}

function* emptyChannels(fleet: FleetResolved): Iterable<Conflict> {
  const used = new Set(
    Object.values(fleet.hosts).flatMap(({ channel, closureHash }) => closureHash === null ? [] : [channel])
  )
  for (const channel of Object.keys(fleet.channels)) {
    if (used.has(channel)) continue
    yield {
      kind: "channel-without-hosts",
      what: `no host of channel ${channel} has a closure: there is nothing to roll out`,
      remedy: "put a host on it, or remove the channel",
      hosts: []
    }
  }
}

function* withoutPolicy(fleet: FleetResolved): Iterable<Conflict> {
  for (const channel of Object.keys(fleet.channels)) {
    if (resolvePolicy(fleet, channel, 0, 0) !== undefined) continue
    yield {
      kind: "policy-missing",
      what: `channel ${channel} has no rollout policy, and rolls nothing out`,
      remedy: "publish a release that has the policy",
      hosts: []
    }
  }
}

/** A control plane refuses what is older than what it accepted, and dispatches nothing that is too old (D14). */
function* untimely({ artifacts: { fleet }, forecast: { from }, isLive, state }: Planned): Iterable<Conflict> {
  const inForce = state.artifacts?.fleet
  if (isLive && inForce !== undefined && fleet.signedAt < inForce.signedAt) {
    yield {
      kind: "release-older",
      what: `the release was signed at ${formatTimestamp(fleet.signedAt)}, before the one in force ` +
        `(${formatTimestamp(inForce.signedAt)}): the control plane would refuse it`,
      remedy: "sign it again",
      hosts: []
    }
  }
  const freshUntil = fleet.signedAt + withCeiling(smallestWindowMs(fleet.value), state.limits.freshnessCeilingMs) +
    clockSlackMs
  if (from > freshUntil) {
    yield {
      kind: "release-stale",
      what: `the release was signed at ${formatTimestamp(fleet.signedAt)} and was believed until ${
        formatTimestamp(freshUntil)
      }`,
      remedy: "sign it again: the forecast takes it as signed now",
      hosts: []
    }
  }
}

/** Hosts with something to do whose agents were not heard for as long as makes a host silent (D17). */
function* unheard({ forecast: { from, rollouts }, state }: Planned): Iterable<Conflict> {
  const waiting = rollouts.flatMap(({ hosts }) => hosts).filter(({ before }) => before !== "Converged")
  const heardAt = (host: string): Millis | undefined => at(state.hosts, host)?.seen?.receivedAt
  const silent = waiting.flatMap(({ host }) => {
    const heard = heardAt(host)
    return heard !== undefined && from - heard < state.limits.silentMs ? [] : [host]
  }).toSorted()
  if (silent.length === 0) return
  yield {
    kind: "agent-not-heard",
    what: "their agents were not heard for a long time, or never",
    remedy: "look after them: the forecast takes them as heard now",
    hosts: silent
  }
}

/** Gates that hosts meet in the ordinary course of a rollout. */
const ordinary: ReadonlySet<string> = new Set([
  "recovery",
  "channel-edges",
  "wave-promotion",
  "host-edges",
  budgetGate
])

/** Hosts that wait now for what somebody must do, or has asked for. */
function heldBack({ rollouts }: Forecast): ReadonlyArray<Conflict> {
  const held = hostsOf(rollouts).flatMap(({ host, waits }) =>
    waits === undefined || ordinary.has(waits.gate) ? [] : [{ host, waits }]
  )
  return grouped(held, ({ waits: { because, gate } }) => `${gate} ${because}`).map(([first, hosts]) => ({
    kind: first.waits.gate,
    what: first.waits.because,
    remedy: ends(first.waits),
    hosts
  }))
}

/** Hosts that do not converge, though nothing but the order holds them now. */
function unreached({ isCut, rollouts }: Forecast): ReadonlyArray<Conflict> {
  if (isCut) return []
  const never = hostsOf(rollouts).flatMap(({ host, stuck, waits }) =>
    stuck === undefined || (waits !== undefined && !ordinary.has(waits.gate)) ? [] : [{ host, stuck }]
  )
  return grouped(never, ({ stuck: { because } }) => because).map(([{ host, stuck }, hosts]) => ({
    kind: "never-converges",
    what: stuck.gate === undefined && hosts.length === 1 ? `${host} ${stuck.because}` : stuck.because,
    remedy: ends(stuck),
    hosts
  }))
}

const hostsOf = (rollouts: ReadonlyArray<RolloutForecast>): ReadonlyArray<HostForecast> =>
  rollouts.flatMap(({ hosts }) => hosts)

function grouped<A extends { readonly host: string }>(
  found: ReadonlyArray<A>,
  by: (one: A) => string
): ReadonlyArray<readonly [A, ReadonlyArray<string>]> {
  return [...Map.groupBy(found, by).values()].flatMap((group) => {
    const first = group[0]
    return first === undefined ? [] : [[first, group.map(({ host }) => host).toSorted()] as const]
  })
}

function ends({ clearedBy, earliestAt }: { readonly clearedBy?: string; readonly earliestAt?: Millis }): string {
  const by = clearedBy ?? "publish a repaired release, or look after the host"
  return earliestAt === undefined ? by : `${by}; by itself not before ${formatTimestamp(earliestAt)}`
}
