/**
 * What the planner sees of the control plane's state: its maps as they are, and look-ups, so that a pass copies no fleet (D20).
 * Reads and records nothing: who decides and who explains see the same (D17).
 */
import type { ChannelView, PlanView, QuarantineView } from "../../Rollout/Planner.ts"
import { proofOf } from "../../Rollout/planner/Waves.ts"
import type { DispatchRow } from "../../Schema/ControlPlaneJournal.ts"
import type { ConvergedRecord } from "../../Schema/HostRecord.ts"
import { splitRolloutId } from "../../Schema/Primitives.ts"
import { rolloutIdOf } from "../../Trust/FleetAndManifests.ts"
import { effectiveRecord } from "../Effective.ts"
import { convergedRecord } from "../fold/Carried.ts"
import { at, currentRolloutOf, plannedHost, type State } from "../State.ts"
import { flightsOf } from "./InFlight.ts"
import { interventionsIn } from "./InForce.ts"
import { channelsBefore } from "./Order.ts"
import { recoveringAt } from "./Recovery.ts"

/** For these channels, at epoch ms `now`. */
export function viewOf(state: State, now: number, channels: ReadonlyArray<string>): PlanView {
  const fleet = state.artifacts?.fleet.value
  const interventions = interventionsIn(state)
  return {
    now,
    channels: channels.map((channel) => channelView(state, now, channel)),
    rolloutOf: (rolloutId) => {
      const rollout = at(state.rollouts, rolloutId)
      return rollout === undefined ? undefined : {
        record: rollout.record,
        plan: rollout.plan,
        recordOf: (hostname) => {
          const entry = at(rollout.hosts, hostname)
          return entry === undefined ? undefined : effectiveRecord(entry, rollout.plan)
        },
        isHeld: (hostname) => interventions.holdOf(hostname) !== undefined,
        isBehind: (hostname) => currentRolloutOf(state, hostname) !== rolloutId,
        alwaysDeclares: (hostname) => at(state.hosts, hostname)?.seen?.capabilities.includes("journal") ?? true
      }
    },
    dispatchOf: (hostname) => standingDispatch(state, hostname),
    quarantine: quarantineView(state),
    interventions,
    channelOf: (channel) =>
      fleet === undefined || !Object.hasOwn(fleet.channels, channel)
        ? undefined
        : standingChannel(state, channel),
    flights: flightsOf({ state, now }),
    convergedOn: (hostname, closure) => convergedOn(state, now, hostname, closure)
  }
}

/** A row of a rollout that is not in force for the host any more goes in this very pass: it must not keep its successor's out. */
function standingDispatch({ manifests, queue }: State, hostname: string): DispatchRow | undefined {
  const row = at(queue, hostname)
  if (row === undefined) return undefined
  const inForce = manifests.get(splitRolloutId(row.rolloutId).channel)
  return inForce?.rolloutId === row.rolloutId && plannedHost(inForce.plan, hostname) !== undefined ? row : undefined
}

/** What of the fleet in force and the records a channel is planned by. */
function standingChannel({ artifacts, channels, manifests }: State, channel: string): ChannelView {
  const fleet = artifacts?.fleet.value
  const manifest = manifests.get(channel)
  const current = at(channels, channel)?.current
  return {
    channel,
    ...(manifest === undefined ? {} : { manifest }),
    ...(current === undefined ? {} : { current }),
    after: fleet === undefined ? [] : channelsBefore(fleet, channel),
    isEmpty: manifest === undefined && fleet !== undefined && rolloutIdOf(fleet, channel) === undefined
  }
}

/** The agent's own word is needed, and that of now: what runs, and that it has converged on it (D17). */
function convergedOn(state: State, now: number, host: string, closure: string): ConvergedRecord | undefined {
  const seen = at(state.hosts, host)?.seen
  const confirms = seen?.currentClosure === closure &&
    seen.digests.some((digest) =>
      digest.state === "Converged" && digest.target_closure === closure && digest.diverged !== true
    )
  const record = confirms ? convergedRecord(state, host, closure) : undefined
  // An agent that sends digests always declares its probes.
  return record !== undefined && proofOf(record, true, now)._tag === "Proven" ? record : undefined
}

/** With its recovery (D6). */
function channelView(state: State, now: number, channel: string): ChannelView {
  const recovering = recoveringAt(state, now, channel)
  return { ...standingChannel(state, channel), ...(recovering === undefined ? {} : { recovering }) }
}

function quarantineView({ quarantine }: State): QuarantineView {
  return {
    rollouts: new Map(
      [...Map.groupBy(quarantine, ({ channel, ref }) => `${channel}@${ref}`)]
        .map(([rolloutId, found]) => [rolloutId, new Set(found.map(({ closure }) => closure))])
    ),
    // The first host that it failed on is named.
    closures: new Map(quarantine.toReversed().map(({ closure, host }) => [closure, host]))
  }
}
