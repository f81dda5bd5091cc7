/**
 * `Exchange` over `node:https`: TLS 1.3, the given CA only, a client certificate from files. One kept connection per lane,
 * so exactly two per process: a parked poll never delays an event (D20). Requests of one lane go one after another; the
 * time-out of a request includes its wait for the lane.
 *
 * Owns sockets. Knows no retry and no back-off: each failure is one `ExchangeError`, and the worker that asked decides.
 */
import { Effect, Layer, Schema } from "effect"
import * as http from "node:http"
import * as https from "node:https"
import { Exchange, ExchangeError, type ExchangeRequest, type ExchangeResponse, type SendOptions } from "./Exchange.ts"
import { openTlsIdentity, type TlsIdentity, type TlsMaterial } from "./TlsIdentity.ts"

export interface TlsClientConfig {
  /** `https://host[:port][/prefix]`; `http://` only with `insecure`. */
  readonly baseUrl: string
  /** Required for `https://`: the roots of the operating system are never used. */
  readonly caFile?: string | undefined
  readonly certFile?: string | undefined
  readonly keyFile?: string | undefined
  /** Allows `http://`, for tests and for a proxy on the same host that speaks TLS (D16). */
  readonly insecure: boolean
}

export class TlsClientConfigError extends Schema.TaggedError<TlsClientConfigError>()("TlsClientConfigError", {
  reason: Schema.Literals(["tls-url-invalid", "tls-insecure-url", "tls-ca-missing"]),
  message: Schema.String
}) {}

type Lane = SendOptions["lane"]
type Lanes = Readonly<Record<Lane, http.Agent>>

/** Milliseconds between TCP keep-alive probes: a path that died without a word is noticed within minutes. */
const tcpKeepAliveMs = 30_000

const laneOptions = { keepAlive: true, keepAliveMsecs: tcpKeepAliveMs, maxSockets: 1, maxFreeSockets: 1 }

/** Lets a request in flight end on its old connection; an idle one is closed now. */
function retire(lanes: Lanes): void {
  for (const agent of [lanes.poll, lanes.report]) {
    agent.maxFreeSockets = 0
    for (const sockets of Object.values(agent.freeSockets)) sockets?.forEach((socket) => socket.destroy())
  }
}

function close(lanes: Lanes): void {
  lanes.poll.destroy()
  lanes.report.destroy()
}

function secureLanes(material: TlsMaterial): Lanes {
  const options = { ...laneOptions, ...material, minVersion: "TLSv1.3" } as const
  return { poll: new https.Agent(options), report: new https.Agent(options) }
}

/** The lanes of the newest identity: new ones, and so new connections, whenever the files have changed. */
function renewing(identity: TlsIdentity, initial: TlsMaterial): { lanes: Effect.Effect<Lanes>; close: () => void } {
  let material = initial
  let lanes = secureLanes(initial)
  const next = Effect.map(identity.current, (newest) => {
    if (newest !== material) {
      retire(lanes)
      material = newest
      lanes = secureLanes(newest)
    }
    return lanes
  })
  return { lanes: next, close: () => close(lanes) }
}

const errorCode = (cause: Error): string => "code" in cause && typeof cause.code === "string" ? cause.code : ""

/** OpenSSL's verification results and alerts, as `node:tls` names them. */
const isTlsCode = (code: string) =>
  /^(?:ERR_TLS_|ERR_SSL_|CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|INVALID_CA|INVALID_PURPOSE|HOSTNAME_MISMATCH|EPROTO)/
    .test(code)

function classify(cause: Error, answered: boolean): ExchangeError["kind"] {
  if (isTlsCode(errorCode(cause))) return "tls"
  return answered || ["ECONNRESET", "EPIPE"].includes(errorCode(cause)) ? "cut" : "unreachable"
}

function headersOf(message: http.IncomingMessage): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(message.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(", ") : value
  }
  return headers
}

const describe = ({ method, path }: ExchangeRequest, target: URL) => `${method} ${target.origin}${path}`

/** Throws for a path or a header that HTTP cannot carry. */
function open(target: URL, agent: http.Agent, request: ExchangeRequest): http.ClientRequest {
  return (target.protocol === "https:" ? https : http).request({
    agent,
    host: target.hostname.replace(/^\[|\]$/g, ""),
    port: target.port === "" ? undefined : Number(target.port),
    method: request.method,
    path: `${target.pathname.replace(/\/+$/, "")}${request.path}`,
    headers: request.method === "POST" || request.body.length > 0
      ? { ...request.headers, "content-length": String(request.body.length) }
      : { ...request.headers }
  })
}

