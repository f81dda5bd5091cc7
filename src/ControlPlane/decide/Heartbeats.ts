/**
 * A heartbeat (D6; control-plane.md §4.1): what was heard is remembered, digests rebuild what a wiped database lost, and the
 * answer tells the agent what is durable here and what is missing. Heartbeats never move a record.
 */
import { HashMap, Schema, Struct } from "effect"
import { HostSeen, type Quarantine, type RejectionBackoff } from "../../Schema/ControlPlaneJournal.ts"
import type { ActivatingRecord, DeferredRecord, HostRecord, SoakingRecord } from "../../Schema/HostRecord.ts"
import { RolloutId, splitRolloutId } from "../../Schema/Primitives.ts"
import { knownReason } from "../../Schema/Reasons.ts"
import {
  heartbeatListLimit,
  type HeartbeatRequest,
  type HostHold,
  type Rejection,
  type RolloutDigest
} from "../../Schema/Wire.ts"
import type { Draft } from "../Draft.ts"
import { isQuarantined, quarantined, quarantineKey } from "../fold/Quarantine.ts"
import type { HeartbeatAnswer, HeartbeatReceived } from "../Input.ts"
import { at, attemptLimit, currentRolloutOf, declaredHost, hostIn, type HostInRollout, type State } from "../State.ts"
import { inferFromHeartbeat, snapshotsFor } from "./Inference.ts"
import { markArrived } from "./Recovery.ts"

/** A heartbeat that says nothing new is made durable this often: bounds what "last heard" loses in a restart. */
const seenRewriteMs = 300_000
/** First pause after a rejection; each further one of the same rollout doubles it, up to the cap (D8). */
const rejectionFirstMs = 60_000
const rejectionCapMs = 3_600_000

const isRolloutId = Schema.is(RolloutId)

export function decideHeartbeat(
  draft: Draft,
  { capabilities, heartbeat, issuedAt }: HeartbeatReceived
): HeartbeatAnswer {
  const host = heartbeat.hostname
  const entry = at(draft.state.hosts, host)
  const known = entry?.seen
  const before = draft.state
  const rejections = noteRejections(draft, heartbeat, known?.rejections ?? [])
  const seen: HostSeen = {
    host,
    at: heartbeat.at,
    receivedAt: draft.now,
    issuedAt,
    capabilities: [...capabilities].toSorted(),
    digests: heartbeat.digests ?? [],
    rejections,
    // The wire's "" is "unknown" (D12).
    ...(heartbeat.current_closure ? { currentClosure: heartbeat.current_closure } : {}),
    ...(heartbeat.uptime_secs === undefined ? {} : { uptimeSecs: heartbeat.uptime_secs }),
    ...(heartbeat.agent_version === undefined ? {} : { agentVersion: heartbeat.agent_version }),
    ...(heartbeat.journal_id === undefined ? {} : { journalId: heartbeat.journal_id }),
    ...(heartbeat.pending_events === undefined ? {} : { pendingEvents: heartbeat.pending_events }),
    ...(heartbeat.parked_events === undefined ? {} : { parkedEvents: heartbeat.parked_events }),
    ...(heartbeat.held === undefined ? {} : { held: heartbeat.held }),
    ...(heartbeat.fetching === undefined ? {} : { fetching: heartbeat.fetching })
  }
  tellHold(draft, host, known?.held, seen.held)
  draft.beats(host)
  draft.hear(seen, isStale(entry?.seenStoredAt, draft.now) || saysMore(known, seen))
  for (const digest of seen.digests) noteDigest(draft, host, digest)
  followNewJournal(draft, heartbeat, known)
  const keepsJournal = capabilities.has("journal")
  const snapshots = keepsJournal ? [] : snapshotsFor(draft.state, host, known, heartbeat)
  if (!keepsJournal) inferFromHeartbeat(draft, heartbeat)
  markArrived(draft, before, host)
  markWithdrawn(draft, host, known?.rejections ?? [], rejections)
  return answer(draft, heartbeat, keepsJournal, snapshots)
}

/** Operators hear of a host that can go nowhere when it begins and when it is over, not at each heartbeat. */
function tellHold(draft: Draft, host: string, before: HostHold | undefined, after: HostHold | undefined): void {
  if (before?.reason === after?.reason) return
  if (after === undefined) draft.log("heartbeat", "info", "the host can go forward again", { hostname: host })
  else {
    draft.log("heartbeat", "warn", "the host cannot go forward", {
      hostname: host,
      reason: knownReason(after.reason),
      detail: after.detail
    })
  }
}

