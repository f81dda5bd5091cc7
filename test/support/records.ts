/** Builders of host records and events: small, legal, and the same in every test. Times are epoch milliseconds. */
import { assert } from "@effect/vitest"
import {
  type HostEvent,
  newPending,
  type Origin,
  step,
  type StepResult,
  type UnnumberedEvent
} from "../../src/Rollout/Host.ts"
import type { HostRecord, PendingRecord, ResolvedPolicy } from "../../src/Schema/HostRecord.ts"
import type { AgentEvent, AgentEventKind, HostStateName } from "../../src/Schema/Wire.ts"

/** 2026-05-16T01:00:00Z, the fixture of protocol.md §6.1. */
export const t0 = 1_778_893_200_000
export const seconds = (n: number): number => t0 + n * 1000
export const minutes = (n: number): number => seconds(60 * n)

export const target = "target-closure-abc"
export const prior = "prior-closure"

export const policy: ResolvedPolicy = {
  onHealthFailure: "rollback-and-halt",
  soakMs: 300_000,
  sustainedFailureMs: 120_000
}

export function pending(fields: Partial<Omit<PendingRecord, "state">> = {}): PendingRecord {
  return newPending({
    rolloutId: "stable@aa11",
    hostname: "h1",
    channel: "stable",
    targetClosure: target,
    attempt: 1,
    dispatchedAt: t0,
    soakDueAt: minutes(5),
    signedAt: t0,
    ...fields
  })
}

/** A well-formed event of each kind, as an ordinary happy or unhappy rollout has them. */
export const samples: { readonly [K in AgentEventKind]: Extract<UnnumberedEvent, { kind: K }> } = {
  DispatchAck: { kind: "DispatchAck", currentClosureAtDispatch: prior, receivedAt: seconds(1) },
  ActivationStarted: { kind: "ActivationStarted", startedAt: seconds(2), switchMethod: "systemd-run" },
  ActivationCompleted: {
    kind: "ActivationCompleted",
    observedCurrentClosure: target,
    exitCode: 0,
    completedAt: seconds(5)
  },
  ActivationDeferred: { kind: "ActivationDeferred", component: "kernel", deferredAt: seconds(5) },
  ActivationFailed: { kind: "ActivationFailed", exitCode: 1, stderrTail: "unit x failed", failedAt: seconds(5) },
  ProbeTopologyDeclared: {
    kind: "ProbeTopologyDeclared",
    probes: [{ probeName: "web", kind: "http", mode: "enforce" }],
    declaredAt: seconds(6)
  },
  ProbeObservedFirst: { kind: "ProbeObservedFirst", probeName: "web", mode: "enforce", observedAt: seconds(7) },
  ProbeResult: { kind: "ProbeResult", probeName: "web", mode: "enforce", status: "pass", observedAt: seconds(7) },
  ProbeFailureFirst: { kind: "ProbeFailureFirst", probeName: "web", mode: "enforce", firstFailedAt: seconds(8) },
  Failed: {
    kind: "Failed",
    failedAt: seconds(130),
    sustainedDurationSecs: 120,
    failingProbes: ["web"],
    policyApplied: "rollback-and-halt"
  },
  RollbackComplete: { kind: "RollbackComplete", revertedToClosure: prior, exitCode: 0, completedAt: seconds(140) },
  Converged: { kind: "Converged", convergedAt: minutes(6), currentClosure: target }
}

/** When everything in these fixtures is over. */
export const late = minutes(60)

export interface Applying {
  readonly origin?: Origin
  readonly policy?: ResolvedPolicy
  readonly rollbackTarget?: string
  readonly now?: number
  /** Default: the next number. */
  readonly seq?: number
}

export function input(event: AgentEvent, options: Applying = {}): HostEvent {
  const origin = options.origin ?? "Local"
  if (event.kind !== "DispatchAck") return { origin, event }
  const { rollbackTarget } = options
  const facts = { policy: options.policy ?? policy, ...(rollbackTarget === undefined ? {} : { rollbackTarget }) }
  return { origin, event, facts }
}

export function apply(record: HostRecord, event: UnnumberedEvent, options: Applying = {}): StepResult {
  const numbered: AgentEvent = { ...event, seq: options.seq ?? record.lastEventSeq + 1 }
  return step(record, input(numbered, options), options.now ?? late)
}

/** The record after all events, each of which must be accepted. */
export function after(record: HostRecord, events: ReadonlyArray<UnnumberedEvent>, options: Applying = {}): HostRecord {
  return events.reduce<HostRecord>((present, event) => {
    const result = apply(present, event, options)
    if (!result.ok) return assert.fail(`${event.kind} in ${present.state}: ${JSON.stringify(result.error)}`)
    return result.record
  }, record)
}

export const failing = (at: number, probeName = "web"): Extract<UnnumberedEvent, { kind: "ProbeResult" }> => ({
  kind: "ProbeResult",
  probeName,
  mode: "enforce",
  status: "fail",
  observedAt: at
})

export const passing = (at: number, probeName = "web"): Extract<UnnumberedEvent, { kind: "ProbeResult" }> => ({
  kind: "ProbeResult",
  probeName,
  mode: "enforce",
  status: "pass",
  observedAt: at
})

const toSoaking: ReadonlyArray<UnnumberedEvent> = [
  samples.DispatchAck,
  samples.ActivationStarted,
  samples.ActivationCompleted
]
const toFailedProbes: ReadonlyArray<UnnumberedEvent> = [
  ...toSoaking,
  samples.ProbeTopologyDeclared,
  failing(seconds(10)),
  failing(seconds(130)),
  samples.Failed
]

/** A record in each state, as the events of an ordinary rollout leave it. */
export const histories: { readonly [S in HostStateName]: ReadonlyArray<UnnumberedEvent> } = {
  Pending: [],
  Activating: [samples.DispatchAck],
  Deferred: [samples.DispatchAck, samples.ActivationStarted, samples.ActivationDeferred],
  Soaking: toSoaking,
  Converged: [...toSoaking, samples.ProbeTopologyDeclared, samples.ProbeResult, samples.Converged],
  Failed: toFailedProbes,
  Reverted: [...toFailedProbes, samples.RollbackComplete]
}

/** Events of the other side are not guarded: `Remote` builds every state without soaking for real. */
export function recordIn<S extends HostStateName>(
  state: S,
  options: Applying & { readonly fields?: Partial<Omit<PendingRecord, "state">> } = {}
): Extract<HostRecord, { state: S }> {
  const record = after(pending(options.fields), histories[state], { ...options, origin: "Remote" })
  return assertState(record, state)
}

export function assertState<S extends HostStateName>(record: HostRecord, state: S): Extract<HostRecord, { state: S }> {
  assert.strictEqual(record.state, state)
  return record as Extract<HostRecord, { state: S }>
}
