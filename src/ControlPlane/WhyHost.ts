/**
 * What a host is at, from its record in a rollout (D17): in which state, since when, and what ends that. Pure words over the same
 * questions that the machine of a host and the gates ask.
 *
 * Sentences are read by an operator at night: each names what happened, on what, and who can end it. Times that are over say
 * nothing about the future and are left out.
 */
import { failingProbes, healthObstacle, owedRollback, rollbackClosure, soakDue } from "../Rollout/host/Evidence.ts"
import { maxRollbacks } from "../Rollout/host/Failure.ts"
import { proofOf } from "../Rollout/planner/Waves.ts"
import type { HostSeen } from "../Schema/ControlPlaneJournal.ts"
import type {
  ActivatingRecord,
  ConvergedRecord,
  DeferredRecord,
  FailedRecord,
  HostRecord,
  RevertedRecord,
  SoakingRecord
} from "../Schema/HostRecord.ts"
import type { Standing } from "../Schema/OperatorViews.ts"
import { formatTimestamp, lastMillis } from "../Schema/Primitives.ts"
import { describeReason, type Reason } from "../Schema/Reasons.ts"
import { describeProgress } from "../Schema/Words.ts"

/** Why a host that cannot speak to this control plane is not heard. */
export interface Revoked {
  readonly notBefore: number
  readonly reason?: string | undefined
}

/** The one answer about a host, without what it rests on. */
export interface Answer {
  readonly standing: Standing
  readonly reason: string
  readonly because: string
  /** Absent when there is nothing to end. */
  readonly clearedBy?: string
  /** Epoch ms, as the next. */
  readonly since?: number
  readonly earliestAt?: number
  /** Hosts that it waits for, or whose failure it is. */
  readonly hosts?: ReadonlyArray<string>
}

export interface Sight {
  /** Epoch ms. */
  readonly now: number
  readonly seen: HostSeen | undefined
  /** Its certificates are void, and no newer one of it is known. */
  readonly revoked: Revoked | undefined
  /** Set when the host is silent for longer than a few heartbeats: since when; 0 when it was never heard. */
  readonly silentSince: number | undefined
  /** See `RolloutView` of the planner. */
  readonly alwaysDeclares: boolean
}

type Accepted = Exclude<HostRecord, { state: "Pending" }>

/** Of a record that the host has accepted. */
export function whatItIsAt(record: Accepted, sight: Sight): Answer {
  switch (record.state) {
    case "Activating":
    case "Deferred":
    case "Soaking":
      return revoked(sight) ?? silent(record, sight) ?? unlessHeld(record, sight)
    case "Converged":
      return converged(record, sight)
    case "Failed":
      return failed(record, sight)
    case "Reverted":
      return reverted(record, sight)
  }
}

const underWay = (reason: Reason, because: string, clearedBy: string, times: Times = {}): Answer => ({
  standing: "under-way",
  reason,
  because,
  clearedBy,
  ...times
})

interface Times {
  readonly since?: number
  readonly earliestAt?: number
}

/** In whole seconds. A time of a clock that is wrong may be one that no calendar holds. */
export const written = (at: number): string =>
  at > lastMillis ? "a time that no calendar holds" : formatTimestamp(Math.floor(at / 1000) * 1000)

/** Whatever the host has to say is refused. */
export function revoked({ revoked: entry }: Pick<Sight, "revoked">): Answer | undefined {
  if (entry === undefined) return undefined
  const why = entry.reason === undefined ? "" : ` (${entry.reason})`
  return {
    standing: "held",
    reason: "certificate-revoked",
    because: `its certificates from before ${written(entry.notBefore)} are revoked${why}: it is refused here`,
    clearedBy: "the host, by enrolling anew; or an operator: `nixfleet revocation lift`",
    since: entry.notBefore
  }
}

const doings = {
  Activating: "was activating",
  Deferred: "waited for a reboot",
  Soaking: "was soaking"
} as const

function silent({ state }: Accepted & { readonly state: keyof typeof doings }, sight: Sight): Answer | undefined {
  const { silentSince } = sight
  return silentSince === undefined ? undefined : underWay(
    "host-silent",
    `the host ${doings[state]} when it was heard last, ${silence(silentSince)}`,
    `the host, when it is heard again: see that it runs and reaches the control plane; ${lookThere}`,
    silentSince === 0 ? {} : { since: silentSince }
  )
}

