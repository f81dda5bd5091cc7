/** Who is missing before a channel may dispatch on a database that may have replaced a lost one, and until when that is asked (D6). */
import type { Recovering } from "../../Rollout/Planner.ts"
import type { Draft } from "../Draft.ts"
import { at, hostIn, type PlannedManifest, type State } from "../State.ts"

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

/** Hosts of the manifest that were not heard, or that have events which are not here yet; ascending. */
export function missingHosts(state: State, { plan, rolloutId }: PlannedManifest): ReadonlyArray<string> {
  return Object.keys(plan.hosts).filter((host) => !isHeard(state, rolloutId, host)).toSorted()
}

/** Nothing is missing of this host: an agent that keeps a journal is heard when it said what is in it; one of the original has nothing more to say. */
export function isHeard(state: State, rolloutId: string, host: string): boolean {
  const seen = at(state.hosts, host)?.seen
  if (seen === undefined) return false
  if (seen.capabilities.includes("journal") && seen.journalId === undefined) return false
  const digest = seen.digests.find((one) => one.rollout_id === rolloutId)
  return digest === undefined || digest.last_event_seq <= (hostIn(state, rolloutId, host)?.ledger.lastSeq ?? 0)
}
