/** Cells of Soaking: probes, their sustained failure, and convergence (protocol.md §3.2, D12). */
import type { FailedRecord, ProbeRecord, SoakingRecord } from "../../Schema/HostRecord.ts"
import type { Casualty } from "../../Schema/Wire.ts"
import { failureEffects } from "./Activation.ts"
import { doubtsOfDeclared } from "./Doubt.ts"
import { convergenceObstacle, healthObstacle, sustainedFailure } from "./Evidence.ts"
import type { EventOf, HostEvent, Origin, StepResult } from "./Model.ts"
import { accepted, illegal, known, omit, optional, own, told, transition, violates } from "./Model.ts"

export function stepSoaking(record: SoakingRecord, { event, origin }: HostEvent, now: number): StepResult {
  switch (event.kind) {
    case "ProbeTopologyDeclared":
      return accepted(declared(record, event), [told(origin, event)])
    case "ProbeObservedFirst":
      return accepted({ ...record, probeObservedFirstAt: record.probeObservedFirstAt ?? event.observedAt }, [
        told(origin, event)
      ])
    case "ProbeResult":
      return accepted(
        {
          ...record,
          probes: { ...record.probes, [event.probeName]: sampled(own(record.probes, event.probeName), event) }
        },
        [told(origin, event)]
      )
    case "ProbeFailureFirst":
      return accepted({ ...record, probeFailureFirstAt: record.probeFailureFirstAt ?? event.firstFailedAt }, [
        told(origin, event)
      ])
    case "Failed":
      return failed(record, event, origin, now)
    case "Converged":
      return converged(record, event, origin, now)
    default:
      return illegal(record, event)
  }
}

/** A probe that is no longer declared can neither pass nor fail any more: what it said last must not bind. */
function declared(record: SoakingRecord, event: EventOf<"ProbeTopologyDeclared">): SoakingRecord {
  const topology = Object.fromEntries(event.probes.map(({ mode, probeName }) => [probeName, mode]))
  const kept = Object.entries(record.probes).filter(([name]) => Object.hasOwn(topology, name))
  return doubtsOfDeclared({ ...record, topology, probes: Object.fromEntries(kept) }, topology)
}

/** `failingSince` is the sample that failed first after the last pass: a flap starts the clock anew (D12). */
function sampled(previous: ProbeRecord | undefined, event: EventOf<"ProbeResult">): ProbeRecord {
  const present = { mode: event.mode, status: event.status, lastObservedAt: event.observedAt }
  return event.status === "pass"
    ? { ...present, lastPassAt: event.observedAt }
    : {
      ...present,
      ...optional("lastPassAt", previous?.lastPassAt),
      ...optional("failureReason", event.failureReason),
      failingSince: previous?.failingSince ?? event.observedAt
    }
}

/** What ended the soak besides probes and drift: a fact that the agent read from its host, and that no probe can prove. */
function casualty({ cause }: EventOf<"Failed">): Casualty | undefined {
  return cause === "guard-fired" || cause === "boot-loop" ? cause : undefined
}

const ofSoakOnly = [
  "state",
  "topology",
  "probeObservedFirstAt",
  "probeFailureFirstAt",
  "soakedMs",
  "inconclusive",
  "excused"
] as const

function failed(record: SoakingRecord, event: EventOf<"Failed">, origin: Origin, now: number): StepResult {
  const drift = event.cause === "closure-drift"
  if (origin === "Local") {
    const refusal = failureRefused(record, event, drift, now)
    if (refusal !== undefined) return refusal
  }
  const next: FailedRecord = {
    ...omit(record, ofSoakOnly),
    state: "Failed",
    failedAt: event.failedAt,
    failure: drift ? "drift" : "probes",
    closureAtFault: !drift,
    ...optional("cause", casualty(event)),
    policyApplied: event.policyApplied,
    rollbackFailures: 0
  }
  return accepted(next, failureEffects("Soaking", next, event, origin))
}

function failureRefused(
  record: SoakingRecord,
  event: EventOf<"Failed">,
  drift: boolean,
  now: number
): StepResult | undefined {
  const due = drift ? "halt" : record.policy.onHealthFailure
  if (event.policyApplied !== due) return violates("policy-applied", `${event.policyApplied} is not ${due}`)
  if (event.failedAt > now) return violates("not-in-future", `failed ${event.failedAt - now} ms from now`)
  if (!drift && casualty(event) === undefined && sustainedFailure(record) === undefined) {
    return violates("sustained-failure", "no enforce probe has failed for long enough")
  }
  return undefined
}

function converged(record: SoakingRecord, event: EventOf<"Converged">, origin: Origin, now: number): StepResult {
  const closure = known(event.currentClosure)
  if (origin === "Local") {
    if (event.convergedAt > now) return violates("not-in-future", `converged ${event.convergedAt - now} ms from now`)
    const obstacle = convergenceObstacle(record, closure, event.convergedAt)
    if (obstacle !== undefined) return violates(obstacle.invariant, obstacle.detail)
  }
  // The soak itself is proven by the wave gate, which waits for it on its own clock (D12).
  const proven = closure === record.targetClosure && healthObstacle(record) === undefined
  return accepted(
    {
      ...omit(record, ["state", "currentClosure", "unproven", "inconclusive", "excused"]),
      state: "Converged",
      convergedAt: event.convergedAt,
      ...optional("currentClosure", closure),
      ...(proven ? {} : { unproven: true })
    },
    [told(origin, event), transition("Soaking", "Converged", event.convergedAt)]
  )
}
