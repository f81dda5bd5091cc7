/**
 * Waits for work (walk "A dispatch"): one poll after the other, each held by the control plane for up to a minute. A
 * dispatch is verified and offered to the reducer, and the next poll starts only when its acceptance is durable.
 *
 * Failures:
 * - no answer, or a status that is none of 200 and 204: back-off, `Retry-After` obeyed (D9);
 * - an answer that comes early without work: a pause, growing while answers come at once (A-W51);
 * - a dispatch that cannot be taken: a rejection that the next heartbeat reports (D8), and back-off, growing per rollout.
 */
import { Effect, Result, Schema } from "effect"
import { Artifacts } from "../../Agent/Artifacts.ts"
import { Handshake } from "../../Agent/Handshake.ts"
import { Inbox } from "../../Agent/Inbox.ts"
import { refusal } from "../../Agent/Judge.ts"
import { Link } from "../../Agent/Link.ts"
import { Settings } from "../../Agent/Settings.ts"
import { AgentState, currentEntry } from "../../Agent/State.ts"
import { Activator } from "../../Layers/Host/Activator.ts"
import { logOf } from "../../Layers/Logging.ts"
import type { ExchangeResponse } from "../../Layers/Net/Exchange.ts"
import { millis } from "../../Schema/AgentConfig.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import { DispatchResponse, takenHeader, takenText } from "../../Schema/Wire.ts"
import { retryAfterMs } from "../Backoff.ts"
import { leastPauseMs, makePacer, monotonicMs, type Pacer, wallMs } from "../Pacer.ts"

const log = logOf("agent_longpoll")

const decode = Schema.decodeUnknownResult(Schema.fromJsonString(Schema.NullOr(DispatchResponse)))
const utf8 = new TextDecoder()

/** A control plane holds a poll for at least this part of the wait that was asked for (D9: 54 of 60 s). */
const heldPart = 0.9

/** What one poll brought. */
type Poll =
  | { readonly _tag: "Work"; readonly dispatch: DispatchResponse }
  | { readonly _tag: "NoWork" }
  | {
    readonly _tag: "Trouble"
    readonly reason: Reason
    readonly detail: string
    readonly retryAfterMs?: number | undefined
  }

const poll = Effect.fnUntraced(function*() {
  const settings = yield* Settings
  const link = yield* Link
  const taken = currentEntry((yield* AgentState).current())?.record ?? "nothing"
  const sent = yield* Effect.result(link.send(
    {
      method: "GET",
      path: `/v1/agent/dispatch?wait=${settings.pollWaitSecs}`,
      headers: { [takenHeader]: takenText(taken) }
    },
    { timeoutMs: millis(settings.pollTimeoutSecs), maxBodyBytes: settings.maxAnswerBytes, lane: "poll" }
  ))
  if (Result.isFailure(sent)) {
    const trouble: Poll = { _tag: "Trouble", reason: "control-plane-unreachable", detail: sent.failure.message }
    return trouble
  }
  return readPoll(sent.success, yield* wallMs)
})

/** 204, an empty body and `null` are "no work" (D9). */
function readPoll(response: ExchangeResponse, nowMs: number): Poll {
  const { status } = response
  const body = utf8.decode(response.body)
  if (status === 204 || (status === 200 && body.trim() === "")) return { _tag: "NoWork" }
  if (status !== 200) {
    return {
      _tag: "Trouble",
      reason: "unexpected-status",
      detail: `the poll was answered with status ${status}`,
      retryAfterMs: retryAfterMs(response.headers, nowMs)
    }
  }
  const decoded = decode(body)
  if (Result.isFailure(decoded)) {
    return {
      _tag: "Trouble",
      reason: "malformed-answer",
      detail: `the dispatch cannot be read: ${decoded.failure.message}`
    }
  }
  return decoded.success === null ? { _tag: "NoWork" } : { _tag: "Work", dispatch: decoded.success }
}

