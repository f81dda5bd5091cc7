/**
 * Scripted probes: the `Probes` of unit tests and of the simulator. What they say is in an object that is made outside of
 * the layer, so that it survives an agent's crash and can change while the agent runs. Time passes by Effect's clock only.
 */
import { Effect, Layer } from "effect"
import type { HealthCheck, HealthChecks, HealthChecksResult } from "../../Schema/HealthChecks.ts"
import { type FailedUnits, pass, type ProbeOutcome, Probes } from "./Probes.ts"

/** What the `nth` (from 1) run of a check says, and how long it takes. */
export type ProbeScript = (check: HealthCheck, nth: number) => {
  readonly durationMs: number
  readonly outcome: ProbeOutcome
}

/** Every check passes at once. */
export const passing: ProbeScript = () => ({ durationMs: 0, outcome: pass })

/** The state behind the layer; what is not private may be exchanged at any time. */
export class MemoryProbes {
  declared: HealthChecksResult
  script: ProbeScript
  failedUnits: () => FailedUnits = () => ({ _tag: "Units", units: [] })
  readonly #runs = new Map<string, number>()

  constructor(checks: HealthChecks = {}, script: ProbeScript = passing) {
    this.declared = { _tag: "Declared", checks }
    this.script = script
  }

  next(check: HealthCheck): ReturnType<ProbeScript> {
    const key = JSON.stringify(check)
    const nth = (this.#runs.get(key) ?? 0) + 1
    this.#runs.set(key, nth)
    return this.script(check, nth)
  }
}

export const layer = (probes: MemoryProbes): Layer.Layer<Probes> =>
  Layer.succeed(
    Probes,
    Probes.of({
      declared: Effect.sync(() => probes.declared),
      failedUnits: Effect.sync(() => probes.failedUnits()),
      run: (check) =>
        Effect.suspend(() => {
          const { durationMs, outcome } = probes.next(check)
          return Effect.as(Effect.sleep(durationMs), outcome)
        })
    })
  )
