/**
 * The plan: which rollouts open, which waves advance, which hosts are dispatched, and why the others wait (D8, D11, D15,
 * D17). One pure function over a view; the reducer folds its actions in their order, in the commit that caused it.
 *
 * A pass looks at the channels it is given and is linear in their hosts. Channels are planned after those they wait for, hosts by
 * wave and then name, so that equal views give equal plans. It plans on what its own actions lead to: a rollout that opens is
 * dispatched in the same pass, a wave that is complete promotes the next one at once, and a rollout that is complete lets the
 * channels after it begin.
 *
 * Does not own: records (the reducer folds them), leases (D8), quarantine entries.
 */
import type { HostRecord } from "../Schema/HostRecord.ts"
import { disruptionBudget } from "./gates/DisruptionBudget.ts"
import { judge } from "./gates/Gates.ts"
import { newPending } from "./Host.ts"
import { carriedOver } from "./planner/Carry.ts"
import { opening } from "./planner/Opening.ts"
import { incomplete, predecessorsFirst, type Standing } from "./planner/Predecessors.ts"
import type {
  Blocked,
  Candidate,
  ChannelView,
  ManifestView,
  Plan,
  PlanAction,
  PlanView,
  QuarantineView,
  RolloutView,
  WaveReport
} from "./planner/View.ts"
import { failedIn, hostsByWave, proofIn, reportWave } from "./planner/Waves.ts"
import { isLive, type RolloutEvent, step } from "./Rollout.ts"

export { budgetGate, disruptionBudget } from "./gates/DisruptionBudget.ts"
export { gates, judge } from "./gates/Gates.ts"
export { Flights, mostInFlight } from "./planner/Budgets.ts"
export { carriedOver } from "./planner/Carry.ts"
export { sameTopology } from "./planner/Opening.ts"
export type {
  Blocked,
  Budget,
  ChannelView,
  FlightCount,
  HeldBy,
  InFlight,
  Interventions,
  ManifestView,
  Plan,
  PlanAction,
  PlannedEdge,
  PlannedOrder,
  PlanView,
  QuarantineView,
  Recovering,
  RolloutView
} from "./planner/View.ts"

/** Plans the channels of the view. Folding its actions and planning again at the same `now` gives no further action. */
export function plan(view: PlanView): Plan {
  const standings = new Map<string, Standing>()
  const plans = predecessorsFirst(view.channels).map((channel) => planChannel(view, channel, standings))
  return {
    actions: plans.flatMap(({ actions }) => actions),
    verdicts: plans.flatMap(({ verdicts }) => verdicts)
  }
}

/** Adds to `standings` where the channel's rollout stands: the channels after it ask. */
function planChannel(view: PlanView, channel: ChannelView, standings: Map<string, Standing>): Plan {
  const { manifest } = channel
  if (manifest === undefined) return closeChannel(channel)
  const known = view.rolloutOf(manifest.rolloutId)
  const action = opening(channel, manifest, known, view)
  const opened = afterOpening(manifest, known, action, view)
  if (opened === undefined) return { actions: only(action), verdicts: [] }
  const waves = hostsByWave(opened.plan)
  const promoted = promote(opened, waves, view.now)
  standings.set(channel.channel, promoted)
  // Of a complete rollout nobody waits, but for those that were held.
  if (promoted.rollout.record.state === "Terminal" && !waves.some((hosts) => hosts.some(opened.isHeld))) {
    return { actions: [...only(action), ...promoted.moves], verdicts: [] }
  }
  const dispatched = dispatch(view, channel, manifest, { ...promoted, waves, standings })
  return { actions: [...only(action), ...promoted.moves, ...dispatched.actions], verdicts: dispatched.verdicts }
}

function only(action: PlanAction | undefined): ReadonlyArray<PlanAction> {
  return action === undefined ? [] : [action]
}

/** A channel without a manifest rolls nothing out (D15); what was queued goes with the action. */
function closeChannel({ channel, current }: ChannelView): Plan {
  const actions = current === undefined ? [] : [{ _tag: "CloseChannel" as const, channel, rolloutId: current }]
  return { actions, verdicts: [] }
}

/** The rollout as it will be once `action` is folded. */
function afterOpening(
  manifest: ManifestView,
  known: RolloutView | undefined,
  action: PlanAction | undefined,
  { convergedOn, interventions, now }: PlanView
): RolloutView | undefined {
  if (action?._tag !== "Open" && action?._tag !== "Reopen") return known?.record.state === "Pruned" ? undefined : known
  const restarted = action._tag === "Open" ? undefined : new Set(action.restarted)
  const carried = new Set(action.carried)
  const recordOf = (hostname: string): HostRecord | undefined => {
    const planned = manifest.plan.hosts[hostname]
    const previous = known?.recordOf(hostname)
    if (planned === undefined || (restarted !== undefined && !restarted.has(hostname))) return previous
    const fresh = newPending({
      rolloutId: manifest.rolloutId,
      hostname,
      channel: action.rollout.channel,
      targetClosure: planned.targetClosure,
      attempt: (previous?.attempt ?? 0) + 1,
      dispatchedAt: now,
      soakDueAt: now + (manifest.plan.soakMs[planned.wave] ?? 0),
      signedAt: manifest.signedAt,
      lastEventSeq: previous?.lastEventSeq ?? 0
    })
    const source = carried.has(hostname) ? convergedOn(hostname, planned.targetClosure) : undefined
    return source === undefined ? fresh : carriedOver(source, fresh)
  }
  const joined = Object.entries(manifest.plan.hosts).toSorted(([a], [b]) => a < b ? -1 : 1)[0]
  const alwaysDeclares = known?.alwaysDeclares ?? (() => true)
  const isHeld = (hostname: string) => interventions.holdOf(hostname) !== undefined
  const isBehind = () => false
  const view = { record: action.rollout, plan: manifest.plan, recordOf, isHeld, isBehind, alwaysDeclares }
  return joined === undefined
    ? view
    : moved(view, { kind: "HostJoined", hostname: joined[0], wave: joined[1].wave, at: now })
}

