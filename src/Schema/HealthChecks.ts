/** `/etc/nixfleet/agent/health-checks.json`: probe name → declaration (agent.md §9.1). Refused whole when any part is wrong (D12). */
import { Schema } from "effect"
import { strictDecoder } from "./Decode.ts"
import { defaulted, mapOf, text, UInt32, WireId } from "./Primitives.ts"
import { ProbeMode } from "./Wire.ts"

/** Seconds between runs; smaller values are raised to 5 (agent.md §9.1). */
export const minimumIntervalSeconds = 5

/** Most probes of one host: as many as one topology event of the wire may list, but for the one of the signed health gate. */
const maxProbes = 1023

/**
 * The probe that stands for `healthGate.systemdFailedUnits` of the signed policy: how many units may have failed since the
 * switch. No declared probe may have its name.
 */
export const failedUnitsProbe = "healthGate.systemdFailedUnits"

/**
 * What a probe means that failed before the switch already, as it is declared now, and has not passed since:
 * - `hold`: the release does not converge before it passes, as D12 demands, and does not fail by it either: going back could
 *   not help
 * - `ignore`: it is observed only, for this rollout: it neither holds the release nor fails it
 * - `fail`: it counts like any other
 */
export const OnBaselineFailure = Schema.Literals(["hold", "ignore", "fail"])

const common = {
  mode: ProbeMode,
  intervalSeconds: defaulted(UInt32, 30),
  runOnce: defaulted(Schema.Boolean, false),
  onBaselineFailure: defaulted(OnBaselineFailure, "hold")
}
const seconds = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 3600 }))
const withoutNul = Schema.isPattern(/^[^\0]*$/, { message: "expected text without NUL" })

/** An address that can be asked, without a user or a password in it: a probe sends no credentials (A-W65). */
const ProbeUrl = Schema.String.check(
  Schema.isPattern(/^https?:\/\/[^/?#@]+(?:[/?#]|$)/, {
    message: "expected an http:// or https:// address without user and password"
  }),
  Schema.makeFilter((url: string) => URL.canParse(url) || "expected an address that can be parsed")
)

/** A unit with its type; no pattern, which systemd would expand. */
const UnitName = Schema.String.check(
  Schema.isPattern(
    /^(?!-)[A-Za-z0-9:_.\\@-]{1,240}\.(?:service|socket|target|timer|mount|automount|path|swap|slice|scope|device)$/,
    {
      message: "expected the name of a unit with its type, such as nginx.service"
    }
  )
)

const absolutePath = Schema.String.check(
  Schema.isPattern(/^\/[^\0]*$/, { message: "expected an absolute path" })
)

/** How one control counts, whatever the probe's own mode; `reason` is sent along. */
const ControlMode = Schema.Struct({ mode: ProbeMode, reason: defaulted(text(512), "") })
export type ControlMode = typeof ControlMode.Type

const controls = mapOf(WireId, ControlMode)

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
  }),
  Schema.Struct({
    kind: Schema.Literal("systemd"),
    ...common,
    /** Each must be active. */
    units: defaulted(Schema.Array(UnitName).check(Schema.isMaxLength(256)), []),
    /** How many units of the host may be failed, whichever; absent: not looked at. */
    maxFailedUnits: Schema.optionalKey(UInt32),
    /** For each question to systemd. */
    timeoutSecs: defaulted(seconds, 10)
  }).check(Schema.makeFilter(
    ({ maxFailedUnits, units }: { readonly maxFailedUnits?: number; readonly units: ReadonlyArray<string> }) =>
      units.length > 0 || maxFailedUnits !== undefined || "expected units, or maxFailedUnits"
  )),
  Schema.Struct({
    kind: Schema.Literal("evidence"),
    ...common,
    /** Every control that the collector relates to this framework, with the mode of the probe. */
    framework: Schema.optionalKey(WireId),
    /** Exceptions from that mode; only with `framework`. */
    controlOverrides: Schema.optionalKey(controls),
    /** Instead of a framework: these controls, whatever they are related to. */
    controls: Schema.optionalKey(controls),
    /** The signature lies beside it, with `.sig` after the whole name (A-W64). */
    evidencePath: defaulted(absolutePath, "/var/lib/nixfleet-compliance/evidence.json"),
    /** OpenSSH public key that signs; absent: the host key of the agent's configuration (A-W62). */
    keyPath: Schema.optionalKey(absolutePath),
    /** Evidence that was collected longer ago is stale (A-W63). A day: collectors run hourly to daily. */
    maxAgeSeconds: defaulted(UInt32, 86_400)
  }).check(Schema.makeFilter(
    (check: { readonly framework?: string; readonly controls?: object; readonly controlOverrides?: object }) =>
      (check.framework === undefined) === (check.controls === undefined)
        ? "expected either framework or controls"
        : check.controls === undefined || check.controlOverrides === undefined ||
          "expected controlOverrides with framework only"
  ))
])
export type HealthCheck = typeof HealthCheck.Type

export const HealthChecks = Schema.Record(WireId, HealthCheck).check(
  Schema.isMaxProperties(maxProbes),
  Schema.makeFilter((checks: { readonly [name: string]: unknown }) =>
    !Object.hasOwn(checks, failedUnitsProbe) || `expected another name than ${failedUnitsProbe}, which is taken`
  )
)
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
