/**
 * What is wrong with the host just before a switch: each enabled probe of the running system runs once, all at the same time,
 * and the failed units are read when the policy has a gate for them. What failed then is not the release's doing.
 *
 * Failures: a probe that has not ended within the limit, and one that could not be run, count as not having failed before: then
 * the release is judged without forgiveness. So does everything where the declaration cannot be read.
 */
import { Effect, Option } from "effect"
import { Probes } from "../../Layers/Host/Probes.ts"
import { logOf } from "../../Layers/Logging.ts"
import type { Baseline } from "../../Schema/AgentJournal.ts"
import type { HealthCheck } from "../../Schema/HealthChecks.ts"
import type { ResolvedPolicy } from "../../Schema/HostRecord.ts"
import { declarationOf } from "./Planned.ts"

const log = logOf("agent_probe")

/** How much later a switch may start for this: more than the default time-out of every kind of probe. */
export const baselineLimitMs = 15_000
/** Failed units that are remembered; a host with more has another problem. */
const maxUnits = 1024

type Failure = Baseline["failed"][number]

const none: ReadonlyArray<never> = []

const within = <A, R>(effect: Effect.Effect<ReadonlyArray<A>, never, R>) =>
  Effect.map(Effect.timeoutOption(effect, baselineLimitMs), Option.getOrElse((): ReadonlyArray<A> => none))

const failureOf = Effect.fnUntraced(function*(probeName: string, check: HealthCheck) {
  const { failureReason = "failed", status } = yield* (yield* Probes).run(check)
  if (status !== "fail") return none
  const failure: Failure = { probeName, declaration: declarationOf(check), reason: failureReason }
  return [failure]
})

const failures = Effect.gen(function*() {
  const declared = yield* (yield* Probes).declared
  if (declared._tag === "Invalid") return none
  const enabled = Object.entries(declared.checks).filter(([, { mode }]) => mode !== "disabled")
  const found = yield* Effect.forEach(enabled, ([name, check]) => within(failureOf(name, check)), {
    concurrency: "unbounded"
  })
  return found.flat().toSorted((a, b) => a.probeName < b.probeName ? -1 : 1)
})

const units = Effect.gen(function*() {
  const found = yield* (yield* Probes).failedUnits
  return found._tag === "Units" ? found.units.slice(0, maxUnits) : none
})

/** `undefined` when nothing was wrong. Ends within the limit. */
export const takeBaseline = Effect.fnUntraced(function*(rolloutId: string, { maxFailedUnits }: ResolvedPolicy) {
  const [failed, failedUnits] = yield* Effect.all(
    [within(failures), maxFailedUnits === undefined ? Effect.succeed(none) : within(units)],
    { concurrency: "unbounded" }
  )
  yield* Effect.forEach(failed, ({ probeName, reason }) =>
    log.warn("a probe fails before the switch already", {
      rollout: rolloutId,
      reason: "probe-failed-before",
      detail: `${probeName}: ${reason}`
    }))
  const baseline: Baseline = { failed, failedUnits }
  return failed.length === 0 && failedUnits.length === 0 ? undefined : baseline
})
