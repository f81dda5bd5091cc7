/**
 * What a soak needs and what a failure needs, as questions about a record (D11, D12). The agent's guards, the mirror's
 * `unproven` mark, `Owed.ts` and the wave gate all ask here, so that no two of them can disagree.
 */
import type {
  ConvergedRecord,
  FailedRecord,
  HostRecord,
  ResolvedPolicy,
  SoakingRecord
} from "../../Schema/HostRecord.ts"
import { isExcused } from "./Doubt.ts"
import type { Invariant } from "./Model.ts"
import { optional, own } from "./Model.ts"

/** Exit code of a switch whose target runs while some of its units do not. */
export const degradedExitCode = 4

/** Whether a switch that ended with `exitCode` on its target may soak (D11). */
export function maySoak(policy: ResolvedPolicy, exitCode: number): boolean {
  return exitCode === 0 || (exitCode === degradedExitCode && policy.onDegraded === "soak")
}

/** Difference between two clocks that is forgiven, ms. */
const clockSlackMs = 60_000

/**
 * When the soak may end at the earliest, epoch ms (D12): a slow switch or an early dispatch never shortens it. `soakDueAt` is
 * the control plane's word by its own clock: one that is later than the whole soak from now on comes of a clock that is wrong.
 */
export function soakDue(record: SoakingRecord | ConvergedRecord): number {
  const due = record.activationCompletedAt + record.policy.soakMs
  return record.soakDueAt > due + clockSlackMs ? due : Math.max(record.soakDueAt, due)
}

type Soaked = SoakingRecord | ConvergedRecord
type Topology = NonNullable<SoakingRecord["topology"]>

export interface Obstacle {
  readonly invariant: Invariant
  readonly detail: string
}

/** Enforce probes by name, sorted: the declared ones, and any that reports without being declared. */
function enforced(record: Soaked, topology: Topology): ReadonlyArray<string> {
  return [...new Set([...Object.keys(topology), ...Object.keys(record.probes)])]
    .filter((name) => (own(topology, name) ?? own(record.probes, name)?.mode) === "enforce")
    .toSorted()
}

/** What keeps the health of a soak unproven; times are not looked at here. */
export function healthObstacle(record: SoakingRecord): Obstacle | undefined {
  if (record.topology === undefined) return { invariant: "topology-declared", detail: "no probe topology was declared" }
  return probesObstacle(record, record.topology)
}

/** Probes that a sentence names. */
const namedProbes = 3

/** Every probe that has not proven itself, by name. */
function probesObstacle(record: Soaked, topology: Topology): Obstacle | undefined {
  const holding = enforced(record, topology).flatMap((name) => {
    const problem = problemOf(record, name)
    return problem === undefined ? [] : [`probe ${name} ${problem}`]
  })
  if (holding.length === 0) return undefined
  const more = holding.length > namedProbes ? [`${holding.length - namedProbes} more probes`] : []
  return { invariant: "probes-passing", detail: [...holding.slice(0, namedProbes), ...more].join("; ") }
}

function problemOf(record: Soaked, name: string): string | undefined {
  const probe = own(record.probes, name)
  const doubt = record.state === "Soaking" ? own(record.inconclusive ?? {}, name) : undefined
  const failing = probe?.status === "fail"
  if (doubt !== undefined && !failing) return `could not be run: ${doubt.reason}`
  const why = probe?.failureReason === undefined ? "" : `: ${probe.failureReason}`
  const excused = record.state === "Soaking" && isExcused(record, name)
  if (excused && failing) return `has failed since before the switch${why}`
  if (probe?.lastPassAt === undefined || probe.lastPassAt < record.activationCompletedAt) {
    return `has not passed since the activation${why}`
  }
  return failing ? `is failing${why}` : undefined
}

/**
 * Whether nothing speaks against a convergence but that no topology was declared: then every enforced probe that reported has
 * passed. Enough for an agent that is silent when it has no probes (D12).
 */
export function provenUndeclared(record: ConvergedRecord): boolean {
  return record.topology === undefined && record.currentClosure === record.targetClosure &&
    probesObstacle(record, {}) === undefined
}