/** One request on one lane. Interruption closes its connection, which tells the server. */
function exchange(target: URL, agent: http.Agent, request: ExchangeRequest, options: SendOptions) {
  const failure = (kind: ExchangeError["kind"], detail: string) =>
    new ExchangeError({ kind, message: `${describe(request, target)}: ${detail}` })
  return Effect.try({
    try: () => open(target, agent, request),
    catch: (cause) => failure("unreachable", String(cause))
  }).pipe(
    Effect.flatMap((outgoing) => complete(outgoing, request.body, options.maxBodyBytes, failure)),
    Effect.timeoutOrElse({
      duration: options.timeoutMs,
      orElse: () => Effect.fail(failure("timeout", `no complete answer within ${options.timeoutMs} ms`))
    })
  )
}

/** Sends the body and collects the answer. */
function complete(
  outgoing: http.ClientRequest,
  body: Uint8Array,
  maxBodyBytes: number,
  failure: (kind: ExchangeError["kind"], detail: string) => ExchangeError
) {
  return Effect.callback<ExchangeResponse, ExchangeError>((resume) => {
    const fail = (kind: ExchangeError["kind"], detail: string) => resume(Effect.fail(failure(kind, detail)))
    let answered = false
    const tooLarge = () => {
      fail("tooLarge", `the answer is larger than ${maxBodyBytes} bytes`)
      outgoing.destroy()
    }
    outgoing.on("error", (cause) => fail(classify(cause, answered), cause.message))
    // The last resort: a connection that ended without a word.
    outgoing.on("close", () => fail("cut", "the connection was closed before the answer was complete"))
    outgoing.on("response", (response) => {
      answered = true
      const chunks: Array<Buffer> = []
      let size = 0
      if (Number(response.headers["content-length"] ?? 0) > maxBodyBytes) return tooLarge()
      response.on("data", (chunk: Buffer) => {
        size += chunk.length
        if (size > maxBodyBytes) return tooLarge()
        chunks.push(chunk)
      })
      response.on("error", (cause) => fail("cut", cause.message))
      response.on("end", () => {
        if (!response.complete) return
        resume(Effect.succeed({
          status: response.statusCode ?? 0,
          headers: headersOf(response),
          body: Buffer.concat(chunks)
        }))
      })
    })
    outgoing.end(body)
    return Effect.sync(() => outgoing.destroy())
  })
}

function parseTarget(config: TlsClientConfig): Effect.Effect<URL, TlsClientConfigError> {
  const refuse = (reason: TlsClientConfigError["reason"], message: string) =>
    Effect.fail(new TlsClientConfigError({ reason, message }))
  const target = URL.parse(config.baseUrl)
  if (target === null || (target.protocol !== "https:" && target.protocol !== "http:")) {
    return refuse("tls-url-invalid", `${config.baseUrl} is not an https:// address`)
  }
  if (target.protocol === "http:" && !config.insecure) {
    return refuse("tls-insecure-url", `${config.baseUrl} is not encrypted; plain http needs the insecure option`)
  }
  if (target.protocol === "https:" && config.caFile === undefined) {
    return refuse("tls-ca-missing", `no CA certificate is configured for ${config.baseUrl}`)
  }
  return Effect.succeed(target)
}

const connect = Effect.fnUntraced(function*(config: TlsClientConfig, target: URL) {
  if (target.protocol === "http:" || config.caFile === undefined) {
    const lanes: Lanes = { poll: new http.Agent(laneOptions), report: new http.Agent(laneOptions) }
    return { lanes: Effect.succeed(lanes), close: () => close(lanes) }
  }
  const identity = yield* openTlsIdentity({ ca: config.caFile, cert: config.certFile, key: config.keyFile })
  return renewing(identity, yield* identity.current)
})

/** The client of one server. Fails when the address or the identity cannot be used at all. */
export const layer = (config: TlsClientConfig) =>
  Layer.effect(
    Exchange,
    Effect.gen(function*() {
      const target = yield* parseTarget(config)
      const connection = yield* Effect.acquireRelease(connect(config, target), (opened) => Effect.sync(opened.close))
      return Exchange.of({
        send: (request, options) =>
          Effect.flatMap(connection.lanes, (lanes) => exchange(target, lanes[options.lane], request, options))
      })
    })
  )
