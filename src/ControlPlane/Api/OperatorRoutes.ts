/**
 * What operators read (control-plane.md §2.4). Views are projections of the published state; only the event log is read from
 * the journal. A host may ask for the views that hold its own records, and gets those and no other (D16).
 */
import { Clock, Effect, Schema } from "effect"
import type { ExchangeResponse } from "../../Layers/Net/Exchange.ts"
import {
  ChannelView,
  eventsPageLimit,
  Explanation,
  HostsResponse,
  RolloutEvents,
  RolloutHosts,
  RolloutLifecycle,
  RolloutList,
  Whoami
} from "../../Schema/OperatorViews.ts"
import { RolloutId } from "../../Schema/Primitives.ts"
import { snapshotLimitBytes } from "../../Schema/Snapshot.ts"
import { encodeUtf8 } from "../../Trust/CanonicalJson.ts"
import { contentType } from "../MetricsRegistry.ts"
import { snapshotLines } from "../Snapshot.ts"
import type { Api, Call } from "./Api.ts"
import { bytes, encoded, refuse } from "./Reply.ts"

const encodeChannel = encoded(ChannelView)
const encodeHosts = encoded(HostsResponse)
const encodeExplanation = encoded(Explanation)
const encodeRollouts = encoded(RolloutList)
const encodeRolloutHosts = encoded(RolloutHosts)
const encodeRolloutEvents = encoded(RolloutEvents)
const encodeLifecycle = encoded(RolloutLifecycle)
const encodeWhoami = encoded(Whoami)

/** The one host whose entries this caller may see; `undefined`: all. */
const onlyHost = ({ identity }: Call): string | undefined => identity.role === "operator" ? undefined : identity.host

const isRolloutId = Schema.is(RolloutId)
/** 400 for another shape, on these routes (control-plane.md §2.2). */
const rolloutIdOf = ({ parameter }: Call) =>
  isRolloutId(parameter) ? Effect.succeed(parameter) : Effect.fail(refuse("rollout-malformed", parameter, 400))

export const whoami = ({ identity }: Call): ExchangeResponse =>
  encodeWhoami({
    cn: identity.commonName,
    issuedAt: identity.issuedAt,
    role: identity.role,
    ...(identity.role === "agent" ? { machineId: identity.host } : {})
  })

export const channel = Effect.fnUntraced(function*(api: Api, call: Call) {
  const view = api.projections.channel(api.state(), call.parameter)
  if (view === undefined) return yield* refuse("channel-unknown", call.parameter, 404)
  return encodeChannel(view)
})

/** Whole milliseconds: only these can be written as a time. */
const wholeNow = Effect.map(Clock.currentTimeMillis, Math.floor)

export const hosts = (api: Api, call: Call) =>
  Effect.map(wholeNow, (now) => encodeHosts(api.projections.hosts(api.state(), now, onlyHost(call))))

/** Of itself a host may ask: what keeps it is what its own person wants to know. */
export const hostWhy = Effect.fnUntraced(function*(api: Api, call: Call) {
  const host = call.parameter
  const only = onlyHost(call)
  if (only !== undefined && only !== host) {
    return yield* refuse("hostname-differs", `${only} asked why ${host} waits`, 403)
  }
  const explanation = api.projections.why(api.state(), yield* wholeNow, host)
  if (explanation === undefined) return yield* refuse("host-unknown", host, 404)
  return encodeExplanation(explanation)
})

export const rollouts = (api: Api) => Effect.sync(() => encodeRollouts(api.projections.rollouts(api.state())))

export const rolloutHosts = Effect.fnUntraced(function*(api: Api, call: Call) {
  const rolloutId = yield* rolloutIdOf(call)
  const view = api.projections.rolloutHosts(api.state(), yield* wholeNow, rolloutId, onlyHost(call))
  if (view === undefined || view.hosts.length === 0) return yield* refuse("rollout-unknown", rolloutId, 404)
  return encodeRolloutHosts(view)
})

export const rolloutLifecycle = Effect.fnUntraced(function*(api: Api, call: Call) {
  const rolloutId = yield* rolloutIdOf(call)
  const view = api.projections.lifecycle(api.state(), rolloutId)
  if (view === undefined) return yield* refuse("rollout-unknown", rolloutId, 404)
  return encodeLifecycle(view)
})

/** A whole number of the query, or the default; 400 when it is another text. */
function whole(query: URLSearchParams, name: string, absent: number) {
  const text = query.get(name)
  if (text === null) return Effect.succeed(absent)
  return /^\d{1,15}$/.test(text)
    ? Effect.succeed(Number(text))
    : Effect.fail(refuse("query-invalid", `${name} is not a whole number`, 400))
}

/**
 * `?limit=&after_seq=`: ascending pages; an unknown rollout has an empty one (control-plane.md §2.4). 500 when a row of the page
 * cannot be read: nothing is left out of a log without a word.
 */
export const rolloutEvents = Effect.fnUntraced(function*(api: Api, call: Call) {
  const rolloutId = yield* rolloutIdOf(call)
  const limit = yield* whole(call.query, "limit", eventsPageLimit)
  const afterSeq = yield* whole(call.query, "after_seq", 0)
  const page = api.eventLog({ rolloutId, limit: Math.min(Math.max(limit, 1), eventsPageLimit), afterSeq })
  return encodeRolloutEvents(
    yield* Effect.mapError(page, ({ message, reason }) => refuse(reason, message, 500))
  )
})

/** Lines that are made at once, so that a large fleet's snapshot keeps nobody waiting. */
const snapshotSlice = 500

/** `GET /v1/snapshot`: one state as JSON lines, whatever is decided while they are made. */
export const snapshot = Effect.fnUntraced(function*(api: Api) {
  const parts: Array<Buffer> = []
  let size = 0
  for (const line of snapshotLines(api.state(), Math.floor(yield* Clock.currentTimeMillis))) {
    const part = Buffer.from(`${JSON.stringify(line)}\n`)
    size += part.length
    if (size > snapshotLimitBytes) {
      return yield* refuse("snapshot-too-large", `more than ${snapshotLimitBytes} bytes`, 500)
    }
    if (parts.push(part) % snapshotSlice === 0) yield* Effect.yieldNow
  }
  return bytes("application/x-ndjson", Buffer.concat(parts))
})

/** `GET /metrics`: Prometheus text 0.0.4 (control-plane.md §9). */
export const metrics = (api: Api) =>
  api.metrics.pipe(
    Effect.map((text) => bytes(contentType, encodeUtf8(text))),
    Effect.mapError(({ message, reason }) => refuse(reason, message, 500))
  )
