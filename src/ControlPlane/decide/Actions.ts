/**
 * What operators ask for beside publishing (D7, D8, D17): rollouts paused, resumed and cleared, hosts held and released,
 * quarantine lifted, channels frozen. Each is one row of the audit, and the plan of the same batch takes back what must not go
 * out any more. What holds ends here too, when its time or its rollout is over.
 */
import { HashMap } from "effect"
import { sameTopology } from "../../Rollout/Planner.ts"
import { isLive, nextAttempt } from "../../Rollout/Rollout.ts"
import {
  type EndingAction,
  type HoldingAction,
  longestHoldMs,
  type OperatorAction,
  subjectOf
} from "../../Schema/Interventions.ts"
import { formatTimestamp, splitRolloutId } from "../../Schema/Primitives.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import type { About, Draft } from "../Draft.ts"
import { effectiveRecord } from "../Effective.ts"
import { isMeantBy } from "../fold/Actions.ts"
import type { ActionAnswer, ActionAsked } from "../Input.ts"
import {
  at,
  currentRolloutOf,
  declaredHost,
  hostIn,
  plannedHost,
  type RolloutEntry,
  sorted,
  type State
} from "../State.ts"

type NotTaken = Extract<ActionAnswer, { readonly _tag: "NotTaken" }>

export function decideAction(draft: Draft, { action, actor }: ActionAsked): ActionAnswer {
  const before = draft.state
  const refusal = refusalOf(before, action, draft.now)
  if (refusal !== undefined) return refusal
  const about = aboutOf(action)
  draft.record(about, { kind: "operator_action", payload: { by: "operator", actor, action } })
  draft.log("operator_actions", "info", "an operator's action", {
    hostname: about.host,
    rollout: about.rolloutId,
    kind: action.action,
    peer: actor,
    detail: `${subjectOf(action)}: ${action.reason}`
  })
  const restarted = action.action === "ClearRollout" ? restart(draft, action.rolloutId) : []
  draft.markAll()
  const lifted = liftedBy(before, action)
  return {
    _tag: "Taken",
    taken: {
      action,
      actor,
      at: draft.now,
      goOn: goingOn(before, action),
      restarted,
      needNewRef: restarted.filter((host) => !canRepeat(before, host)),
      lifted,
      halted: [...new Set(lifted.map(({ rolloutId }) => rolloutId))]
        .filter((rolloutId) => isInForce(draft.state, rolloutId) && isHalted(at(draft.state.rollouts, rolloutId)))
    }
  }
}

/** Ends what holds no longer: its time is over, or its rollout dispatches nothing any more. */
export function endInterventions(draft: Draft): void {
  for (const [subject, { action }] of sorted(draft.state.interventions)) {
    const reason = overBecause(draft.state, action, draft.now)
    if (reason === undefined) continue
    const ending = endingOf(action, reason)
    const about = aboutOf(ending)
    draft.record(about, { kind: "operator_action", payload: { by: "itself", action: ending } })
    draft.log("operator_actions", "info", "what an operator held is free again", {
      hostname: about.host,
      rollout: about.rolloutId,
      kind: ending.action,
      detail: `${subject}: ${reason}`
    })
    draft.markAll()
  }
}

/** A halted rollout may roll again, so that its pause stays. */
function overBecause({ rollouts }: State, action: HoldingAction, now: number): string | undefined {
  if (action.until <= now) return "its time is over"
  if (action.action !== "PauseRollout") return undefined
  const rollout = at(rollouts, action.rolloutId)
  return rollout === undefined || isLive(rollout.record.state) || isHalted(rollout)
    ? undefined
    : `the rollout is ${rollout.record.state}`
}

function endingOf(action: HoldingAction, reason: string): EndingAction {
  switch (action.action) {
    case "PauseRollout":
      return { action: "ResumeRollout", rolloutId: action.rolloutId, reason }
    case "HoldHost":
      return { action: "ReleaseHost", host: action.host, reason }
    case "Freeze":
      return { action: "Unfreeze", channel: action.channel, reason }
  }
}

