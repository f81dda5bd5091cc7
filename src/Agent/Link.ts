/**
 * Every request of the agent to its control plane goes through here: it adds the protocol and capability headers (D3,
 * D19) and remembers what the control plane announced, so that additive fields go only to one that understands them.
 *
 * Owns no retry and no schedule: each worker decides what a status or a failure means to it.
 */
import { Context, Effect, Layer } from "effect"
import {
  Exchange,
  type ExchangeError,
  type ExchangeRequest,
  type ExchangeResponse,
  type SendOptions
} from "../Layers/Net/Exchange.ts"
import {
  allCapabilities,
  capabilitiesHeader,
  type Capability,
  protocolHeader,
  protocolVersion
} from "../Schema/Wire.ts"

/** A request without the headers that all have. */
export interface Call {
  readonly method: ExchangeRequest["method"]
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  /** JSON text; empty when absent. */
  readonly body?: string
}

/** What a control plane of the original has: nothing of ours. */
export const noCapabilities: ReadonlySet<Capability> = new Set()

/** Names we know; a newer peer's other names mean nothing to us. */
function parseCapabilities(header: string): ReadonlySet<Capability> {
  const announced = new Set(header.split(",").map((name) => name.trim()))
  return new Set(allCapabilities.filter((known) => announced.has(known)))
}

/**
 * What an answer says about its sender: the header counts wherever it appears, its absence only on a success. An error
 * without it may come from a proxy in between, which says nothing about the control plane.
 */
function learn(before: ReadonlySet<Capability>, response: ExchangeResponse): ReadonlySet<Capability> {
  const header = response.headers[capabilitiesHeader]
  if (header !== undefined) return parseCapabilities(header)
  return response.status >= 200 && response.status < 300 ? noCapabilities : before
}

export class Link extends Context.Service<Link, {
  readonly send: (call: Call, options: SendOptions) => Effect.Effect<ExchangeResponse, ExchangeError>
  /** What the control plane announced last; nothing before its first answer. */
  readonly peer: () => ReadonlySet<Capability>
}>()("nixfleet/Agent/Link") {
  static readonly layer = Layer.effect(
    Link,
    Effect.gen(function*() {
      const exchange = yield* Exchange
      const encoder = new TextEncoder()
      let capabilities = noCapabilities
      const common = { [protocolHeader]: protocolVersion, [capabilitiesHeader]: allCapabilities.join(",") }
      const send = (call: Call, options: SendOptions) =>
        exchange.send({
          method: call.method,
          path: call.path,
          headers: call.body === undefined
            ? { ...common, ...call.headers }
            : { ...common, "content-type": "application/json", ...call.headers },
          body: encoder.encode(call.body ?? "")
        }, options).pipe(Effect.tap((response) =>
          Effect.sync(() => {
            capabilities = learn(capabilities, response)
          })
        ))
      return Link.of({ send, peer: () => capabilities })
    })
  )
}
