/** Real servers and clients on loopback for the tests of the network edge. */
import { Effect, Layer } from "effect"
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
