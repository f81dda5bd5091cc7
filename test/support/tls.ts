/** Real servers and clients on loopback for the tests of the network edge. */
import { Effect, Layer } from "effect"
import { connect } from "node:tls"
import type { Pem } from "../../examples/certificates.ts"
import { Draining } from "../../src/Layers/Net/Draining.ts"
import { Exchange, type ExchangeHandler, type ExchangeRequest } from "../../src/Layers/Net/Exchange.ts"
import { Served } from "../../src/Layers/Net/Served.ts"
import * as TlsClient from "../../src/Layers/Net/TlsClient.ts"
import * as TlsServer from "../../src/Layers/Net/TlsServer.ts"
import { Certificates } from "./certificates.ts"

export const utf8 = (text: string) => new TextEncoder().encode(text)
export const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes)

export const get = (path: string): ExchangeRequest => ({ method: "GET", path, headers: {}, body: new Uint8Array() })
export const post = (path: string, body: string): ExchangeRequest => ({
  method: "POST",
  path,
  headers: { "content-type": "application/json" },
  body: utf8(body)
})
export const quick = { timeoutMs: 5_000, maxBodyBytes: 65_536, lane: "report" } as const

export interface Session {
  readonly resumed: boolean
  readonly ticket: Buffer | undefined
  /** Of the answer; 0 when none came. */
  readonly status: number
}

/** One GET on a connection of its own, with the session ticket that the server gave before. */
export const session = (port: number, ca: string, { cert, key }: Pem, ticket?: Buffer, path = "/") =>
  Effect.callback<Session>((resume) => {
    let given: Buffer | undefined
    let resumed = false
    let text = ""
    const options = { host: "127.0.0.1", servername: "localhost", port, ca, cert, key }
    const socket = connect(ticket === undefined ? options : { ...options, session: ticket }, () => {
      resumed = socket.isSessionReused()
      socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`)
    })
    socket.setEncoding("latin1")
    socket.on("session", (found) => given = found)
    socket.on("data", (chunk) => text += String(chunk))
    socket.on("close", () => resume(Effect.succeed({ resumed, ticket: given, status: Number(text.slice(9, 12)) })))
    return Effect.sync(() => socket.destroy())
  })

/** A server for the rest of the scope; it closes with it. */
export const serve = Effect.fnUntraced(function*(
  handler: ExchangeHandler,
  options: {
    readonly maxBodyBytes?: number
    readonly limits?: Partial<TlsServer.TlsServerLimits>
    readonly clientCaFile?: string
  } = {}
) {
  const { caFile, serverFiles } = yield* Certificates
  const config = {
    host: "127.0.0.1",
    port: 0,
    certFile: serverFiles.cert,
    keyFile: serverFiles.key,
    clientCaFile: options.clientCaFile ?? caFile
  }
  const context = yield* Layer.build(
    TlsServer.layer(config, { ...TlsServer.defaultLimits, ...options.limits }).pipe(
      Layer.provide(Layer.succeed(Served, { handler, maxBodyBytes: () => options.maxBodyBytes ?? 65_536 })),
      Layer.provideMerge(Layer.fresh(Draining.layer))
    )
  )
  return { context, ...yield* Effect.provide(TlsServer.TlsServer, context) }
})

/** A client for the rest of the scope. */
export const client = (config: TlsClient.TlsClientConfig) =>
  Layer.build(TlsClient.layer(config)).pipe(Effect.flatMap((context) => Effect.provide(Exchange, context)))
