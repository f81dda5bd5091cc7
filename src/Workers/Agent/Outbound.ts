/**
 * Delivers the journal's events (walk "An event", D5): one lane per rollout, each sends its oldest undelivered row and
 * waits until the answer is durable before it sends the next. A kick or the 15 s tick starts the lanes that have work.
 *
 * Failures, per lane, so that none holds up another:
 * - no answer, a 5xx, or an answer about the moment (408, 429): the row stays, back-off, for as long as it takes;
 * - another 4xx without our verdict: as above, and after K such answers the row is set aside, still replayable;
 * - our verdict `refused`: the row is marked so and the lane goes on; `gap`: the lane goes back, and when the same row still
 *   meets a gap after K times, it is set aside as well.
 */
import { Effect, FiberMap, Queue, Result } from "effect"
import { envelopeFor, type Reception, receptionOf } from "../../Agent/Envelope.ts"
import { Handshake } from "../../Agent/Handshake.ts"
import { Inbox } from "../../Agent/Inbox.ts"
import type { DeliveryVerdict } from "../../Agent/Input.ts"
import { Intents } from "../../Agent/Intents.ts"
import { Journal } from "../../Agent/Journal.ts"
import { Link } from "../../Agent/Link.ts"
import { Settings } from "../../Agent/Settings.ts"
import { AgentState, undelivered } from "../../Agent/State.ts"
import { logOf } from "../../Layers/Logging.ts"
import { millis } from "../../Schema/AgentConfig.ts"
import type { AgentEvent } from "../../Schema/Wire.ts"
import { retryAfterMs } from "../Backoff.ts"
import { makePacer, monotonicMs, type Pacer, untilNextTick, wallMs } from "../Pacer.ts"

const log = logOf("agent_outbound")

const utf8 = new TextDecoder()

interface Sent {
  readonly reception: Reception
  readonly retryAfterMs: number | undefined
}

/** One POST. Total: no answer is an undecided one. */
const post = Effect.fnUntraced(function*(rolloutId: string, event: AgentEvent) {
  const settings = yield* Settings
  const link = yield* Link
  const { hostname, journalId } = (yield* AgentState).current()
  const response = yield* Effect.result(link.send(
    {
      method: "POST",
      path: "/v1/agent/events",
      body: envelopeFor({ hostname, rolloutId, journalId, event }, link.peer())
    },
    { timeoutMs: millis(settings.eventTimeoutSecs), maxBodyBytes: settings.maxAnswerBytes, lane: "report" }
  ))
  if (Result.isFailure(response)) {
    const sent: Sent = {
      reception: { _tag: "Undecided", counts: false, detail: response.failure.message },
      retryAfterMs: undefined
    }
    return sent
  }
  const { body, headers, status } = response.success
  const sent: Sent = {
    reception: receptionOf(status, utf8.decode(body), event.seq),
    retryAfterMs: retryAfterMs(headers, yield* wallMs)
  }
  return sent
})

/** What a lane remembers while it has work. */
interface LaneMemory {
  readonly pacer: Pacer
  /** The row that drew answers without a verdict, and how many. */
  unanswered: { readonly seq: number; readonly times: number }
  /** The row that drew a gap, and how often; going back is paced until it is taken. */
  gap: { readonly seq: number; readonly times: number }
}

const settle = Effect.fnUntraced(function*(rolloutId: string, event: AgentEvent, verdict: DeliveryVerdict) {
  yield* (yield* Inbox).ask({ _tag: "Delivered", rolloutId, seq: event.seq, kind: event.kind, verdict })
})

/** The row stays; after K answers about it, it is set aside (D5). */
const keep = Effect.fnUntraced(function*(
  rolloutId: string,
  event: AgentEvent,
  reception: Extract<Reception, { _tag: "Undecided" }>,
  wait: number | undefined,
  memory: LaneMemory
) {
  const settings = yield* Settings
  const before = memory.unanswered.seq === event.seq ? memory.unanswered.times : 0
  memory.unanswered = { seq: event.seq, times: before + (reception.counts ? 1 : 0) }
  if (memory.unanswered.times >= settings.parkAfterAttempts) {
    return yield* settle(rolloutId, event, { _tag: "Parked", reason: "no-verdict" })
  }
  yield* log.warn("the event was not delivered", {
    reason: "no-verdict",
    rollout: rolloutId,
    seq: event.seq,
    kind: event.kind,
    detail: reception.detail
  })
  yield* memory.pacer.backOff(wait)
})

