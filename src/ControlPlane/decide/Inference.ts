/**
 * Agents of the original keep no journal: what their heartbeats let us infer, and the snapshots that they need after a
 * restart (D2, D6; protocol.md §3.4, §3.5). An inference is an overlay with its own origin: it consumes no sequence number,
 * never goes through the host machine, and the next real event removes it.
 */
import { soakDue } from "../../Rollout/host/Evidence.ts"
import type { HostSeen, Overlay } from "../../Schema/ControlPlaneJournal.ts"
import type { HostRecord } from "../../Schema/HostRecord.ts"
import type { HeartbeatRequest, HostRolloutSnapshot } from "../../Schema/Wire.ts"
import type { Draft } from "../Draft.ts"
import { soakMsOf } from "../fold/Policy.ts"
import { at, currentRolloutOf, hostIn, type HostInRollout, type State } from "../State.ts"

/** How far a heartbeat may be off the rhythm of its process, ms: clock reading and scheduling of the host. */
const rhythmSlackMs = 1_500
/** Heartbeat periods without a word after the end of a soak: a living agent converges within seconds, or reports probes. */
const silentPeriods = 3

/** Infers from the closure that an agent of the original says it runs. Only for the host's current rollout (W15). */
export function inferFromHeartbeat(draft: Draft, heartbeat: HeartbeatRequest): void {
  const host = heartbeat.hostname
  const rolloutId = currentRolloutOf(draft.state, host)
  const entry = rolloutId === undefined ? undefined : hostIn(draft.state, rolloutId, host)
  const rollout = rolloutId === undefined ? undefined : at(draft.state.rollouts, rolloutId)
  const closure = heartbeat.current_closure
  // The wire's "" is "unknown" (D12): nothing follows from it.
  if (rolloutId === undefined || entry === undefined || rollout === undefined || !closure) return
  const about = { host, rolloutId }
  if (closure !== entry.record.targetClosure) {
    if (entry.overlay?.origin !== "heartbeat") return
    draft.record(about, {
      kind: "effect",
      payload: { effect: "OverlayEnded", because: "the host runs another closure now" }
    })
    draft.markAll()
    return
  }
  const overlay = inferred(entry, draft.now, soakMsOf(rollout.plan, host))
  if (overlay === undefined) return
  draft.record(about, { kind: "effect", payload: { effect: "Overlaid", overlay } })
  draft.markAll()
}

/**
 * The target runs although nothing was reported: it soaks from now, in full, and counts as converged only when it still runs
 * at the end. Never at once: the acknowledgement may just not have arrived yet (C-W13).
 */
function inferred({ overlay, record }: HostInRollout, now: number, soakMs: number): Overlay | undefined {
  if (overlay?.origin === "heartbeat") {
    return overlay.state === "Soaking" && now >= overlay.since + soakMs
      ? { origin: "heartbeat", state: "Converged", since: now }
      : undefined
  }
  const silent = record.state === "Pending" || record.state === "Activating" || record.state === "Deferred"
  return silent && overlay === undefined ? { origin: "heartbeat", state: "Soaking", since: now } : undefined
}

/**
 * Snapshots for an agent of the original that has apparently restarted and lost its memory. Never of Pending or closed
 * records, never in the rhythm of a living process: such an agent overwrites what it knows with what it gets (P-4). But one
 * that says nothing of a soak that is long over did not hear the snapshot of its start, and gets it again.
 */
export function snapshotsFor(
  state: State,
  host: string,
  before: HostSeen | undefined,
  heartbeat: HeartbeatRequest
): ReadonlyArray<HostRolloutSnapshot> {
  const { heartbeatMs } = state.limits
  const rolloutId = currentRolloutOf(state, host)
  const entry = rolloutId === undefined ? undefined : hostIn(state, rolloutId, host)
  if (before === undefined || entry === undefined || entry.record.closedAt !== undefined) return []
  const { record } = entry
  if (keepsRhythm(before.at, heartbeat.at, heartbeatMs) && !hasForgotten(record, heartbeat.at, heartbeatMs)) return []
  switch (record.state) {
    case "Activating":
    case "Deferred":
    case "Soaking":
    case "Failed":
      return [snapshotOf(record, entry.ledger.lastSeq)]
    case "Pending":
    case "Converged":
    case "Reverted":
      return []
  }
}

/** Heartbeats of one process are a whole number of periods apart by the host's own clock, outages included. */
function keepsRhythm(before: number, now: number, periodMs: number): boolean {
  const offset = (((now - before) % periodMs) + periodMs) % periodMs
  return now - before >= periodMs - rhythmSlackMs && (offset <= rhythmSlackMs || periodMs - offset <= rhythmSlackMs)
}

/** By the host's own clock: its soak is over, and for some periods it has neither converged nor reported a probe. */
function hasForgotten(record: HostRecord, now: number, periodMs: number): boolean {
  if (record.state !== "Soaking") return false
  const heard = Object.values(record.probes).map(({ lastObservedAt }) => lastObservedAt)
  return now - Math.max(soakDue(record), ...heard) >= silentPeriods * periodMs
}

function snapshotOf(record: Exclude<HostRecord, { state: "Pending" }>, lastSeq: number): HostRolloutSnapshot {
  const { activationStartedAt, currentClosureAtDispatch } = record
  const completedAt = "activationCompletedAt" in record ? record.activationCompletedAt : undefined
  const closure = "currentClosure" in record ? record.currentClosure : undefined
  return {
    rolloutId: record.rolloutId,
    hostname: record.hostname,
    channel: record.channel,
    state: record.state,
    targetClosure: record.targetClosure,
    dispatchedAt: record.dispatchedAt,
    dispatchAckedAt: record.dispatchAckedAt,
    soakDueAt: record.soakDueAt,
    lastEventSeq: lastSeq,
    ...(currentClosureAtDispatch === undefined ? {} : { currentClosureAtDispatch }),
    ...(activationStartedAt === undefined ? {} : { activationStartedAt }),
    ...(completedAt === undefined ? {} : { activationCompletedAt: completedAt }),
    ...(closure === undefined ? {} : { currentClosure: closure })
  }
}
