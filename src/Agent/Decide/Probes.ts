/**
 * Probe samples, folded together before they get a sequence number (D5). Journaled are: the first sample of a probe, every
 * pass that ends a failure, each failure that begins (rate-limited), one sample every few minutes, and every failing sample
 * that makes the failure sustained (D12). What is left out never reaches the record.
 *
 * A probe that could not be run has no sample: this journal alone notes since when, and the soak does not end meanwhile. After
 * `inconclusiveMs` each such run counts as a failing sample, here and on the wire.
 */
import { Equal } from "effect"
import type { UnnumberedEvent } from "../../Rollout/Host.ts"
import type { ProbeRecord, SoakingRecord } from "../../Schema/HostRecord.ts"
import { formatTimestamp } from "../../Schema/Primitives.ts"
import { accepted, type Answer, type ProbeSample, refused, type TopologyDeclared } from "../Input.ts"
import type { ProbeMemory, RolloutEntry } from "../State.ts"
import type { Draft } from "./Draft.ts"
import { flapGapMs, type Limits } from "./Limits.ts"

interface Soak {
  readonly entry: RolloutEntry
  readonly record: SoakingRecord
}

const isRefusal = (found: Soak | Answer): found is Answer => "_tag" in found

/** The present soak that the fact concerns; else why there is none. */
function soakOf(draft: Draft, input: ProbeSample | TopologyDeclared): Soak | Answer {
  const entry = draft.entry(input.rolloutId)
  if (entry === undefined) return refused("unknown-rollout", `no record of ${input.rolloutId}`)
  const { record } = entry
  if (record.attempt !== input.attempt) return refused("wrong-attempt", `attempt ${record.attempt} is under way`)
  if (record.closedAt !== undefined) return refused("record-closed", `${record.rolloutId} was superseded`)
  if (record.state !== "Soaking") return refused("illegal-for-state", `${input._tag} in state ${record.state}`)
  return { entry, record }
}

function sameTopology(record: SoakingRecord, probes: TopologyDeclared["probes"]): boolean {
  const { topology } = record
  return topology !== undefined && Object.keys(topology).length === probes.length &&
    probes.every(({ mode, probeName }) => Object.hasOwn(topology, probeName) && topology[probeName] === mode)
}

/** Said again after a restart, a declaration that did not change is no news. */
export function topologyDeclared(draft: Draft, input: TopologyDeclared): Answer {
  const soak = soakOf(draft, input)
  if (isRefusal(soak)) return soak
  const { at, attempt, excused = [], probes, rolloutId } = input
  if (!sameTopology(soak.record, probes)) {
    const answer = draft.event(rolloutId, { kind: "ProbeTopologyDeclared", probes, declaredAt: at, attempt }, at)
    if (answer._tag === "Refused") return answer
  }
  if (Equal.equals(soak.record.excused ?? [], excused)) return accepted
  return draft.learnOfProbe(rolloutId, { kind: "Excused", probes: excused }, at)
}

const journaledOf = (record: SoakingRecord, name: string): ProbeRecord | undefined =>
  Object.hasOwn(record.probes, name) ? record.probes[name] : undefined

/** The gap never hides a failure for a noticeable part of the threshold that it counts towards. */
const flapGap = (record: SoakingRecord): number => Math.min(flapGapMs, record.policy.sustainedFailureMs / 4)

/** A step of the clock in either direction makes a report due: late is worse than early. */
const reportDue = (probe: ProbeRecord, input: ProbeSample, limits: Limits): boolean =>
  Math.abs(input.at - probe.lastObservedAt) >= limits.probeResultMs

function completesFailure(record: SoakingRecord, probe: ProbeRecord, input: ProbeSample): boolean {
  return probe.failingSince !== undefined && input.at - probe.failingSince >= record.policy.sustainedFailureMs
}

export function probeSample(draft: Draft, input: ProbeSample, limits: Limits): Answer {
  const soak = soakOf(draft, input)
  if (isRefusal(soak)) return soak
  const { entry, record } = soak
  if (record.topology === undefined || !Object.hasOwn(record.topology, input.probeName)) {
    return refused("undeclared-probe", `${input.probeName} is not in the declared topology`)
  }
  if (input.at < record.activationCompletedAt) return refused("stale-sample", "the run ended before the activation did")
  const probe = journaledOf(record, input.probeName)
  switch (input.status) {
    case "pass":
      conclude(draft, soak, input)
      return pass(draft, draft.entry(input.rolloutId) ?? entry, probe, input, limits)
    case "fail":
      conclude(draft, soak, input)
      return fail(draft, soak, probe, input, limits)
    case "inconclusive":
      return doubt(draft, soak, probe, input, limits)
  }
}

function fail(
  draft: Draft,
  { record }: Soak,
  probe: ProbeRecord | undefined,
  input: ProbeSample,
  limits: Limits
): Answer {
  if (probe?.status !== "fail") return begin(draft, record, input)
  return reportDue(probe, input, limits) || completesFailure(record, probe, input) ? journal(draft, input) : accepted
}

