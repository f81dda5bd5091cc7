/** What opens, moves and ends a rollout (protocol.md §5), with what follows for its hosts, the queue and its predecessors. */
import { HashMap } from "effect"
import { newPending } from "../../Rollout/Host.ts"
import { omit, optional } from "../../Rollout/host/Model.ts"
import { carriedOver } from "../../Rollout/Planner.ts"
import { isLive, type RolloutEvent, step } from "../../Rollout/Rollout.ts"
import type { LogRow, PlanAction, RolloutHappening, RolloutPlan } from "../../Schema/ControlPlaneJournal.ts"
import type { ConvergedRecord, HostRecord, PendingRecord, RolloutRecord } from "../../Schema/HostRecord.ts"
import type { HostStateName } from "../../Schema/Wire.ts"
import { at, type ChannelEntry, type HostInRollout, plannedHost, type RolloutEntry, type State } from "../State.ts"
import { convergedRecord } from "./Carried.ts"
import { dropDispatch, dropDispatchesOf, dropDispatchOf } from "./Dispatches.ts"
import { soakMsOf } from "./Policy.ts"
import { indexHosts, putRollout, putRolloutRecord } from "./Records.ts"
import { type Touched, UnfoldableRow } from "./Touched.ts"

type RolloutAction = Exclude<
  PlanAction,
  { action: "QueueDispatch" | "LeaseDispatch" | "ReleaseLease" | "RevokeDispatch" }
>

export function foldRolloutAction(state: State, action: RolloutAction, now: number, touched: Touched): State {
  switch (action.action) {
    case "OpenRollout":
      return opened(state, action.rollout, action.plan, new Set(action.carried), now, touched)
    case "ReopenRollout":
      return reopened(
        state,
        action.rollout,
        action.plan,
        { restarted: new Set(action.restarted), carried: new Set(action.carried) },
        now,
        touched
      )
    case "RefreshRollout": {
      const rollout = at(state.rollouts, action.rolloutId)
      if (rollout === undefined) return state
      const { manifestHash, signedAt } = action
      return putChannel(
        putRolloutRecord(state, { ...rollout.record, manifestHash, signedAt }, touched),
        rollout.record.channel,
        (entry) => ({ ...entry, current: action.rolloutId }),
        touched
      )
    }
    case "CloseChannel":
      return putChannel(
        withoutDispatches(state, action.channel, touched),
        action.channel,
        (entry) => omit(entry, ["current"]),
        touched
      )
    case "BeginRecovery":
      return putChannel(state, action.channel, (entry) => ({ ...entry, recovery: action.recovery }), touched)
    case "EndRecovery":
      return putChannel(state, action.channel, (entry) => omit(entry, ["recovery"]), touched)
  }
}

export function foldHappening(state: State, row: LogRow, happening: RolloutHappening, touched: Touched): State {
  const { rolloutId } = row
  if (rolloutId === undefined) throw new UnfoldableRow(row, "names no rollout")
  switch (happening.event) {
    case "WaveAdvanced":
      return moved(state, rolloutId, {
        kind: "WaveAdvanced",
        fromWave: happening.fromWave,
        toWave: happening.toWave,
        at: row.now
      }, touched)
    case "RolloutTerminal":
      return moved(state, rolloutId, { kind: "RolloutTerminal", at: row.now }, touched)
  }
}

/** A host of the rollout changed its state; what becomes of one that the release left out concerns its rollout no more. */
export function hostChanged(
  state: State,
  row: LogRow,
  change: { readonly from: HostStateName; readonly to: HostStateName },
  touched: Touched
): State {
  const { host = "", rolloutId = "" } = row
  const rollout = at(state.rollouts, rolloutId)
  return rollout === undefined || plannedHost(rollout.plan, host) === undefined
    ? state
    : moved(state, rolloutId, { kind: "HostStateChanged", hostname: host, ...change, at: row.now }, touched)
}

/**
 * The rollout machine. An event that is not legal in the rollout's state changes nothing: hosts of a closed rollout go on
 * reporting (D4). Leaving the live states deletes what was not delivered, in the same commit (D8).
 */
function moved(state: State, rolloutId: string, event: RolloutEvent, touched: Touched): State {
  const rollout = at(state.rollouts, rolloutId)
  if (rollout === undefined) return state
  const result = step(rollout.record, event)
  if (!result.ok || result.record === rollout.record) return state
  const next = putRolloutRecord(state, result.record, touched)
  return isLive(result.record.state) ? next : dropDispatchesOf(next, rolloutId, touched)
}

function opened(
  state: State,
  record: RolloutRecord,
  plan: RolloutPlan,
  carried: ReadonlySet<string>,
  now: number,
  touched: Touched
): State {
  const names = Object.keys(plan.hosts).toSorted()
  const hosts = HashMap.fromIterable(
    names.map((host) => [host, freshHost(begun(state, carried, pending(record, plan, host, 1, now)))] as const)
  )
  // What an older rollout has queued for these hosts is not theirs any more: at most one dispatch a host.
  const cleared = names.reduce((next, host) => dropDispatch(next, host, touched), state)
  const next = announce(cleared, { record, plan, hosts }, names, touched)
  return superseded(joined(next, record, plan, names, now, touched), record, now, touched)
}

