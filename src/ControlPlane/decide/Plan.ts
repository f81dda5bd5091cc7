/**
 * The end of a batch: channels that something happened to are planned, and what may go out is leased to polls that wait for
 * it, all in the batch's own commit (D8, D17; walk "A plan and a wake-up").
 */
import { type ChannelView, plan, type PlanAction, type PlanView, type QuarantineView } from "../../Rollout/Planner.ts"
import type { DispatchRow } from "../../Schema/ControlPlaneJournal.ts"
import { splitRolloutId } from "../../Schema/Primitives.ts"
import type { Draft } from "../Draft.ts"
import { effectiveRecord } from "../Effective.ts"
import { at, type HostVerdict, type State, waitingIn } from "../State.ts"
import { beginRecovery } from "./Artifacts.ts"
import { offer, verdictOf } from "./Offer.ts"
import { missingHosts } from "./Recovery.ts"

/**
 * Plans the dirty channels and leases what they may dispatch. Costs the hosts of these channels (and the quarantine), whatever
 * the fleet has beside them (D20).
 */
export function settle(draft: Draft): void {
  const channels = draft.takeDirty()
  // Without a verified unit nobody knows what is in force: after a restart nothing is opened, closed or dispatched by guess.
  if (channels.length === 0 || draft.state.artifacts === undefined) return
  const planned = plan(viewOf(draft, channels))
  for (const action of planned.actions) carryOut(draft, action)
  const waiting = new Map<string, HostVerdict>()
  for (const { hostname, rolloutId, verdict } of planned.verdicts) waiting.set(hostname, verdictOf(rolloutId, verdict))
  const inScope = new Set(channels)
  const isInScope = (rolloutId: string) => inScope.has(splitRolloutId(rolloutId).channel)
  for (const host of waitingIn(draft.state, channels)) {
    const row = at(draft.state.queue, host)
    if (row === undefined || row.lease !== undefined || !isInScope(row.rolloutId)) continue
    const hold = offer(draft, row)
    if (hold !== undefined) waiting.set(host, hold)
  }
  for (const host of waitingIn(draft.state, channels)) {
    const over = at(draft.state.verdicts, host)
    if (over !== undefined && !waiting.has(host) && isInScope(over.rolloutId)) draft.judge(host, undefined)
  }
  tellVerdicts(draft, waiting)
  for (const channel of channels) draft.forgetIdle(channel)
}

function viewOf(draft: Draft, channels: ReadonlyArray<string>): PlanView {
  const { now } = draft
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
    quarantine: quarantineView(draft.state)
  }
}

/** A row of a rollout that is not in force any more goes in this very pass: it must not keep its successor's out. */
function standingDispatch({ manifests, queue }: State, hostname: string): DispatchRow | undefined {
  const row = at(queue, hostname)
  const inForce = row === undefined ? undefined : manifests.get(splitRolloutId(row.rolloutId).channel)?.rolloutId
  return row?.rolloutId === inForce ? row : undefined
}

/** Recovery ends here when nobody is missing any more, or the grace is over (D6). */
function channelView(draft: Draft, channel: string): ChannelView {
  const entry = at(draft.state.channels, channel)
  const manifest = draft.state.manifests.get(channel)
  const view = {
    channel,
    ...(manifest === undefined ? {} : { manifest }),
    ...(entry?.current === undefined ? {} : { current: entry.current })
  }
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
    closures: new Set(quarantine.map(({ closure }) => closure))
  }
}

function carryOut(draft: Draft, action: PlanAction): void {
  switch (action._tag) {
    case "Open":
    case "Reopen": {
      const { rollout } = action
      const manifest = draft.state.manifests.get(rollout.channel)
      if (manifest === undefined) return
      const opened = { rollout, plan: manifest.plan }
      draft.record({ rolloutId: rollout.rolloutId }, {
        kind: "plan_action",
        payload: action._tag === "Open"
          ? { action: "OpenRollout", ...opened }
          : { action: "ReopenRollout", ...opened, restarted: action.restarted }
      })
      draft.log("cp_reducer", "info", "a rollout opens", { rollout: rollout.rolloutId, attempt: rollout.attempt })
      return
    }
    case "Refresh": {
      const { manifestHash, rolloutId, signedAt } = action
      draft.record({ rolloutId }, {
        kind: "plan_action",
        payload: { action: "RefreshRollout", rolloutId, manifestHash, signedAt }
      })
      return
    }
    case "CloseChannel": {
      const { channel, rolloutId } = action
      draft.record({ rolloutId }, { kind: "plan_action", payload: { action: "CloseChannel", channel } })
      return
    }
    case "Move": {
      const { event, rolloutId } = action
      draft.record({ rolloutId }, {
        kind: "rollout_event",
        payload: event.kind === "WaveAdvanced"
          ? { event: event.kind, fromWave: event.fromWave, toWave: event.toWave }
          : { event: event.kind }
      })
      if (event.kind === "WaveAdvanced") {
        draft.log("cp_reducer", "info", "a wave is complete", { rollout: rolloutId, wave: event.fromWave })
      } else draft.log("cp_reducer", "info", "a rollout is complete", { rollout: rolloutId })
      // A channel may wait for this one (channel edges): planned in the next batch, at the latest on the tick.
      return
    }
    case "Dispatch": {
      const { attempt, hostname: host, rolloutId, targetClosure } = action
      const row = { host, rolloutId, attempt, targetClosure, enqueuedAt: draft.now, deliveries: 0 }
      draft.record({ host, rolloutId }, { kind: "plan_action", payload: { action: "QueueDispatch", row } })
      return
    }
    case "Revoke": {
      if (at(draft.state.queue, action.hostname) === undefined) return
      const { because, hostname: host, rolloutId } = action
      draft.record({ host, rolloutId }, { kind: "plan_action", payload: { action: "RevokeDispatch", host, because } })
      return
    }
  }
}

/** Keeps the verdicts of the planned channels, and logs those that changed (D17, W23). */
function tellVerdicts(draft: Draft, waiting: ReadonlyMap<string, HostVerdict>): void {
  for (const [host, verdict] of [...waiting].toSorted(([a], [b]) => a < b ? -1 : 1)) {
    const known = at(draft.state.verdicts, host)
    if (known === undefined || !isSame(known, verdict)) draft.judge(host, verdict)
    if (known?.rolloutId === verdict.rolloutId && known.gate === verdict.gate) continue
    const { rolloutId, ...payload } = verdict
    draft.record({ host, rolloutId }, { kind: "gate_decision", payload })
  }
}

function isSame(a: HostVerdict, b: HostVerdict): boolean {
  return a.rolloutId === b.rolloutId && a.gate === b.gate && a.because === b.because && a.clearedBy === b.clearedBy &&
    a.earliestAt === b.earliestAt
}