/** Sends the rows before this one again; a gap that they do not close K times over must not block the lane (D5). */
const goBack = Effect.fnUntraced(function*(
  rolloutId: string,
  event: AgentEvent,
  gap: Extract<Reception, { _tag: "Gap" }>,
  wait: number | undefined,
  memory: LaneMemory
) {
  const times = memory.gap.seq === event.seq ? memory.gap.times + 1 : 1
  memory.gap = { seq: event.seq, times }
  const enough = times >= (yield* Settings).parkAfterAttempts
  yield* settle(rolloutId, event, enough ? { _tag: "Parked", reason: "seq-gap" } : gap)
  yield* memory.pacer.backOff(wait)
})

/** Sends one row and carries home what became of it. */
const deliver = Effect.fnUntraced(function*(rolloutId: string, event: AgentEvent, memory: LaneMemory) {
  const { reception, retryAfterMs: wait } = yield* post(rolloutId, event)
  if (reception._tag === "Undecided") return yield* keep(rolloutId, event, reception, wait, memory)
  if (reception._tag === "Gap") return yield* goBack(rolloutId, event, reception, wait, memory)
  yield* settle(rolloutId, event, reception)
  if (event.seq >= memory.gap.seq) memory.pacer.succeeded()
})

/** Works until its rollout has nothing undelivered. */
const lane = Effect.fnUntraced(function*(rolloutId: string, kick: Effect.Effect<void>) {
  const state = yield* AgentState
  const journal = yield* Journal
  const memory: LaneMemory = { pacer: makePacer(kick), unanswered: { seq: -1, times: 0 }, gap: { seq: -1, times: 0 } }
  while (true) {
    const row = undelivered(state.current()).find((one) => one.rolloutId === rolloutId)
    if (row === undefined) return
    const event = yield* journal.event(rolloutId, row.seq)
    // Given up by retention in a commit that is not published yet: the next look finds nothing to send.
    if (event === undefined) return
    yield* deliver(rolloutId, event, memory)
  }
})

/** Never ends; a defect in a lane is a defect of the worker (house rule 7). */
export const outbound = Effect.gen(function*() {
  const settings = yield* Settings
  const intents = yield* Intents
  const state = yield* AgentState
  yield* (yield* Handshake).done

  const lanes = yield* FiberMap.make<string>()
  const kicks = new Map<string, Queue.Queue<void>>()
  const begin = Effect.fnUntraced(function*(rolloutId: string) {
    const kick = yield* Queue.sliding<void>(1)
    kicks.set(rolloutId, kick)
    const work = Effect.ensuring(lane(rolloutId, Queue.take(kick)), Effect.sync(() => kicks.delete(rolloutId)))
    yield* FiberMap.run(lanes, rolloutId, work)
  })
  /** Begins the lanes that have work and are idle; a kick also reaches those that back off. */
  const look = Effect.fnUntraced(function*(kicked: boolean) {
    for (const { rolloutId } of undelivered(state.current())) {
      const kick = kicks.get(rolloutId)
      if (kick === undefined) yield* begin(rolloutId)
      else if (kicked) Queue.offerUnsafe(kick, undefined)
    }
  })
  const start = yield* monotonicMs
  const loop = Effect.gen(function*() {
    let kicked = false
    while (true) {
      yield* look(kicked)
      const wait = untilNextTick(start, millis(settings.drainSecs), yield* monotonicMs)
      kicked = yield* Effect.raceFirst(
        Effect.as(Effect.sleep(wait), false),
        Effect.as(intents.outbound.rung, true)
      )
    }
  })
  return yield* Effect.raceFirst(loop, FiberMap.join(lanes))
}).pipe(Effect.scoped)