/** So that the action stands in the log of its rollout. */
function aboutOf(action: OperatorAction): About {
  switch (action.action) {
    case "PauseRollout":
    case "ResumeRollout":
    case "ClearRollout":
      return { rolloutId: action.rolloutId }
    case "HoldHost":
    case "ReleaseHost":
      return { host: action.host }
    case "Freeze":
    case "Unfreeze":
      return {}
    case "ClearQuarantine":
      return "rolloutId" in action.of ? { rolloutId: action.of.rolloutId } : {}
  }
}

const notTaken = (because: NotTaken["because"], reason: Reason, detail: string): NotTaken => ({
  _tag: "NotTaken",
  because,
  reason,
  detail
})

/** Why it cannot be done; `undefined` when it can. */
function refusalOf(state: State, action: OperatorAction, now: number): NotTaken | undefined {
  switch (action.action) {
    case "PauseRollout":
      return endRefusal(action, now) ?? pauseRefusal(at(state.rollouts, action.rolloutId), action.rolloutId)
    case "HoldHost":
      return endRefusal(action, now) ?? (isKnown(state, action.host)
        ? undefined
        : notTaken("unknown", "host-unknown", `no host ${action.host} is in the fleet`))
    case "Freeze":
      return endRefusal(action, now) ?? (action.channel === null || hasChannel(state, action.channel)
        ? undefined
        : notTaken("unknown", "channel-unknown", `no channel ${action.channel} is in the fleet`))
    case "ResumeRollout":
    case "ReleaseHost":
    case "Unfreeze": {
      const subject = subjectOf(action)
      return HashMap.has(state.interventions, subject)
        ? undefined
        : notTaken("not-now", "action-not-in-force", `no ${ended[action.action]} of ${subject} is in force`)
    }
    case "ClearRollout":
      return clearRefusal(state, action.rolloutId)
    case "ClearQuarantine":
      return liftedBy(state, action).length > 0
        ? undefined
        : notTaken("unknown", "quarantine-unknown", `nothing of ${subjectOf(action)} is in quarantine`)
  }
}

const ended = { ResumeRollout: "pause", ReleaseHost: "hold", Unfreeze: "freeze" } as const

function endRefusal({ until }: HoldingAction, now: number): NotTaken | undefined {
  if (until <= now) return notTaken("impossible", "until-passed", `${formatTimestamp(until)} is over already`)
  return until - now <= longestHoldMs
    ? undefined
    : notTaken("impossible", "until-too-far", `${formatTimestamp(until)} is more than ${longestHoldDays} days away`)
}

const longestHoldDays = longestHoldMs / 86_400_000

const rolloutUnknown = (rolloutId: string): NotTaken =>
  notTaken("unknown", "rollout-unknown", `there is no rollout ${rolloutId}`)

function pauseRefusal(rollout: RolloutEntry | undefined, rolloutId: string): NotTaken | undefined {
  if (rollout === undefined) return rolloutUnknown(rolloutId)
  const { state } = rollout.record
  return isLive(state) ? undefined : notTaken("not-now", "rollout-over", `${rolloutId} is ${state}`)
}

function clearRefusal(state: State, rolloutId: string): NotTaken | undefined {
  const rollout = at(state.rollouts, rolloutId)
  if (rollout === undefined) return rolloutUnknown(rolloutId)
  if (!isInForce(state, rolloutId)) {
    const inForce = state.manifests.get(rollout.record.channel)?.rolloutId
    const detail = `${inForce ?? "no release"} is in force on channel ${rollout.record.channel}`
    return notTaken("not-now", "rollout-not-in-force", detail)
  }
  return isHalted(rollout) || failedHosts(rollout).length > 0
    ? undefined
    : notTaken("not-now", "rollout-not-halted", `${rolloutId} is ${rollout.record.state}, and no host of it has failed`)
}

const isKnown = (state: State, host: string): boolean =>
  declaredHost(state, host) !== undefined || currentRolloutOf(state, host) !== undefined

