/**
 * The one port between programs: a request goes out, a response comes back, both as bytes (house rule 6). TLS over
 * loopback or the internet is one adapter (`TlsClient.ts`, `TlsServer.ts`), the simulated network is another.
 *
 * Failures: every way in which no complete response arrived is an `ExchangeError`; a status, whatever it is, is a response.
 */
import { Context, type Effect, Schema } from "effect"

export interface ExchangeRequest {
  readonly method: "GET" | "POST"
  /** Path and query, starting with `/`. */
  readonly path: string
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
}

export interface ExchangeResponse {
  readonly status: number
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
}

/** Who is on the other end of a server-side exchange, as the certificate says; cached per socket (D16, D20). */
export interface Peer {
  /** Subject common name of a certificate that chains to the client CA; absent when none was presented or it did not. */
  readonly commonName: string | undefined
  /** Subject organizational unit, when it has exactly one. */
  readonly unit: string | undefined
  /** Certificate validity, epoch milliseconds; checked per request because a resumed session skips verification (D16). */
  readonly notBefore: number
  readonly notAfter: number
}

/** Why no response arrived. */
export class ExchangeError extends Schema.TaggedError<ExchangeError>()("ExchangeError", {
  kind: Schema.Literals(["unreachable", "timeout", "tls", "tooLarge", "cut"]),
  /** What was attempted, on what, what came back. */
  message: Schema.String
}) {}

export interface SendOptions {
  readonly timeoutMs: number
  /** A larger body ends the exchange with `tooLarge`. */
  readonly maxBodyBytes: number
  /** Which kept connection carries it: a parked poll must not delay an event (D20). */
  readonly lane: "poll" | "report"
}

/** The client's end. */
export class Exchange extends Context.Service<Exchange, {
  readonly send: (request: ExchangeRequest, options: SendOptions) => Effect.Effect<ExchangeResponse, ExchangeError>
}>()("nixfleet/Layers/Net/Exchange") {}

/**
 * The server's end: total, every failure is a status. Interrupted when the client goes away. `address`: where the request came
 * from, for whoever shows no certificate.
 */
export type ExchangeHandler = (
  request: ExchangeRequest,
  peer: Peer | undefined,
  address?: string
) => Effect.Effect<ExchangeResponse>
