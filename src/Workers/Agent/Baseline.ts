/**
 * What is wrong with the host just before a switch: each enabled probe of the running system runs once, all at the same time,
 * and the failed units are read when the policy has a gate for them. What failed then is not the release's doing.
 *
 * Failures: a probe that has not ended within the limit, and one that could not be run, count as not having failed before: then
 * the release is judged without forgiveness. So does everything where the declaration cannot be read.
 */
import { Effect, Fiber } from "effect"
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

/** What is found until the limit. */
interface Found {
  readonly failed: Array<Failure>
  readonly failedUnits: Array<string>
}

const probe = Effect.fnUntraced(function*(probeName: string, check: HealthCheck, { failed }: Found) {
  const { failureReason: reason = "failed", status } = yield* (yield* Probes).run(check)
  if (status === "fail") failed.push({ probeName, declaration: declarationOf(check), reason })
})

const lookAtProbes = Effect.fnUntraced(function*(found: Found) {
  const declared = yield* (yield* Probes).declared
  if (declared._tag === "Invalid") return
  const enabled = Object.entries(declared.checks).filter(([, { mode }]) => mode !== "disabled")
  yield* Effect.forEach(enabled, ([name, check]) => probe(name, check, found), {
    concurrency: "unbounded",
    discard: true
  })
})

const lookAtUnits = Effect.fnUntraced(function*({ failedUnits }: Found) {
  const answer = yield* (yield* Probes).failedUnits
  if (answer._tag === "Units") failedUnits.push(...answer.units.slice(0, maxUnits))
})

/** Ends after the limit whatever the probes do: what they still have to clean up then, nobody waits for. */
const atMost = Effect.fnUntraced(function*<R>(look: Effect.Effect<unknown, never, R>) {
  const fiber = yield* Effect.forkChild(look)
  yield* Effect.timeoutOption(Fiber.await(fiber), baselineLimitMs)
  fiber.interruptUnsafe()
})

/** `undefined` when nothing was wrong. Ends within the limit. */
export const takeBaseline = Effect.fnUntraced(function*(rolloutId: string, { maxFailedUnits }: ResolvedPolicy) {
  const found: Found = { failed: [], failedUnits: [] }
  const looks = [lookAtProbes(found), ...maxFailedUnits === undefined ? [] : [lookAtUnits(found)]]
  yield* atMost(Effect.all(looks, { concurrency: "unbounded", discard: true }))
  const failed = found.failed.toSorted((a, b) => a.probeName < b.probeName ? -1 : 1)
  const failedUnits = [...found.failedUnits]
  for (const { probeName, reason } of failed) {
    yield* log.warn("a probe fails before the switch already", {
      rollout: rolloutId,
      reason: "probe-failed-before",
      detail: `${probeName}: ${reason}`
    })
  }
  const baseline: Baseline = { failed, failedUnits }
  return failed.length === 0 && failedUnits.length === 0 ? undefined : baseline
})