/** A run that could not be made: noted once, and after its time as good as a failure. */
function doubt(
  draft: Draft,
  soak: Soak,
  probe: ProbeRecord | undefined,
  input: ProbeSample,
  limits: Limits
): Answer {
  const since = doubtOf(soak.record, input.probeName)?.since
  if (since === undefined) return begin(draft, soak.record, input)
  if (input.at - since < limits.inconclusiveMs) return accepted
  const failureReason = `could not be run since ${formatTimestamp(since)}: ${input.failureReason ?? "unknown"}`
  return fail(draft, soak, probe, { ...input, status: "fail", failureReason }, limits)
}

const doubtOf = ({ inconclusive = {} }: SoakingRecord, name: string) =>
  Object.hasOwn(inconclusive, name) ? inconclusive[name] : undefined

/** The probe was run: what kept it from that is over. */
function conclude(draft: Draft, { entry, record }: Soak, { at, probeName, rolloutId }: ProbeSample): void {
  const { held, ...memory } = entry.transient.probes.get(probeName) ?? {}
  if (held?.status === "inconclusive") remember(draft, entry, probeName, memory)
  if (doubtOf(record, probeName) !== undefined) draft.learnOfProbe(rolloutId, { kind: "Conclusive", probeName }, at)
}

/** The first sample that is no pass, unless the last such change was just now: then it is kept back. */
function begin(draft: Draft, record: SoakingRecord, input: ProbeSample): Answer {
  const entry = draft.entry(input.rolloutId)
  if (entry === undefined) return accepted
  const memory = entry.transient.probes.get(input.probeName) ?? {}
  const held = memory.held ?? input
  remember(draft, entry, input.probeName, { ...memory, held })
  const tooSoon = memory.changedAt !== undefined && draft.now.monotonic - memory.changedAt < flapGap(record)
  if (tooSoon) return accepted
  release(draft, input.rolloutId, input.probeName)
  return held === input || input.status === "inconclusive" ? accepted : journal(draft, input)
}

function pass(
  draft: Draft,
  entry: RolloutEntry,
  probe: ProbeRecord | undefined,
  input: ProbeSample,
  limits: Limits
): Answer {
  const { held: _, ...memory } = entry.transient.probes.get(input.probeName) ?? {}
  remember(draft, entry, input.probeName, memory)
  return probe?.status === "pass" && !reportDue(probe, input, limits) ? accepted : journal(draft, input)
}

function remember(draft: Draft, entry: RolloutEntry, name: string, memory: ProbeMemory): void {
  draft.setTransient(entry, { ...entry.transient, probes: new Map(entry.transient.probes).set(name, memory) })
}

/** A sample as its events, in the order of agent.md §9.3: seen first, failing first, the result. */
function eventsOf(probe: ProbeRecord | undefined, input: ProbeSample): ReadonlyArray<UnnumberedEvent> {
  const { at, attempt, failureReason, mode, probeName, subResults } = input
  // What is journaled as an event passed or failed: a doubt has become a failure before, or is a fact of its own.
  const status = input.status === "pass" ? "pass" : "fail"
  const first: ReadonlyArray<UnnumberedEvent> = probe === undefined
    ? [{ kind: "ProbeObservedFirst", probeName, mode, observedAt: at, attempt }]
    : []
  const edge: ReadonlyArray<UnnumberedEvent> = status === "fail" && probe?.status !== "fail"
    ? [{ kind: "ProbeFailureFirst", probeName, mode, firstFailedAt: at, attempt }]
    : []
  return [...first, ...edge, {
    kind: "ProbeResult",
    probeName,
    mode,
    status,
    observedAt: at,
    ...(failureReason === undefined ? {} : { failureReason }),
    ...(subResults === undefined ? {} : { subResults }),
    attempt
  }]
}

function journal(draft: Draft, input: ProbeSample): Answer {
  const soak = soakOf(draft, input)
  if (isRefusal(soak)) return soak
  for (const event of eventsOf(journaledOf(soak.record, input.probeName), input)) {
    const answer = draft.event(input.rolloutId, event, input.at)
    if (answer._tag === "Refused") return answer
  }
  return accepted
}

/** Journals the first failure, or doubt, of a probe that the rate limit kept back. */
function release(draft: Draft, rolloutId: string, name: string): void {
  const entry = draft.entry(rolloutId)
  const held = entry?.transient.probes.get(name)?.held
  if (entry === undefined || held === undefined) return
  remember(draft, entry, name, { changedAt: draft.now.monotonic })
  if (held.status !== "inconclusive") journal(draft, held)
  else {
    const { at, failureReason: reason = "unknown", probeName } = held
    draft.learnOfProbe(rolloutId, { kind: "Inconclusive", probeName, since: at, reason }, at)
  }
}

/** Before a decision that a failure kept back would change. */
export function releaseHeld(draft: Draft, rolloutId: string): void {
  const names = [...draft.entry(rolloutId)?.transient.probes.keys() ?? []]
  for (const name of names.toSorted()) release(draft, rolloutId, name)
}
