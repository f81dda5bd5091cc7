/** `/etc/nixfleet/agent/health-checks.json`: probe name → declaration (agent.md §9.1). Refused whole when any part is wrong (D12). */
import { Schema } from "effect"
import { strictDecoder } from "./Decode.ts"
import { defaulted, UInt32, WireId } from "./Primitives.ts"
import { ProbeMode } from "./Wire.ts"

/** Seconds between runs; smaller values are raised to 5 (agent.md §9.1). */
export const minimumIntervalSeconds = 5

/** Most probes of one host: as many as one topology event of the wire may list. */
const maxProbes = 1024

const common = { mode: ProbeMode, intervalSeconds: defaulted(UInt32, 30), runOnce: defaulted(Schema.Boolean, false) }
const seconds = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3600 }))
const withoutNul = Schema.isPattern(/^[^\0]*$/, { message: "expected text without NUL" })

/** An address that can be asked, without a user or a password in it: a probe sends no credentials (A-W65). */
const ProbeUrl = Schema.String.check(
  Schema.isPattern(/^https?:\/\/[^/?#@]+(?:[/?#]|$)/, {
    message: "expected an http:// or https:// address without user and password"
  }),
  Schema.makeFilter((url: string) => URL.canParse(url) || "expected an address that can be parsed")
)

export const HealthCheck = Schema.Union([
  Schema.Struct({
    kind: Schema.Literal("http"),
    ...common,
    url: ProbeUrl,
    expectStatus: defaulted(Schema.Int.check(Schema.isBetween({ minimum: 100, maximum: 599 })), 200),
    timeoutSecs: defaulted(seconds, 10)
  }),
  Schema.Struct({
    kind: Schema.Literal("tcp"),
    ...common,
    host: defaulted(Schema.NonEmptyString, "127.0.0.1"),
    port: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65_535 })),
    connectTimeoutSecs: defaulted(seconds, 5)
  }),
  Schema.Struct({
    kind: Schema.Literal("exec"),
    ...common,
    /** Program and arguments; no shell takes part. */
    command: Schema.NonEmptyArray(Schema.NonEmptyString.check(withoutNul)),
    timeoutSecs: defaulted(seconds, 10)
  })
])
export type HealthCheck = typeof HealthCheck.Type

export const HealthChecks = Schema.Record(WireId, HealthCheck).check(Schema.isMaxProperties(maxProbes))
export type HealthChecks = typeof HealthChecks.Type

/** What reading the declaration gave: an absent file declares no probe; anything unreadable is `Invalid` (fail closed, D12). */
export type HealthChecksResult =
  | { readonly _tag: "Declared"; readonly checks: HealthChecks }
  | { readonly _tag: "Invalid"; readonly problem: string }

const decode = strictDecoder(HealthChecks)

/** The checks of parsed JSON; unknown fields are refused (D19). */
export function readHealthChecks(value: unknown): HealthChecksResult {
  const decoded = decode(value)
  return decoded.ok ? { _tag: "Declared", checks: decoded.value } : { _tag: "Invalid", problem: decoded.problem }
}
