/**
 * The probes of one host as they are to be run: what the running system declares, and the one that stands for the signed health
 * gate (`healthGate.systemdFailedUnits`). What was wrong before the switch weighs here: it is compared by name and by equal
 * declaration, because the new system may declare another check under an old name.
 */
import { Effect } from "effect"
import { type ProbeOutcome, Probes } from "../../Layers/Host/Probes.ts"
import { judgeFailedUnits } from "../../Layers/Host/SystemdProbe.ts"
import { truncateReason } from "../../Layers/Host/TextTail.ts"
import type { Baseline } from "../../Schema/AgentJournal.ts"
import { failedUnitsProbe, type HealthCheck, type HealthChecks } from "../../Schema/HealthChecks.ts"
import type { ResolvedPolicy } from "../../Schema/HostRecord.ts"
import { canonicalText, sha256Hex } from "../../Trust/CanonicalJson.ts"

/** One probe of a soak. */
export interface Planned {
  readonly name: string
  readonly kind: string
  /** As it counts in this rollout. */
  readonly mode: HealthCheck["mode"]
  readonly intervalSeconds: number
  readonly runOnce: boolean
  /** It failed before the switch, and holds the release without failing it. */
  readonly excused: boolean
  readonly run: Effect.Effect<ProbeOutcome, never, Probes>
}

/** How often failed units are counted, seconds. */
const gateIntervalSeconds = 10

const byName = ([a]: readonly [string, unknown], [b]: readonly [string, unknown]) => a < b ? -1 : 1

/** Equal for checks that are declared alike. */
export const declarationOf = (check: HealthCheck): string => sha256Hex(canonicalText(JSON.parse(JSON.stringify(check))))

const runCheck = (check: HealthCheck) => Effect.flatMap(Probes, (probes) => probes.run(check))

/** What a probe says that failed before the switch already says so, also on the wire. */
const saidBefore = (outcome: ProbeOutcome): ProbeOutcome =>
  outcome.status === "fail"
    ? { ...outcome, failureReason: truncateReason(`as before the switch: ${outcome.failureReason ?? "failed"}`) }
    : outcome

function planned(name: string, check: HealthCheck, baseline: Baseline | undefined): Planned {
  const { intervalSeconds, kind, mode, onBaselineFailure, runOnce } = check
  const declaration = declarationOf(check)
  const failedBefore =
    baseline?.failed.some((one) => one.probeName === name && one.declaration === declaration) === true
  const ignored = failedBefore && onBaselineFailure === "ignore" && mode === "enforce"
  return {
    name,
    kind,
    mode: ignored ? "observe" : mode,
    intervalSeconds,
    runOnce,
    excused: failedBefore && onBaselineFailure === "hold",
    run: failedBefore ? Effect.map(runCheck(check), saidBefore) : runCheck(check)
  }
}

const gate = (max: number, baseline: Baseline | undefined): Planned => ({
  name: failedUnitsProbe,
  kind: "systemd",
  mode: "enforce",
  intervalSeconds: gateIntervalSeconds,
  runOnce: false,
  excused: false,
  run: Effect.gen(function*() {
    return judgeFailedUnits(yield* (yield* Probes).failedUnits, max, baseline?.failedUnits)
  })
})

/** In the order of their names. */
export function plan(
  checks: HealthChecks,
  policy: ResolvedPolicy,
  baseline: Baseline | undefined
): ReadonlyArray<Planned> {
  const declared = Object.entries(checks).map(([name, check]) => [name, planned(name, check, baseline)] as const)
  const gates = policy.maxFailedUnits === undefined
    ? []
    : [[failedUnitsProbe, gate(policy.maxFailedUnits, baseline)] as const]
  return [...declared, ...gates].toSorted(byName).map(([, one]) => one)
}
