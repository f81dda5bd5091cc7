/**
 * What agents call: the long poll, events, heartbeats. Each decodes its bytes at the edge, offers one input without waiting for
 * room, and turns the reducer's answer into a status (house rules 5 and 9, D4, D8, D9). Nothing is decided here.
 *
 * Failures: a full queue or a late reducer is 503 with `Retry-After`. A reference agent repeats every answer other than 2xx
 * for ever, so what can never be taken is 204 to it, and a log line (D4).
 */
import { Clock, Effect, Random, Result, Schema } from "effect"
import { drainingRetryAfterSeconds } from "../../Layers/Net/Draining.ts"
import type { ExchangeResponse } from "../../Layers/Net/Exchange.ts"
import { optional } from "../../Rollout/host/Model.ts"
import { type Decoded, decoder } from "../../Schema/Decode.ts"
import { formatTimestamp, WireId } from "../../Schema/Primitives.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import {
  AgentEventEnvelope,
  DispatchResponse,
  HeartbeatRequest,
  HeartbeatResponse,
  readTaken,
  replayFromHeader,
  takenHeader
} from "../../Schema/Wire.ts"
import { canonicalText, type Json, parseStrict, sha256Hex } from "../../Trust/CanonicalJson.ts"
import type { Busy } from "../Inbox.ts"
import type { EventAnswer, HeartbeatAnswer, PollAnswer } from "../Input.ts"
import type { Api, Call } from "./Api.ts"
import { busyRetryAfterSeconds, pollJitterFloor, pollWaitMaxSeconds } from "./Contract.ts"
import { bare, encoded, json, notReady, type Refusal, refuse, verdict } from "./Reply.ts"

export const retryLater = { "retry-after": String(busyRetryAfterSeconds) }

/** The host that the certificate names; the route table has refused operators already. */
export const hostOf = ({ identity }: Call) =>
  identity.role === "agent"
    ? Effect.succeed(identity.host)
    : Effect.fail(refuse("role-not-agent", identity.commonName, 403))

const mediaTypeOf = (contentType: string): string => contentType.split(";")[0]!.trim().toLowerCase()

/** 415, 400: the bytes as strict JSON, so that two readers cannot see two values in them. */
export function body({ request }: Pick<Call, "request">): Result.Result<Json, Refusal> {
  const given = request.headers["content-type"] ?? ""
  const contentType = given === "application/json" ? given : mediaTypeOf(given)
  if (contentType !== "application/json") {
    return Result.fail(
      refuse("content-type", `content type ${contentType || "absent"}, expected application/json`, 415)
    )
  }
  const parsed = parseStrict(request.body)
  return parsed.ok ? Result.succeed(parsed.value) : Result.fail(refuse("body-not-json", parsed.problem.detail, 400))
}

// ---- GET /v1/agent/dispatch

const encodeDispatch = encoded(DispatchResponse)

function pollResponse(answer: PollAnswer): ExchangeResponse {
  switch (answer._tag) {
    case "Dispatch":
      return encodeDispatch(answer.dispatch)
    case "Nothing":
      return bare(204)
    case "Revoked":
      return bare(401)
    case "Draining":
      return bare(503, { "retry-after": String(drainingRetryAfterSeconds) })
  }
}

/** Seconds of `?wait=`, clamped to what a poll may wait; `undefined` when it is not a number. */
function waitSeconds(text: string | null): number | undefined {
  if (text === null) return pollWaitMaxSeconds
  return /^\d{1,9}$/.test(text) ? Math.min(Number(text), pollWaitMaxSeconds) : undefined
}

/** Parks the poll until the reducer answers it: a dispatch, its deadline, a newer poll of this host, or the program's end. */
export const dispatch = Effect.fnUntraced(function*(api: Api, call: Call) {
  const host = yield* hostOf(call)
  const asked = call.query.get("hostname")
  if (asked !== null && asked !== host) {
    return yield* refuse("hostname-differs", `${host} asked for the dispatch of ${asked}`, 403)
  }
  const wait = waitSeconds(call.query.get("wait"))
  if (wait === undefined) return yield* refuse("query-invalid", "wait is not a number of seconds", 400)
  const now = yield* Clock.currentTimeMillis
  const share = pollJitterFloor + (1 - pollJitterFloor) * (yield* Random.next)
  const { issuedAt } = call.identity
  const taken = readTaken(call.request.headers[takenHeader])
  const until = Math.floor(now + wait * 1000 * share)

  const parked = Effect.suspend(() => {
    const { answer, waiterId } = api.waiters.open()
    const { capabilities } = call
    if (
      !api.inbox.offer({ _tag: "Parked", host, waiterId, capabilities, issuedAt, until, ...optional("taken", taken) })
    ) {
      api.waiters.close(waiterId)
      return Effect.fail(refuse("queue-full", "a poll", bare(503, retryLater)))
    }
    return answer.pipe(Effect.onInterrupt(() =>
      Effect.sync(() => {
        api.waiters.close(waiterId)
        // Without room the lease that it may hold ends by itself (D8).
        api.inbox.offer({ _tag: "Unparked", host, waiterId })
      })
    ))
  })
  return pollResponse(yield* parked)
})

// ---- POST /v1/agent/events

