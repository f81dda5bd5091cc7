/**
 * The end of a batch: channels that something happened to are planned, and what may go out is leased to polls that wait for
 * it, all in the batch's own commit (D8, D17; walk "A plan and a wake-up").
 */
import { plan, type PlanAction } from "../../Rollout/Planner.ts"
import type { DispatchRow } from "../../Schema/ControlPlaneJournal.ts"
import { splitRolloutId } from "../../Schema/Primitives.ts"
import type { Draft } from "../Draft.ts"
import { at, type HostVerdict, plannedHost, type State, waitingIn } from "../State.ts"
import { verdictOf } from "./Holds.ts"
import { flightsOf } from "./InFlight.ts"
import { offer } from "./Offer.ts"
import { viewOf } from "./PlanView.ts"
import { settleRecovery } from "./Recovery.ts"

/**
 * Plans the dirty channels and leases what they may dispatch. Costs the hosts of these channels (and the quarantine), whatever
 * the fleet has beside them (D20).
 */
export function settle(draft: Draft): void {
  const channels = draft.takeDirty()
  // Without a verified unit nobody knows what is in force: after a restart nothing is opened, closed or dispatched by guess.
  if (channels.length === 0 || draft.state.artifacts === undefined) return
  for (const channel of channels) settleRecovery(draft, channel)
  const view = viewOf(draft.state, draft.now, channels)
  const planned = plan(view)
  for (const action of planned.actions) carryOut(draft, action)
  const waiting = new Map<string, HostVerdict>()
  for (const { hostname, rolloutId, verdict } of planned.verdicts) waiting.set(hostname, verdictOf(rolloutId, verdict))
  const inScope = new Set(channels)
  const isInScope = (rolloutId: string) => inScope.has(splitRolloutId(rolloutId).channel)
  const notJudged = channels.map((channel) => notJudgedIn(draft.state, channel, waiting))
  // Counted once more where the plan's own actions may have freed places; what is leased here takes its own at once.
  const isSettled = planned.actions.length === 0
  const flights = isSettled ? view.flights : flightsOf(draft)
  // What the plan holds back is not queued, or waits for a place that it would not find here either.
  const hosts = new Set(
    isSettled ? notJudged.flat().filter((host) => !waiting.has(host)) : [...waiting.keys(), ...notJudged.flat()]
  )
  for (const row of inOrder(draft.state, [...hosts])) {
    if (!isInScope(row.rolloutId)) continue
    const hold = offer(draft, row, flights)
    if (hold === undefined) waiting.delete(row.host)
    else waiting.set(row.host, hold)
  }
  for (const host of hosts) {
    if (waiting.has(host)) continue
    const over = at(draft.state.verdicts, host)
    if (over !== undefined && isInScope(over.rolloutId)) draft.judge(host, undefined)
  }
  tellVerdicts(draft, waiting)
  for (const [index, channel] of channels.entries()) draft.forgetIdle(channel, notJudged[index] ?? [])
}

/** Hosts that wait in the channel, and of which its plan says nothing: few, while a fleet rolls. In no order. */
function notJudgedIn(
  state: State,
  channel: string,
  waiting: ReadonlyMap<string, HostVerdict>
): ReadonlyArray<string> {
  const planned = state.manifests.get(channel)?.rolloutId
  return waitingIn(state, channel).filter((host) => planned === undefined || waiting.get(host)?.rolloutId !== planned)
}

/** What is queued and not leased, in the order in which hosts go: by wave, then name (D17). */
function inOrder(state: State, hosts: ReadonlyArray<string>): ReadonlyArray<DispatchRow> {
  const waveOf = ({ host, rolloutId }: DispatchRow) => {
    const rollout = at(state.rollouts, rolloutId)
    return rollout === undefined ? 0 : plannedHost(rollout.plan, host)?.wave ?? 0
  }
  return hosts
    .flatMap((host) => {
      const row = at(state.queue, host)
      return row === undefined || row.lease !== undefined ? [] : [{ row, wave: waveOf(row) }]
    })
    .toSorted((a, b) => a.wave - b.wave || (a.row.host < b.row.host ? -1 : 1))
    .map(({ row }) => row)
}

function carryOut(draft: Draft, action: PlanAction): void {
  switch (action._tag) {
    case "Open":
    case "Reopen": {
      const { carried, rollout } = action
      const manifest = draft.state.manifests.get(rollout.channel)
      if (manifest === undefined) return
      const opened = { rollout, plan: manifest.plan, ...(carried.length === 0 ? {} : { carried }) }
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
  const changed: Array<readonly [string, HostVerdict]> = []
  for (const [host, verdict] of waiting) {
    const known = at(draft.state.verdicts, host)
    if (known === undefined || !isSame(known, verdict)) changed.push([host, verdict])
  }
  for (const [host, verdict] of changed.toSorted(([a], [b]) => a < b ? -1 : 1)) {
    const known = at(draft.state.verdicts, host)
    draft.judge(host, verdict)
    if (known?.rolloutId === verdict.rolloutId && known.gate === verdict.gate) continue
    const { rolloutId, ...payload } = verdict
    draft.record({ host, rolloutId }, { kind: "gate_decision", payload })
  }
}

function isSame(a: HostVerdict, b: HostVerdict): boolean {
  return a.rolloutId === b.rolloutId && a.gate === b.gate && a.because === b.because && a.clearedBy === b.clearedBy &&
    a.earliestAt === b.earliestAt
}
