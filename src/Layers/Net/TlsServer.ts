/**
 * The server's end of `Exchange`: `node:https`, TLS 1.3, client certificates asked for but not required (`healthz` and
 * enrollment have none), each route decides. Bodies are limited while they stream, slow senders are cut, a parked request
 * costs one callback, and a client that goes away interrupts its handler (D8, D20).
 *
 * Keys of session tickets are in memory only, and change with the certificate files; when the authorities of client certificates
 * change, every connection ends, because it was judged by those of before.
 *
 * Owns the listening socket and the connections. Knows no route: `Served` is given by the program above.
 *
 * Shutdown: `Draining` begins, the port closes, requests in flight get `shutdownGraceMs`, then the sockets close.
 * A defect of the handler is a 500 and an error line; the process goes on, because a request must not end it.
 */
import { Cause, Context, Effect, Exit, Layer, Schedule, Schema } from "effect"
import type { IncomingMessage, ServerResponse } from "node:http"
import * as https from "node:https"
import type { AddressInfo } from "node:net"
import { TLSSocket } from "node:tls"
import { logOf } from "../Logging.ts"
import { Draining } from "./Draining.ts"
import type { ExchangeHandler, ExchangeRequest, ExchangeResponse, Peer } from "./Exchange.ts"
import { Served } from "./Served.ts"
import { openTlsIdentity, type TlsMaterial } from "./TlsIdentity.ts"

const log = logOf("cp_runtime")

export interface TlsServerConfig {
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  readonly certFile: string
  readonly keyFile: string
  /** Roots for client certificates. */
  readonly clientCaFile: string
}

/** Limits of one server; milliseconds. */
export interface TlsServerLimits {
  /** A client that does not finish its handshake. */
  readonly handshakeMs: number
  /** From the connection's first byte of a request to the end of its headers. */
  readonly headersMs: number
  /** To the end of its body. */
  readonly requestMs: number
  /** Idle time before a kept connection closes; longer than a heartbeat's period, so that it carries them all. */
  readonly keepAliveMs: number
  /** How long requests in flight may take after the port is closed; D18 wants the whole exit within 2 s. */
  readonly shutdownGraceMs: number
  /** Two connections per agent at the largest fleet that was measured, and some for operators. */
  readonly maxConnections: number
  /** How often certificate files are looked at; a renewed one serves the next handshake after that. */
  readonly identityCheckMs: number
  /** Bytes of request bodies in memory at the same time, of all connections; more are cut. */
  readonly maxHeldBytes: number
}

export const defaultLimits: TlsServerLimits = {
  handshakeMs: 10_000,
  headersMs: 15_000,
  requestMs: 30_000,
  keepAliveMs: 75_000,
  shutdownGraceMs: 1_000,
  maxConnections: 20_480,
  identityCheckMs: 30_000,
  maxHeldBytes: 268_435_456
}

/** Milliseconds between TCP keep-alive probes of a parked poll's connection. */
const tcpKeepAliveMs = 30_000
/** A refused body is read and dropped up to this size, so that the client gets to read the 413; then it is cut. */
const discardBytes = 4_194_304
/** Whoever shows no certificate has little to say: enough for an enrollment. */
const anonymousBodyBytes = 16_384

export class TlsServerError extends Schema.TaggedError<TlsServerError>()("TlsServerError", {
  reason: Schema.Literals(["listen-failed"]),
  message: Schema.String
}) {}

/** Where the server listens. */
export class TlsServer extends Context.Service<TlsServer, {
  readonly host: string
  readonly port: number
}>()("nixfleet/Layers/Net/TlsServer") {}

const peers = new WeakMap<TLSSocket, Peer>()

/** Several values in one subject name nobody. */
const single = (value: unknown): string | undefined => typeof value === "string" ? value : undefined

