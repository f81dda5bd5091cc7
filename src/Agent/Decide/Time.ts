/**
 * What the passage of time makes due (D12): the running time of a soak, and through `Rollout/Owed` its end, its failure, or
 * the end of a deferral. Every such event is folded in the batch that made it due (house rule 5).
 */
import type { Now } from "../../Reducer.ts"
import { advance, type Settle, soakLeft } from "../../Rollout/Owed.ts"
import { accepted, type Answer, type Tick } from "../Input.ts"
import { currentEntry, entriesOf, type RolloutEntry, type State } from "../State.ts"
import { observe } from "./Dispatch.ts"
import type { Draft } from "./Draft.ts"
import { type Limits, soakJournalMs } from "./Limits.ts"
import { releaseHeld } from "./Probes.ts"
import { retain } from "./Retention.ts"

export function tick(draft: Draft, input: Tick, limits: Limits): Answer {
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

function journalSoak(draft: Draft, entry: RolloutEntry): void {
  const { record } = accrued(entry, draft.now)
  if (record.state !== "Soaking" || record.soakedMs === 0) return
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
 * Convergence needs a closure that was read just now, so only a tick may find it. What else a tick may find, a probe
 * sample may find too: `failures`.
 */
export function followUps(draft: Draft): void {
  const first = due(draft)
  if (first === undefined) return
  // A failure that the rate limit kept back may forbid the convergence: it is journaled first, and asked about again.
  if (first.event.kind === "Converged") releaseHeld(draft, first.rolloutId)
  const settle = due(draft)
  if (settle !== undefined) decide(draft, settle)
}

/** Sustained failure and drift, as soon as the sample that shows them is journaled. */
export function failures(draft: Draft): void {
  const settle = due(draft)
  if (settle?.event.kind === "Failed") decide(draft, settle)
}

function decide(draft: Draft, { event, rolloutId }: Settle): void {
  const entry = draft.entry(rolloutId)
  if (entry === undefined) return
  // The guard of a convergence reads the running time from the record.
  if (event.kind === "Converged") journalSoak(draft, entry)
  const answer = draft.event(rolloutId, event, draft.now.wall)
  if (answer._tag === "Refused") {
    draft.tell("warning", "event that was due is refused", {
      rolloutId,
      kind: event.kind,
      reason: answer.reason,
      detail: answer.detail
    })
  } else if (event.kind === "Converged") {
    draft.state = { ...draft.state, lastConverged: event.currentClosure }
    draft.write({ _tag: "PutHostFact", fact: "lastConverged", closure: event.currentClosure })
  }
}

/** Milliseconds until time alone may end the present soak; absent when none can end. For the ticker. */
export function soakDueIn(state: State, now: Now): number | undefined {
  const current = currentEntry(state)
  if (current === undefined) return undefined
  const { record } = accrued(current, now)
  return record.state === "Soaking" ? soakLeft(record, now.wall) : undefined
}