export const lookThere = "`nixfleet-agent status` on the host says what keeps it"

export const silence = (since: number): string =>
  since === 0 ? "and it was never heard by this database" : `and it is silent since ${written(since)}`

/** What keeps a host from going forward comes before what it would do (D1). */
function unlessHeld(record: ActivatingRecord | DeferredRecord | SoakingRecord, sight: Sight): Answer {
  const held = sight.seen?.held
  if (held !== undefined && record.state === "Activating") return hostHeld(held)
  switch (record.state) {
    case "Activating":
      return activating(record, sight)
    case "Deferred":
      return deferred(record)
    case "Soaking":
      return soaking(record, sight)
  }
}

export const hostHeld = ({ detail, reason, since }: NonNullable<HostSeen["held"]>): Answer =>
  underWay(
    "host-held",
    `the host says that it cannot go forward: ${reason}, ${describeReason(reason)} (${detail})`,
    "whoever looks after the host; it goes on by itself once that is mended",
    { since }
  )

function activating(record: ActivatingRecord, { seen }: Sight): Answer {
  const { activationStartedAt: startedAt, activationStarts, dispatchAckedAt: since, targetClosure } = record
  if (startedAt !== undefined) {
    const again = activationStarts > 1 ? ", once more because the first left no result" : ""
    return underWay(
      "switching",
      `the switch to ${targetClosure} runs since ${written(startedAt)}${again}`,
      "the host, when its switch ends: it ends by itself at its time limit",
      { since: startedAt }
    )
  }
  const fetching = seen?.fetching
  if (fetching?.closure === targetClosure) {
    const progress = describeProgress(fetching.done_bytes, fetching.expected_bytes)
    return underWay(
      "fetching",
      `it has accepted its dispatch and fetches ${targetClosure}: ${progress}`,
      "the host, when the closure is there: a fetch that takes too long fails the activation",
      { since }
    )
  }
  return underWay(
    "preparing",
    `it has accepted its dispatch and prepares the switch to ${targetClosure}`,
    `the host, when the closure is there and its switch starts; ${lookThere}`,
    { since }
  )
}

function deferred({ component, deferredAt, targetClosure }: DeferredRecord): Answer {
  return underWay(
    "reboot-pending",
    `${targetClosure} is in place, and runs after a reboot (${component})`,
    "whoever may reboot the host: the rollout goes on after it, and not before",
    { since: deferredAt }
  )
}

function soaking(record: SoakingRecord, { now }: Sight): Answer {
  const { activationCompletedAt: since, targetClosure } = record
  const [failing] = failingProbes(record).toSorted((a, b) => a.since - b.since)
  if (failing !== undefined) {
    const why = failing.reason === undefined ? "" : `, and says: ${failing.reason}`
    return underWay(
      "probe-failing",
      `it runs ${targetClosure}, and its probe ${failing.name} fails since ${written(failing.since)}${why}`,
      `the probe, by passing; if it goes on failing the rollout fails on this host (${record.policy.onHealthFailure})`,
      { since: failing.since }
    )
  }
  const due = soakDue(record)
  const obstacle = healthObstacle(record)
  if (now < due) {
    return underWay(
      "soaking",
      `it runs ${targetClosure} and soaks until ${written(due)}`,
      "the end of the soak, when the host then says that it converged",
      {
        since,
        earliestAt: due
      }
    )
  }
  return obstacle === undefined
    ? underWay(
      "soak-over",
      `its soak is over since ${written(due)}, and it has not said yet that it converged`,
      `the host, with its next event; ${lookThere}`,
      { since: due }
    )
    : underWay(
      "health-unproven",
      `its soak is over since ${written(due)}, but its health is not proven: ${obstacle.detail}`,
      `the host, when every enforced probe has passed; ${lookThere}`,
      { since: due }
    )
}