/** Who the certificate of this connection names; read once a connection, because reading it costs more than a heartbeat. */
function peerOf(socket: unknown): Peer | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined
  const known = peers.get(socket)
  if (known !== undefined) return known
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) return undefined
  const subject: { readonly CN?: unknown; readonly OU?: unknown } | undefined = socket.getPeerCertificate().subject
  const peer: Peer = {
    commonName: single(subject?.CN),
    unit: single(subject?.OU),
    notBefore: certificate.validFromDate.getTime(),
    notAfter: certificate.validToDate.getTime()
  }
  peers.set(socket, peer)
  return peer
}

function headersOf(message: IncomingMessage): Record<string, string> {
  const received = message.headers
  const headers: Record<string, string> = {}
  for (const name of Object.keys(received)) {
    const value = received[name]
    if (value !== undefined) headers[name] = typeof value === "string" ? value : value.join(", ")
  }
  return headers
}

/** Bodies in memory, of all requests: the one thing that connections share. */
interface Held {
  bytes: number
}

/** Reads a body up to `limit`, then calls back once: with the bytes, or with `undefined` when there were more. */
function readBody(
  message: IncomingMessage,
  limit: number,
  take: (bytes: number) => boolean,
  done: (body: Uint8Array | undefined) => void
): void {
  const chunks: Array<Buffer> = []
  let size = 0
  let refused = false
  const refuse = () => {
    refused = true
    chunks.length = 0
    done(undefined)
  }
  message.on("data", (chunk: Buffer) => {
    size += chunk.length
    if (size > discardBytes && size > limit) message.destroy()
    else if (refused) return
    else if (size > limit) refuse()
    else if (!take(chunk.length)) message.destroy()
    else chunks.push(chunk)
  })
  message.on("end", () => {
    if (!refused) done(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks))
  })
  // A sender that stops in mid-body is told nothing: there is nobody to tell.
  message.on("error", () => undefined)
  if (Number(message.headers["content-length"] ?? 0) > limit) refuse()
}

const bare = (status: number, headers: Record<string, string> = {}): ExchangeResponse => ({
  status,
  headers,
  body: new Uint8Array()
})

/**
 * Bytes of a body up to which it travels in one TLS record with its head, which `node:http` does for text only. Latin-1 is the
 * text that has a character for each byte and no other.
 */
const joinedBodyBytes = 8_192

function write(outgoing: ServerResponse, { body, headers, status }: ExchangeResponse, last: boolean): void {
  if (outgoing.destroyed || outgoing.headersSent) return
  const all: Record<string, string> = { ...headers }
  if (status !== 204) all["content-length"] = String(body.length)
  if (last) all["connection"] = "close"
  outgoing.writeHead(status, all)
  if (body.length === 0) outgoing.end()
  else if (body.length > joinedBodyBytes) outgoing.end(body)
  else outgoing.end(Buffer.from(body.buffer, body.byteOffset, body.length).toString("latin1"), "latin1")
}

type Respond = (
  request: ExchangeRequest,
  peer: Peer | undefined,
  address: string | undefined,
  done: (response: ExchangeResponse) => void
) => () => void

/** Runs the handler as one fiber; the answer is how to interrupt it. */
function responder(handler: ExchangeHandler, context: Context.Context<never>): Respond {
  const run = Effect.runCallbackWith(context)
  return (request, peer, address, done) => {
    const total = handler(request, peer, address).pipe(
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.succeed(bare(503))
          : Effect.as(
            log.error("a request failed", {
              reason: "handler-defect",
              detail: `${request.method} ${request.path}`,
              peer: peer?.commonName
            }, cause),
            bare(500)
          )
      )
    )
    const interrupt = run(total, { onExit: (exit) => done(Exit.isSuccess(exit) ? exit.value : bare(503)) })
    return () => interrupt()
  }
}

