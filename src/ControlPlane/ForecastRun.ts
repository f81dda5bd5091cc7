/**
 * The run behind a forecast: the decisions of production on a copy of the state, the hosts of the release in force, and a clock that
 * jumps from one moment in which something happens to the next. Nothing is written and nobody is told.
 *
 * A host polls all the time, takes what it is given, runs it after `activationMs`, passes every probe, and converges when its soak
 * is due. The release is signed anew before it grows old. Whoever failed, or waits for a reboot, stays as he is. All that happens
 * in one moment is one batch; what follows at once from it is the next batch of the same moment.
 */
import { HashMap } from "effect"
import type { UnnumberedEvent } from "../Rollout/Host.ts"
import { soakDue } from "../Rollout/host/Evidence.ts"
import { budgetGate } from "../Rollout/Planner.ts"
import type { SoakingRecord } from "../Schema/HostRecord.ts"
import { lastMillis, type Millis } from "../Schema/Primitives.ts"
import { allCapabilities, type HostStateName, type RolloutDigest, type Taken } from "../Schema/Wire.ts"
import { decide, settle } from "./Decide.ts"
import { isAwaited } from "./decide/Recovery.ts"
import type { Action, Capabilities, Input, VerifiedArtifacts } from "./Input.ts"
import { at, currentRolloutOf, hostIn, sorted, type State } from "./State.ts"
import type { Write } from "./Write.ts"

/** One host's part in one rollout. */
interface Part {
  readonly host: string
  readonly rolloutId: string
}

/** What a host does next, and when. */
interface Deed {
  readonly at: Millis
  readonly events: ReadonlyArray<UnnumberedEvent>
}

export class ForecastRun {
  state: State
  now: Millis
  /** By rollout id, then wave: each time that it was complete. More than once where a rollout rolls again for a host that was held. */
  readonly completions = new Map<string, Map<number, Array<Millis>>>()
  readonly #activationMs: (host: string) => number
  /** By host: when the switch ends that it was in when it took its present rollout. One switch runs at a time (D10). */
  readonly #busyUntil = new Map<string, Millis>()
  /** Who does something, by when; each part once. */
  readonly #due = new Map<Millis, Map<string, Part>>()

  /** The release comes into force at `from`, and everybody is there. */
  constructor(state: State, artifacts: VerifiedArtifacts, from: Millis, activationMs: (host: string) => number) {
    this.state = state
    this.now = from
    this.#activationMs = activationMs
    this.#batch([{ _tag: "ArtifactsVerified", artifacts }])
    const manifests = [...this.state.manifests].map(([channel, one]) =>
      [channel, { ...one, freshUntil: Infinity }] as const
    )
    this.state = { ...this.state, manifests: new Map(manifests) }
    const planned = manifests.flatMap(([, { plan }]) => Object.keys(plan.hosts))
    // A host that left an older release may still be waited for.
    const hosts = [...new Set([...planned, ...HashMap.keys(this.state.hosts)])].toSorted()
    const awaited = hosts.filter((host) => this.#isAwaited(host))
    this.#batch(awaited.map((host) => this.#heartbeat(host)))
    this.#batch([...hosts.map((host) => this.#poll(host)), { _tag: "PlanTick" }])
    for (const [host, { rollouts }] of sorted(this.state.hosts)) {
      for (const rolloutId of rollouts) this.#follow({ host, rolloutId })
    }
    this.#finishMoment()
  }

  /** Goes to the next moment; `false` when nothing more will happen. */
  advance(): boolean {
    const deed = this.#nextDeed()
    const next = Math.min(deed, this.#nextLook())
    if (next === lastMillis) return false
    this.now = next
    if (next < deed) this.#batch([{ _tag: "PlanTick" }])
    this.#finishMoment()
    return true
  }

  #nextDeed(): Millis {
    let next = lastMillis
    for (const time of this.#due.keys()) if (time < next) next = time
    return next
  }

  /** When a gate may open by time alone. A place in a budget is freed by an event, and not by time. */
  #nextLook(): Millis {
    let next = lastMillis
    for (const { earliestAt, gate } of HashMap.values(this.state.verdicts)) {
      if (gate !== budgetGate && earliestAt !== undefined && earliestAt > this.now) next = Math.min(next, earliestAt)
    }
    return next
  }

  #finishMoment(): void {
    for (let parts = this.#takeDue(); parts.length > 0; parts = this.#takeDue()) {
      const before = parts.map((part) => this.#stateOf(part))
      this.#batch(parts.flatMap((part) => this.#inputsOf(part)))
      // One that got no further was refused, and would be so again.
      for (const [index, part] of parts.entries()) if (this.#stateOf(part) !== before[index]) this.#follow(part)
    }
  }

  #takeDue(): ReadonlyArray<Part> {
    const parts = this.#due.get(this.now)
    this.#due.delete(this.now)
    return [...parts?.values() ?? []]
  }

  #stateOf({ host, rolloutId }: Part): HostStateName | undefined {
    return hostIn(this.state, rolloutId, host)?.record.state
  }