/** By its distance: a clock that was set back must not keep a heartbeat out of the journal until it has caught up. */
const isStale = (storedAt: number | undefined, now: number): boolean =>
  storedAt === undefined || Math.abs(now - storedAt) >= seenRewriteMs

/** Times, the length of a queue and the progress of a fetch, which differ in each heartbeat. */
const passing: ReadonlySet<keyof HostSeen> = new Set(["at", "receivedAt", "uptimeSecs", "pendingEvents", "fetching"])
const lasting = Struct.keys(HostSeen.fields).filter((name) => !passing.has(name))

/** Whether a restart must not forget this heartbeat. */
function saysMore(known: HostSeen | undefined, seen: HostSeen): boolean {
  return known === undefined || lasting.some((name) => !isSame(known[name], seen[name]))
}

function isSame(a: unknown, b: unknown): boolean {
  return a === b || (typeof a === "object" && typeof b === "object" && JSON.stringify(a) === JSON.stringify(b))
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

/**
 * A digest is the agent's word on a rollout (D6). Quarantine is rebuilt from it, also for rollouts that are not known here;
 * a record that heard everything and still differs is overlaid, one that agrees is confirmed.
 */
function noteDigest(draft: Draft, host: string, digest: RolloutDigest): void {
  const rolloutId = digest.rollout_id
  const entry = hostIn(draft.state, rolloutId, host)
  const quarantine = quarantined(rolloutId, digest.target_closure, host, draft.now)
  if (digest.quarantined === true && isNews(draft.state, quarantine) && mayCondemn(draft, quarantine)) {
    draft.record({ host, rolloutId }, { kind: "effect", payload: { effect: "Quarantined", quarantine } })
    draft.markAll()
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
  if (digest.target_closure !== entry.record.targetClosure) return wentElsewhere(draft, entry, digest)
  if (entry.overlay?.state === digest.state) return
  // A dispatch that is not acknowledged yet is no difference: the agent has no record of this attempt.
  if (entry.ledger.lastSeq === 0) return
  draft.record({ host, rolloutId }, {
    kind: "effect",
    payload: { effect: "Overlaid", overlay: { origin: "digest", state: digest.state, since: draft.now } }
  })
  draft.log("heartbeat", "warn", "the agent's digest differs from the record", {
    hostname: host,
    rollout: rolloutId,
    reason: "digest-differs",
    detail: `recorded as ${entry.record.state}, and the agent says ${digest.state}`
  })
  draft.markAll()
}

/** What an operator has lifted, a digest tells again at each heartbeat; an event of the next failure puts it back. */
const isNews = (state: State, quarantine: Quarantine): boolean =>
  !isQuarantined(state, quarantine) && !HashMap.has(state.lifted, quarantineKey(quarantine))

/**
 * This attempt went to another closure than the manifest names now: a database that was wiped has forgotten that the targets
 * changed under the same id. The host owes the next attempt (D6, D7).
 */
function wentElsewhere(draft: Draft, { record }: HostInRollout, digest: RolloutDigest): void {
  const { closedAt, hostname, rolloutId, state } = record
  if (state === "Pending" || closedAt !== undefined || digest.attempt >= attemptLimit) return
  if (currentRolloutOf(draft.state, hostname) !== rolloutId) return
  draft.record({ host: hostname, rolloutId }, {
    kind: "effect",
    payload: { effect: "AttemptFollowed", attempt: digest.attempt + 1 }
  })
  draft.log("heartbeat", "warn", "the host went to another closure under this id; it is dispatched again", {
    hostname,
    rollout: rolloutId,
    reason: "other-target",
    closure: digest.target_closure
  })
  draft.markAll()
}

/** How many journals of one host may tell one record: a host that loses each of them would be switched for ever. */
const journalLimit = 3

/**
 * The journal that accepted this attempt is gone (reset, or lost with its disk), and the present one has never heard of it:
 * nobody will end it, so that the host owes the next attempt (D2, D7), or, where a newer rollout is in force, no place in its
 * budgets any more. It soaks without a switch where the target runs already (D10). A heartbeat that only crossed a dispatch or an
 * acknowledgement begins nothing: it is of the journal that tells the record, or was written before the acknowledgement.
 */
function followNewJournal(draft: Draft, heartbeat: HeartbeatRequest, known: HostSeen | undefined): void {
  const { digests, hostname, journal_id: journalId } = heartbeat
  const rolloutId = takenLast(draft.state, hostname)
  const entry = rolloutId === undefined ? undefined : hostIn(draft.state, rolloutId, hostname)
  if (rolloutId === undefined || entry === undefined || !isUnderWay(entry.record)) return
  if (journalId === undefined || digests === undefined || heartbeat.at <= entry.record.dispatchAckedAt) return
  if (digests.some((digest) => digest.rollout_id === rolloutId)) return
  const tellers = new Set(entry.ledger.seen.map((received) => received.journalId))
  if (tellers.has(journalId)) return
  const { attempt } = entry.record
  const about = { hostname, rollout: rolloutId, attempt, reason: "journal-replaced" } as const
  if (tellers.size >= journalLimit || attempt >= attemptLimit) {
    if (known?.journalId === journalId) return
    draft.log("heartbeat", "warn", "the host loses one journal after the other; it is not dispatched again", about)
    return
  }
  draft.record({ host: hostname, rolloutId }, {
    kind: "effect",
    payload: { effect: "AttemptFollowed", attempt: attempt + 1 }
  })
  draft.log("heartbeat", "warn", "the host's journal does not know its rollout; it owes the next attempt", about)
  draft.markAll()
}

/** What the host accepted last: that has closed what is older (D10). */
function takenLast(state: State, host: string): string | undefined {
  return at(state.hosts, host)?.rollouts.find((rolloutId) => {
    const taken = hostIn(state, rolloutId, host)?.record.state
    return taken !== undefined && taken !== "Pending"
  })
}

/** Accepted by the host, whose own word alone ends it. */
function isUnderWay(record: HostRecord): record is ActivatingRecord | DeferredRecord | SoakingRecord {
  const { closedAt, state } = record
  return closedAt === undefined && (state === "Activating" || state === "Deferred" || state === "Soaking")
}

/**
 * A host may condemn what it was to run itself. Of rollouts that are not known here (a wiped database) it may condemn those of
 * its own channel, as many as one heartbeat carries, and never what a host of another channel is to run: one liar must not
 * stop the fleet.
 */
function mayCondemn({ state }: Draft, { channel, closure, host, ref }: Quarantine): boolean {
  const rolloutId = `${channel}@${ref}`
  const entry = hostIn(state, rolloutId, host)
  if (entry !== undefined) return entry.record.targetClosure === closure
  if (declaredHost(state, host)?.channel !== channel || !isRolloutId(rolloutId)) return false
  if (state.quarantine.filter((known) => known.host === host).length >= heartbeatListLimit) return false
  return ![...state.manifests].some(([other, { plan }]) =>
    other !== channel && Object.values(plan.hosts).some(({ targetClosure }) => targetClosure === closure)
  )
}

function noteRejections(
  draft: Draft,
  { hostname, rejections = [] }: HeartbeatRequest,
  known: ReadonlyArray<RejectionBackoff>
): ReadonlyArray<RejectionBackoff> {
  return rejections.map((rejection) =>
    noteRejection(draft, hostname, rejection, known.find((one) => one.rejection.rollout_id === rejection.rollout_id))
  )
}

/** A rejection that is new pauses the dispatch of its rollout to this host, longer each time (D8). */
function noteRejection(
  draft: Draft,
  host: string,
  rejection: Rejection,
  before: RejectionBackoff | undefined
): RejectionBackoff {
  if (before !== undefined && before.rejection.at === rejection.at) return before
  // Nothing is offered during a pause, so nothing new can be refused; of an unknown rollout there is nothing to pause.
  if (before !== undefined && isPaused(before, draft.now)) return { ...before, rejection }
  const rolloutId = rejection.rollout_id
  if (hostIn(draft.state, rolloutId, host) === undefined) return { rejection, count: 0, until: draft.now }
  const backoff = backOff(rejection, before, draft.now)
  draft.record({ host, rolloutId }, { kind: "effect", payload: { effect: "Rejected", backoff } })
  draft.log("heartbeat", "warn", "the host could not take its dispatch", {
    hostname: host,
    rollout: rolloutId,
    reason: knownReason(rejection.reason),
    detail: rejection.reason
  })
  draft.mark(splitRolloutId(rolloutId).channel)
  return backoff
}

/** A pause that is longer than any says that the clock was set back: it is over. */
export const isPaused = ({ until }: RejectionBackoff, now: number): boolean =>
  until > now && until - now <= rejectionCapMs

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
