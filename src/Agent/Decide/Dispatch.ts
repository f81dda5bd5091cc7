/**
 * Dispatches: accepting one (D10), repeating one (D6), and remembering one that could not be taken (D8). Verification is
 * done before (D13, D14); here it is only decided whether this host goes that way.
 */
import { newPending } from "../../Rollout/Host.ts"
import { admit } from "../../Rollout/Owed.ts"
import { splitRolloutId } from "../../Schema/Primitives.ts"
import { knownReason } from "../../Schema/Reasons.ts"
import { heartbeatListLimit, rejectionDetailLimit } from "../../Schema/Wire.ts"
import {
  accepted,
  type Activate,
  type Answer,
  type AttemptOf,
  type GuardWasStale,
  refused,
  type RejectedDispatch,
  type RejectionOver
} from "../Input.ts"
import { entriesOf, type RejectionRecord, type RolloutEntry } from "../State.ts"
import { resend } from "./Delivery.ts"
import type { Draft } from "./Draft.ts"

export function activate(draft: Draft, input: Activate): Answer {
  const known = draft.entry(input.rolloutId)
  const admission = admit(entriesOf(draft.state), input)
  switch (admission._tag) {
    case "Known":
      return knownAttempt(draft, input)
    case "Superseded":
      return refused("superseded", `${admission.by} was accepted and is newer than ${input.rolloutId}`)
    case "Admitted": {
      observe(draft, input.observed)
      const answer = open(draft, known, input)
      if (answer._tag === "Refused") return answer
      for (const rolloutId of admission.closes) close(draft, rolloutId, input.rolloutId)
      forget(draft, input.rolloutId)
      return answer
    }
  }
}

function open(draft: Draft, known: RolloutEntry | undefined, input: Activate): Answer {
  const { channel } = splitRolloutId(input.rolloutId)
  const floor = Math.max(draft.state.seqFloors.get(input.rolloutId) ?? 0, input.lastEventSeq ?? 0)
  const pending = newPending({
    rolloutId: input.rolloutId,
    hostname: draft.state.hostname,
    channel,
    targetClosure: input.targetClosure,
    attempt: input.attempt,
    dispatchedAt: input.dispatchedAt,
    soakDueAt: input.soakDueAt,
    signedAt: input.signedAt,
    lastEventSeq: known?.record.lastEventSeq ?? floor
  })
  const rollbackTarget = draft.state.lastConverged ?? draft.state.firstObserved
  return draft.open(
    { _tag: "Opened", pending, policy: input.policy, ...(rollbackTarget === undefined ? {} : { rollbackTarget }) },
    {
      kind: "DispatchAck",
      currentClosureAtDispatch: input.observed ?? "",
      receivedAt: input.receivedAt,
      attempt: input.attempt,
      ...(input.deliveryId === undefined ? {} : { deliveryId: input.deliveryId })
    },
    input.receivedAt
  )
}

/** One record may act: every other one is closed in the commit that opens it (D10). */
function close(draft: Draft, rolloutId: string, by: string): void {
  draft.learn(rolloutId, { kind: "Closed", at: draft.now.wall })
  draft.tell("info", "rollout superseded", { rollout: rolloutId, by })
}

/** The host goes forward: what it could not take of this channel before is no longer news. */
function forget(draft: Draft, rolloutId: string): void {
  const { channel } = splitRolloutId(rolloutId)
  const kept = new Map(draft.state.rejections)
  for (const id of draft.state.rejections.keys()) {
    if (splitRolloutId(id).channel !== channel) continue
    kept.delete(id)
    draft.write({ _tag: "DropRejection", rolloutId: id })
  }
  const seqFloors = new Map(draft.state.seqFloors)
  if (seqFloors.delete(rolloutId)) draft.write({ _tag: "DropSeqFloor", rolloutId })
  draft.state = { ...draft.state, rejections: kept, seqFloors }
}

export function rejectionOver(draft: Draft, { rolloutId }: RejectionOver): Answer {
  if (!draft.state.rejections.has(rolloutId)) return accepted
  const rejections = new Map(draft.state.rejections)
  rejections.delete(rolloutId)
  draft.write({ _tag: "DropRejection", rolloutId })
  draft.ring("heartbeat")
  draft.state = { ...draft.state, rejections }
  return accepted
}

/** A dispatch for an attempt that was accepted before: the control plane lacks the answer (D6, D7). */
function knownAttempt(draft: Draft, input: Activate): Answer {
  const target = draft.entry(input.rolloutId)?.record.targetClosure
  return target === undefined || target === input.targetClosure
    ? repeated(draft, input)
    : refused("other-target", `${input.rolloutId} already goes to ${target} in this attempt`)
}

export function repeated(draft: Draft, input: AttemptOf): Answer {
  const entry = draft.entry(input.rolloutId)
  if (entry === undefined) return refused("unknown-rollout", `no record of ${input.rolloutId}`)
  if (entry.record.attempt !== input.attempt) {
    return refused("wrong-attempt", `attempt ${entry.record.attempt} is under way`)
  }
  resend(draft, entry, entry.bookkeeping.openedSeq)
  return accepted
}

/** Remembers what runs; the first closure ever seen is what ran before nixfleet (D11). */
export function observe(draft: Draft, observed: string | undefined): void {
  if (draft.state.observed !== observed) {
    const { observed: _, ...rest } = draft.state
    draft.state = { ...rest, ...(observed === undefined ? {} : { observed }), observedSince: draft.now.wall }
  }
  if (observed === undefined || draft.state.firstObserved !== undefined) return
  draft.state = { ...draft.state, firstObserved: observed }
  draft.write({ _tag: "PutHostFact", fact: "firstObserved", value: observed })
}

export function reject(draft: Draft, { at, detail, reason, rolloutId }: RejectedDispatch): Answer {
  putRejection(draft, { rolloutId, reason, detail, at })
  draft.tell("warn", "dispatch rejected", { rollout: rolloutId, reason: knownReason(reason), detail })
  return accepted
}

/** No event tells it: the record that it would belong to has ended, or is not known. */
export function guardWasStale(draft: Draft, { order: { attempt, closure, rolloutId } }: GuardWasStale): Answer {
  const detail = `the guard of attempt ${attempt} fired after the activation was over, for the way back to ${closure}`
  putRejection(draft, { rolloutId, reason: "guard-stale", detail, at: draft.now.wall })
  draft.tell("warn", "a guard fired for an activation that is over; nothing is resumed because of it", {
    reason: "guard-stale",
    rollout: rolloutId,
    attempt,
    closure
  })
  return accepted
}

/** Latest per rollout, at most as many as a heartbeat carries; the oldest makes room (D8). */
function putRejection(draft: Draft, input: RejectionRecord): void {
  const rejection = { ...input, detail: input.detail.slice(0, rejectionDetailLimit).toWellFormed() }
  const rejections = new Map(draft.state.rejections)
  rejections.delete(input.rolloutId)
  for (const id of rejections.keys()) {
    if (rejections.size < heartbeatListLimit) break
    rejections.delete(id)
    draft.write({ _tag: "DropRejection", rolloutId: id })
  }
  rejections.set(input.rolloutId, rejection)
  draft.write({ _tag: "PutRejection", rejection })
  draft.state = { ...draft.state, rejections }
  draft.ring("heartbeat")
}