/** An event that the machine refuses would be a fault of this planner; the rollout then stays as it is. */
function moved(rollout: RolloutView, event: RolloutEvent): RolloutView {
  const result = step(rollout.record, event)
  return result.ok ? { ...rollout, record: result.record } : rollout
}

interface Promoted extends Standing {
  readonly moves: ReadonlyArray<PlanAction>
}

/** Advances through every complete wave; each turn of the loop ends it or raises the wave. */
function promote(start: RolloutView, waves: ReadonlyArray<ReadonlyArray<string>>, now: number): Promoted {
  const moves: Array<PlanAction> = []
  let rollout = start
  let report = reportWave(rollout, waves, now)
  for (;;) {
    const event = isLive(rollout.record.state) ? nextMove(rollout, report, now) : undefined
    if (event === undefined) return { rollout, moves, report }
    moves.push({ _tag: "Move", rolloutId: rollout.record.rolloutId, event })
    rollout = moved(rollout, event)
    report = reportWave(rollout, waves, now)
  }
}

type Move = Extract<PlanAction, { _tag: "Move" }>["event"]

function nextMove({ record }: RolloutView, report: WaveReport, at: number): Move | undefined {
  const { complete, converged, wave, waves } = report
  const last = wave + 1 >= waves
  // Opening means that no host joined: there is none.
  if (record.state === "Opening" || (complete && last)) return { kind: "RolloutTerminal", at }
  if (complete) return { kind: "WaveAdvanced", fromWave: wave, toWave: wave + 1, at }
  return last && converged && record.state === "Active"
    ? { kind: "WaveAdvanced", fromWave: wave, toWave: wave, at }
    : undefined
}

/** The first closure by name that failed under this rollout and that its manifest still names. */
function failedUnder({ rollouts }: QuarantineView, { plan: planned, record }: RolloutView): string | undefined {
  const failed = rollouts.get(record.rolloutId)
  if (failed === undefined) return undefined
  return Object.values(planned.hosts).map(({ targetClosure }) => targetClosure)
    .filter((closure) => failed.has(closure)).toSorted()[0]
}

/** What all hosts of the channel share while they are judged. */
interface Judging extends Standing {
  /** Hosts by wave, in the order in which they go. */
  readonly waves: ReadonlyArray<ReadonlyArray<string>>
  readonly standings: ReadonlyMap<string, Standing>
}

function dispatch(view: PlanView, channel: ChannelView, manifest: ManifestView, judging: Judging): Plan {
  const actions: Array<PlanAction> = []
  const verdicts: Array<{ hostname: string; rolloutId: string; verdict: Blocked }> = []
  const { rollout, waves } = judging
  const { rolloutId } = rollout.record
  const candidateOf = candidates(view, channel, manifest, judging)
  const dispatchIn = (wave: number, hostname: string) => {
    const record = rollout.recordOf(hostname)
    if (record?.state !== "Pending" || record.closedAt !== undefined) return
    const queued = view.dispatchOf(hostname)
    // Another rollout's dispatch is that rollout's to take back: two plans must not overwrite each other's rows.
    if (queued !== undefined && queued.rolloutId !== rolloutId) return
    const { attempt, targetClosure } = record
    const candidate = candidateOf(hostname, wave, targetClosure, queued?.lease !== undefined)
    const verdict = judge(candidate)
    if (!verdict.pass) {
      if (queued !== undefined) actions.push({ _tag: "Revoke", hostname, rolloutId, because: verdict.because })
      verdicts.push({ hostname, rolloutId, verdict })
      return
    }
    if (queued?.attempt !== attempt) actions.push({ _tag: "Dispatch", hostname, rolloutId, attempt, targetClosure })
    const budget = disruptionBudget(candidate)
    if (!budget.pass) verdicts.push({ hostname, rolloutId, verdict: budget })
  }
  for (const [wave, hosts] of waves.entries()) for (const hostname of hosts) dispatchIn(wave, hostname)
  return { actions, verdicts }
}

/** What the gates look at, for one host after the other: what is the same for all is looked up once. */
function candidates(
  view: PlanView,
  channel: ChannelView,
  { order }: ManifestView,
  { report, rollout, standings, waves }: Judging
): (hostname: string, wave: number, targetClosure: string, leased: boolean) => Candidate {
  const { flights, interventions, now, quarantine } = view
  const condemnedBy = failedUnder(quarantine, rollout)
  const failed = isLive(rollout.record.state) ? [] : failedIn(rollout, waves)
  const frozen = interventions.freezeOf(channel.channel)
  const paused = interventions.pauseOf(rollout.record.rolloutId)
  const predecessors = incomplete(view, channel, standings)
  // One shape for every host, and nothing copied from one to the next: there are ten thousand of them in a pass (D20).
  return (hostname, wave, targetClosure, leased) => ({
    hostname,
    wave,
    targetClosure,
    rollout: rollout.record,
    progress: report,
    frozen,
    paused,
    held: interventions.holdOf(hostname),
    recovering: channel.recovering,
    failed,
    quarantined: quarantine.closures,
    condemnedBy,
    predecessors,
    edges: (order.edges.get(hostname) ?? []).map((edge) => ({
      edge,
      proof: rollout.recordOf(edge.gates) === undefined ? undefined : proofIn(rollout, edge.gates, now)
    })),
    budgets: order.budgets.get(hostname) ?? [],
    flights,
    leased,
    now
  })
}
