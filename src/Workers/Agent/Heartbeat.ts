/**
 * Tells the control plane every minute that this host lives and what its journal says, and carries the answer home as one
 * input (D6). The first answered heartbeat is the boot handshake: it opens the gate for polls and events.
 *
 * Failures: no answer, or a status other than 200 (a 503 with a JSON body too, A-W54), is tried again with back-off; an
 * answer that cannot be read likewise. The host keeps working meanwhile: nothing here decides about an activation. A commit
 * that the disk holds back delays no heartbeat: the answer waits for it, and the next heartbeats say what is wrong.
 */
import { Effect, FiberHandle, Option, Ref, Result, Schema } from "effect"
import { Handshake } from "../../Agent/Handshake.ts"
import { Inbox } from "../../Agent/Inbox.ts"
import type { Answer, HeartbeatAnswered } from "../../Agent/Input.ts"
import { Intents } from "../../Agent/Intents.ts"
import { Link } from "../../Agent/Link.ts"
import { heartbeatOf } from "../../Agent/Report.ts"
import { Settings } from "../../Agent/Settings.ts"
import { AgentState } from "../../Agent/State.ts"
import { DiskRoom } from "../../Layers/Disk/DiskRoom.ts"
import { Activator } from "../../Layers/Host/Activator.ts"
import { Facts } from "../../Layers/Host/Facts.ts"
import { logOf } from "../../Layers/Logging.ts"
import type { ExchangeResponse } from "../../Layers/Net/Exchange.ts"
import { millis } from "../../Schema/AgentConfig.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import { version } from "../../Schema/Version.ts"
import { HeartbeatRequest, HeartbeatResponse, replayFromHeader } from "../../Schema/Wire.ts"
import { retryAfterMs } from "../Backoff.ts"
import { done, failed, onCadence, type Turn, wallMs } from "../Pacer.ts"

const log = logOf("agent_heartbeat")

const encode = Schema.encodeUnknownSync(Schema.fromJsonString(HeartbeatRequest))
const decode = Schema.decodeUnknownResult(Schema.fromJsonString(HeartbeatResponse))
const utf8 = new TextDecoder()

/** The header of the original: last sequence number that it holds of the rollout that the request named (control-plane.md §4.3). */
function replayHeader(response: ExchangeResponse, rolloutId: string | undefined): Pick<HeartbeatAnswered, "held"> {
  const header = response.headers[replayFromHeader]
  const seq = header !== undefined && /^[0-9]{1,15}$/.test(header) ? Number(header) : undefined
  return rolloutId === undefined || seq === undefined ? {} : { held: { rolloutId, seq } }
}

const fetching = Effect.gen(function*() {
  const progress = yield* (yield* Activator).progress
  if (progress === undefined) return undefined
  const { closure, doneBytes, expectedBytes } = progress
  return {
    closure,
    done_bytes: doneBytes,
    ...(expectedBytes === undefined ? {} : { expected_bytes: expectedBytes })
  }
})

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
    peer: link.peer(),
    held: yield* (yield* DiskRoom).forward,
    fetching: yield* fetching
  })
  const response = yield* link.send(
    { method: "POST", path: "/v1/agent/heartbeat", body: encode(request) },
    { timeoutMs: millis(settings.heartbeatTimeoutSecs), maxBodyBytes: settings.maxAnswerBytes, lane: "report" }
  )
  return { request, response }
})

/** How long a heartbeat waits for the decision on its answer, ms; a decision that takes longer is held by the disk. */
const decisionMs = 2_000

/** What waits to be decided: one answer, and one failure, at most. */
interface Pending {
  readonly answers: FiberHandle.FiberHandle<Answer, never>
  readonly failures: FiberHandle.FiberHandle<Answer, never>
}

/** Told to the log, and to the journal for those who ask the host itself; nothing waits for that one. */
const unanswered = Effect.fnUntraced(
  function*({ failures }: Pending, reason: Reason, detail: string, fields: { readonly status?: number } = {}) {
    yield* log.warn("the heartbeat failed", { reason, detail, ...fields })
    yield* FiberHandle.run(failures, (yield* Inbox).ask({ _tag: "HeartbeatFailed", reason, detail }), {
      onlyIfMissing: true
    })
  }
)

/** Whether the answer is durable. While one waits later ones are dropped: they say it again. */
const carryHome = Effect.fnUntraced(function*({ answers }: Pending, answered: HeartbeatAnswered) {
  const { ask } = yield* Inbox
  yield* FiberHandle.run(answers, ask(answered), { onlyIfMissing: true })
  return Option.isSome(yield* Effect.timeoutOption(FiberHandle.awaitEmpty(answers), decisionMs))
})

/** Sends one heartbeat, reads the status before the body, and waits until the answer is durable, or held. */
const turn = Effect.fnUntraced(function*(boot: boolean, pending: Pending) {
  const sent = yield* Effect.result(beat(boot))
  if (Result.isFailure(sent)) {
    yield* unanswered(pending, "control-plane-unreachable", `the heartbeat was not answered: ${sent.failure.message}`)
    return failed()
  }
  const { request, response } = sent.success
  if (response.status !== 200) {
    const { status } = response
    yield* unanswered(pending, "unexpected-status", `the heartbeat was answered with status ${status}`, { status })
    return failed(retryAfterMs(response.headers, yield* wallMs))
  }
  const answer = decode(utf8.decode(response.body))
  if (Result.isFailure(answer)) {
    yield* unanswered(
      pending,
      "malformed-answer",
      `the answer to the heartbeat cannot be read: ${answer.failure.message}`
    )
    return failed()
  }
  yield* log.debug("heartbeat answered")
  const durable = yield* carryHome(pending, {
    _tag: "HeartbeatAnswered",
    replayFrom: answer.success.replay_from ?? {},
    ackedThrough: answer.success.acked_through ?? {},
    snapshots: answer.success.bootstrap_rollouts,
    // A control plane that says by number what it lacks needs no hint.
    ...(answer.success.replay_from === undefined ? replayHeader(response, request.rollout_id) : {})
  })
  // Polls and events wait for floors that the journal really has.
  return durable || !boot ? done : failed()
})

/**
 * The boot handshake. A control plane that turns out to know journals is told at once what this one says: until then the
 * additive fields were held back (D3).
 */
const handshake = Effect.fnUntraced(function*(pending: Pending) {
  const link = yield* Link
  const before = link.peer().has("journal")
  const first: Turn = yield* turn(true, pending)
  const second = first._tag === "Done" && !before && link.peer().has("journal")
    ? yield* turn(true, pending)
    : first
  if (second._tag === "Done") yield* (yield* Handshake).complete
  return second
})

/** Never ends; a defect ends the process through the supervisor (house rule 7). */
export const heartbeat = Effect.gen(function*() {
  const settings = yield* Settings
  const intents = yield* Intents
  const shaken = yield* Ref.make(false)
  const pending = yield* Effect.all({
    answers: FiberHandle.make<Answer, never>(),
    failures: FiberHandle.make<Answer, never>()
  })
  const once = Effect.gen(function*() {
    if (yield* Ref.get(shaken)) return yield* turn(false, pending)
    const outcome = yield* handshake(pending)
    yield* Ref.set(shaken, outcome._tag === "Done")
    return outcome
  })
  return yield* onCadence({ periodMs: millis(settings.heartbeatSecs), kick: intents.heartbeat.rung }, once)
}).pipe(Effect.scoped)