const hasChannel = ({ artifacts }: State, channel: string): boolean =>
  artifacts !== undefined && Object.hasOwn(artifacts.fleet.value.channels, channel)

const isInForce = ({ manifests }: State, rolloutId: string): boolean =>
  manifests.get(splitRolloutId(rolloutId).channel)?.rolloutId === rolloutId

const isHalted = (rollout: RolloutEntry | undefined): boolean =>
  rollout?.record.state === "Failed" || rollout?.record.state === "Reverted"

/** Hosts of the release that failed or went back, ascending. */
function failedHosts({ hosts, plan }: RolloutEntry): ReadonlyArray<string> {
  return sorted(hosts).flatMap(([host, entry]) => {
    const { closedAt, state } = effectiveRecord(entry, plan)
    const isOpen = closedAt === undefined && plannedHost(plan, host) !== undefined
    return isOpen && (state === "Failed" || state === "Reverted") ? [host] : []
  })
}

/**
 * The next attempt of the rollout, and of the hosts that failed; all others go on as they are (D7). A release that has come into
 * force in this very batch, with other targets or in the place of a newer one, begins it anyway, and knows for whom.
 */
function restart(draft: Draft, rolloutId: string): ReadonlyArray<string> {
  const rollout = at(draft.state.rollouts, rolloutId)
  const manifest = draft.state.manifests.get(splitRolloutId(rolloutId).channel)
  if (rollout === undefined || manifest === undefined) return []
  const restarted = failedHosts(rollout).filter((host) => plannedHost(manifest.plan, host) !== undefined)
  if (rollout.record.state === "Superseded" || !sameTopology(manifest.plan, rollout.plan)) return restarted
  const next = nextAttempt(rollout.record, manifest, draft.now)
  draft.record({ rolloutId }, {
    kind: "plan_action",
    payload: { action: "ReopenRollout", rollout: next, plan: manifest.plan, restarted }
  })
  return restarted
}

/** False for an agent of the original, which does a rollout once. */
const canRepeat = ({ hosts }: State, host: string): boolean =>
  at(hosts, host)?.seen?.capabilities.includes("attempts") ?? true

function liftedBy({ quarantine }: State, action: OperatorAction) {
  if (action.action !== "ClearRollout" && action.action !== "ClearQuarantine") return []
  return quarantine.filter(isMeantBy(action))
    .map(({ channel, closure, ref }) => ({ rolloutId: `${channel}@${ref}`, closure }))
}

/** Hosts that an action which holds comes too late for, ascending. */
function goingOn(state: State, action: OperatorAction): ReadonlyArray<string> {
  switch (action.action) {
    case "HoldHost":
      return underWay(state, action.host) === undefined ? [] : [action.host]
    case "PauseRollout":
      return sorted(at(state.rollouts, action.rolloutId)?.hosts ?? HashMap.empty())
        .flatMap(([host]) => underWay(state, host) === action.rolloutId ? [host] : [])
    case "Freeze":
      return sorted(state.hosts).flatMap(([host]) => {
        const rolloutId = underWay(state, host)
        return rolloutId !== undefined && (action.channel ?? splitRolloutId(rolloutId).channel) ===
            splitRolloutId(rolloutId).channel
          ? [host]
          : []
      })
    default:
      return []
  }
}

/** The rollout that a host is switching to or soaking, or whose dispatch has left and may arrive. */
function underWay(state: State, host: string): string | undefined {
  const row = at(state.queue, host)
  if (row?.lease !== undefined) return row.rolloutId
  return at(state.hosts, host)?.rollouts.find((rolloutId) => {
    const rollout = at(state.rollouts, rolloutId)
    const entry = hostIn(state, rolloutId, host)
    if (rollout === undefined || entry === undefined) return false
    const record = effectiveRecord(entry, rollout.plan)
    return record.closedAt === undefined && (record.state === "Activating" || record.state === "Soaking")
  })
}