/** First thing that keeps the agent from converging at `at` on `closure`, in the reference's order, then ours (D12). */
export function convergenceObstacle(
  record: SoakingRecord,
  closure: string | undefined,
  at: number
): Obstacle | undefined {
  if (closure !== record.targetClosure) {
    return {
      invariant: "closure-is-target",
      detail: `${closure ?? "an unknown closure"} runs, not ${record.targetClosure}`
    }
  }
  const due = soakDue(record)
  if (at < due) return { invariant: "soak-due", detail: `the soak is due in ${due - at} ms` }
  const missing = record.policy.soakMs - record.soakedMs
  if (missing > 0) return { invariant: "soaked", detail: `${missing} ms of running time are missing` }
  return healthObstacle(record)
}

/** Milliseconds for which the agent must still run and the clock must still advance before the soak can end. */
export function soakLeft(record: SoakingRecord, now: number): number {
  return Math.max(0, soakDue(record) - now, record.policy.soakMs - record.soakedMs)
}

/**
 * The same by the control plane's clock, for a host that says that its soak is over. A time that is further away than the whole
 * soak was noted by another clock, or by this one before it was set back: it says nothing, and is not waited for.
 */
export function soakLeftHere({ activationCompletedAt, policy, soakDueAt }: ConvergedRecord, now: number): number {
  const { soakMs } = policy
  const left = [soakDueAt - now, activationCompletedAt + soakMs - now]
  return Math.max(0, ...left.filter((ms) => ms <= soakMs + clockSlackMs))
}

/** An enforce probe whose last sample failed, and since when. */
export interface FailingProbe {
  readonly name: string
  readonly since: number
  readonly lastAt: number
  /** A failing sample at or after this time fails the rollout (D12). */
  readonly fatalAt: number
  readonly reason?: string
}

/** By name; disabled and observed probes bind nothing, and one that failed before the switch already fails no release. */
export function failingProbes(record: SoakingRecord): ReadonlyArray<FailingProbe> {
  return enforced(record, record.topology ?? {}).flatMap((name) => {
    const probe = own(record.probes, name)
    if (probe?.status !== "fail" || probe.failingSince === undefined || isExcused(record, name)) return []
    const { failingSince: since, failureReason: reason, lastObservedAt: lastAt } = probe
    return [{ name, since, lastAt, fatalAt: since + record.policy.sustainedFailureMs, ...optional("reason", reason) }]
  })
}

export interface SustainedFailure {
  /** Sorted by name. */
  readonly probes: ReadonlyArray<string>
  readonly durationMs: number
}

/**
 * The enforce probes whose last sample failed at or after first failure + threshold (D12). A probe that has been silent
 * since it failed once proves nothing, whatever the time.
 */
export function sustainedFailure(record: SoakingRecord): SustainedFailure | undefined {
  const fatal = failingProbes(record).filter(({ fatalAt, lastAt }) => lastAt >= fatalAt)
  if (fatal.length === 0) return undefined
  return {
    probes: fatal.map(({ name }) => name),
    durationMs: Math.max(...fatal.map(({ lastAt, since }) => lastAt - since))
  }
}

/** Where a rollback of this record goes: the last closure that converged here, else what ran at dispatch (D11). */
export function rollbackClosure(record: Exclude<HostRecord, { state: "Pending" }>): string | undefined {
  return record.rollbackTarget ?? record.currentClosureAtDispatch
}

/**
 * The closure that a failed record must go back to, or why it owes nothing. `halt` and drift never roll back; a host that
 * ran the target already when it was dispatched has nothing to take back (D10).
 */
export function owedRollback(record: FailedRecord): string | undefined {
  return record.policyApplied === "rollback-and-halt" && record.failure !== "drift" ? wayBack(record) : undefined
}

/** The earlier closure that this record may take its host back to; `undefined` when there is none. */
export function wayBack(record: Exclude<HostRecord, { state: "Pending" }>): string | undefined {
  if (record.closedAt !== undefined) return undefined
  const closure = rollbackClosure(record)
  if (closure === record.targetClosure || record.currentClosureAtDispatch === record.targetClosure) return undefined
  return closure
}