/** Verifies a dispatch and offers it; what speaks against taking it, or nothing once it is durable. */
const take = Effect.fnUntraced(function*(dispatch: DispatchResponse) {
  const settings = yield* Settings
  const inbox = yield* Inbox
  const attempt = dispatch.attempt ?? 1
  const rolloutId = dispatch.rollout_id
  if (dispatch.hostname !== settings.machineId) {
    return refusal(
      "dispatch-other-host",
      `the dispatch is for ${dispatch.hostname}, this host is ${settings.machineId}`
    )
  }
  const known = (yield* AgentState).current().rollouts.get(rolloutId)
  if (
    known !== undefined && attempt <= known.record.attempt && known.record.targetClosure === dispatch.target_closure
  ) {
    const answer = yield* inbox.ask({ _tag: "DispatchRepeated", rolloutId, attempt })
    return answer._tag === "Accepted" ? undefined : answer
  }
  const verified = yield* (yield* Artifacts).forDispatch(rolloutId, dispatch.target_closure)
  if (Result.isFailure(verified)) return verified.failure
  const { running } = yield* (yield* Activator).current
  const answer = yield* inbox.ask({
    _tag: "Activate",
    rolloutId,
    attempt,
    targetClosure: dispatch.target_closure,
    soakDueAt: dispatch.soak_due_at,
    dispatchedAt: dispatch.enqueued_at,
    receivedAt: yield* wallMs,
    signedAt: verified.success.signedAt,
    policy: verified.success.policy,
    ...(running === undefined ? {} : { observed: running }),
    ...(dispatch.delivery_id === undefined ? {} : { deliveryId: dispatch.delivery_id }),
    ...(dispatch.last_event_seq === undefined ? {} : { lastEventSeq: dispatch.last_event_seq })
  })
  return answer._tag === "Accepted" ? undefined : answer
})

/** Patience with the control plane, with early answers, and with each rollout that cannot be taken: they do not mix. */
interface Patience {
  readonly trouble: Pacer
  readonly early: Pacer
  readonly rollouts: Map<string, Pacer>
}

/** Rollouts whose patience is remembered; the oldest makes room. */
const rememberedRollouts = 64

function patienceWith(patience: Patience, rolloutId: string): Pacer {
  const own = patience.rollouts.get(rolloutId) ?? makePacer(Effect.never)
  patience.rollouts.delete(rolloutId)
  patience.rollouts.set(rolloutId, own)
  for (const oldest of patience.rollouts.keys()) {
    if (patience.rollouts.size <= rememberedRollouts) break
    patience.rollouts.delete(oldest)
  }
  return own
}

const work = Effect.fnUntraced(function*(dispatch: DispatchResponse, patience: Patience) {
  const rolloutId = dispatch.rollout_id
  const refused = yield* take(dispatch)
  if (refused === undefined) {
    patience.rollouts.delete(rolloutId)
    return yield* Effect.sleep(leastPauseMs)
  }
  yield* (yield* Inbox).ask({
    _tag: "RejectedDispatch",
    rolloutId,
    reason: refused.reason,
    detail: refused.detail,
    at: yield* wallMs
  })
  yield* patienceWith(patience, rolloutId).backOff()
})

/** The pause after a poll without work: none when it was held, a second when not, more while answers come at once. */
const pauseAfter = Effect.fnUntraced(function*(elapsedMs: number, early: Pacer) {
  const { pollWaitSecs } = yield* Settings
  if (elapsedMs < leastPauseMs) return yield* early.backOff()
  early.succeeded()
  if (elapsedMs < millis(pollWaitSecs) * heldPart) yield* Effect.sleep(leastPauseMs)
})

/** Never ends; a defect ends the process through the supervisor (house rule 7). */
export const longpoll = Effect.gen(function*() {
  yield* (yield* Handshake).done
  const patience: Patience = { trouble: makePacer(Effect.never), early: makePacer(Effect.never), rollouts: new Map() }
  while (true) {
    const asked = yield* monotonicMs
    const brought = yield* poll()
    if (brought._tag === "Trouble") {
      yield* log.warn("the poll was not answered", { reason: brought.reason, detail: brought.detail })
      yield* patience.trouble.backOff(brought.retryAfterMs)
      continue
    }
    patience.trouble.succeeded()
    yield* log.debug("poll answered", { outcome: brought._tag })
    if (brought._tag === "Work") {
      patience.early.succeeded()
      yield* work(brought.dispatch, patience)
    } else {
      yield* pauseAfter((yield* monotonicMs) - asked, patience.early)
    }
  }
})
