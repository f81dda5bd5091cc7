/** Answers of the routes as bytes, and refusals, each with the name that its log line carries (house rule 10). */
import { Schema } from "effect"
import type { ExchangeResponse } from "../../Layers/Net/Exchange.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import { EventVerdict, NotReady, notReadyRetryAfterSeconds } from "../../Schema/Wire.ts"

/** A request that is not served. Bodies are empty but for readiness and verdicts, as in the original (control-plane.md §2.1). */
export class Refusal extends Schema.TaggedError<Refusal>()("Refusal", {
  reason: Schema.String,
  detail: Schema.String,
  status: Schema.Int,
  headers: Schema.Record(Schema.String, Schema.String),
  body: Schema.Uint8Array
}) {}

const encoder = new TextEncoder()
const nothing = new Uint8Array()

export const bare = (status: number, headers: Readonly<Record<string, string>> = {}): ExchangeResponse => ({
  status,
  headers,
  body: nothing
})

export const bytes = (contentType: string, body: Uint8Array): ExchangeResponse => ({
  status: 200,
  headers: { "content-type": contentType },
  body
})

export const json = (
  status: number,
  value: unknown,
  headers: Readonly<Record<string, string>> = {}
): ExchangeResponse => ({
  status,
  headers: { "content-type": "application/json", ...headers },
  body: encoder.encode(JSON.stringify(value))
})

/** Writes a value by its schema, 200. */
export const encoded = <S extends Schema.ConstraintEncoder<unknown>>(schema: S) => {
  const encode = Schema.encodeSync(schema)
  return (value: S["Type"], headers?: Readonly<Record<string, string>>): ExchangeResponse =>
    json(200, encode(value), headers)
}

export const refuse = (
  reason: Reason,
  detail: string,
  response: number | ExchangeResponse
): Refusal => new Refusal({ reason, detail, ...(typeof response === "number" ? bare(response) : response) })

const encodeVerdict = Schema.encodeSync(EventVerdict)
export const verdict = (
  status: 409 | 422 | 425 | 503,
  value: EventVerdict,
  headers?: Readonly<Record<string, string>>
): ExchangeResponse => json(status, encodeVerdict(value), headers)

/** Until what is awaited is there (control-plane.md §2.1). */
export const awaiting = (what: string): ExchangeResponse =>
  json(503, NotReady.make({ error: "control plane not ready", reason: `awaiting ${what}` }), {
    "retry-after": String(notReadyRetryAfterSeconds)
  })

/** Until the first signed artifact is verified. */
export const notReady: ExchangeResponse = awaiting("first signed artifact")
