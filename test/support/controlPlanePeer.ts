/** One peer of a real control plane: a certificate of its own, and the requests of agents and operators. */
import { Effect, Layer, Schedule, Schema } from "effect"
import type { PemFiles } from "../../examples/certificates.ts"
import { Exchange, type ExchangeRequest, type SendOptions } from "../../src/Layers/Net/Exchange.ts"
import * as TlsClient from "../../src/Layers/Net/TlsClient.ts"
import { formatTimestamp } from "../../src/Schema/Primitives.ts"
import { allCapabilities, capabilitiesHeader, protocolHeader } from "../../src/Schema/Wire.ts"
import { closure } from "./artifacts.ts"
import { Certificates } from "./certificates.ts"
import { post, quick, textOf } from "./tls.ts"

const ours = { [protocolHeader]: "1", [capabilitiesHeader]: allCapabilities.join(",") }

/** A host of this name, or an operator; announces all of our capabilities. */
export const peer = Effect.fnUntraced(function*(port: number, name: string, role: "agent" | "operator") {
  const { authority, write } = yield* Certificates
  return yield* peerWith(
    port,
    name,
    write(name, role === "agent" ? authority.agent(name) : authority.operator(name))
  )
})

/** The same with a certificate that is there already, or with none. */
export const peerWith = Effect.fnUntraced(function*(port: number, name: string, files: PemFiles | undefined) {
  const { caFile } = yield* Certificates
  const context = yield* Layer.build(TlsClient.layer({
    baseUrl: `https://localhost:${port}`,
    caFile,
    certFile: files?.cert,
    keyFile: files?.key,
    insecure: false
  }))
  const { send } = yield* Effect.provide(Exchange, context)
  const call = (request: ExchangeRequest, options: Partial<SendOptions> = {}) =>
    send({ ...request, headers: { ...ours, ...request.headers } }, { ...quick, ...options })
  const get = (path: string, options: Partial<SendOptions> = {}) =>
    call({ method: "GET", path, headers: {}, body: new Uint8Array() }, options)
  return {
    call,
    get,
    read: <S extends Schema.ConstraintDecoder<unknown>>(path: string, schema: S) =>
      Effect.map(get(path), (response) => Schema.decodeUnknownSync(schema)(JSON.parse(textOf(response.body)))),
    heartbeat: (fields: Readonly<Record<string, unknown>> = {}) =>
      call(post(
        "/v1/agent/heartbeat",
        JSON.stringify({
          hostname: name,
          at: formatTimestamp(Date.now()),
          boot: true,
          journal_id: `journal-of-${name}`,
          digests: [],
          current_closure: closure("0", "before"),
          ...fields
        })
      )),
    /** A poll that does not wait. */
    poll: get("/v1/agent/dispatch?wait=0"),
    event: (rolloutId: string, event: Readonly<Record<string, unknown>>) =>
      call(post(
        "/v1/agent/events",
        JSON.stringify({ hostname: name, rolloutId, journalId: `journal-of-${name}`, event })
      ))
  }
})

/** Until it answers 200: readiness follows the first look at the releases. */
export const ready = (asked: Effect.Effect<{ readonly status: number }, unknown>) =>
  asked.pipe(
    Effect.filterOrFail(({ status }) => status === 200),
    Effect.retry(Schedule.spaced("20 millis"))
  )