/**
 * The same id once more (D7): hosts in `restarted` begin a new attempt, all others go on. Hosts left out lose what was queued for
 * them, and no more: what they are at nobody can call back, and it keeps their places in budgets (D17).
 */
function reopened(
  state: State,
  record: RolloutRecord,
  plan: RolloutPlan,
  { carried, restarted }: { readonly carried: ReadonlySet<string>; readonly restarted: ReadonlySet<string> },
  now: number,
  touched: Touched
): State {
  const previous = at(state.rollouts, record.rolloutId)
  if (previous === undefined) return opened(state, record, plan, carried, now, touched)
  const names = Object.keys(plan.hosts).toSorted()
  let next = state
  const hosts = HashMap.mutate(previous.hosts, (draft) => {
    for (const host of HashMap.keys(previous.hosts)) {
      if (plannedHost(plan, host) === undefined) next = dropDispatchOf(next, record.rolloutId, host, touched)
    }
    for (const host of names) {
      const entry = at(previous.hosts, host)
      if (entry !== undefined && !restarted.has(host)) continue
      const attempt = (entry?.record.attempt ?? 0) + 1
      const lastEventSeq = entry?.record.lastEventSeq ?? 0
      const fresh = begun(state, carried, pending(record, plan, host, attempt, now, lastEventSeq))
      HashMap.set(draft, host, entry === undefined ? freshHost(fresh) : begunAnew(entry, fresh, now))
      next = dropDispatch(next, host, touched)
    }
  })
  next = announce(next, { record, plan, hosts }, names.filter((host) => restarted.has(host)), touched)
  return superseded(joined(next, record, plan, names, now, touched), record, now, touched)
}

/** As what a host begins in a rollout: waiting, or as it is already (C-W17). */
function begun(state: State, carried: ReadonlySet<string>, fresh: PendingRecord): PendingRecord | ConvergedRecord {
  const source = carried.has(fresh.hostname) ? convergedRecord(state, fresh.hostname, fresh.targetClosure) : undefined
  return source === undefined ? fresh : carriedOver(source, fresh)
}

/** What the host did under the attempt before is not over by our saying so: it keeps its place until it is heard (D17). */
export function begunAnew(
  { ledger, offeredUntil, record }: HostInRollout,
  fresh: HostRecord,
  now: number
): HostInRollout {
  const isUnderWay = (record.state === "Activating" || record.state === "Soaking") && record.closedAt === undefined
  const until = isUnderWay ? now : offeredUntil
  return { record: fresh, ledger, ...optional("offeredUntil", until) }
}

const freshHost = (record: HostRecord): HostInRollout => ({
  record,
  ledger: { lastSeq: record.lastEventSeq, seen: [] }
})

/** The record of a host at the beginning of an attempt. */
export function pending(
  rollout: RolloutRecord,
  plan: RolloutPlan,
  hostname: string,
  attempt: number,
  now: number,
  lastEventSeq = 0
): PendingRecord {
  return newPending({
    rolloutId: rollout.rolloutId,
    hostname,
    channel: rollout.channel,
    targetClosure: plannedHost(plan, hostname)?.targetClosure ?? "",
    attempt,
    dispatchedAt: now,
    // Provisional: the first lease fixes it (D8).
    soakDueAt: now + soakMsOf(plan, hostname),
    signedAt: rollout.signedAt,
    lastEventSeq
  })
}

/** Makes a rollout its channel's current one. */
function announce(state: State, entry: RolloutEntry, fresh: ReadonlyArray<string>, touched: Touched): State {
  const { channel, rolloutId } = entry.record
  touched.rollouts.add(rolloutId)
  touched.plans.add(rolloutId)
  for (const host of fresh) touched.record(rolloutId, host)
  const next = indexHosts(putRollout(state, rolloutId, entry), rolloutId, fresh)
  return putChannel(next, channel, (known) => ({ ...known, current: rolloutId }), touched)
}

function joined(
  state: State,
  record: RolloutRecord,
  plan: RolloutPlan,
  names: ReadonlyArray<string>,
  now: number,
  touched: Touched
): State {
  return names.reduce((next, hostname) => {
    const wave = plannedHost(plan, hostname)?.wave ?? 0
    return moved(next, record.rolloutId, { kind: "HostJoined", hostname, wave, at: now }, touched)
  }, state)
}

/** In the commit that opens a rollout every older one of its channel ends, and its queue is purged (W15). */
function superseded(state: State, successor: RolloutRecord, now: number, touched: Touched): State {
  const event: RolloutEvent = { kind: "SuccessorOpened", successor: successor.rolloutId, at: now }
  let next = state
  for (const [id, rollout] of HashMap.entries(state.rollouts)) {
    if (rollout.record.channel !== successor.channel || id === successor.rolloutId) continue
    next = moved(next, id, event, touched)
  }
  return next
}

/** What a channel without a manifest has queued must not go out (D15). */
function withoutDispatches(state: State, channel: string, touched: Touched): State {
  const current = at(state.channels, channel)?.current
  return current === undefined ? state : dropDispatchesOf(state, current, touched)
}

function putChannel(
  state: State,
  channel: string,
  change: (entry: ChannelEntry) => ChannelEntry,
  touched: Touched
): State {
  touched.channels.add(channel)
  return { ...state, channels: HashMap.set(state.channels, channel, change(at(state.channels, channel) ?? {})) }
}