const decodeEnvelope = decoder(AgentEventEnvelope)
/** What must be there for a refusal to be told apart from garbage: whose event it is, of which kind. Every envelope has it. */
const Head = Schema.Struct({
  hostname: WireId,
  rolloutId: WireId,
  event: Schema.Struct({ kind: WireId, seq: Schema.Finite })
})
type Head = typeof Head.Type
const decodeHead = decoder(Head)

function eventResponse(answer: EventAnswer | Busy, call: Call): ExchangeResponse {
  const capable = call.capabilities.has("verdicts")
  switch (answer._tag) {
    case "Applied":
    case "Duplicate":
      return bare(204)
    case "Refused":
      return capable
        ? verdict(answer.class === "guard" ? 409 : 422, { verdict: "refused", reason: answer.reason })
        : bare(204)
    case "Gap":
      return capable
        ? verdict(425, { verdict: "gap", reason: "seq-gap", replay_from: answer.replayFrom })
        : bare(503, retryLater)
    case "NotReady":
      return notReady
    case "Busy":
      return capable ? verdict(503, { verdict: "busy", reason: "queue-full" }, retryLater) : bare(503, retryLater)
  }
}

/**
 * An event of this host that cannot be read. A capable agent keeps it, backs off and sets it aside, to be sent again to a newer
 * control plane (D5): that is what a 422 without a verdict tells it. A reference agent would block its whole queue.
 */
const unreadable = (call: Call, kind: string, problem: string) => {
  const refusal = refuse("event-shape", `${kind}: ${problem}`, 422)
  return call.capabilities.has("verdicts")
    ? refusal
    : call.note(
      "event-shape",
      "an event that cannot be read was dropped; its agent knows no refusal",
      refusal.detail
    ).pipe(Effect.as(bare(204)))
}

export const events = Effect.fnUntraced(function*(api: Api, call: Call) {
  const host = yield* hostOf(call)
  const value = yield* Effect.fromResult(body(call))
  const decoded = decodeEnvelope(value)
  const head: Decoded<Head> = decoded.ok ? decoded : decodeHead(value)
  if (!head.ok) return yield* refuse("body-shape", head.problem, 422)
  if (head.value.hostname !== host) {
    return yield* refuse("hostname-differs", `${host} sent an event of ${head.value.hostname}`, 403)
  }
  if (!decoded.ok) return yield* unreadable(call, head.value.event.kind, decoded.problem)
  const canonical = canonicalText(eventOf(value))
  const input = {
    _tag: "EventReceived",
    envelope: decoded.value,
    canonical,
    hash: sha256Hex(canonical),
    capabilities: call.capabilities
  } as const
  const answer = yield* api.inbox.event(input)
  yield* logAnswer(call, answer)
  return eventResponse(answer, call)
})

/** The `event` object as it was received, fields that we do not know included. */
function eventOf(value: Json): Json {
  return value !== null && typeof value === "object" && "event" in value ? value["event"] ?? null : null
}

const logged: Partial<Record<(EventAnswer | Busy)["_tag"], Reason>> = {
  Busy: "queue-full",
  Gap: "seq-gap",
  NotReady: "not-ready"
}

/** Refusals are in the journal and its log already; what was not recorded is told here (house rule 10). */
const logAnswer = (call: Call, { _tag }: EventAnswer | Busy) => {
  const reason = logged[_tag]
  return reason === undefined ? Effect.void : call.note(reason, "an event was not taken and will be sent again", "")
}

// ---- POST /v1/agent/heartbeat

const decodeHeartbeat = decoder(HeartbeatRequest)
const encodeHeartbeat = Schema.encodeSync(HeartbeatResponse)

/**
 * The answer to nearly every heartbeat, which has no snapshots, is written without its schema, a tenth of whose cost the rest of
 * the route has. Snapshots are left out when there are none, as the original does (control-plane.md, appendix A).
 */
export function heartbeatBody(response: HeartbeatResponse): unknown {
  const { acked_through, bootstrap_rollouts, received_at, replay_from } = response
  if (bootstrap_rollouts.length > 0) return encodeHeartbeat(response)
  return {
    received_at: received_at === undefined ? undefined : formatTimestamp(received_at),
    replay_from,
    acked_through
  }
}

const heartbeatResponse = ({ replayFrom, response }: HeartbeatAnswer): ExchangeResponse =>
  json(200, heartbeatBody(response), replayFrom === undefined ? {} : { [replayFromHeader]: String(replayFrom) })

export const heartbeat = Effect.fnUntraced(function*(api: Api, call: Call) {
  const host = yield* hostOf(call)
  const decoded = decodeHeartbeat(yield* Effect.fromResult(body(call)))
  if (!decoded.ok) return yield* refuse("body-shape", decoded.problem, 422)
  if (decoded.value.hostname !== host) {
    return yield* refuse("hostname-differs", `${host} sent a heartbeat of ${decoded.value.hostname}`, 403)
  }
  const answer = yield* api.inbox.heartbeat({
    _tag: "HeartbeatReceived",
    heartbeat: decoded.value,
    capabilities: call.capabilities,
    issuedAt: call.identity.issuedAt
  })
  return answer._tag === "Busy"
    ? yield* refuse("queue-full", "a heartbeat", bare(503, retryLater))
    : heartbeatResponse(answer)
})
