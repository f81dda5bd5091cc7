/**
 * The routes of the control plane as data (control-plane.md §2.2): method, path, who may call it, how large its body may be.
 * Holds no handler; `Handler.ts` decides what each answers. Pure.
 */

/**
 * - `anyone`: no certificate, not even readiness is asked
 * - `token`: no certificate; a bootstrap token in the body speaks for the host
 * - `peer`: any certificate of the client CA
 * - `agent`: the certificate of a host; it acts as that host and no other (D16)
 * - `operator`: a certificate that says it is an operator's, and is no host's
 */
export type Access = "anyone" | "token" | "peer" | "agent" | "operator"

export interface Route {
  readonly name: RouteName
  readonly method: "GET" | "POST"
  /** Segments between slashes; `:id` and `:name` take any one segment. */
  readonly path: string
  readonly access: Access
}

export type RouteName =
  | "healthz"
  | "whoami"
  | "dispatch"
  | "events"
  | "heartbeat"
  | "enroll"
  | "renew"
  | "fleet"
  | "fleetSignature"
  | "manifest"
  | "manifestSignature"
  | "channel"
  | "hosts"
  | "hostWhy"
  | "rollouts"
  | "rolloutHosts"
  | "rolloutEvents"
  | "rolloutLifecycle"
  | "act"
  | "actions"
  | "quarantine"
  | "snapshot"
  | "metrics"

/** Agents read the signed artifacts and their own records; what shows the whole fleet is for operators (D16). */
export const routes: ReadonlyArray<Route> = [
  { name: "healthz", method: "GET", path: "/healthz", access: "anyone" },
  { name: "whoami", method: "GET", path: "/v1/whoami", access: "peer" },
  { name: "dispatch", method: "GET", path: "/v1/agent/dispatch", access: "agent" },
  { name: "events", method: "POST", path: "/v1/agent/events", access: "agent" },
  { name: "heartbeat", method: "POST", path: "/v1/agent/heartbeat", access: "agent" },
  { name: "enroll", method: "POST", path: "/v1/enroll", access: "token" },
  { name: "renew", method: "POST", path: "/v1/agent/renew", access: "agent" },
  { name: "fleet", method: "GET", path: "/v1/fleet.resolved", access: "peer" },
  { name: "fleetSignature", method: "GET", path: "/v1/fleet.resolved/sig", access: "peer" },
  { name: "manifest", method: "GET", path: "/v1/rollouts/:id", access: "peer" },
  { name: "manifestSignature", method: "GET", path: "/v1/rollouts/:id/sig", access: "peer" },
  { name: "channel", method: "GET", path: "/v1/channels/:name", access: "operator" },
  { name: "hosts", method: "GET", path: "/v1/hosts", access: "peer" },
  { name: "hostWhy", method: "GET", path: "/v1/hosts/:name/why", access: "peer" },
  { name: "rollouts", method: "GET", path: "/v1/rollouts", access: "operator" },
  { name: "rolloutHosts", method: "GET", path: "/v1/rollouts/:id/hosts", access: "peer" },
  { name: "rolloutEvents", method: "GET", path: "/v1/rollouts/:id/events", access: "operator" },
  { name: "rolloutLifecycle", method: "GET", path: "/v1/rollouts/:id/lifecycle", access: "operator" },
  { name: "act", method: "POST", path: "/v1/operator/actions", access: "operator" },
  { name: "actions", method: "GET", path: "/v1/operator/actions", access: "operator" },
  { name: "quarantine", method: "GET", path: "/v1/quarantine", access: "operator" },
  { name: "snapshot", method: "GET", path: "/v1/snapshot", access: "operator" },
  { name: "metrics", method: "GET", path: "/metrics", access: "operator" }
]

/** The original's limit for every body; an event with all its sub-results stays well below. */
const eventBodyBytes = 2_097_152
/** 64 digests and 64 rejections with their longest texts, and room. */
const heartbeatBodyBytes = 524_288
/** A certificate request, and a token beside it. */
const issuanceBodyBytes = 16_384
/** An operator's action with its reason escaped in full. A GET needs none; some clients send an empty object. */
const otherBodyBytes = 4_096

/** Seconds that a poll may ask for, and gets without asking (control-plane.md §2.4). */
export const pollWaitMaxSeconds = 60
/** Share of the asked wait that is always waited; the rest is jitter, so that polls do not expire together (D9: 54–60 s). */
export const pollJitterFloor = 0.9

/** Seconds of `Retry-After` when the queue is full or the reducer is late. */
export const busyRetryAfterSeconds = 2

export type Match =
  | { readonly _tag: "Found"; readonly route: Route; readonly parameter: string }
  | { readonly _tag: "WrongMethod"; readonly allow: string }
  | { readonly _tag: "Unknown" }

const segments = (path: string) => path.split("/").slice(1)
const table = routes.map((route) => ({ route, segments: segments(route.path) }))

/** The path without its query. */
export function pathOf(target: string): string {
  const query = target.indexOf("?")
  return query < 0 ? target : target.slice(0, query)
}

export function queryOf(target: string): URLSearchParams {
  const query = target.indexOf("?")
  return new URLSearchParams(query < 0 ? "" : target.slice(query + 1))
}

function decodeSegment(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment)
  } catch {
    return undefined
  }
}

/** Which route a request means. A parameter that is not valid percent-encoding is an unknown path. */
export function match(method: string, target: string): Match {
  const wanted = segments(pathOf(target))
  const found = table.filter((row) =>
    row.segments.length === wanted.length &&
    row.segments.every((segment, index) => segment.startsWith(":") ? wanted[index] !== "" : segment === wanted[index])
  )
  const row = found.find(({ route }) => route.method === method)
  if (row === undefined) {
    const allow = found.map(({ route }) => route.method).join(", ")
    return allow === "" ? { _tag: "Unknown" } : { _tag: "WrongMethod", allow }
  }
  const at = row.segments.findIndex((segment) => segment.startsWith(":"))
  const parameter = at < 0 ? "" : decodeSegment(wanted[at] ?? "")
  return parameter === undefined ? { _tag: "Unknown" } : { _tag: "Found", route: row.route, parameter }
}

/** Largest body that a request to this target may have; the server stops reading there (413). */
export function maxBodyBytes(target: string): number {
  switch (pathOf(target)) {
    case "/v1/agent/events":
      return eventBodyBytes
    case "/v1/agent/heartbeat":
      return heartbeatBodyBytes
    case "/v1/enroll":
    case "/v1/agent/renew":
      return issuanceBodyBytes
    default:
      return otherBodyBytes
  }
}
