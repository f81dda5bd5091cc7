/**
 * The door of the control plane: which route, is it ready, which protocol, who asks, may they (control-plane.md §2.1, in this
 * order), have they not had their share, then the route itself. Total: every failure is a status, and every refusal a log line
 * with its reason; of a peer that is refused without end, a few and their number.
 *
 * One function over `Api`, so that the simulated network calls it without TLS.
 */
import { Clock, Effect, HashMap, Schema } from "effect"
import type { ExchangeHandler, ExchangeRequest, ExchangeResponse, Peer } from "../../Layers/Net/Exchange.ts"
import { Healthz } from "../../Schema/OperatorViews.ts"
import type { Millis } from "../../Schema/Primitives.ts"
import { allCapabilities, capabilitiesHeader, Capability, protocolHeader, protocolVersion } from "../../Schema/Wire.ts"
import type { Capabilities } from "../Input.ts"
import { declaredHost, isReady } from "../State.ts"
import * as AgentRoutes from "./AgentRoutes.ts"
import {
  type Allowance,
  eventBytes,
  eventOverheadBytes,
  makeAllowance,
  otherRequests,
  overAllowanceRetryAfterSeconds,
  refusalLines
} from "./Allowance.ts"
import type { Api, Call } from "./Api.ts"
import * as ArtifactRoutes from "./ArtifactRoutes.ts"
import { type Access, match, maxBodyBytes, queryOf, type RouteName } from "./Contract.ts"
import { identify, type Identity } from "./Identity.ts"
import * as OperatorRoutes from "./OperatorRoutes.ts"
import { bare, encoded, notReady, type Refusal, refuse } from "./Reply.ts"

const isCapability = Schema.is(Capability)

/** Every answer says what we understand (D3). */
const announce = (response: ExchangeResponse): ExchangeResponse => ({
  ...response,
  headers: { ...response.headers, [capabilitiesHeader]: allCapabilities.join(",") }
})

/** The known names in `X-Nixfleet-Capabilities`; a peer may be newer and announce more (D3). */
export function capabilitiesOf(header: string | undefined): Capabilities {
  return new Set((header ?? "").split(",").map((name) => name.trim()).filter(isCapability))
}

/** `1` passes, another number is 426, anything else 400; absent passes unless strict (D19). */
function checkProtocol(header: string | undefined, strict: boolean): Refusal | undefined {
  if (header === undefined) {
    return strict ? refuse("protocol-missing", `no ${protocolHeader} header`, 400) : undefined
  }
  const text = header.trim()
  if (!/^[+-]?\d{1,9}$/.test(text)) return refuse("protocol-malformed", `${protocolHeader} is not a number`, 400)
  return Number(text) === Number(protocolVersion)
    ? undefined
    : refuse("protocol-unsupported", `protocol ${text}, and only ${protocolVersion} is spoken`, 426)
}

function checkAccess(access: Access, identity: Identity): Refusal | undefined {
  switch (access) {
    case "anyone":
    case "peer":
      return undefined
    case "agent":
      return identity.role === "agent"
        ? undefined
        : refuse("role-not-agent", "only a host's certificate may do this", 403)
    case "operator":
      return identity.role === "operator" ? undefined : refuse("role-not-operator", "only operators may read this", 403)
  }
}

const encodeHealthz = encoded(Healthz)

const health = (api: Api): ExchangeResponse => {
  const state = api.state()
  return encodeHealthz({
    ok: true,
    version: api.version,
    last_tick_at: state.lastPlanAt ?? null,
    ready: isReady(state)
  })
}

type Answer = Effect.Effect<ExchangeResponse, Refusal>

function answer(api: Api, name: RouteName, call: Call): Answer {
  switch (name) {
    case "healthz":
      return Effect.sync(() => health(api))
    case "whoami":
      return Effect.succeed(OperatorRoutes.whoami(call))
    case "dispatch":
      return AgentRoutes.dispatch(api, call)
    case "events":
      return AgentRoutes.events(api, call)
    case "heartbeat":
      return AgentRoutes.heartbeat(api, call)
    case "fleet":
      return ArtifactRoutes.fleet(api, call, "artifact")
    case "fleetSignature":
      return ArtifactRoutes.fleet(api, call, "signature")
    case "manifest":
      return ArtifactRoutes.manifest(api, call, "artifact")
    case "manifestSignature":
      return ArtifactRoutes.manifest(api, call, "signature")
    case "channel":
      return OperatorRoutes.channel(api, call)
    case "hosts":
      return OperatorRoutes.hosts(api, call)
    case "rollouts":
      return OperatorRoutes.rollouts(api)
    case "rolloutHosts":
      return OperatorRoutes.rolloutHosts(api, call)
    case "rolloutEvents":
      return OperatorRoutes.rolloutEvents(api, call)
    case "rolloutLifecycle":
      return OperatorRoutes.rolloutLifecycle(api, call)
  }
}

