/**
 * A host's wall clock that steps, and the times of its record that move with it (D12). Only states whose times still decide
 * something have any; the mirror never learns of a step.
 */
import type { HostRecord, ProbeRecord, SoakingRecord } from "../../Schema/HostRecord.ts"
import { optional } from "./Model.ts"

/**
 * The record as if everything before had been noted by the clock as it is now. `soakDueAt` is the control plane's word by its
 * own clock and moves all the same: what counts is how long it was still to wait.
 */
export function clockStepped(record: HostRecord, byMs: number): HostRecord {
  const moved = (time: number) => Math.max(0, time + byMs)
  const maybe = <Key extends string>(key: Key, time: number | undefined) =>
    optional(key, time === undefined ? undefined : moved(time))
  switch (record.state) {
    case "Activating":
      return {
        ...record,
        soakDueAt: moved(record.soakDueAt),
        dispatchAckedAt: moved(record.dispatchAckedAt),
        ...maybe("activationStartedAt", record.activationStartedAt)
      }
    case "Deferred":
      return { ...record, soakDueAt: moved(record.soakDueAt), deferredAt: moved(record.deferredAt) }
    case "Soaking":
      return {
        ...record,
        soakDueAt: moved(record.soakDueAt),
        activationCompletedAt: moved(record.activationCompletedAt),
        probes: Object.fromEntries(
          Object.entries(record.probes).map(([name, probe]) => [name, probeStepped(probe, moved)])
        ),
        ...optional("inconclusive", record.inconclusive && doubtsStepped(record.inconclusive, moved))
      }
    case "Failed":
      return { ...record, failedAt: moved(record.failedAt), ...maybe("rollbackFailedAt", record.rollbackFailedAt) }
    case "Pending":
    case "Converged":
    case "Reverted":
      return record
  }
}

function probeStepped(probe: ProbeRecord, moved: (time: number) => number): ProbeRecord {
  const { failingSince, lastObservedAt, lastPassAt } = probe
  return {
    ...probe,
    lastObservedAt: moved(lastObservedAt),
    ...(lastPassAt === undefined ? {} : { lastPassAt: moved(lastPassAt) }),
    ...(failingSince === undefined ? {} : { failingSince: moved(failingSince) })
  }
}

function doubtsStepped(
  doubts: NonNullable<SoakingRecord["inconclusive"]>,
  moved: (time: number) => number
): NonNullable<SoakingRecord["inconclusive"]> {
  return Object.fromEntries(
    Object.entries(doubts).map(([name, doubt]) => [name, { ...doubt, since: moved(doubt.since) }])
  )
}

/** The latest of the times that `clockStepped` moves and that lie in the past; `undefined` when there are none. */
export function latestTime(record: HostRecord): number | undefined {
  switch (record.state) {
    case "Activating":
      return Math.max(record.dispatchAckedAt, record.activationStartedAt ?? 0)
    case "Deferred":
      return record.deferredAt
    case "Soaking":
      return Math.max(
        record.activationCompletedAt,
        ...Object.values(record.probes).map(({ lastObservedAt }) => lastObservedAt),
        ...Object.values(record.inconclusive ?? {}).map(({ since }) => since)
      )
    case "Failed":
      return Math.max(record.failedAt, record.rollbackFailedAt ?? 0)
    case "Pending":
    case "Converged":
    case "Reverted":
      return undefined
  }
}
