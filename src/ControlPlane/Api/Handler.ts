/**
 * The door of the control plane: which route, is it ready, which protocol, who asks, may they (control-plane.md §2.1, in this
 * order), have they not had their share, then the route itself. Total: every failure is a status, and every refusal a log line
 * with its reason; of a peer that is refused without end, a few and their number.
 *
 * One function over `Api`, so that the simulated network calls it without TLS.
 */
import { Clock, Effect, HashMap, Schema } from "effect"
import { logOf } from "../../Layers/Logging.ts"
import type { ExchangeHandler, ExchangeRequest, ExchangeResponse, Peer } from "../../Layers/Net/Exchange.ts"
import { Healthz } from "../../Schema/OperatorViews.ts"
import type { Millis } from "../../Schema/Primitives.ts"
import { knownReason } from "../../Schema/Reasons.ts"
import { allCapabilities, capabilitiesHeader, Capability, protocolHeader, protocolVersion } from "../../Schema/Wire.ts"
import { isRevoked } from "../Identities.ts"
import type { Capabilities } from "../Input.ts"
import { declaredHost, type State } from "../State.ts"
import * as ActionRoutes from "./ActionRoutes.ts"
import * as AgentRoutes from "./AgentRoutes.ts"
import {
  type Allowance,
  enrollmentsOfAddress,
  enrollmentsOfAll,
  eventBytes,
  eventOverheadBytes,
  type Grant,
  lookCost,
  makeAllowance,
  networkOf,
  otherRequests,
  overAllowanceRetryAfterSeconds,
  refusalLines,
  renewals
} from "./Allowance.ts"
import type { Api, Call } from "./Api.ts"
import * as ArtifactRoutes from "./ArtifactRoutes.ts"
import { type Access, match, maxBodyBytes, queryOf, type RouteName } from "./Contract.ts"
import { identify, type Identity } from "./Identity.ts"
import * as IssuanceRoutes from "./IssuanceRoutes.ts"
import * as OperatorRoutes from "./OperatorRoutes.ts"
import { awaiting, bare, encoded, type Refusal, refuse } from "./Reply.ts"

const log = logOf("cp_runtime")

const isCapability = Schema.is(Capability)

const ourCapabilities = allCapabilities.join(",")

/** Every answer says what we understand (D3). */
const announce = ({ body, headers, status }: ExchangeResponse): ExchangeResponse => ({
  status,
  headers: { ...headers, [capabilitiesHeader]: ourCapabilities },
  body
})

const allOfOurs: Capabilities = new Set(allCapabilities)

/** The known names in `X-Nixfleet-Capabilities`; a peer may be newer and announce more (D3). */
export function capabilitiesOf(header: string | undefined): Capabilities {
  if (header === ourCapabilities) return allOfOurs
  return new Set((header ?? "").split(",").map((name) => name.trim()).filter(isCapability))
}

/** `1` passes, another number is 426, anything else 400; absent passes unless strict (D19). */
function checkProtocol(header: string | undefined, strict: boolean): Refusal | undefined {
  if (header === undefined) {
    return strict ? refuse("protocol-missing", `no ${protocolHeader} header`, 400) : undefined
  }
  if (header === protocolVersion) return undefined
  const text = header.trim()
  if (!/^[+-]?\d{1,9}$/.test(text)) return refuse("protocol-malformed", `${protocolHeader} is not a number`, 400)
  return Number(text) === Number(protocolVersion)
    ? undefined
    : refuse("protocol-unsupported", `protocol ${text}, and only ${protocolVersion} is spoken`, 426)
}

/** Asked at each request: a list that came into force counts on open connections and resumed sessions too (D16). */
const checkRevocation = ({ identities }: State, identity: Identity): Refusal | undefined =>
  identity.role === "agent" && isRevoked(identities, identity.host, identity.issuedAt)
    ? refuse("certificate-revoked", identity.commonName, 401)
    : undefined

function checkAccess(access: Access, identity: Identity): Refusal | undefined {
  switch (access) {
    case "anyone":
    case "token":
    case "peer":
      return undefined
    case "agent":
      return identity.role === "agent"
        ? undefined
        : refuse("role-not-agent", "only a host's certificate may do this", 403)
    case "operator":
      return identity.role === "operator"
        ? undefined
        : refuse("role-not-operator", "only an operator's certificate may do this", 403)
  }
}

/**
 * What must be there before anything is served. Strict waits for the revocations, too: a new database lets nobody in whom a lost
 * one had kept out.
 */
function awaited({ strict }: Api, { artifacts, identities }: State): string | undefined {
  if (artifacts === undefined) return "first signed artifact"
  return strict && identities.revocations === undefined ? "first signed list of revocations" : undefined
}

const encodeHealthz = encoded(Healthz)

