/**
 * The vocabulary of the host machine: what goes in, what comes out, why it is refused. `../Host.ts` is the machine and
 * re-exports all of this; the files beside this one hold its cells, one file a phase of a rollout.
 */
import type { HostRecord, ResolvedPolicy } from "../../Schema/HostRecord.ts"
import type { AgentEvent, AgentEventKind, HostStateName } from "../../Schema/Wire.ts"

/** What only the deciding side knows when an activation begins. */
export interface ActivationFacts {
  readonly policy: ResolvedPolicy
  /** Last closure that converged here, or ran before nixfleet (D11). Absent on the mirror and on a fresh host. */
  readonly rollbackTarget?: string
}

export type Origin = "Local" | "Remote"

/**
 * `Local`: decided on the agent from what its workers saw; the guards of D12 bind. `Remote`: told by the agent to the
 * mirror; a fact that is applied always, and marked `unproven` where the mirror cannot prove it.
 */
export type HostEvent =
  | { readonly origin: Origin; readonly event: EventOf<"DispatchAck">; readonly facts: ActivationFacts }
  | { readonly origin: Origin; readonly event: Exclude<AgentEvent, { kind: "DispatchAck" }> }

export type EventOf<K extends AgentEventKind> = Extract<AgentEvent, { kind: K }>

/** An event before the reducer gave it its sequence number (D2). */
export type UnnumberedEvent = AgentEvent extends infer E ? E extends AgentEvent ? Omit<E, "seq"> : never : never

export type HostEffect =
  /** Local: the event goes to the control plane. */
  | { readonly _tag: "EmitEvent"; readonly event: AgentEvent }
  /** Remote: the event goes to the audit log. */
  | { readonly _tag: "AppendEventLog"; readonly event: AgentEvent }
  | { readonly _tag: "RecordTransition"; readonly from: HostStateName; readonly to: HostStateName; readonly at: number }
  | { readonly _tag: "FireSwitch"; readonly target: string }
  | { readonly _tag: "FireRollbackTo"; readonly closure: string }
  | { readonly _tag: "ResetProbes" }
  | { readonly _tag: "InsertQuarantine"; readonly channel: string; readonly closure: string }

/** Names of the machine's guards. The reducers add names of their own to `StepError`, hence `string` there. */
export type Invariant =
  /** A newer rollout closed the record: only the outcome of what was under way may still be told (D10). */
  | "closed"
  /** The switch did not end in a way that the policy accepts (D11). */
  | "switch-succeeded"
  /** The running closure is not the record's target. */
  | "closure-is-target"
  | "soak-due"
  /** Not enough monotonic running time was spent soaking (D12). */
  | "soaked"
  | "topology-declared"
  /** A declared enforce probe has not passed since the activation, or is failing. */
  | "probes-passing"
  /** The event is stamped later than the present. */
  | "not-in-future"
  /** No enforce probe has failed for as long as the policy demands (D12). */
  | "sustained-failure"
  /** The event applies another policy than the one journaled at LocalActivate (D14). */
  | "policy-applied"
  /** The rollback did not end on an earlier closure (D11). */
  | "rolled-back"

export type StepError =
  | { readonly _tag: "SeqRegression"; readonly got: number; readonly last: number }
  | { readonly _tag: "IllegalForState"; readonly from: HostStateName; readonly kind: AgentEventKind }
  | { readonly _tag: "WrongAttempt"; readonly got: number; readonly expected: number }
  | { readonly _tag: "Invariant"; readonly invariant: string; readonly detail: string }

export type StepResult =
  | { readonly ok: true; readonly record: HostRecord; readonly effects: ReadonlyArray<HostEffect> }
  | { readonly ok: false; readonly error: StepError }

export function accepted(record: HostRecord, effects: ReadonlyArray<HostEffect>): StepResult {
  return { ok: true, record, effects }
}

export function illegal(record: HostRecord, event: AgentEvent): StepResult {
  return { ok: false, error: { _tag: "IllegalForState", from: record.state, kind: event.kind } }
}

export function violates(invariant: Invariant, detail: string): StepResult {
  return { ok: false, error: { _tag: "Invariant", invariant, detail } }
}

/** The event on its way out: to the control plane from the agent, to the audit log on the mirror. */
export function told(origin: Origin, event: AgentEvent): HostEffect {
  return origin === "Local" ? { _tag: "EmitEvent", event } : { _tag: "AppendEventLog", event }
}

export function transition(from: HostStateName, to: HostStateName, at: number): HostEffect {
  return { _tag: "RecordTransition", from, to, at }
}

/** The wire's "" is "unknown", which is absence here (D12). */
export function known(closure: string): string | undefined {
  return closure === "" ? undefined : closure
}

/** `{ key: value }`, or nothing when the value is absent: optional keys are left out, never set to `undefined`. */
export function optional<K extends string, V>(key: K, value: V | undefined): { readonly [P in K]?: V }
export function optional(key: string, value: unknown): { readonly [name: string]: unknown } {
  return value === undefined ? {} : { [key]: value }
}

/** A copy without the fields that the next state does not have. */
export function omit<T extends object, K extends keyof T>(value: T, keys: ReadonlyArray<K>): Omit<T, K> {
  const copy = { ...value }
  for (const key of keys) Reflect.deleteProperty(copy, key)
  return copy
}

/** Names come from the wire: `constructor` must not be found in an empty map. */
export function own<V>(map: { readonly [name: string]: V }, name: string): V | undefined {
  return Object.hasOwn(map, name) ? map[name] : undefined
}
