/** `/etc/nixfleet/agent/health-checks.json`: probe name → declaration (agent.md §9.1). Refused whole when any part is wrong (D12). */
import { Schema } from "effect"
import { defaulted, UInt32 } from "./Primitives.ts"
import { ProbeMode } from "./Wire.ts"

/** Seconds between runs; smaller values are raised to 5 (agent.md §9.1). */
export const minimumIntervalSeconds = 5

const common = { mode: ProbeMode, intervalSeconds: defaulted(UInt32, 30), runOnce: defaulted(Schema.Boolean, false) }
const seconds = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3600 }))

export const HealthCheck = Schema.Union([
  Schema.Struct({
    kind: Schema.Literal("http"),
    ...common,
    url: Schema.String.check(Schema.isPattern(/^https?:\/\//, { message: "expected an http:// or https:// address" })),
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
    command: Schema.Array(Schema.NonEmptyString).check(Schema.isMinLength(1)),
    timeoutSecs: defaulted(seconds, 10)
  })
])
export type HealthCheck = typeof HealthCheck.Type

export const HealthChecks = Schema.Record(Schema.NonEmptyString.check(Schema.isMaxLength(255)), HealthCheck)
export type HealthChecks = typeof HealthChecks.Type

/** What reading the declaration gave: an absent file declares no probe; anything unreadable is `Invalid` (fail closed, D12). */
export type HealthChecksResult =
  | { readonly _tag: "Declared"; readonly checks: HealthChecks }
  | { readonly _tag: "Invalid"; readonly problem: string }
