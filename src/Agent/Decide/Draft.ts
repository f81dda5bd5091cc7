/**
 * The working copy of one decision: the state as it becomes, the rows that make it so, and whom to wake. A decision
 * creates one, folds rows into it, and takes its outcome; nothing outside sees it before the commit.
 */
import { Schema } from "effect"
import type { Now } from "../../Reducer.ts"
import type { UnnumberedEvent } from "../../Rollout/Host.ts"
import { guardOwed, sameOrder } from "../../Rollout/Owed.ts"
import {
  type Baseline,
  Entry,
  type Fact,
  type Opened,
  type ProbeFact,
  type Row,
  wireEventOf
} from "../../Schema/AgentJournal.ts"
import type { HostRecord } from "../../Schema/HostRecord.ts"
import type { LogFields, LogLevel, LogMessage, ReasonedFields } from "../../Schema/Logs.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import type { AgentEvent } from "../../Schema/Wire.ts"
import { type FoldError, foldRow } from "../Fold.ts"
import { accepted, type Answer, refused } from "../Input.ts"
import type { SlotName } from "../Intents.ts"
import { currentEntry, type Lane, type RolloutEntry, type State, type Transient } from "../State.ts"
import type { Action, Write } from "../Write.ts"

/** A soak's clock and samples begin and end with it. */
function transientOf(record: HostRecord, before: RolloutEntry | undefined, now: Now): Transient {
  const goesOn = before?.record.state === record.state && before.record.attempt === record.attempt
  if (goesOn) return before.transient
  return record.state === "Soaking" ? { soakedSince: now.monotonic, probes: new Map() } : { probes: new Map() }
}

/** What a worker saw can be longer, or stranger, than the wire allows; found at the commit it would end the process. */
const fits: (entry: Entry) => boolean = Schema.is(Schema.toType(Entry))

/** The event with its place in the rollout's sequence; every kind passes here (A-W01). */
function numbered(event: UnnumberedEvent, seq: number): AgentEvent {
  return { ...event, seq }
}

export class Draft {
  state: State
  readonly now: Now
  private readonly initial: State
  private readonly writes: Array<Write> = []
  private readonly slots = new Set<SlotName>()
  private readonly notices: Array<LogMessage> = []

  constructor(state: State, now: Now) {
    this.state = state
    this.initial = state
    this.now = now
  }

  entry(rolloutId: string): RolloutEntry | undefined {
    return this.state.rollouts.get(rolloutId)
  }

  write(write: Write): void {
    this.writes.push(write)
  }

  ring(...slots: ReadonlyArray<SlotName>): void {
    for (const slot of slots) this.slots.add(slot)
  }

  tell(level: "info", message: string, fields: LogFields): void
  tell(level: "warn", message: string, fields: ReasonedFields): void
  tell(level: LogLevel, message: string, fields: LogFields): void {
    this.notices.push({ level, message, fields })
  }

  put(entry: RolloutEntry): void {
    this.state = { ...this.state, rollouts: new Map(this.state.rollouts).set(entry.record.rolloutId, entry) }
  }

  setLane(entry: RolloutEntry, lane: Lane): void {
    this.put({ ...entry, lane })
  }

  setTransient(entry: RolloutEntry, transient: Transient): void {
    this.put({ ...entry, transient })
  }

  /** Numbers the event, folds it, and keeps its row; a refusal changes nothing and consumes no number. */
  event(rolloutId: string, event: UnnumberedEvent, at: number): Answer {
    const record = this.entry(rolloutId)?.record
    if (record === undefined) return refused("unknown-rollout", `no record of ${rolloutId}`)
    return this.append(record, { _tag: "Stepped", event: numbered(event, record.lastEventSeq + 1) }, at)
  }

  /** A fact that only this host's journal knows; it has no number. */
  learn(rolloutId: string, fact: Fact): Answer {
    const record = this.entry(rolloutId)?.record
    if (record === undefined) return refused("unknown-rollout", `no record of ${rolloutId}`)
    return this.append(record, { _tag: "Learned", fact }, this.now.wall)
  }

  /** What only this host's journal knows of a probe. */
  learnOfProbe(rolloutId: string, fact: ProbeFact, at: number): Answer {
    const record = this.entry(rolloutId)?.record
    if (record === undefined) return refused("unknown-rollout", `no record of ${rolloutId}`)
    return this.append(record, { _tag: "ProbeLearned", fact }, at)
  }

  /** What was wrong before the switch that is about to start. */
  baselineTaken(rolloutId: string, baseline: Baseline, at: number): Answer {
    const record = this.entry(rolloutId)?.record
    if (record === undefined) return refused("unknown-rollout", `no record of ${rolloutId}`)
    return this.append(record, { _tag: "BaselineTaken", baseline }, at)
  }