/** What each peer may still ask for, and have written to the log. */
interface Door {
  readonly events: Allowance
  readonly others: Allowance
  readonly lines: Allowance
}

/** Shown of a path or a detail in a log line: the rest is what a peer wants us to write. */
const shownLength = 500

/** One line about a request that was not served; a peer that goes on and on is told of now and then, with the count. */
const note = (door: Door, peer: string, reason: string, message: string, detail: string): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => {
    const line = door.lines(`${peer} ${reason}`, 1, now)
    return !line.granted ? Effect.void : Effect.logInfo(message.slice(0, shownLength)).pipe(Effect.annotateLogs({
      reason,
      detail: detail.slice(0, shownLength),
      peer,
      ...(line.refused === 0 ? {} : { unloggedBefore: line.refused })
    }))
  })

/** Hosts are many and may be in other hands; operators are few and their own masters. */
function checkAllowance(
  door: Door,
  identity: Identity,
  name: RouteName,
  { body }: ExchangeRequest,
  now: Millis
): Refusal | undefined {
  if (identity.role === "operator") return undefined
  const { granted } = name === "events"
    ? door.events(identity.host, body.length + eventOverheadBytes, now)
    : door.others(identity.host, 1, now)
  const retry = { "retry-after": String(overAllowanceRetryAfterSeconds) }
  return granted ? undefined : refuse("over-allowance", name, bare(503, retry))
}

const handle = Effect.fnUntraced(function*(api: Api, door: Door, request: ExchangeRequest, peer: Peer | undefined) {
  const found = match(request.method, request.path)
  if (found._tag === "Unknown") return yield* refuse("path-unknown", "no such path", 404)
  if (found._tag === "WrongMethod") {
    return yield* refuse("method-not-allowed", `allowed: ${found.allow}`, bare(405, { allow: found.allow }))
  }
  const { parameter, route } = found
  // The server has stopped reading there already; the simulated network has not.
  if (request.body.length > maxBodyBytes(request.path)) return yield* refuse("body-too-large", "", 413)
  if (route.access === "anyone") return health(api)

  const state = api.state()
  if (!isReady(state)) return yield* refuse("not-ready", "no signed artifact is verified yet", notReady)
  const protocol = checkProtocol(request.headers[protocolHeader], api.strict)
  if (protocol !== undefined) return yield* protocol
  const isHost = (name: string) => declaredHost(state, name) !== undefined || HashMap.has(state.hosts, name)
  const now = yield* Clock.currentTimeMillis
  const identified = identify(peer, now, api.agentSuffix, isHost)
  if (!identified.ok) return yield* refuse(identified.reason, peer?.commonName ?? "no certificate", identified.status)
  const denied = checkAccess(route.access, identified.identity)
  if (denied !== undefined) return yield* denied
  const over = checkAllowance(door, identified.identity, route.name, request, now)
  if (over !== undefined) return yield* over

  return yield* answer(api, route.name, {
    request,
    identity: identified.identity,
    capabilities: capabilitiesOf(request.headers[capabilitiesHeader]),
    parameter,
    query: queryOf(request.path),
    note: (reason, message, detail) => note(door, identified.identity.commonName, reason, message, detail)
  })
})

/** All routes as one function (house rule 6). */
export function makeHandler(api: Api): ExchangeHandler {
  const door: Door = {
    events: makeAllowance(eventBytes),
    others: makeAllowance(otherRequests),
    lines: makeAllowance(refusalLines)
  }
  return (request, peer) =>
    handle(api, door, request, peer).pipe(
      Effect.catchTag("Refusal", (refusal) =>
        note(
          door,
          peer?.commonName ?? "",
          refusal.reason,
          `${request.method} ${request.path.slice(0, shownLength)} refused with ${refusal.status}`,
          refusal.detail
        ).pipe(
          Effect.as<ExchangeResponse>({ status: refusal.status, headers: refusal.headers, body: refusal.body })
        )),
      Effect.map(announce)
    )
}