const health = (api: Api): ExchangeResponse => {
  const state = api.state()
  return encodeHealthz({
    ok: true,
    version: api.version,
    last_tick_at: state.lastPlanAt ?? null,
    ready: awaited(api, state) === undefined
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
    case "enroll":
      return IssuanceRoutes.enroll(api, call)
    case "renew":
      return IssuanceRoutes.renew(api, call)
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
    case "hostWhy":
      return OperatorRoutes.hostWhy(api, call)
    case "rollouts":
      return OperatorRoutes.rollouts(api)
    case "rolloutHosts":
      return OperatorRoutes.rolloutHosts(api, call)
    case "rolloutEvents":
      return OperatorRoutes.rolloutEvents(api, call)
    case "rolloutLifecycle":
      return OperatorRoutes.rolloutLifecycle(api, call)
    case "act":
      return ActionRoutes.act(api, call)
    case "actions":
      return ActionRoutes.actions(api)
    case "quarantine":
      return ActionRoutes.quarantine(api)
    case "snapshot":
      return OperatorRoutes.snapshot(api)
    case "metrics":
      return OperatorRoutes.metrics(api)
  }
}

/** What each peer may still ask for, and have written to the log. */
interface Door {
  readonly events: Allowance
  readonly renewals: Allowance
  readonly others: Allowance
  readonly enrollmentsOfAddress: Allowance
  readonly enrollmentsOfAll: Allowance
  readonly lines: Allowance
}

/** Shown of a path or a detail in a log line: the rest is what a peer wants us to write. */
const shownLength = 500

const named = ({ method, path }: ExchangeRequest): string => `${method} ${path}`.slice(0, shownLength)

interface Told {
  readonly detail: string
  readonly request?: string
  readonly status?: number
  /** Of whoever shows no certificate. These share one allowance: nobody runs out of addresses. */
  readonly address?: string
}

/** One line about a request that was not served; a peer that goes on and on is told of now and then, with the count. */
const note = (
  door: Door,
  peer: string,
  reason: string,
  message: string,
  { address, detail, request, status }: Told
): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => {
    const { granted, refused } = door.lines(`${peer} ${reason}`, 1, now)
    return !granted ? Effect.void : log.warn(message, {
      reason: knownReason(reason),
      detail: detail.slice(0, shownLength),
      peer,
      address,
      request,
      status,
      suppressed: refused === 0 ? undefined : refused
    })
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
  const { host } = identity
  switch (name) {
    case "events":
      return within(door.events(host, body.length + eventOverheadBytes, now), name)
    case "renew":
      return within(door.renewals(host, 1, now), name)
    case "hosts":
    case "hostWhy":
    case "rolloutHosts":
      return within(door.others(host, lookCost, now), name)
    default:
      return within(door.others(host, 1, now), name)
  }
}

const within = ({ granted }: Grant, name: string): Refusal | undefined =>
  granted
    ? undefined
    : refuse("over-allowance", name, bare(503, { "retry-after": String(overAllowanceRetryAfterSeconds) }))

/** Whoever shows no certificate is known by an address. One address that floods uses up its own share and not that of all. */
const checkAnonymous = (door: Door, address: string, now: Millis): Refusal | undefined =>
  within(door.enrollmentsOfAddress(networkOf(address), 1, now), `enroll from ${address}`) ??
    within(door.enrollmentsOfAll("", 1, now), "enroll from anywhere")

const handle = Effect.fnUntraced(function*(
  api: Api,
  door: Door,
  request: ExchangeRequest,
  peer: Peer | undefined,
  address: string
) {
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
  const missing = awaited(api, state)
  if (missing !== undefined) return yield* refuse("not-ready", `awaiting ${missing}`, awaiting(missing))
  const protocol = checkProtocol(request.headers[protocolHeader], api.strict)
  if (protocol !== undefined) return yield* protocol
  const now = yield* Clock.currentTimeMillis
  if (route.access === "token") {
    const over = checkAnonymous(door, address, now)
    return over === undefined ? yield* IssuanceRoutes.enroll(api, { request }) : yield* over
  }
  const isHost = (name: string) => declaredHost(state, name) !== undefined || HashMap.has(state.hosts, name)
  const { agentSuffix, operatorNames } = api
  const identified = identify(peer, now, { agentSuffix, operatorNames, isHost })
  if (!identified.ok) return yield* refuse(identified.reason, peer?.commonName ?? "no certificate", identified.status)
  const revoked = checkRevocation(state, identified.identity)
  if (revoked !== undefined) return yield* revoked
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
    note: (reason, message, detail) => note(door, identified.identity.commonName, reason, message, { detail })
  })
})

/** All routes as one function (house rule 6). */
export function makeHandler(api: Api): ExchangeHandler {
  const door: Door = {
    events: makeAllowance(eventBytes),
    renewals: makeAllowance(renewals),
    others: makeAllowance(otherRequests),
    enrollmentsOfAddress: makeAllowance(enrollmentsOfAddress),
    enrollmentsOfAll: makeAllowance(enrollmentsOfAll),
    lines: makeAllowance(refusalLines)
  }
  return (request, peer, address = "") =>
    handle(api, door, request, peer, address).pipe(
      Effect.catchTag("Refusal", (refusal) =>
        note(door, peer?.commonName ?? "", refusal.reason, "a request was refused", {
          ...(peer === undefined ? { address } : {}),
          detail: refusal.detail,
          request: named(request),
          status: refusal.status
        }).pipe(
          Effect.as<ExchangeResponse>({ status: refusal.status, headers: refusal.headers, body: refusal.body })
        )),
      Effect.flatMap((response) =>
        Effect.as(
          log.debug("answered", { request: named(request), peer: peer?.commonName, status: response.status }),
          announce(response)
        )
      )
    )
}
