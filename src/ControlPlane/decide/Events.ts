/**
 * An agent's event: is it new, is it next, is it legal (D2, D4; control-plane.md §4.4). Whatever is refused for good is
 * written down with its reason; what may succeed later is answered so and leaves no trace.
 */
import type { StepError } from "../../Rollout/Host.ts"
import type { EventOutcome } from "../../Schema/ControlPlaneJournal.ts"
import type { LogFields } from "../../Schema/Logs.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import type { AgentEvent, AgentEventKind, HostStateName } from "../../Schema/Wire.ts"
import type { Draft } from "../Draft.ts"
import { shortHash } from "../fold/Events.ts"
import { stepRemote } from "../fold/Policy.ts"
import type { EventAnswer, EventReceived } from "../Input.ts"
import {
  at,
  attemptLimit,
  hostIn,
  type HostInRollout,
  type Ledger,
  ledgerWindow,
  plannedHost,
  type RolloutEntry
} from "../State.ts"
import { markArrived } from "./Recovery.ts"

/**
 * How often the same event is sent back for those before it. An agent that keeps its journal supplies them at once; one
 * whose journal was reset cannot, and must not be blocked by that for ever (D5).
 */
const maxGapAnswers = 3

/** Refused events without a record here that are written down per host and hour (D4); a journal of weeks has fewer. */
const auditsPerHour = 200

export function decideEvent(draft: Draft, input: EventReceived): EventAnswer {
  const { event, hostname, rolloutId } = input.envelope
  const before = draft.state
  const entry = hostIn(before, rolloutId, hostname)
  const rollout = at(before.rollouts, rolloutId)
  if (entry === undefined || rollout === undefined) {
    // Before the first artifacts the rollout may still be opened: nothing may be lost by being early (W1).
    if (before.artifacts === undefined) return { _tag: "NotReady" }
    return refuse(draft, input, { reason: "unknown-rollout", class: "illegal", numbered: false })
  }
  const place = placeOf(entry.ledger, input)
  switch (place._tag) {
    case "Duplicate":
      return { _tag: "Duplicate" }
    case "Reused":
      return refuse(draft, input, { reason: place.reason, class: "guard", numbered: false })
    case "Gap": {
      const answers = draft.askedAgain(rolloutId, hostname, event.seq)
      if (answers <= maxGapAnswers) return { _tag: "Gap", replayFrom: entry.ledger.lastSeq + 1 }
      draft.log("events", "warn", "events before this one cannot be supplied; going on without them", {
        ...about(input),
        reason: "seq-gap",
        fromSeq: entry.ledger.lastSeq + 1
      })
      break
    }
    case "Next":
      break
  }
  if (isAhead(entry, rollout, event)) {
    draft.record({ host: hostname, rolloutId }, {
      kind: "effect",
      payload: { effect: "AttemptFollowed", attempt: event.attempt ?? 1 }
    })
  }
  const record = hostIn(draft.state, rolloutId, hostname)?.record ?? entry.record
  const result = stepRemote(record, event, rollout.plan, draft.now)
  if (!result.ok) {
    return refuse(draft, input, { ...refusalOf(result.error), numbered: true, afterGap: place._tag === "Gap" })
  }
  draft.record(
    { host: hostname, rolloutId },
    {
      kind: "agent_event",
      event,
      canonical: input.canonical,
      outcome: outcome(input, { outcome: "applied", ...(place._tag === "Gap" ? { afterGap: true } : {}) }),
      numbered: true
    }
  )
  const [from, to] = [record.state, result.record.state]
  // A deferral and an end may open or close a gate of other hosts; the way there opens none (W6, D20).
  if (from !== to && moveGates.has(to)) draft.markAll()
  else markArrived(draft, before, hostname)
  if (from !== to) draft.log("events", "info", "host state changed", { ...about(input), from, to })
  return { _tag: "Applied" }
}

/** Attempts are ours to give, so one that is ahead was given before the database was lost (D6, D7). */
function isAhead({ record }: HostInRollout, { plan }: RolloutEntry, event: AgentEvent): boolean {
  return event.kind === "DispatchAck" && event.attempt !== undefined && event.attempt > record.attempt &&
    event.attempt <= attemptLimit && plannedHost(plan, record.hostname) !== undefined
}

