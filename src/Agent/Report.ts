/**
 * What a heartbeat says (D6): a pure projection of the published state. Fields that the original does not know go only to
 * a control plane that announced `journal` (D3).
 */
import type { HostRecord } from "../Schema/HostRecord.ts"
import type { Reason } from "../Schema/Reasons.ts"
import {
  type Capability,
  type Fetching,
  heartbeatListLimit,
  type HeartbeatRequest,
  type HostHold,
  type Rejection,
  type RolloutDigest
} from "../Schema/Wire.ts"
import { currentEntry, entriesOf, type RolloutEntry, type State } from "./State.ts"

/** What the worker knows at the moment of the heartbeat. */
export interface ReportFacts {
  /** Epoch milliseconds. */
  readonly at: number
  /** Whole seconds since the host was booted. */
  readonly uptimeSecs: number
  readonly version: string
  /** The first heartbeats of a process, until one was answered. */
  readonly boot: boolean
  readonly peer: ReadonlySet<Capability>
  /** What keeps the host from going forward; absent when nothing does. */
  readonly held?: HostHold | undefined
  /** What is fetched now. */
  readonly fetching?: Fetching | undefined
}

/** Rows of this rollout that the control plane has not taken: waiting ones and parked ones. */
const lacking = ({ lane, record }: RolloutEntry): number =>
  Math.max(0, record.lastEventSeq + 1 - lane.nextSeq) + lane.parked.length

/** True from the acknowledgement to the end of the switch, and from the start of a rollback to its end. */
function switching({ bookkeeping, record }: RolloutEntry): boolean {
  if (record.state === "Activating") return true
  return record.state === "Failed" && bookkeeping.rollbackStarts > record.rollbackFailures
}

/**
 * The running closure, unless it could mislead: a control plane of the original takes it as proof that an activation is
 * over, and skips the soak when the events that say otherwise have not arrived (C-W13a).
 */
export function reportedClosure(state: State): string | undefined {
  const current = currentEntry(state)
  if (current !== undefined && (switching(current) || lacking(current) > 0)) return undefined
  return state.observed
}

/** Why a record is where it is, as a name of the catalogue. */
function reasonOf(record: HostRecord): Reason | undefined {
  if (record.state !== "Failed" && record.state !== "Reverted") return undefined
  if (record.cause !== undefined) return record.cause
  switch (record.failure) {
    case "activation":
      return "activation-failed"
    case "probes":
      return "sustained-failure"
    case "drift":
      return "closure-drift"
  }
}

export function digestOf(record: HostRecord): RolloutDigest {
  const reason = reasonOf(record)
  const atFault = (record.state === "Failed" || record.state === "Reverted") && record.closureAtFault
  return {
    rollout_id: record.rolloutId,
    state: record.state,
    target_closure: record.targetClosure,
    attempt: record.attempt,
    last_event_seq: record.lastEventSeq,
    ...(reason === undefined ? {} : { reason }),
    ...(atFault ? { quarantined: true } : {}),
    ...(record.diverged === true ? { diverged: true } : {})
  }
}

/** The current record first, then the newest: when there are too many, the oldest are left out. */
function reported(state: State): ReadonlyArray<RolloutEntry> {
  const rank = ({ record }: RolloutEntry) => record.closedAt === undefined ? Infinity : record.signedAt
  return entriesOf(state).toSorted((a, b) => rank(b) - rank(a)).slice(0, heartbeatListLimit)
}

function rejectionsOf(state: State): ReadonlyArray<Rejection> {
  return [...state.rejections.values()]
    .toSorted((a, b) => b.at - a.at)
    .slice(0, heartbeatListLimit)
    .map(({ rolloutId, reason, detail, at }) => ({ rollout_id: rolloutId, reason, detail, at }))
}

/** Additive part (D6, D8). */
function journalReport(state: State, facts: ReportFacts): Partial<HeartbeatRequest> {
  const entries = entriesOf(state)
  const digests = reported(state).map(({ record }) => digestOf(record))
  return {
    uptime_secs: facts.uptimeSecs,
    agent_version: facts.version,
    journal_id: state.journalId,
    last_event_seq_by_rollout: Object.fromEntries(digests.map((one) => [one.rollout_id, one.last_event_seq])),
    digests,
    rejections: rejectionsOf(state),
    boot: facts.boot,
    pending_events: entries.reduce(
      (sum, { lane, record }) => sum + Math.max(0, record.lastEventSeq + 1 - lane.nextSeq),
      0
    ),
    parked_events: entries.reduce((sum, { lane }) => sum + lane.parked.length, 0),
    ...(facts.held === undefined ? {} : { held: facts.held }),
    ...(facts.fetching === undefined ? {} : { fetching: facts.fetching })
  }
}

/**
 * What a control plane of the original may be told of the running closure. Where it sees the target it invents every event
 * that it lacks, up to the convergence: a soak that is not over would be, and a failure that was lost would never have been
 * (C-W13, protocol.md §3.5).
 */
function closureForOriginal(state: State): string | undefined {
  const closure = reportedClosure(state)
  const record = currentEntry(state)?.record
  return record !== undefined && record.state !== "Converged" && closure === record.targetClosure ? undefined : closure
}

/**
 * The whole heartbeat. The first one names no rollout: a control plane of the original then sends what it holds, which a
 * new journal needs as floors for its numbers (D2). Later ones name the current rollout, but to the original only when its
 * replay header would then say what it lacks, which takes another closure than the target (control-plane.md §4.3); else its
 * snapshots do: it drops events that it has answered with 204, and nothing else tells that it did (C-W1).
 */
export function heartbeatOf(state: State, facts: ReportFacts): HeartbeatRequest {
  const keepsJournals = facts.peer.has("journal")
  const closure = keepsJournals ? reportedClosure(state) : closureForOriginal(state)
  const current = currentEntry(state)?.record
  const names = current !== undefined && !facts.boot &&
    (keepsJournals || (closure !== undefined && closure !== current.targetClosure))
  return {
    hostname: state.hostname,
    at: facts.at,
    ...(names ? { rollout_id: current.rolloutId } : {}),
    ...(closure === undefined ? {} : { current_closure: closure }),
    ...(keepsJournals ? journalReport(state, facts) : {})
  }
}
