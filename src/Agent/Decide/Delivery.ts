/**
 * What became of the rows that were sent, and which are sent again (D4–D6). A row is delivered when the control plane
 * answered for it; it is resent whenever the control plane shows that it lacks it.
 */
import { knownReason } from "../../Schema/Reasons.ts"
import type { AgentEventKind } from "../../Schema/Wire.ts"
import { accepted, type Answer, type Delivered, type HeartbeatAnswered, refused } from "../Input.ts"
import { entriesOf, type RolloutEntry } from "../State.ts"
import type { Delivery } from "../Write.ts"
import type { Draft } from "./Draft.ts"

/** Floors kept for rollouts of an earlier journal; the oldest makes room. */
const seqFloorLimit = 256

/** Events whose refusal leaves the two records different (D4). */
const changesState: Readonly<Record<AgentEventKind, boolean>> = {
  DispatchAck: true,
  ActivationStarted: false,
  ActivationCompleted: true,
  ActivationDeferred: true,
  ActivationFailed: true,
  ProbeTopologyDeclared: false,
  ProbeObservedFirst: false,
  ProbeResult: false,
  ProbeFailureFirst: false,
  Failed: true,
  RollbackComplete: true,
  Converged: true
}

export function delivered(draft: Draft, input: Delivered): Answer {
  const entry = draft.entry(input.rolloutId)
  if (entry === undefined) return refused("unknown-rollout", `no record of ${input.rolloutId}`)
  const { lane, record } = entry
  if (input.verdict._tag === "Gap") {
    rewind(draft, entry, input.verdict.replayFrom)
    return accepted
  }
  if (input.seq !== lane.nextSeq || input.seq > record.lastEventSeq) {
    return refused("not-oldest", `row ${input.seq} was sent, row ${lane.nextSeq} is the oldest undelivered one`)
  }
  const next = { ...lane, nextSeq: lane.nextSeq + 1 }
  switch (input.verdict._tag) {
    case "Applied":
      mark(draft, entry, "delivered", "")
      draft.setLane(entry, next)
      break
    case "Parked":
      mark(draft, entry, "parked", input.verdict.reason)
      draft.setLane(entry, { ...next, parked: [...lane.parked, input.seq] })
      draft.tell("warn", "event parked", { ...eventFields(input), reason: knownReason(input.verdict.reason) })
      break
    case "Refused":
      mark(draft, entry, "refused", input.verdict.reason)
      draft.setLane(entry, next)
      draft.tell("warn", "event refused", {
        ...eventFields(input),
        reason: knownReason(input.verdict.reason),
        detail: input.verdict.reason
      })
      diverge(draft, input)
      break
  }
  draft.ring("outbound")
  return accepted
}

const eventFields = (input: Delivered) => ({ rollout: input.rolloutId, seq: input.seq, kind: input.kind })

function mark(draft: Draft, entry: RolloutEntry, delivery: Exclude<Delivery, "pending">, detail: string): void {
  const { rolloutId } = entry.record
  draft.write({ _tag: "MarkRow", rolloutId, seq: entry.lane.nextSeq, delivery, detail })
}

/** A refusal is durable on both sides; when it was a change of state, the records differ from now on (D4). */
function diverge(draft: Draft, input: Delivered): void {
  const entry = draft.entry(input.rolloutId)
  if (entry === undefined || input.seq < entry.bookkeeping.openedSeq || !changesState[input.kind]) return
  draft.learn(input.rolloutId, { kind: "Diverged" })
  draft.ring("heartbeat")
}

/** Everything from `from` is undelivered again, as far back as rows are kept. */
function rewind(draft: Draft, entry: RolloutEntry, from: number): void {
  const { lane, record } = entry
  const fromSeq = Math.max(from, lane.firstKeptSeq)
  if (fromSeq >= lane.nextSeq) return
  draft.write({ _tag: "Rewind", rolloutId: record.rolloutId, fromSeq })
  draft.setLane(entry, { ...lane, nextSeq: fromSeq, parked: lane.parked.filter((seq) => seq < fromSeq) })
  draft.tell("info", "events are sent again", { rollout: record.rolloutId, fromSeq, toSeq: lane.nextSeq - 1 })
  draft.ring("outbound")
}

/**
 * A replay that only a snapshot, a replay header or a repeated dispatch suggests goes the 1st, 2nd, 4th, 8th … time that it is
 * suggested: a control plane of the original that dropped the rows while it was cold gets them (C-W1), and one that drops
 * them for good has them sent less and less often.
 */
export function resend(draft: Draft, entry: RolloutEntry, from: number): void {
  const { lane } = entry
  const fromSeq = Math.max(from, lane.firstKeptSeq)
  if (fromSeq >= lane.nextSeq) return
  const times = (lane.suggested?.from === fromSeq ? lane.suggested.times : 0) + 1
  const noted = { ...entry, lane: { ...lane, suggested: { from: fromSeq, times } } }
  if (Number.isInteger(Math.log2(times))) rewind(draft, noted, fromSeq)
  else draft.setLane(entry, noted.lane)
}

export function heartbeatAnswered(draft: Draft, input: HeartbeatAnswered): Answer {
  for (const [rolloutId, through] of Object.entries(input.ackedThrough)) {
    const entry = draft.entry(rolloutId)
    if (entry !== undefined && entry.lane.ackedThrough !== through) {
      draft.setLane(entry, { ...entry.lane, ackedThrough: through })
    }
  }
  for (const [rolloutId, from] of Object.entries(input.replayFrom)) {
    const entry = draft.entry(rolloutId)
    if (entry !== undefined) rewind(draft, entry, from)
  }
  for (const { lastEventSeq, rolloutId } of input.snapshots) compare(draft, rolloutId, lastEventSeq)
  if (input.held !== undefined) compare(draft, input.held.rolloutId, input.held.seq)
  for (const entry of entriesOf(draft.state)) resendParked(draft, entry)
  return accepted
}

/**
 * The original never says by number what it lacks, so nobody would ask for rows that an outage parked (a certificate that had
 * run out, a proxy in between): they go again when it answers heartbeats, as often as its snapshots could ask for it.
 */
function resendParked(draft: Draft, entry: RolloutEntry): void {
  const [first] = entry.lane.parked
  if (first !== undefined && entry.lane.ackedThrough === undefined) resend(draft, entry, first)
}

/** A number behind ours asks for our events; one of a rollout we do not know is only a floor for its numbers (D2, D6). */
function compare(draft: Draft, rolloutId: string, seq: number): void {
  const entry = draft.entry(rolloutId)
  if (entry !== undefined) resend(draft, entry, seq + 1)
  else raiseFloor(draft, rolloutId, seq)
}

/** A floor only rises: a number that the control plane has seen once is never used again (D2). */
export function raiseFloor(draft: Draft, rolloutId: string, seq: number): void {
  if ((draft.state.seqFloors.get(rolloutId) ?? 0) >= seq) return
  const seqFloors = new Map(draft.state.seqFloors)
  for (const id of seqFloors.keys()) {
    if (seqFloors.size < seqFloorLimit || seqFloors.has(rolloutId)) break
    seqFloors.delete(id)
    draft.write({ _tag: "DropSeqFloor", rolloutId: id })
  }
  draft.state = { ...draft.state, seqFloors: seqFloors.set(rolloutId, seq) }
  draft.write({ _tag: "PutSeqFloor", rolloutId, seq })
}
