/** What the planner sees of the control plane's state: its maps as they are, and look-ups, so that a pass copies no fleet (D20). */
import type { ChannelView, PlanView, QuarantineView } from "../../Rollout/Planner.ts"
import { proofOf } from "../../Rollout/planner/Waves.ts"
import type { DispatchRow } from "../../Schema/ControlPlaneJournal.ts"
import type { ConvergedRecord } from "../../Schema/HostRecord.ts"
import { splitRolloutId } from "../../Schema/Primitives.ts"
import { rolloutIdOf } from "../../Trust/FleetAndManifests.ts"
import type { Draft } from "../Draft.ts"
import { effectiveRecord } from "../Effective.ts"
import { convergedRecord } from "../fold/Carried.ts"
import { at, type State } from "../State.ts"
import { beginRecovery } from "./Artifacts.ts"
import { flightsOf } from "./InFlight.ts"
import { channelsBefore } from "./Order.ts"
import { missingHosts } from "./Recovery.ts"

/** For these channels; the recovery of one ends here when nobody is missing any more, or the grace is over (D6). */
export function viewOf(draft: Draft, channels: ReadonlyArray<string>): PlanView {
  const { now, state } = draft
  const fleet = state.artifacts?.fleet.value
  return {
    now,
    channels: channels.map((channel) => channelView(draft, channel)),
    rolloutOf: (rolloutId) => {
      const rollout = at(draft.state.rollouts, rolloutId)
      return rollout === undefined ? undefined : {
        record: rollout.record,
        plan: rollout.plan,
        recordOf: (hostname) => {
          const entry = at(rollout.hosts, hostname)
          return entry === undefined ? undefined : effectiveRecord(entry, rollout.plan)
        },
        alwaysDeclares: (hostname) => at(draft.state.hosts, hostname)?.seen?.capabilities.includes("journal") ?? true
      }
    },
    dispatchOf: (hostname) => standingDispatch(draft.state, hostname),
    quarantine: quarantineView(draft.state),
    channelOf: (channel) =>
      fleet === undefined || !Object.hasOwn(fleet.channels, channel)
        ? undefined
        : standingChannel(draft.state, channel),
    flights: flightsOf(draft),
    convergedOn: (hostname, closure) => convergedOn(draft.state, now, hostname, closure)
  }
}

/** A row of a rollout that is not in force any more goes in this very pass: it must not keep its successor's out. */
function standingDispatch({ manifests, queue }: State, hostname: string): DispatchRow | undefined {
  const row = at(queue, hostname)
  const inForce = row === undefined ? undefined : manifests.get(splitRolloutId(row.rolloutId).channel)?.rolloutId
  return row?.rolloutId === inForce ? row : undefined
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

/** With its recovery, which ends here when nobody is missing any more, or the grace is over (D6). */
function channelView(draft: Draft, channel: string): ChannelView {
  const entry = at(draft.state.channels, channel)
  const view = standingChannel(draft.state, channel)
  const manifest = draft.state.manifests.get(channel)
  if (entry?.recovery === undefined || manifest === undefined) return view
  const missing = missingHosts(draft.state, manifest)
  // More left than the grace lasts: the clock was set back, and nobody knows how much it is. It begins anew.
  if (missing.length > 0 && entry.recovery.until - draft.now > draft.state.limits.recoveryGraceMs) {
    beginRecovery(draft, channel)
  }
  const until = at(draft.state.channels, channel)?.recovery?.until ?? entry.recovery.until
  if (missing.length > 0 && draft.now < until) {
    draft.awaits(channel, missing)
    return { ...view, recovering: { untilAt: until, missingHosts: missing } }
  }
  const because = missing.length === 0 ? "every host was heard" : `the grace is over; silent: ${missing.length}`
  draft.record({}, { kind: "plan_action", payload: { action: "EndRecovery", channel, because } })
  draft.log("cp_reducer", "info", "the channel dispatches again", { channel, detail: because })
  return view
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
