/** Who is missing before a channel may dispatch on a database that may have replaced a lost one, and until when that is asked (D6). */
import type { Recovering } from "../../Rollout/Planner.ts"
import { splitRolloutId } from "../../Schema/Primitives.ts"
import type { Draft } from "../Draft.ts"
import { at, declaredHost, hostIn, type PlannedManifest, type State } from "../State.ts"

/** Set while the channel dispatches nothing. Reads only. */
export function recoveringAt(state: State, now: number, channel: string): Recovering | undefined {
  const recovery = at(state.channels, channel)?.recovery
  const manifest = state.manifests.get(channel)
  if (recovery === undefined || manifest === undefined) return undefined
  // More left than the grace lasts: the clock was set back, and nobody knows how much it is. It begins anew.
  const untilAt = Math.min(recovery.until, now + state.limits.recoveryGraceMs)
  const missing = missingHosts(state, manifest)
  return missing.length === 0 || now >= untilAt ? undefined : { untilAt, missingHosts: missing }
}

/** Records that a recovery is over, or whom it waits for: before each plan of the channel. */
export function settleRecovery(draft: Draft, channel: string): void {
  const { now, state } = draft
  const recovery = at(state.channels, channel)?.recovery
  const manifest = state.manifests.get(channel)
  if (recovery === undefined || manifest === undefined) return
  const recovering = recoveringAt(state, now, channel)
  if (recovering === undefined) return endRecovery(draft, channel, missingHosts(state, manifest).length)
  if (recovering.untilAt < recovery.until) beginRecovery(draft, channel)
  draft.awaits(channel, recovering.missingHosts)
}

export function beginRecovery(draft: Draft, channel: string): void {
  const { now } = draft
  const recovery = { since: now, until: now + draft.state.limits.recoveryGraceMs }
  draft.record({}, { kind: "plan_action", payload: { action: "BeginRecovery", channel, recovery } })
  draft.log("cp_reducer", "info", "the channel is new to this database and waits to hear its hosts", {
    channel,
    detail: "what operators paused, held, froze or cleared in an older database is not known here"
  })
}

function endRecovery(draft: Draft, channel: string, silent: number): void {
  const because = silent === 0 ? "every host was heard" : `the grace is over; silent: ${silent}`
  draft.record({}, { kind: "plan_action", payload: { action: "EndRecovery", channel, because } })
  draft.log("cp_reducer", "info", "the channel dispatches again", { channel, detail: because })
}

/** Hosts of the manifest of which something is missing, ascending. */
export function missingHosts(state: State, { plan, rolloutId }: PlannedManifest): ReadonlyArray<string> {
  return Object.keys(plan.hosts).filter((host) => isMissing(state, rolloutId, host)).toSorted()
}

/** Its word, or events that it has; and until its channel has recovered also that nothing of an older database is in its hands. */
export function isMissing(state: State, rolloutId: string, host: string): boolean {
  const { channel } = splitRolloutId(rolloutId)
  return !isHeard(state, rolloutId, host) ||
    (at(state.channels, channel)?.recovery !== undefined && !hasEmptyHands(state, host))
}

/** Whether something is missing of a host of the fleet in force. */
export function isAwaited(state: State, host: string): boolean {
  const channel = declaredHost(state, host)?.channel
  const manifest = channel === undefined ? undefined : state.manifests.get(channel)
  return manifest !== undefined && isMissing(state, manifest.rolloutId, host)
}

/**
 * What the host has just said may have been the last word that its channel waited for (D6). Nothing else that a heartbeat says opens
 * a gate at once: what only time changes is the tick's, and ten thousand heartbeats of waiting hosts must plan nothing.
 */
export function markArrived(draft: Draft, before: State, host: string): void {
  const channel = declaredHost(draft.state, host)?.channel
  if (channel !== undefined && isAwaited(before, host) && !isAwaited(draft.state, host)) draft.arrived(channel, host)
}

/** An agent that keeps a journal is heard when it said what is in it; one of the original has nothing more to say. */
function isHeard(state: State, rolloutId: string, host: string): boolean {
  const seen = at(state.hosts, host)?.seen
  if (seen === undefined) return false
  if (seen.capabilities.includes("journal") && seen.journalId === undefined) return false
  const digest = seen.digests.find((one) => one.rollout_id === rolloutId)
  return digest === undefined || digest.last_event_seq <= (hostIn(state, rolloutId, host)?.ledger.lastSeq ?? 0)
}

/** It polls, and what it took last is known here: a heartbeat that came before it was taken does not know of it (D17). */
function hasEmptyHands(state: State, host: string): boolean {
  const polled = at(state.polled, host)
  if (polled === undefined) return false
  const { taken } = polled
  if (taken === undefined || taken === "nothing") return true
  const { attempt, rolloutId } = taken
  const record = hostIn(state, rolloutId, host)?.record
  return (record !== undefined && record.state !== "Pending" && record.attempt >= attempt) ||
    (at(state.hosts, host)?.seen?.digests ?? []).some((one) => one.rollout_id === rolloutId && one.attempt >= attempt)
}
