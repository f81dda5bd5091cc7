/**
 * A heartbeat (D6; control-plane.md §4.1): what was heard is remembered, digests rebuild what a wiped database lost, and the
 * answer tells the agent what is durable here and what is missing. Heartbeats never move a record.
 */
import { omit } from "../../Rollout/host/Model.ts"
import type { HostSeen, RejectionBackoff } from "../../Schema/ControlPlaneJournal.ts"
import { splitRolloutId } from "../../Schema/Primitives.ts"
import { heartbeatListLimit, type HeartbeatRequest, type Rejection, type RolloutDigest } from "../../Schema/Wire.ts"
import type { Draft } from "../Draft.ts"
import { isQuarantined, quarantined } from "../fold/Events.ts"
import type { HeartbeatAnswer, HeartbeatReceived } from "../Input.ts"
import { at, declaredHost, hostIn, type State } from "../State.ts"
import { inferFromHeartbeat, snapshotsFor } from "./Inference.ts"
import { isHeard } from "./Recovery.ts"

/** A heartbeat that says nothing new is made durable this often: bounds what "last heard" loses in a restart. */
const seenRewriteMs = 300_000
/** First pause after a rejection; each further one of the same rollout doubles it, up to the cap (D8). */
const rejectionFirstMs = 60_000
const rejectionCapMs = 3_600_000

export function decideHeartbeat(draft: Draft, { capabilities, heartbeat }: HeartbeatReceived): HeartbeatAnswer {
  const host = heartbeat.hostname
  const entry = at(draft.state.hosts, host)
  const known = entry?.seen
  const wasMissing = isMissing(draft.state, host)
  const rejections = noteRejections(draft, heartbeat, known?.rejections ?? [])
  const seen: HostSeen = {
    host,
    at: heartbeat.at,
    receivedAt: draft.now,
    capabilities: [...capabilities].toSorted(),
    digests: heartbeat.digests ?? [],
    rejections,
    ...(heartbeat.current_closure === undefined ? {} : { currentClosure: heartbeat.current_closure }),
    ...(heartbeat.uptime_secs === undefined ? {} : { uptimeSecs: heartbeat.uptime_secs }),
    ...(heartbeat.agent_version === undefined ? {} : { agentVersion: heartbeat.agent_version }),
    ...(heartbeat.journal_id === undefined ? {} : { journalId: heartbeat.journal_id }),
    ...(heartbeat.pending_events === undefined ? {} : { pendingEvents: heartbeat.pending_events }),
    ...(heartbeat.parked_events === undefined ? {} : { parkedEvents: heartbeat.parked_events })
  }
  draft.hear(seen, isStale(entry?.seenStoredAt, draft.now) || saysMore(known, seen))
  for (const digest of seen.digests) noteDigest(draft, host, digest)
  const keepsJournal = capabilities.has("journal")
  const snapshots = keepsJournal ? [] : snapshotsFor(draft.state, host, known, heartbeat)
  if (!keepsJournal) inferFromHeartbeat(draft, heartbeat)
  markRecovered(draft, host, wasMissing)
  markWithdrawn(draft, host, known?.rejections ?? [], rejections)
  return answer(draft, heartbeat, keepsJournal, snapshots)
}

const isStale = (storedAt: number | undefined, now: number): boolean =>
  storedAt === undefined || now - storedAt >= seenRewriteMs

/** Whether a restart must not forget this heartbeat: anything but times and the length of a queue differs. */
function saysMore(known: HostSeen | undefined, seen: HostSeen): boolean {
  if (known === undefined) return true
  const essence = (heard: HostSeen) => JSON.stringify(omit(heard, ["at", "receivedAt", "uptimeSecs", "pendingEvents"]))
  return essence(known) !== essence(seen)
}

/**
 * The host that a recovering channel waited for (D6). Nothing else that a heartbeat says opens a gate at once: what only
 * time changes is the tick's, and ten thousand heartbeats of waiting hosts must plan nothing.
 */
function markRecovered(draft: Draft, host: string, wasMissing: boolean): void {
  const channel = declaredHost(draft.state, host)?.channel
  if (channel !== undefined && wasMissing && !isMissing(draft.state, host)) draft.mark(channel)
}

/** A rejection that the host no longer holds up ends its pause at once (D8). */
function markWithdrawn(
  draft: Draft,
  host: string,
  before: ReadonlyArray<RejectionBackoff>,
  after: ReadonlyArray<RejectionBackoff>
): void {
  const held = new Set(after.map(({ rejection }) => rejection.rollout_id))
  const channel = declaredHost(draft.state, host)?.channel
  if (channel !== undefined && before.some(({ rejection }) => !held.has(rejection.rollout_id))) draft.mark(channel)
}

function isMissing(state: State, host: string): boolean {
  const channel = declaredHost(state, host)?.channel
  const manifest = channel === undefined ? undefined : state.manifests.get(channel)
  return manifest !== undefined && !isHeard(state, manifest.rolloutId, host)
}

/**
 * A digest is the agent's word on a rollout (D6). Quarantine is rebuilt from it, also for rollouts that are not known here;
 * a record that heard everything and still differs is overlaid, one that agrees is confirmed.
 */
