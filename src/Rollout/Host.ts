/**
 * The machine of one host in one rollout: the same function on the agent and on the control plane's mirror (house rule 3;
 * protocol.md §3, decisions.md D7, D10–D12). Pure: times are arguments, records are never changed in place.
 *
 * `step` folds what has a sequence number and travels on the wire. `learn` folds what only one side knows and never sends:
 * a record that was closed, time spent soaking, an event that was refused. Both are total; `step` refuses by name.
 *
 * Does not own: sequence numbers (the reducers give and check them), gaps (D4), what is due next (`Owed.ts`).
 */
import type { HostRecord, PendingRecord } from "../Schema/HostRecord.ts"
import { stepActivating, stepDeferred, stepPending } from "./host/Activation.ts"
import { clockStepped } from "./host/Clock.ts"
import { learnOfProbes, type ProbeFact } from "./host/Doubt.ts"
import { stepFailed } from "./host/Failure.ts"
import type { HostEvent, StepResult } from "./host/Model.ts"
import { illegal, violates } from "./host/Model.ts"
import { stepSoaking } from "./host/Soak.ts"

export { maxRollbacks } from "./host/Failure.ts"
export type {
  ActivationFacts,
  HostEffect,
  HostEvent,
  Invariant,
  Origin,
  StepError,
  StepResult,
  UnnumberedEvent
} from "./host/Model.ts"

/**
 * Folds one event. Checks, in this order: sequence (protocol.md §3.1), attempt (D7), legality of the cell, and for Local
 * events the guards (D12), that of a closed record (D10) last. On refusal the record is as before. `now`: epoch ms of the decision.
 */
export function step(record: HostRecord, input: HostEvent, now: number): StepResult {
  const { event } = input
  if (event.seq <= record.lastEventSeq) {
    return { ok: false, error: { _tag: "SeqRegression", got: event.seq, last: record.lastEventSeq } }
  }
  if (event.attempt !== undefined && event.attempt !== record.attempt) {
    return { ok: false, error: { _tag: "WrongAttempt", got: event.attempt, expected: record.attempt } }
  }
  const result = cell(record, input, now)
  if (!result.ok) return result
  if (record.closedAt !== undefined && input.origin === "Local" && !tellsAnOutcome(input)) {
    return violates("closed", "a newer rollout of this host closed the record")
  }
  return { ...result, record: { ...result.record, lastEventSeq: event.seq } }
}

function cell(record: HostRecord, input: HostEvent, now: number): StepResult {
  switch (record.state) {
    case "Pending":
      return stepPending(record, input)
    case "Activating":
      return stepActivating(record, input)
    case "Deferred":
      return stepDeferred(record, input)
    case "Soaking":
      return stepSoaking(record, input, now)
    case "Failed":
      return stepFailed(record, input)
    case "Converged":
    case "Reverted":
      return illegal(record, input.event)
  }
}

/** A switch that was under way when the record was closed ends all the same, and its end is told (D10). */
function tellsAnOutcome({ event }: HostEvent): boolean {
  return event.kind === "ActivationCompleted" || event.kind === "ActivationDeferred" ||
    event.kind === "ActivationFailed" ||
    event.kind === "RollbackComplete"
}

/**
 * A record for a dispatch that nobody has acknowledged. A further attempt, or a journal that starts above what the control
 * plane knows, goes on after `lastEventSeq`: numbers are never reused within a rollout (D2).
 */
export function newPending(
  fields: Omit<PendingRecord, "state" | "lastEventSeq"> & { readonly lastEventSeq?: number }
): PendingRecord {
  return { lastEventSeq: 0, ...fields, state: "Pending" }
}

/**
 * Fields in which the agent's record and its mirror may differ once every event is delivered (house rule 3): each is known to
 * one side only. Everything else is equal; tests and the simulator compare it.
 */
export const parityExcluded = [
  // Each side stamps the creation by its own clock.
  "dispatchedAt",
  // Facts that are learned, never told.
  "closedAt",
  "soakedMs",
  "diverged",
  "unproven",
  // What converged here before: the agent's own memory.
  "rollbackTarget",
  // Probes that could not be run, and what they said before the switch: what is told of them is what they say in the end.
  "inconclusive",
  "excused"
] as const
// After a step of the host's clock its times differ as well: `ClockStepped` moves them on the agent alone.

/** What changes a record without an event: local to one journal, without a sequence number, never on the wire. */
export type HostFact =
  /** A newer rollout of the host was accepted (D10); `at`: epoch ms. */
  | { readonly kind: "Closed"; readonly at: number }
  /** Monotonic running time spent soaking so far, milliseconds (D12). */
  | { readonly kind: "Soaked"; readonly soakedMs: number }
  /** The other side refused an event that changes the state (D4). */
  | { readonly kind: "Diverged" }
  /** The host's wall clock was set forward by so many ms, or back when negative: what was noted before moves with it. */
  | { readonly kind: "ClockStepped"; readonly byMs: number }
  /** The agent's digest says the same as the mirror (D6): what was unproven or diverged no longer is. */
  | { readonly kind: "Confirmed" }
  | ProbeFact

/** Folds a fact. Total: a fact that does not concern the record's state leaves it as it is. */
export function learn(record: HostRecord, fact: HostFact): HostRecord {
  switch (fact.kind) {
    case "Closed":
      return record.closedAt === undefined ? { ...record, closedAt: fact.at } : record
    case "Soaked":
      return record.state === "Soaking" && fact.soakedMs > record.soakedMs
        ? { ...record, soakedMs: fact.soakedMs }
        : record
    case "Diverged":
      return { ...record, diverged: true }
    case "ClockStepped":
      return clockStepped(record, fact.byMs)
    case "Confirmed":
      return confirmed(record)
    case "Inconclusive":
    case "Conclusive":
    case "Excused":
      return record.state === "Soaking" ? learnOfProbes(record, fact) : record
  }
}

function confirmed(record: HostRecord): HostRecord {
  const copy: HostRecord = { ...record }
  Reflect.deleteProperty(copy, "unproven")
  Reflect.deleteProperty(copy, "diverged")
  return copy
}
