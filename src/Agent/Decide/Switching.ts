/**
 * Leave to start a switch, and what came of it (D7, D11). A switch may start only after the mark that says so is durable;
 * the number of those marks bounds its re-runs.
 */
import { maxSwitchStarts } from "../../Rollout/Owed.ts"
import {
  accepted,
  type ActivationStarted,
  type Answer,
  type Booted,
  refused,
  type RollbackStarted,
  type Settled
} from "../Input.ts"
import { currentEntry, type RolloutEntry } from "../State.ts"
import type { Draft } from "./Draft.ts"

/** Only the current record may begin to move the host (D10). */
function current(draft: Draft, input: ActivationStarted | RollbackStarted): RolloutEntry | Answer {
  const entry = currentEntry(draft.state)
  if (entry === undefined || entry.record.rolloutId !== input.rolloutId) {
    return refused("record-closed", `${input.rolloutId} is not the current rollout of this host`)
  }
  if (entry.record.attempt !== input.attempt) {
    return refused("wrong-attempt", `attempt ${entry.record.attempt} is under way`)
  }
  return entry
}

export function leaveToSwitch(draft: Draft, input: ActivationStarted): Answer {
  const entry = current(draft, input)
  if ("_tag" in entry) return entry
  const { record } = entry
  if (record.state === "Activating" && record.activationStarts >= maxSwitchStarts) {
    return refused("attempts-exhausted", `${record.activationStarts} switches were started`)
  }
  const { at, attempt, baseline, rolloutId, switchMethod } = input
  if (baseline !== undefined) {
    const answer = draft.baselineTaken(rolloutId, baseline, at)
    if (answer._tag === "Refused") return answer
  }
  return draft.event(rolloutId, { kind: "ActivationStarted", startedAt: at, switchMethod, attempt }, at)
}

export function leaveToRollBack(draft: Draft, input: RollbackStarted): Answer {
  const entry = current(draft, input)
  if ("_tag" in entry) return entry
  const { bookkeeping, record } = entry
  if (record.state !== "Failed") return refused("illegal-for-state", `rollback in state ${record.state}`)
  if (bookkeeping.rollbackStarts > record.rollbackFailures) {
    return refused("attempts-exhausted", `rollback ${bookkeeping.rollbackStarts} has not ended`)
  }
  return draft.rollbackStarted(input.rolloutId, input.at)
}

/** Results are told even of a superseded record, whose switch ran on (D10); the machine's own guards decide. */
export function settled(draft: Draft, input: Settled): Answer {
  const answer = draft.event(input.rolloutId, input.event, input.at)
  // Another rollout may have waited for this switch to end.
  if (answer._tag === "Accepted") draft.ring("activation")
  return answer
}

/** Counts the boots of the host while a switch began and its activation is not settled; a reboot that was asked for is none. */
export function booted(draft: Draft, { bootId }: Booted): Answer {
  const before = draft.state.bootId
  if (before === bootId) return accepted
  draft.state = { ...draft.state, bootId }
  draft.write({ _tag: "PutHostFact", fact: "bootId", value: bootId })
  const record = currentEntry(draft.state)?.record
  if (before === undefined || record === undefined) return accepted
  if (record.state !== "Activating" && record.state !== "Soaking") return accepted
  return record.activationStarts === 0 ? accepted : draft.booted(record)
}