function noteDigest(draft: Draft, host: string, digest: RolloutDigest): void {
  const rolloutId = digest.rollout_id
  const entry = hostIn(draft.state, rolloutId, host)
  if (digest.quarantined === true && speaksFor(draft, host, rolloutId)) {
    const quarantine = quarantined(rolloutId, digest.target_closure, host, draft.now)
    if (!isQuarantined(draft.state, quarantine)) {
      draft.record({ host, rolloutId }, { kind: "effect", payload: { effect: "Quarantined", quarantine } })
      draft.markAll()
    }
  }
  if (
    entry === undefined || digest.attempt !== entry.record.attempt || digest.last_event_seq !== entry.ledger.lastSeq
  ) return
  const agrees = digest.state === entry.record.state && digest.target_closure === entry.record.targetClosure
  const { diverged, unproven } = entry.record
  if (agrees) {
    if (diverged === true || unproven === true || entry.overlay !== undefined) {
      draft.record({ host, rolloutId }, { kind: "effect", payload: { effect: "Confirmed" } })
      draft.markAll()
    }
    return
  }
  if (digest.target_closure !== entry.record.targetClosure || entry.overlay?.state === digest.state) return
  // A dispatch that is not acknowledged yet is no difference: the agent has no record of this attempt.
  if (entry.ledger.lastSeq === 0) return
  draft.record({ host, rolloutId }, {
    kind: "effect",
    payload: { effect: "Overlaid", overlay: { origin: "digest", state: digest.state, since: draft.now } }
  })
  draft.log("warn", "the agent's digest differs from the record", {
    host,
    rollout: rolloutId,
    record: entry.record.state,
    digest: digest.state
  })
  draft.markAll()
}

/** A host may condemn closures of its own channel only. */
function speaksFor(draft: Draft, host: string, rolloutId: string): boolean {
  if (hostIn(draft.state, rolloutId, host) !== undefined) return true
  return declaredHost(draft.state, host)?.channel === splitRolloutId(rolloutId).channel
}

/** Each rejection that is new pauses the dispatch of its rollout to this host, longer each time (D8). */
function noteRejections(
  draft: Draft,
  heartbeat: HeartbeatRequest,
  known: ReadonlyArray<RejectionBackoff>
): ReadonlyArray<RejectionBackoff> {
  const host = heartbeat.hostname
  return (heartbeat.rejections ?? []).map((rejection) => {
    const before = known.find((entry) => entry.rejection.rollout_id === rejection.rollout_id)
    if (before !== undefined && before.rejection.at >= rejection.at) return before
    const backoff = backOff(rejection, before, draft.now)
    draft.record({ host, rolloutId: rejection.rollout_id }, {
      kind: "effect",
      payload: { effect: "Rejected", backoff }
    })
    draft.log("warn", "the host could not take its dispatch", {
      host,
      rollout: rejection.rollout_id,
      reason: rejection.reason
    })
    const channel = splitRolloutId(rejection.rollout_id).channel
    if (at(draft.state.channels, channel) !== undefined) draft.mark(channel)
    return backoff
  })
}

function backOff(rejection: Rejection, before: RejectionBackoff | undefined, now: number): RejectionBackoff {
  const count = (before?.count ?? 0) + 1
  return { rejection, count, until: now + Math.min(rejectionCapMs, rejectionFirstMs * 2 ** Math.min(count - 1, 10)) }
}

function answer(
  draft: Draft,
  heartbeat: HeartbeatRequest,
  keepsJournal: boolean,
  snapshots: HeartbeatAnswer["response"]["bootstrap_rollouts"]
): HeartbeatAnswer {
  const response = { received_at: heartbeat.at, bootstrap_rollouts: snapshots }
  const named = heartbeat.rollout_id === undefined
    ? undefined
    : hostIn(draft.state, heartbeat.rollout_id, heartbeat.hostname)
  const header = named === undefined ? {} : { replayFrom: named.ledger.lastSeq }
  return keepsJournal
    ? { _tag: "Heartbeat", response: { ...response, ...delivery(draft, heartbeat) }, ...header }
    : { _tag: "Heartbeat", response, ...header }
}

/** What is durable here of each rollout of the host, and where what the agent has beyond it begins (D6). */
function delivery(
  draft: Draft,
  heartbeat: HeartbeatRequest
): Pick<HeartbeatAnswer["response"], "acked_through" | "replay_from"> {
  const host = heartbeat.hostname
  const theirs = new Map<string, number>(Object.entries(heartbeat.last_event_seq_by_rollout ?? {}))
  for (const digest of heartbeat.digests ?? []) theirs.set(digest.rollout_id, digest.last_event_seq)
  const ours = (at(draft.state.hosts, host)?.rollouts ?? []).slice(0, heartbeatListLimit)
  const acked: Array<readonly [string, number]> = []
  const replay: Array<readonly [string, number]> = []
  for (const rolloutId of new Set([...ours, ...theirs.keys()])) {
    const entry = hostIn(draft.state, rolloutId, host)
    if (entry === undefined) continue
    const { lastSeq } = entry.ledger
    acked.push([rolloutId, lastSeq])
    if ((theirs.get(rolloutId) ?? 0) > lastSeq) replay.push([rolloutId, lastSeq + 1])
  }
  return { acked_through: Object.fromEntries(acked), replay_from: Object.fromEntries(replay) }
}
