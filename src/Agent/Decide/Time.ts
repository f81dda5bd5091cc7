/**
 * What the passage of time makes due (D12): the running time of a soak, and through `Rollout/Owed` its end, its failure, or
 * the end of a deferral. Every such event is folded in the batch that made it due (house rule 5).
 */
import type { Now } from "../../Reducer.ts"
import { advance, latestTime, type Settle, soakLeft } from "../../Rollout/Owed.ts"
import { accepted, type Answer, type Tick } from "../Input.ts"
import { currentEntry, entriesOf, type RolloutEntry, type State } from "../State.ts"
import { observe } from "./Dispatch.ts"
import type { Draft } from "./Draft.ts"
import { clockStepMs, type Limits, soakJournalMs } from "./Limits.ts"
import { releaseHeld } from "./Probes.ts"
import { retain } from "./Retention.ts"

export function tick(draft: Draft, input: Tick, limits: Limits): Answer {
  outOfTheFuture(draft)
  observe(draft, input.observed)
  if (soakOn(draft)) followUps(draft)
  retain(draft, limits)
  return accepted
}

/** The entry with all of its running time: what `Owed` judges. */
function accrued(entry: RolloutEntry, now: Now): RolloutEntry {
  const { record, transient } = entry
  if (record.state !== "Soaking" || transient.soakedSince === undefined) return entry
  return { ...entry, record: { ...record, soakedMs: record.soakedMs + now.monotonic - transient.soakedSince } }
}

/**
 * Starts the soak's clock in a new process, else journals the running time now and then. False when it only started: a
 * process that has just begun has not yet seen a probe run, and must not end a soak on what another one saw.
 */
function soakOn(draft: Draft): boolean {
  const current = currentEntry(draft.state)
  if (current?.record.state !== "Soaking") return true
  const { soakedSince } = current.transient
  if (soakedSince === undefined) {
    draft.setTransient(current, { ...current.transient, soakedSince: draft.now.monotonic })
    return false
  }
  const everyMs = Math.min(soakJournalMs, current.record.policy.soakMs / 10 + 1)
  if (draft.now.monotonic - soakedSince >= everyMs) journalSoak(draft, current)
  return true
}

const soakedEnough = ({ record }: RolloutEntry): boolean =>
  record.state === "Soaking" && record.soakedMs >= record.policy.soakMs

function journalSoak(draft: Draft, entry: RolloutEntry): void {
  const { record } = accrued(entry, draft.now)
  // What the policy asks for is enough: a soak that is stuck must not fill the journal.
  if (record.state !== "Soaking" || record.soakedMs === 0 || soakedEnough(entry)) return
  const { rolloutId, soakedMs } = record
  draft.learn(rolloutId, { kind: "Soaked", soakedMs })
  const after = draft.entry(rolloutId)
  if (after !== undefined) draft.setTransient(after, { ...after.transient, soakedSince: draft.now.monotonic })
}

function due(draft: Draft): Settle | undefined {
  const { observed, observedSince } = draft.state
  const entries = entriesOf(draft.state).map((entry) => accrued(entry, draft.now))
  const duty = advance(entries, { running: observed, since: observedSince }, draft.now.wall)
  return duty._tag === "Settle" ? duty : undefined
}

/**
 * Before every decision: when the wall clock stepped since the last one (a time server's first word after the boot, a host
 * that slept, a person), the times of the current record move with it. So no deadline, no soak and no duration of a failure
 * is longer or shorter by the step (D12).
 */
export function readClocks(draft: Draft): void {
  const { monotonic, wall } = draft.now
  const { clock } = draft.state
  const offset = wall - monotonic
  const stepMs = clock === undefined ? 0 : offset - clock.offset
  if (clock?.offset !== offset) draft.state = { ...draft.state, clock: { offset } }
  if (Math.abs(stepMs) >= clockStepMs) moveTimes(draft, stepMs)
}

/**
 * A step that nobody saw, because this process did not run yet or because what was journaled after it was noted before it,
 * shows when it went back: no time of the past can lie in the future. One that went forward looks like time that passed
 * while the agent did not run, and counts as such.
 */
function outOfTheFuture(draft: Draft): void {
  const record = currentEntry(draft.state)?.record
  const ahead = record === undefined ? 0 : (latestTime(record) ?? 0) - draft.now.wall
  if (ahead >= clockStepMs) moveTimes(draft, -ahead)
}

function moveTimes(draft: Draft, byMs: number): void {
  const current = currentEntry(draft.state)
  draft.state = { ...draft.state, observedSince: Math.max(0, draft.state.observedSince + byMs) }
  if (current === undefined || latestTime(current.record) === undefined) return
  const { rolloutId } = current.record
  draft.learn(rolloutId, { kind: "ClockStepped", byMs })
  draft.tell("warn", "the wall clock stepped; what is under way goes on as if it had not", {
    reason: "clock-stepped",
    detail: `by ${byMs} ms`,
    rollout: rolloutId
  })
}

/**
 * Convergence and drift need a closure that was read just now, so only a tick may find them. A sustained failure is found by
 * a probe sample too: `failures`.
 */
function followUps(draft: Draft): void {
  const first = due(draft)
  if (first === undefined) return
  // A failure that the rate limit kept back may forbid the convergence: it is journaled first, and asked about again.
  if (first.event.kind === "Converged") releaseHeld(draft, first.rolloutId)
  const settle = due(draft)
  if (settle !== undefined) decide(draft, settle)
}

/** Sustained failure, as soon as the sample that shows it is journaled. */
export function failures(draft: Draft): void {
  const settle = due(draft)
  if (settle?.event.kind === "Failed" && settle.event.cause !== "closure-drift") decide(draft, settle)
}

function decide(draft: Draft, { event, rolloutId }: Settle): void {
  const entry = draft.entry(rolloutId)
  if (entry === undefined) return
  // The guard of a convergence reads the running time from the record.
  if (event.kind === "Converged") journalSoak(draft, entry)
  const answer = draft.event(rolloutId, event, draft.now.wall)
  if (answer._tag === "Refused") {
    draft.tell("warn", "event that was due is refused", {
      rollout: rolloutId,
      kind: event.kind,
      reason: answer.reason,
      detail: answer.detail
    })
  } else if (event.kind === "Converged") {
    draft.state = { ...draft.state, lastConverged: event.currentClosure }
    draft.write({ _tag: "PutHostFact", fact: "lastConverged", value: event.currentClosure })
  }
}

/** Milliseconds until time alone may end the present soak; absent when none can end. For the ticker. */
export function soakDueIn(state: State, now: Now): number | undefined {
  const current = currentEntry(state)
  if (current === undefined) return undefined
  const { record } = accrued(current, now)
  return record.state === "Soaking" ? soakLeft(record, now.wall) : undefined
}
