/**
 * How long an activation will take on a host, told by those it has done: from the acknowledged dispatch to the running target, by
 * the host's own clock. In whole seconds: a forecast is not more exact than that.
 */
import { HashMap } from "effect"
import { hostIn, type State } from "./State.ts"

/** `host`: the median of its own; `fleet`: the median of those of all hosts; `assumed`: nobody has done one yet. */
export type DurationBasis = "host" | "fleet" | "assumed"

export interface ExpectedDuration {
  readonly ms: number
  readonly basis: DurationBasis
}

/** For a fleet that has not activated anything yet: a switch of some units, whose closure is not large. */
export const assumedActivationMs = 60_000

export function expectedDurations(state: State): (host: string) => ExpectedDuration {
  const own = new Map<string, number>()
  for (const [host, { rollouts }] of HashMap.entries(state.hosts)) {
    const ms = median(rollouts.flatMap((rolloutId) => activationOf(state, rolloutId, host)))
    if (ms !== undefined) own.set(host, ms)
  }
  const ofFleet = median([...own.values()])
  const otherwise: ExpectedDuration = ofFleet === undefined
    ? { ms: assumedActivationMs, basis: "assumed" }
    : { ms: ofFleet, basis: "fleet" }
  return (host) => {
    const ms = own.get(host)
    return ms === undefined ? otherwise : { ms, basis: "host" }
  }
}

/** In ms, if the host has done it. A clock that was set back meanwhile says nothing. */
function activationOf(state: State, rolloutId: string, host: string): ReadonlyArray<number> {
  const record = hostIn(state, rolloutId, host)?.record
  if (record === undefined || !("activationCompletedAt" in record) || record.activationCompletedAt === undefined) {
    return []
  }
  const ms = record.activationCompletedAt - record.dispatchAckedAt
  return ms < 0 ? [] : [Math.round(ms / 1000) * 1000]
}

/** Of an even number the longer of the two in the middle. */
function median(durations: ReadonlyArray<number>): number | undefined {
  return durations.toSorted((a, b) => a - b)[durations.length >> 1]
}
