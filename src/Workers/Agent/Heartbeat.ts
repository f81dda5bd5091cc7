/**
 * Tells the control plane every minute that this host lives and what its journal says, and carries the answer home as one
 * input (D6). The first answered heartbeat is the boot handshake: it opens the gate for polls and events.
 *
 * Failures: no answer, or a status other than 200 (a 503 with a JSON body too, A-W54), is tried again with back-off; an
 * answer that cannot be read likewise. The host keeps working meanwhile: nothing here decides about an activation.
 */
import { Effect, Ref, Result, Schema } from "effect"
import { Handshake } from "../../Agent/Handshake.ts"
import { Inbox } from "../../Agent/Inbox.ts"
import type { HeartbeatAnswered } from "../../Agent/Input.ts"
import { Intents } from "../../Agent/Intents.ts"
import { Link } from "../../Agent/Link.ts"
import { heartbeatOf } from "../../Agent/Report.ts"
import { Settings } from "../../Agent/Settings.ts"
import { AgentState } from "../../Agent/State.ts"
import { Facts } from "../../Layers/Host/Facts.ts"
import type { ExchangeResponse } from "../../Layers/Net/Exchange.ts"
import { millis } from "../../Schema/AgentConfig.ts"
import { version } from "../../Schema/Version.ts"
import { HeartbeatRequest, HeartbeatResponse, replayFromHeader } from "../../Schema/Wire.ts"
import { retryAfterMs } from "../Backoff.ts"
import { done, failed, onCadence, type Turn, wallMs } from "../Pacer.ts"

const encode = Schema.encodeUnknownSync(Schema.fromJsonString(HeartbeatRequest))
const decode = Schema.decodeUnknownResult(Schema.fromJsonString(HeartbeatResponse))
const utf8 = new TextDecoder()

/** The header of the original: last sequence number that it holds of the rollout that the request named (control-plane.md §4.3). */
function replayHeader(response: ExchangeResponse, rolloutId: string | undefined): Pick<HeartbeatAnswered, "held"> {
  const header = response.headers[replayFromHeader]
  const seq = header !== undefined && /^[0-9]{1,15}$/.test(header) ? Number(header) : undefined
  return rolloutId === undefined || seq === undefined ? {} : { held: { rolloutId, seq } }
}

/** One heartbeat: what was sent and the answer to it, or why there is none. */
const beat = Effect.fnUntraced(function*(boot: boolean) {
  const settings = yield* Settings
  const link = yield* Link
  const state = (yield* AgentState).current()
  const request = heartbeatOf(state, {
    at: yield* wallMs,
    uptimeSecs: yield* (yield* Facts).uptimeSeconds,
    version,
    boot,
    peer: link.peer()
  })
  const response = yield* link.send(
    { method: "POST", path: "/v1/agent/heartbeat", body: encode(request) },
    { timeoutMs: millis(settings.heartbeatTimeoutSecs), maxBodyBytes: settings.maxAnswerBytes, lane: "report" }
  )
  return { request, response }
})

/** Sends one heartbeat, reads the status before the body, and waits until the answer is durable. */
const turn = Effect.fnUntraced(function*(boot: boolean) {
  const sent = yield* Effect.result(beat(boot))
  if (Result.isFailure(sent)) {
    yield* Effect.logWarning(`the heartbeat was not answered: ${sent.failure.message}`).pipe(
      Effect.annotateLogs({ reason: "control-plane-unreachable" })
    )
    return failed()
  }
  const { request, response } = sent.success
  if (response.status !== 200) {
    yield* Effect.logWarning(`the heartbeat was answered with status ${response.status}`).pipe(
      Effect.annotateLogs({ reason: "unexpected-status", status: response.status })
    )
    return failed(retryAfterMs(response.headers, yield* wallMs))
  }
  const answer = decode(utf8.decode(response.body))
  if (Result.isFailure(answer)) {
    yield* Effect.logWarning(`the answer to the heartbeat cannot be read: ${answer.failure.message}`).pipe(
      Effect.annotateLogs({ reason: "malformed-answer" })
    )
    return failed()
  }
  yield* (yield* Inbox).ask({
    _tag: "HeartbeatAnswered",
    replayFrom: answer.success.replay_from ?? {},
    ackedThrough: answer.success.acked_through ?? {},
    snapshots: answer.success.bootstrap_rollouts,
    // A control plane that says by number what it lacks needs no hint.
    ...(answer.success.replay_from === undefined ? replayHeader(response, request.rollout_id) : {})
  })
  return done
})

/**
 * The boot handshake. A control plane that turns out to know journals is told at once what this one says: until then the
 * additive fields were held back (D3).
 */
const handshake = Effect.gen(function*() {
  const link = yield* Link
  const before = link.peer().has("journal")
  const first: Turn = yield* turn(true)
  const second = first._tag === "Done" && !before && link.peer().has("journal")
    ? yield* turn(true)
    : first
  if (second._tag === "Done") yield* (yield* Handshake).complete
  return second
})

/** Never ends; a defect ends the process through the supervisor (house rule 7). */
export const heartbeat = Effect.gen(function*() {
  const settings = yield* Settings
  const intents = yield* Intents
  const shaken = yield* Ref.make(false)
  const once = Effect.gen(function*() {
    if (yield* Ref.get(shaken)) return yield* turn(false)
    const outcome = yield* handshake
    yield* Ref.set(shaken, outcome._tag === "Done")
    return outcome
  })
  return yield* onCadence({ periodMs: millis(settings.heartbeatSecs), kick: intents.heartbeat.rung }, once)
}).pipe(Effect.annotateLogs({ target: "agent_heartbeat" }))