function converged(record: ConvergedRecord, sight: Sight): Answer {
  const { convergedAt, targetClosure } = record
  const { alwaysDeclares, now, seen } = sight
  // Older than the convergence it says what ran before; by the host's own clock, as both times are.
  const runs = seen !== undefined && seen.at > convergedAt ? seen.currentClosure : undefined
  if (runs !== undefined && runs !== targetClosure) {
    return underWay(
      "other-closure-runs",
      `it converged on ${targetClosure} at ${
        written(convergedAt)
      }, but runs ${runs} now: somebody else switched or booted it`,
      "whoever switched it, by switching back; or a new ref on the channel",
      { since: convergedAt }
    )
  }
  // What keeps it from counting for its wave keeps it from being at its target.
  const proof = proofOf(record, alwaysDeclares, now)
  if (proof._tag === "Missing") {
    const diverged = record.diverged === true
    return underWay(
      diverged ? "diverged" : "health-unproven",
      `it ${proof.because}`,
      diverged
        ? "the host, with a heartbeat that agrees with the record; or a new ref on the channel"
        : "the host, with a heartbeat that confirms the record",
      { since: convergedAt }
    )
  }
  return {
    standing: "at-target",
    reason: "at-target",
    because: `it has converged on ${targetClosure}`,
    since: convergedAt
  }
}

/** What ended the activation, as the rest of a sentence that begins with the host. */
function failureOf({ cause, failure, probes }: FailedRecord | RevertedRecord): string {
  if (cause !== undefined) return describeReason(cause)
  switch (failure) {
    case "activation":
      return "its activation failed"
    case "drift":
      return describeReason("closure-drift")
    case "probes": {
      const failing = Object.entries(probes).filter(([, { mode, status }]) => mode === "enforce" && status === "fail")
      const [first] = failing.toSorted(([a], [b]) => a < b ? -1 : 1)
      const said = first?.[1].failureReason === undefined ? "" : ` (${first[1].failureReason})`
      return first === undefined
        ? describeReason("sustained-failure")
        : `its probe ${first[0]} failed for too long${said}`
    }
  }
}

const stopped = (reason: Reason, because: string, clearedBy: string, since: number): Answer => ({
  standing: "stopped",
  reason,
  because,
  clearedBy,
  since
})

/** What brings a host on that has ended without converging. */
function wayOut({ closureAtFault, rolloutId }: FailedRecord | RevertedRecord): string {
  const again = `\`nixfleet rollout clear ${rolloutId} --reason …\` tries this one again`
  return closureAtFault
    ? `an operator: a repaired closure, published under a new ref; ${again}`
    : `an operator: ${again}; or a new ref on the channel`
}

function failed(record: FailedRecord, sight: Sight): Answer {
  const { failedAt, policyApplied, rollbackFailures, targetClosure } = record
  const why = `${targetClosure} failed at ${written(failedAt)}: ${failureOf(record)}`
  if (rollbackFailures >= maxRollbacks) {
    return stopped(
      "rollback-exhausted",
      `${why}; going back failed ${rollbackFailures} times`,
      `somebody on the host: bring it to a system that works; then ${wayOut(record)}`,
      record.rollbackFailedAt ?? failedAt
    )
  }
  if (goesBack(record)) {
    const to = rollbackClosure(record)
    const back = `${why}; it goes back to ${to ?? "what ran before"}`
    const tried = rollbackFailures === 0 ? "" : `, and failed to ${rollbackFailures} times`
    const quiet = sight.silentSince === undefined ? "" : `, ${silence(sight.silentSince)}`
    return underWay("rolling-back", `${back}${tried}${quiet}`, `the host, when it is back; ${lookThere}`, {
      since: failedAt
    })
  }
  const stays = policyApplied === undefined ? "its running system was not touched" : "the host stays as it is"
  return stopped("host-failed", `${why}; ${stays}`, wayOut(record), failedAt)
}

/** The mirror does not always know where to; then the agent does. */
const goesBack = (record: FailedRecord): boolean =>
  record.policyApplied === "rollback-and-halt" &&
  (owedRollback(record) !== undefined || rollbackClosure(record) === undefined)

function reverted(record: RevertedRecord, { seen }: Sight): Answer {
  const { failedAt, revertedAt, revertedTo, targetClosure } = record
  const to = revertedTo ?? seen?.currentClosure
  return stopped(
    "host-rolled-back",
    `${targetClosure} failed at ${written(failedAt)}: ${failureOf(record)}; it is back on ` +
      `${to ?? "what ran before"} since ${written(revertedAt)}`,
    wayOut(record),
    revertedAt
  )
}
