/**
 * What would happen from here, as the decisions of production tell it (`ForecastRun.ts`): when each host of the release in force
 * gets its turn, runs its closure and converges, when waves are complete, and who never gets there. Pure: one state, one moment,
 * one answer. Costs a plan of all channels for each moment in which a host converges.
 */
import { HashMap } from "effect"
import { optional } from "../Rollout/host/Model.ts"
import { proofOf } from "../Rollout/planner/Waves.ts"
import type { HostRecord, RolloutStateName } from "../Schema/HostRecord.ts"
import { lastMillis, type Millis } from "../Schema/Primitives.ts"
import type { HostStateName } from "../Schema/Wire.ts"
import { effectiveRecord } from "./Effective.ts"
import { type ExpectedDuration, expectedDurations } from "./ForecastDurations.ts"
import { ForecastRun } from "./ForecastRun.ts"
import type { VerifiedArtifacts } from "./Input.ts"
import { at, hostIn, type HostVerdict, plannedHost, type RolloutEntry, sorted, type State } from "./State.ts"

/** Hosts that all plans of one forecast look at together before it ends, whatever is left: a minute or two of work. */
export const plannedLimit = 20_000_000

export interface Forecast {
  readonly from: Millis
  /** One for each manifest in force, ascending by channel. */
  readonly rollouts: ReadonlyArray<RolloutForecast>
  /** It was ended before everything was told (`plannedLimit`). */
  readonly isCut: boolean
}

export interface RolloutForecast {
  readonly rolloutId: string
  readonly channel: string
  /** At the end of the forecast. */
  readonly state: RolloutStateName
  readonly waves: ReadonlyArray<WaveForecast>
  /** In the order in which they go; those that do not go last. */
  readonly hosts: ReadonlyArray<HostForecast>
  /** When all of it is complete; absent when it is already, or never. */
  readonly completeAt?: Millis
}

export interface WaveForecast {
  /** From 0. */
  readonly wave: number
  readonly hosts: number
  readonly soakMs: number
  /** The first dispatch, past ones included. */
  readonly startsAt?: Millis
  /** When the next wave may begin; absent when that is past, or never. */
  readonly completeAt?: Millis
}

export interface HostForecast {
  readonly host: string
  readonly wave: number
  readonly targetClosure: string
  /** Now, and at the end. */
  readonly before: HostStateName
  readonly after: HostStateName
  /** Past ones included; a host that goes over from an older rollout has no dispatch (C-W17). */
  readonly dispatchedAt?: Millis
  readonly activatedAt?: Millis
  readonly convergedAt?: Millis
  readonly activation: ExpectedDuration
  /** Why it waits now. */
  readonly waits?: HostVerdict
  /** Why it gets no further, when it does not converge. */
  readonly stuck?: Stuck
}

/** Without a gate it is the host itself that is no further, and not its dispatch. */
export type Stuck = Pick<HostVerdict, "because"> & Partial<HostVerdict>

/** `artifacts`: the release in force from now on; `limit`: instead of `plannedLimit`. */
export function forecast(state: State, artifacts: VerifiedArtifacts, from: Millis, limit = plannedLimit): Forecast {
  const durations = expectedDurations(state)
  const run = new ForecastRun(state, artifacts, from, (host) => durations(host).ms)
  const present = run.state
  const hosts = Object.keys(artifacts.fleet.value.hosts).length
  let planned = 0
  while (planned < limit && run.advance()) planned += hosts
  return {
    from,
    rollouts: sorted(HashMap.fromIterable(run.state.manifests)).flatMap(([, { rolloutId }]) => {
      const rollout = at(run.state.rollouts, rolloutId)
      return rollout === undefined ? [] : [rolloutForecast({ durations, state, present, run }, rollout)]
    }),
    isCut: planned >= limit
  }
}

interface Told {
  readonly durations: (host: string) => ExpectedDuration
  /** Before the run, and after its first moment. */
  readonly state: State
  readonly present: State
  readonly run: ForecastRun
}

function rolloutForecast(told: Told, rollout: RolloutEntry): RolloutForecast {
  const { plan: { soakMs }, record: { channel, rolloutId, state } } = rollout
  // Stable: in the order of names within a moment and a wave, as hosts are dispatched (D17).
  const hosts = hostForecasts(told, rollout).toSorted((a, b) =>
    (a.dispatchedAt ?? lastMillis) - (b.dispatchedAt ?? lastMillis) || a.wave - b.wave
  )
  const completions = told.run.completions.get(rolloutId)
  return {
    rolloutId,
    channel,
    state,
    hosts,
    waves: soakMs.map((soak, wave) =>
      waveForecast(wave, soak, hosts.filter((one) => one.wave === wave), completions?.get(wave) ?? [])
    ),
    ...optional("completeAt", completions?.get(soakMs.length - 1)?.at(-1))
  }
}

/** `hosts` in the order in which they go; `completions`: when the wave was complete, as far as it then went. */
function waveForecast(
  wave: number,
  soakMs: Millis,
  hosts: ReadonlyArray<HostForecast>,
  completions: ReadonlyArray<Millis>
): WaveForecast {
  const converged = hosts.reduce((latest, { convergedAt = 0 }) => Math.max(latest, convergedAt), 0)
  return {
    wave,
    hosts: hosts.length,
    soakMs,
    ...optional("startsAt", hosts[0]?.dispatchedAt),
    ...optional("completeAt", completions.find((time) => time >= converged))
  }
}

/** By name. */
function hostForecasts(told: Told, { hosts, plan, record }: RolloutEntry): Array<HostForecast> {
  const { durations, present, run } = told
  return sorted(hosts).flatMap(([host, entry]) => {
    const planned = plannedHost(plan, host)
    if (planned === undefined) return []
    const end = effectiveRecord(entry, plan)
    const waits = at(present.verdicts, host)
    return [{
      host,
      ...planned,
      before: stateBefore(told, end),
      after: end.state,
      ...optional("dispatchedAt", entry.leasedAt),
      ...("activationCompletedAt" in end ? optional("activatedAt", end.activationCompletedAt) : {}),
      ...(end.state === "Converged" ? { convergedAt: end.convergedAt } : { stuck: stuckOf(run.state, end) }),
      activation: durations(host),
      ...(waits?.rolloutId === record.rolloutId ? { waits } : {})
    }]
  })
}

/** Of the attempt that the forecast is about: one that it begins itself is pending, or goes over as it is. */
function stateBefore({ present, state }: Told, { attempt, hostname, rolloutId }: HostRecord): HostStateName {
  const rollout = at(state.rollouts, rolloutId)
  const known = rollout === undefined ? undefined : at(rollout.hosts, hostname)
  if (rollout !== undefined && known?.record.attempt === attempt) return effectiveRecord(known, rollout.plan).state
  return hostIn(present, rolloutId, hostname)?.record.state === "Converged" ? "Converged" : "Pending"
}

function stuckOf(state: State, record: HostRecord): Stuck {
  const verdict = at(state.verdicts, record.hostname)
  if (verdict?.rolloutId === record.rolloutId) return verdict
  const proof = proofOf(record, true, 0)
  return { because: proof._tag === "Missing" ? proof.because : "was not dispatched" }
}