function onRequest(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  served: Served["Service"],
  respond: Respond,
  draining: Draining["Service"],
  held: Held,
  maxHeldBytes: number
): void {
  const path = incoming.url ?? "/"
  const method = incoming.method
  if (method !== "GET" && method !== "POST") {
    incoming.resume()
    return write(outgoing, bare(405, { allow: "GET, POST" }), true)
  }
  let interrupt: (() => void) | undefined
  let mine = 0
  outgoing.on("close", () => {
    held.bytes -= mine
    if (!outgoing.writableFinished) interrupt?.()
  })
  const take = (bytes: number): boolean => {
    mine += bytes
    held.bytes += bytes
    return held.bytes <= maxHeldBytes
  }
  const peer = peerOf(incoming.socket)
  const limit = served.maxBodyBytes(path)
  readBody(incoming, peer === undefined ? Math.min(limit, anonymousBodyBytes) : limit, take, (body) => {
    if (body === undefined) return write(outgoing, bare(413), true)
    const request: ExchangeRequest = { method, path, headers: headersOf(incoming), body }
    interrupt = respond(
      request,
      peer,
      incoming.socket.remoteAddress,
      (response) => write(outgoing, response, draining.begun())
    )
  })
}

function listen(server: https.Server, config: TlsServerConfig): Effect.Effect<AddressInfo, TlsServerError> {
  const refused = (detail: string) =>
    Effect.fail(
      new TlsServerError({
        reason: "listen-failed",
        message: `cannot listen on ${config.host}:${config.port}: ${detail}`
      })
    )
  return Effect.callback((resume) => {
    const onError = (cause: Error) => resume(refused(cause.message))
    server.once("error", onError)
    server.listen({ host: config.host, port: config.port, backlog: 1024 }, () => {
      server.off("error", onError)
      const address = server.address()
      resume(address === null || typeof address === "string" ? refused("no address") : Effect.succeed(address))
    })
  })
}

/** Closes the port, waits for what is in flight, then cuts. */
const stop = (server: https.Server, graceMs: number): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    server.close(() => resume(Effect.void))
    server.closeIdleConnections()
  }).pipe(
    Effect.timeoutOption(graceMs),
    Effect.andThen(Effect.sync(() => server.closeAllConnections()))
  )

function serverOptions(material: TlsMaterial, limits: TlsServerLimits): https.ServerOptions {
  return {
    ...material,
    minVersion: "TLSv1.3",
    requestCert: true,
    rejectUnauthorized: false,
    handshakeTimeout: limits.handshakeMs,
    headersTimeout: limits.headersMs,
    requestTimeout: limits.requestMs,
    keepAliveTimeout: limits.keepAliveMs,
    connectionsCheckingInterval: Math.min(limits.headersMs, 5_000),
    keepAlive: true,
    keepAliveInitialDelay: tcpKeepAliveMs,
    noDelay: true
  }
}

/** Listens while its scope is open. */
export const layer = (config: TlsServerConfig, limits: TlsServerLimits = defaultLimits) =>
  Layer.effect(
    TlsServer,
    Effect.gen(function*() {
      const served = yield* Served
      const draining = yield* Draining
      const respond = responder(served.handler, yield* Effect.context())
      const identity = yield* openTlsIdentity({ ca: config.clientCaFile, cert: config.certFile, key: config.keyFile })
      let material = yield* identity.current
      const server = https.createServer(serverOptions(material, limits))
      server.maxConnections = limits.maxConnections
      const held: Held = { bytes: 0 }
      server.on("request", (incoming, outgoing) =>
        onRequest(incoming, outgoing, served, respond, draining, held, limits.maxHeldBytes))
      // An error after the start (too many open files) must not end the process as an unhandled event.
      const address = yield* listen(server, config)
      server.on("error", () =>
        undefined)
      yield* Effect.addFinalizer(() => draining.begin.pipe(Effect.andThen(stop(server, limits.shutdownGraceMs))))
      yield* Effect.map(identity.current, (newest) => {
        if (newest === material) return
        const isOtherTrust = newest.ca !== material.ca
        material = newest
        // With keys for session tickets of its own: no session from before is resumed, so every certificate is judged anew.
        server.setSecureContext({ ...newest, minVersion: "TLSv1.3" })
        if (isOtherTrust) server.closeAllConnections()
      }).pipe(Effect.repeat(Schedule.spaced(limits.identityCheckMs)), Effect.forkScoped)
      const url = `https://${address.address}:${address.port}`
      yield* logOf("cp_boot").info(`listening on ${url}`, { address: url })
      return TlsServer.of({ host: address.address, port: address.port })
    })
  )
