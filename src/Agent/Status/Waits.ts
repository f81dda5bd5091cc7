/**
 * What the current record waits for and until when, in a sentence. Pure. Every rule is asked of `Rollout/Owed.ts`, as the
 * workers ask it; here are only the words.
 */
import {
  deferralUntil,
  driftGraceMs,
  failingProbes,
  healthObstacle,
  type Observed,
  owed,
  soakLeft,
  type SwitchId
} from "../../Rollout/Owed.ts"
import { type AgentConfig, millis } from "../../Schema/AgentConfig.ts"
import type { FetchingStatus } from "../../Schema/AgentStatus.ts"
import type { DeferredRecord, FailedRecord, HostRecord, SoakingRecord } from "../../Schema/HostRecord.ts"
import { formatTimestamp } from "../../Schema/Primitives.ts"
import { describeProgress } from "../../Schema/Words.ts"
import { prepareUntil } from "../Deadlines.ts"
import type { RolloutEntry } from "../State.ts"

/** What is seen from outside of the agent, and when. */
export interface Sight {
  readonly entries: ReadonlyArray<RolloutEntry>
  /** The host as the Activation worker would read it now. */
  readonly observed: Observed
  /** Epoch ms. */
  readonly now: number
  readonly agentRuns: boolean
  readonly config: AgentConfig
  /** What the agent fetches now. */
  readonly fetching?: FetchingStatus | undefined
  /** When the latest rollback of the current record began. */
  readonly rollbackStartedAt?: number | undefined
  /** When the running time of the current record was journaled last. */
  readonly soakedAsOf?: number | undefined
}

/** `until`: epoch ms. */
export interface Waiting {
  readonly sentence: string
  readonly until?: number
  readonly reason?: string
}

/** What the current record of these entries waits for; nothing once it has ended. */
export function waitOf(record: HostRecord, sight: Sight): Waiting | undefined {
  switch (record.state) {
    case "Pending":
    case "Activating":
      return switching(record, sight)
    case "Failed":
      return switching(record, sight) ?? settledFailure(record)
    case "Deferred":
      return deferred(record)
    case "Soaking":
      return soaking(record, sight)
    case "Converged":
    case "Reverted":
      return undefined
  }
}

function switching(record: HostRecord, sight: Sight): Waiting | undefined {
  const duty = owed(sight.entries, sight.observed, sight.now)
  switch (duty._tag) {
    case "Idle":
      return undefined
    case "Hold":
      return waits(`held: ${duty.detail}`, duty.until, duty.reason)
    case "Settle":
      return waits(`what came of the switch (${duty.event.kind}) is about to be journaled`)
    case "AwaitSwitch":
      return running(record, duty.id, sight)
    case "Switch": {
      const again = duty.id.run === 1 ? "" : ", once more because the first switch left no result"
      const prepares = fetches(duty.closure, sight) ?? `prepares the switch to ${duty.closure}`
      return waits(`${prepares}${again}`, prepareUntil(duty, sight.config))
    }
    case "Rollback":
      return waits(fetches(duty.closure, sight) ?? `prepares the rollback to ${duty.closure}`)
  }
}

function fetches(closure: string, { fetching }: Sight): string | undefined {
  if (fetching?.closure !== closure) return undefined
  return `fetches ${closure}: ${describeProgress(fetching.doneBytes, fetching.expectedBytes)}`
}

/** The switch ends itself when its time is over. */
function running(record: HostRecord, id: SwitchId, { config, rollbackStartedAt }: Sight): Waiting {
  const what = id.purpose === "forward" ? "switch" : "rollback"
  if (id.rolloutId !== record.rolloutId) return waits(`a ${what} of ${id.rolloutId} has to end first`)
  const started = id.purpose === "rollback"
    ? rollbackStartedAt
    : record.state === "Activating"
    ? record.activationStartedAt
    : undefined
  return started === undefined
    ? waits(`the ${what} runs`)
    : waits(`the ${what} runs since ${formatTimestamp(started)}`, started + millis(config.switchTimeoutSecs))
}

function settledFailure({ policyApplied }: FailedRecord): Waiting {
  return waits(
    policyApplied === undefined
      ? "nothing: the running system was never touched; a newer release goes on from here"
      : `nothing: the policy says ${policyApplied}; a newer release goes on from here`
  )
}

const deferred = (record: DeferredRecord): Waiting =>
  waits(`a reboot into ${record.targetClosure} (${record.component})`, deferralUntil(record))

/** The time that was journaled, and what has passed since while the agent ran: never less than it counts itself. */
function accrued(record: SoakingRecord, { agentRuns, now, soakedAsOf }: Sight): SoakingRecord {
  const from = Math.max(soakedAsOf ?? 0, record.activationCompletedAt)
  return agentRuns ? { ...record, soakedMs: record.soakedMs + Math.max(0, now - from) } : record
}

function soaking(record: SoakingRecord, sight: Sight): Waiting {
  const { agentRuns, now, observed: { running: closure } } = sight
  if (closure !== undefined && closure !== record.targetClosure) {
    const afterMs = `${driftGraceMs / 1000} s`
    return waits(
      `${closure} runs instead of the target: the rollout fails when that lasts ${afterMs}`,
      undefined,
      "closure-drift"
    )
  }
  const [failing] = failingProbes(record).toSorted((a, b) => a.fatalAt - b.fatalAt)
  if (failing !== undefined) {
    const since = formatTimestamp(failing.since)
    const why = failing.reason === undefined ? "" : `; it says: ${failing.reason}`
    return waits(`probe ${failing.name} fails since ${since}: the rollout fails if it goes on${why}`, failing.fatalAt)
  }
  const left = soakLeft(accrued(record, sight), now)
  const obstacle = healthObstacle(record)
  const then = obstacle === undefined ? "" : `; besides, ${obstacle.detail}`
  if (left === 0) return waits(obstacle === undefined ? "the soak is over: about to converge" : obstacle.detail)
  return agentRuns
    ? waits(`soaks${then}`, now + left)
    : waits(`the soak stands still without an agent, ${Math.ceil(left / 1000)} s are left${then}`)
}

const waits = (sentence: string, until?: number, reason?: string): Waiting => ({
  sentence,
  ...(until === undefined ? {} : { until }),
  ...(reason === undefined ? {} : { reason })
})