/** States that may open or close a gate of other hosts; the way there opens none (W6, D20). A deferral frees its place in budgets. */
const moveGates: ReadonlySet<HostStateName> = new Set(["Converged", "Deferred", "Failed", "Reverted"])

type Place =
  | { readonly _tag: "Next" }
  | { readonly _tag: "Duplicate" }
  | { readonly _tag: "Reused"; readonly reason: Reason }
  | { readonly _tag: "Gap" }

/** Where the event stands among those received. Agents of the original keep no journal: their gaps are theirs (P-31). */
function placeOf(ledger: Ledger, input: EventReceived): Place {
  const { event, journalId } = input.envelope
  if (event.seq > ledger.lastSeq) {
    const canSupply = journalId !== undefined && input.capabilities.has("verdicts")
    return event.seq === ledger.lastSeq + 1 || !canSupply ? { _tag: "Next" } : { _tag: "Gap" }
  }
  const known = ledger.seen.find(({ seq }) => seq === event.seq)
  if (known === undefined) {
    // Either so old that its content is forgotten, or one that was given up as missing and comes after all.
    const forgotten = ledger.seen.length >= ledgerWindow && event.seq < (ledger.seen[0]?.seq ?? 0)
    return forgotten ? { _tag: "Duplicate" } : { _tag: "Reused", reason: "seq-regression" }
  }
  if (known.journalId !== journalId) return { _tag: "Reused", reason: "seq-regression" }
  return known.hash === shortHash(input.hash) ? { _tag: "Duplicate" } : { _tag: "Reused", reason: "other-bytes" }
}

interface Refusal {
  readonly reason: Reason
  readonly class: "guard" | "illegal"
}

function refusalOf(error: StepError): Refusal {
  switch (error._tag) {
    case "IllegalForState":
      return { reason: "illegal-for-state", class: "illegal" }
    case "SeqRegression":
      return { reason: "seq-regression", class: "guard" }
    case "WrongAttempt":
      return { reason: "wrong-attempt", class: "guard" }
    case "Invariant":
      return { reason: "invariant", class: "guard" }
  }
}

/** Events that move a record from one state to another: refusing one leaves the two sides apart (D4). */
const changesState: ReadonlySet<AgentEventKind> = new Set([
  "DispatchAck",
  "ActivationCompleted",
  "ActivationDeferred",
  "ActivationFailed",
  "Failed",
  "RollbackComplete",
  "Converged"
])

function refuse(
  draft: Draft,
  input: EventReceived,
  refusal: Refusal & { readonly numbered: boolean; readonly afterGap?: boolean }
): EventAnswer {
  const { event, hostname, rolloutId } = input.envelope
  const refused = { _tag: "Refused", reason: refusal.reason, class: refusal.class } as const
  if (!refusal.numbered) {
    // Such events have no end: any id, any number. What has no record here must not fill the disk.
    const count = draft.audited(hostname)
    if (count > auditsPerHour) {
      if (count === auditsPerHour + 1) {
        draft.log(
          "events",
          "warn",
          "this host sends many events that belong to no record; those of the next hour are not written down",
          { ...about(input), reason: refusal.reason }
        )
      }
      return refused
    }
  }
  const diverged = refusal.numbered && refusal.reason !== "wrong-attempt" && changesState.has(event.kind)
  draft.record({ host: hostname, rolloutId }, {
    kind: "agent_event",
    event,
    canonical: input.canonical,
    outcome: outcome(input, {
      outcome: "refused",
      reason: refusal.reason,
      ...(diverged ? { diverged } : {}),
      ...(refusal.afterGap === true ? { afterGap: true } : {})
    }),
    numbered: refusal.numbered
  })
  draft.log("events", "warn", "event refused", { ...about(input), reason: refusal.reason })
  return refused
}

function outcome(input: EventReceived, result: Omit<EventOutcome, "hash" | "journalId">): EventOutcome {
  const { journalId } = input.envelope
  return { ...result, hash: input.hash, ...(journalId === undefined ? {} : { journalId }) }
}

function about({ envelope }: EventReceived): LogFields {
  return {
    hostname: envelope.hostname,
    rollout: envelope.rolloutId,
    kind: envelope.event.kind,
    seq: envelope.event.seq
  }
}