  /** Leave to start a rollback's switch (D11). */
  rollbackStarted(rolloutId: string, at: number): Answer {
    const record = this.entry(rolloutId)?.record
    if (record === undefined) return refused("unknown-rollout", `no record of ${rolloutId}`)
    return this.append(record, { _tag: "RollbackStarted" }, at)
  }

  /** The host was booted before the activation was settled (D11). */
  booted(record: HostRecord): Answer {
    return this.append(record, { _tag: "Booted" }, this.now.wall)
  }

  /** Opens an attempt: `pending` numbers go on where the rollout's rows ended. */
  open(
    entry: Omit<Opened, "event">,
    ack: Extract<UnnumberedEvent, { kind: "DispatchAck" }>,
    at: number
  ): Answer {
    const { pending } = entry
    const event = numbered(ack, pending.lastEventSeq + 1)
    return this.append(pending, { ...entry, event }, at)
  }

  private append(of: HostRecord, entry: Entry, at: number): Answer {
    const event = wireEventOf(entry)
    if (!fits(entry)) return refused("invalid-event", `${event?.kind ?? entry._tag} can neither be stored nor sent`)
    const row: Row = { rolloutId: of.rolloutId, attempt: of.attempt, at, now: this.now.wall, entry }
    const before = this.entry(of.rolloutId)
    const result = foldRow(before, row)
    if (!result.ok) return refusal(result.error)
    const { record } = result.folded
    const fresh = before === undefined || before.record.attempt !== record.attempt
    const seq = event?.seq ?? record.lastEventSeq + 1
    this.writes.push({ _tag: "AppendRow", row })
    this.put({
      ...result.folded,
      lane: before?.lane ?? { nextSeq: seq, firstKeptSeq: seq, parked: [] },
      transient: transientOf(record, before, this.now)
    })
    if (event !== undefined) this.ring("outbound")
    if (before?.record.state !== record.state || fresh) this.transition(before?.record, record)
    return accepted
  }

  private transition(before: HostRecord | undefined, record: HostRecord): void {
    this.ring("activation", "probe", "heartbeat")
    this.tell("info", "host state changed", {
      rollout: record.rolloutId,
      attempt: record.attempt,
      from: before?.state ?? "none",
      to: record.state,
      closure: record.targetClosure
    })
  }

  /** What the decision comes to. The stored record of each changed rollout is written once, after its rows. */
  outcome(answer: Answer) {
    const writes = [...this.writes]
    for (const [rolloutId, entry] of this.state.rollouts) {
      const before = this.initial.rollouts.get(rolloutId)
      const same = before !== undefined && before.record === entry.record &&
        before.bookkeeping === entry.bookkeeping && before.lane.ackedThrough === entry.lane.ackedThrough
      if (same) continue
      const { bookkeeping, lane, record } = entry
      writes.push({ _tag: "PutRollout", rolloutId, folded: { record, bookkeeping }, ackedThrough: lane.ackedThrough })
    }
    const over = guardOver(this.initial, this.state)
    if (over !== undefined) writes.push(over)
    const actions: Array<Action> = [
      ...this.notices.map((entry): Action => ({ _tag: "Tell", entry })),
      ...[...this.slots].map((slot): Action => ({ _tag: "Ring", slot }))
    ]
    return { state: this.state, writes, actions, answer }
  }
}

/** The guard that the activation had is not its guard any more: disarmed by the commit that says so (D10). */
function guardOver(before: State, after: State): Write | undefined {
  const order = guardOwed(currentEntry(before))
  if (order === undefined || sameOrder(order, guardOwed(currentEntry(after)))) return undefined
  const state = after.rollouts.get(order.rolloutId)?.record.state
  return { _tag: "DisarmGuard", order, settled: state === "Converged" || state === "Deferred" }
}

const names: Readonly<Record<FoldError["_tag"], Reason>> = {
  SeqRegression: "seq-regression",
  IllegalForState: "illegal-for-state",
  WrongAttempt: "wrong-attempt",
  Invariant: "invariant",
  Orphan: "unknown-rollout"
}

const detailOf = (error: FoldError): string => {
  switch (error._tag) {
    case "SeqRegression":
      return `sequence number ${error.got} after ${error.last}`
    case "IllegalForState":
      return `${error.kind} in state ${error.from}`
    case "WrongAttempt":
      return `attempt ${error.got}, expected ${error.expected}`
    case "Invariant":
      return `${error.invariant}: ${error.detail}`
    case "Orphan":
      return error.detail
  }
}

const refusal = (error: FoldError): Answer => refused(names[error._tag], detailOf(error))