  #follow(part: Part): void {
    const deed = this.#deedOf(part)
    if (deed === undefined) return
    const parts = this.#due.get(deed.at) ?? new Map<string, Part>()
    this.#due.set(deed.at, parts.set(`${part.host} ${part.rolloutId}`, part))
  }

  #batch(inputs: ReadonlyArray<Input>): void {
    const clocks = { wall: this.now, monotonic: this.now }
    for (const input of inputs) this.#take(decide(this.state, input, clocks))
    const settled = settle(this.state, clocks)
    if (settled !== undefined) this.#take(settled)
  }

  #take(
    change: { readonly state: State; readonly writes: ReadonlyArray<Write>; readonly actions: ReadonlyArray<Action> }
  ) {
    this.state = change.state
    for (const write of change.writes) this.#note(write)
    for (const action of change.actions) {
      if (action._tag !== "CompleteWaiter" || action.answer._tag !== "Dispatch") continue
      this.#follow({ host: action.host, rolloutId: action.answer.dispatch.rollout_id })
    }
  }

  #note(write: Write): void {
    if (write._tag !== "AppendLog" || write.row.entry.kind !== "rollout_event") return
    const { entry: { payload }, rolloutId = "" } = write.row
    const last = (at(this.state.rollouts, rolloutId)?.plan.soakMs.length ?? 1) - 1
    const wave = payload.event === "RolloutTerminal" ? last : payload.fromWave
    if (payload.event === "WaveAdvanced" && payload.toWave === wave) return
    const waves = this.completions.get(rolloutId) ?? new Map<number, Array<Millis>>()
    this.completions.set(rolloutId, waves.set(wave, [...waves.get(wave) ?? [], this.now]))
  }

  #deedOf({ host, rolloutId }: Part): Deed | undefined {
    const record = hostIn(this.state, rolloutId, host)?.record
    if (record === undefined || record.closedAt !== undefined) return undefined
    switch (record.state) {
      case "Pending": {
        const row = at(this.state.queue, host)
        if (row?.rolloutId !== rolloutId || row.lease === undefined) return undefined
        const { deliveryId } = row.lease
        const currentClosureAtDispatch = at(this.state.hosts, host)?.seen?.currentClosure ?? ""
        return {
          at: this.now,
          events: [{ kind: "DispatchAck", currentClosureAtDispatch, receivedAt: this.now, deliveryId }]
        }
      }
      case "Activating": {
        const startedAt = Math.max(record.dispatchAckedAt, this.#busyUntil.get(host) ?? 0)
        const completedAt = Math.max(this.now, startedAt + this.#activationMs(host))
        const observedCurrentClosure = record.targetClosure
        return {
          at: completedAt,
          events: [{ kind: "ActivationCompleted", observedCurrentClosure, exitCode: 0, completedAt }]
        }
      }
      case "Soaking": {
        const convergedAt = Math.max(this.now, soakDue(record))
        const converged = { kind: "Converged", convergedAt, currentClosure: record.targetClosure } as const
        return { at: convergedAt, events: [...evidence(record, convergedAt), converged] }
      }
      case "Deferred":
      case "Converged":
      case "Failed":
      case "Reverted":
        return undefined
    }
  }

  /** When the switch ends that the host is in. */
  #switchEnd(host: string): Millis {
    const ends = (at(this.state.hosts, host)?.rollouts ?? []).flatMap((rolloutId) => {
      const isSwitching = hostIn(this.state, rolloutId, host)?.record.state === "Activating"
      const deed = isSwitching ? this.#deedOf({ host, rolloutId }) : undefined
      return deed === undefined ? [] : [deed.at]
    })
    return Math.max(0, ...ends)
  }

  #inputsOf(part: Part): ReadonlyArray<Input> {
    const { host, rolloutId } = part
    const { ledger, record } = hostIn(this.state, rolloutId, host) ?? {}
    if (record?.state === "Pending") this.#busyUntil.set(host, this.#switchEnd(host))
    const first = (ledger?.lastSeq ?? 0) + 1
    const capabilities = this.#capabilitiesOf(host)
    const attempt = record?.attempt
    const told = (this.#deedOf(part)?.events ?? []).map((event, index): Input => ({
      _tag: "EventReceived",
      envelope: {
        hostname: host,
        rolloutId,
        event: { ...event, seq: first + index, ...(attempt === undefined ? {} : { attempt }) }
      },
      // What tells one event from another of the same number: here there is none.
      canonical: "",
      hash: "",
      capabilities
    }))
    return [...told, this.#poll(host)]
  }

  #poll(host: string): Input {
    return {
      _tag: "Parked",
      host,
      waiterId: 0,
      capabilities: this.#capabilitiesOf(host),
      issuedAt: at(this.state.hosts, host)?.seen?.issuedAt ?? this.now,
      until: Infinity,
      taken: this.#takenBy(host)
    }
  }

  /** By its records: what may have arrived and was never acknowledged is dispatched once more, and what is on its way arrives. */
  #takenBy(host: string): Taken {
    const row = at(this.state.queue, host)
    if (row?.lease !== undefined) return { rolloutId: row.rolloutId, attempt: row.attempt }
    for (const rolloutId of at(this.state.hosts, host)?.rollouts ?? []) {
      const record = hostIn(this.state, rolloutId, host)?.record
      if (record !== undefined && record.state !== "Pending") return { rolloutId, attempt: record.attempt }
    }
    return "nothing"
  }

  /** What was announced; a host that nobody heard yet has an agent of ours. */
  #capabilitiesOf(host: string): Capabilities {
    const announced = at(this.state.hosts, host)?.seen?.capabilities
    return announced === undefined ? allOfOurs : new Set(allCapabilities.filter((one) => announced.includes(one)))
  }

  /** A word of this host is missing: whether it is there, whether a dispatch has reached it, or that it goes on with one (D17). */
  #isAwaited(host: string): boolean {
    const rolloutId = currentRolloutOf(this.state, host)
    return isAwaited(this.state, host) ||
      (rolloutId !== undefined && hostIn(this.state, rolloutId, host)?.offeredUntil !== undefined)
  }

  #heartbeat(host: string): Input {
    const seen = at(this.state.hosts, host)?.seen
    const capabilities = this.#capabilitiesOf(host)
    return {
      _tag: "HeartbeatReceived",
      heartbeat: {
        hostname: host,
        at: this.now,
        ...(seen?.currentClosure === undefined ? {} : { current_closure: seen.currentClosure }),
        ...(capabilities.has("journal")
          ? {
            journal_id: seen?.journalId ?? "forecast",
            digests: this.#digestsOf(host),
            rejections: (seen?.rejections ?? []).map(({ rejection }) => rejection)
          }
          : {})
      },
      capabilities,
      issuedAt: this.now
    }
  }

  /** As it said last, and of what it has told by events only. */
  #digestsOf(host: string): ReadonlyArray<RolloutDigest> {
    const { rollouts = [], seen } = at(this.state.hosts, host) ?? {}
    const said = seen?.digests ?? []
    const told = rollouts.flatMap((rolloutId): ReadonlyArray<RolloutDigest> => {
      const entry = hostIn(this.state, rolloutId, host)
      if (entry === undefined || entry.record.state === "Pending") return []
      if (said.some((digest) => digest.rollout_id === rolloutId)) return []
      const { attempt, state, targetClosure } = entry.record
      return [{
        rollout_id: rolloutId,
        state,
        target_closure: targetClosure,
        attempt,
        last_event_seq: entry.ledger.lastSeq
      }]
    })
    return [...said, ...told]
  }
}

const allOfOurs: Capabilities = new Set(allCapabilities)

/** Every probe that binds passes once more. */
function evidence({ probes, topology }: SoakingRecord, observedAt: Millis): ReadonlyArray<UnnumberedEvent> {
  const modes = new Map([
    ...Object.entries(probes).map(([name, { mode }]) => [name, mode] as const),
    ...Object.entries(topology ?? {})
  ])
  return [
    ...(topology === undefined
      ? [{
        kind: "ProbeTopologyDeclared" as const,
        probes: [...modes].map(([probeName, mode]) => ({ probeName, kind: "unknown", mode })),
        declaredAt: observedAt
      }]
      : []),
    ...[...modes].flatMap(([probeName, mode]) =>
      mode === "enforce"
        ? [{ kind: "ProbeResult" as const, probeName, mode, status: "pass" as const, observedAt }]
        : []
    )
  ]
}
