/**
 * An agent as the original is (agent.md), over the real wire: no rollout id in heartbeats, no capabilities, no journal. Its
 * faults are kept, because that is what our control plane has to live with: it deletes an event on any 2xx, stops a drain at
 * the first failure, ignores `Retry-After`, overwrites what it knows with every snapshot, forgets all but its queue when it
 * ends, and never declares probes when there is no file that lists them.
 *
 * Left out, because nothing of it shows on the wire: enrollment, renewal, evidence probes, Darwin.
 */
import { Clock, Effect, Queue, Result, Schema } from "effect"
import type { FetchedArtifact } from "../../src/Layers/Net/ArtifactSource.ts"
import { Exchange, type ExchangeRequest, type ExchangeResponse } from "../../src/Layers/Net/Exchange.ts"
import type { FleetResolved } from "../../src/Schema/Artifacts.ts"
import { decodeTrustRoots } from "../../src/Schema/Trust.ts"
import {
  type AgentEvent,
  AgentEventEnvelope,
  DispatchResponse,
  HeartbeatRequest,
  HeartbeatResponse,
  type HostRolloutSnapshot,
  type ProbeStatus
} from "../../src/Schema/Wire.ts"
import { rolloutIdOf } from "../../src/Trust/FleetAndManifests.ts"
import {
  type Accepted,
  type ArtifactKind,
  fleetKind,
  manifestKind,
  type Signed,
  verify
} from "../../src/Trust/Verify.ts"
import {
  type Queued,
  type ReferenceCadences,
  referenceCadences,
  type ReferenceCheck,
  type ReferenceHost
} from "./referenceHost.ts"
import { failingEnforced, newReferenceRecord, type ReferenceRecord, referenceStep } from "./referenceMachine.ts"

/** Whatever the channel says (A-W31, A-W32). */
const freshnessMs = 3_600_000

/** Runs one process of the agent; ends only with its scope. */
export const referenceAgent = (host: ReferenceHost, cadences: ReferenceCadences = referenceCadences) =>
  Effect.gen(function*() {
    const { send } = yield* Exchange
    const agent = new Agent(host, cadences, send, {
      intents: yield* Queue.unbounded<Intent>(),
      resets: yield* Queue.unbounded<string>(),
      kick: yield* Queue.sliding<void>(1)
    })
    // The handshake: its status is not looked at, its failure is no obstacle (A-W54).
    const { snapshots } = yield* Effect.orElseSucceed(agent.beat, () => ({ snapshots: [] }))
    for (const snapshot of snapshots) agent.merge(snapshot)
    return yield* Effect.all([
      agent.longpoll,
      agent.heartbeat,
      agent.advance,
      agent.outbound,
      agent.manifestPoll,
      agent.activation,
      agent.probes
    ], { concurrency: "unbounded", discard: true })
  })

interface Intent {
  readonly rolloutId: string
  readonly target: string
  readonly rollback: boolean
}

interface Channels {
  readonly intents: Queue.Queue<Intent>
  readonly resets: Queue.Queue<string>
  readonly kick: Queue.Queue<void>
}

const encodeHeartbeat = Schema.encodeUnknownSync(Schema.fromJsonString(HeartbeatRequest))
const encodeEnvelope = Schema.encodeUnknownSync(Schema.fromJsonString(AgentEventEnvelope))
const decodeHeartbeat = Schema.decodeUnknownResult(Schema.fromJsonString(HeartbeatResponse))
const decodeDispatch = Schema.decodeUnknownResult(Schema.fromJsonString(Schema.NullOr(DispatchResponse)))
const bytes = new TextEncoder()
const text = new TextDecoder()

/** The pause after every error; the reason is of no consequence to it. */
class Trouble {
  readonly _tag = "Trouble"
}
const trouble = Effect.fail(new Trouble())

const wall = Effect.map(Clock.currentTimeMillis, Math.floor)
const is2xx = ({ status }: ExchangeResponse) => status >= 200 && status < 300

/** One process: its records are gone with it. */
class Agent {
  readonly #host: ReferenceHost
  readonly #cadences: ReferenceCadences
  readonly #send: Exchange["Service"]["send"]
  readonly #channels: Channels
  readonly #records = new Map<string, ReferenceRecord>()
  /** The last verified set; its policies are the ones that count. */
  #fleet: FleetResolved | undefined

  constructor(host: ReferenceHost, cadences: ReferenceCadences, send: Exchange["Service"]["send"], channels: Channels) {
    this.#host = host
    this.#cadences = cadences
    this.#send = send
    this.#channels = channels
  }

  #request(request: Pick<ExchangeRequest, "method" | "path"> & { readonly body?: string }, timeoutMs: number) {
    const { body, method, path } = request
    return this.#send(
      {
        method,
        path,
        headers: body === undefined ? {} : { "content-type": "application/json" },
        body: bytes.encode(body ?? "")
      },
      { timeoutMs, maxBodyBytes: 4_000_000, lane: path.startsWith("/v1/agent/dispatch") ? "poll" : "report" }
    )
  }

  #runs() {
    const { hardware } = this.#host
    return Effect.map(hardware.now, (now) => {
      hardware.settle(now)
      return hardware.running
    })
  }

  // ---- Heartbeat (agent.md §6.2, §10.1)

  /** One heartbeat and what its body says, whatever its status. */
  readonly beat = Effect.gen({ self: this }, function*() {
    const closure = yield* this.#runs()
    const body = encodeHeartbeat({
      hostname: this.#host.name,
      at: yield* wall,
      ...(closure === undefined ? {} : { current_closure: closure })
    })
    const response = yield* this.#request(
      { method: "POST", path: "/v1/agent/heartbeat", body },
      this.#cadences.requestTimeout
    )
    const decoded = decodeHeartbeat(text.decode(response.body))
    return { response, snapshots: Result.isSuccess(decoded) ? decoded.success.bootstrap_rollouts : [] }
  })

  readonly heartbeat = Effect.gen({ self: this }, function*() {
    for (;;) {
      const sentAt = yield* wall
      const beat = yield* Effect.result(this.beat)
      if (Result.isSuccess(beat) && is2xx(beat.success.response)) {
        for (const snapshot of beat.success.snapshots) this.merge(snapshot)
      }
      // Missed ticks are skipped.
      const late = (yield* wall) - sentAt
      yield* Effect.sleep(this.#cadences.heartbeat - late % this.#cadences.heartbeat)
    }
  })

  /** A snapshot wins over what is known, older or not; only probes and failure times are kept (agent.md §3.5). */
  merge(snapshot: HostRolloutSnapshot): void {
    this.#host.snapshots.push(snapshot)
    const known = this.#records.get(snapshot.rolloutId)
    const { soakDueAt = 0, ...rest } = snapshot
    const kept = known?.probeFailureFirstAt === undefined ? {} : { probeFailureFirstAt: known.probeFailureFirstAt }
    this.#records.set(snapshot.rolloutId, { ...rest, soakDueAt, probes: known?.probes ?? new Map(), ...kept })
    if (snapshot.state !== "Pending") this.#reset(snapshot.rolloutId)
  }

  #reset(rolloutId: string): void {
    Queue.offerUnsafe(this.#channels.resets, rolloutId)
  }

  // ---- Reducer (agent.md §3.2) and applier (§4)

  /** A local event; its number is the record's next one, but for a deferral, which is thus never accepted (A-W01). */
  #event(rolloutId: string, event: AgentEvent): void {
    const known = this.#records.get(rolloutId)
    const policyName = this.#fleet?.channels[rolloutId.slice(0, rolloutId.indexOf("@"))]?.rolloutPolicy
    const policy = this.#fleet?.rolloutPolicies[policyName ?? ""]?.onHealthFailure
    if (known === undefined || policy === undefined) return
    const numbered = event.kind === "ActivationDeferred" ? event : { ...event, seq: known.lastEventSeq + 1 }
    const next = referenceStep(known, numbered, policy)
    if (typeof next === "string") return
    this.#records.set(rolloutId, next)
    this.#apply(next, numbered)
  }

  #apply(record: ReferenceRecord, event: AgentEvent): void {
    const { currentClosureAtDispatch, rolloutId, targetClosure } = record
    const intend = (target: string, rollback: boolean) =>
      Queue.offerUnsafe(this.#channels.intents, { rolloutId, target, rollback })
    if (event.kind === "ActivationCompleted") this.#reset(rolloutId)
    this.#emit({ rolloutId, event })
    if (event.kind === "DispatchAck") intend(targetClosure, false)
    if (record.state === "Failed" && record.policyApplied === "rollback-and-halt") {
      if (currentClosureAtDispatch !== undefined) intend(currentClosureAtDispatch, true)
    }
  }

  /** Written to the queue's directory; the same name replaces. */
  #emit(queued: Queued): void {
    const { event, rolloutId } = queued
    const name = `${String(event.seq).padStart(20, "0")}-${this.#host.name}-${rolloutId}-${event.kind}.json`
    this.#host.queue.set(name, queued)
    Queue.offerUnsafe(this.#channels.kick, undefined)
  }

  // ---- Outbound (agent.md §5)

  readonly outbound = Effect.gen({ self: this }, function*() {
    for (;;) {
      yield* this.#drain()
      yield* Effect.raceFirst(Queue.take(this.#channels.kick), Effect.sleep(this.#cadences.drain))
    }
  })

  /** Oldest number first, whatever the rollout; of two files with one number only one is seen (A-W19). */
  #drain() {
    return Effect.gen({ self: this }, function*() {
      const scan = new Map([...this.#host.queue].map(([name, queued]) => [queued.event.seq, { name, queued }]))
      for (const [, { name, queued }] of [...scan].toSorted(([a], [b]) => a - b)) {
        const body = encodeEnvelope({ hostname: this.#host.name, rolloutId: queued.rolloutId, event: queued.event })
        const sent = yield* Effect.result(
          this.#request({ method: "POST", path: "/v1/agent/events", body }, this.#cadences.requestTimeout)
        )
        if (Result.isFailure(sent) || !is2xx(sent.success)) return
        this.#host.queue.delete(name)
      }
    })
  }

  // ---- Advance ticker (agent.md §3.4)

  readonly advance = Effect.gen({ self: this }, function*() {
    for (;;) {
      yield* Effect.sleep(this.#cadences.advance)
      const now = yield* wall
      for (const record of this.#records.values()) this.#failIfSustained(record, now)
      for (const record of this.#records.values()) this.#convergeIfDue(record, now)
    }
  })

  #failIfSustained(record: ReferenceRecord, now: number): void {
    const since = record.probeFailureFirstAt
    const failingProbes = failingEnforced(record)
    if (record.state !== "Soaking" || since === undefined || failingProbes.length === 0) return
    if (now - since < this.#cadences.sustainedFailure) return
    const name = this.#fleet?.channels[record.channel]?.rolloutPolicy ?? ""
    this.#event(record.rolloutId, {
      kind: "Failed",
      failedAt: now,
      sustainedDurationSecs: Math.floor((now - since) / 1000),
      failingProbes,
      policyApplied: this.#fleet?.rolloutPolicies[name]?.onHealthFailure ?? "halt",
      seq: 0
    })
  }

  /** At `soak_due_at`, whatever the activation took; an empty probe map passes. */
  #convergeIfDue(record: ReferenceRecord, now: number): void {
    const { currentClosure, soakDueAt, state, targetClosure } = record
    if (state !== "Soaking" || now < soakDueAt || currentClosure !== targetClosure) return
    if (failingEnforced(record).length > 0) return
    this.#event(record.rolloutId, { kind: "Converged", convergedAt: now, currentClosure, seq: 0 })
  }

  // ---- Artifacts (agent.md §7)

  /** From the cache as long as it verifies, else from the control plane (A-W30). */
  #artifact<A extends Signed>(kind: ArtifactKind<A>, path: string) {
    return Effect.gen({ self: this }, function*() {
      const cached = this.#host.cache.get(path)
      const known = cached === undefined ? undefined : this.#verify(kind, cached, yield* wall)
      if (known !== undefined) return known
      const get = (from: string) => this.#request({ method: "GET", path: from }, 30_000)
      const [artifact, signature] = [yield* get(path), yield* get(`${path}/sig`)]
      if (!is2xx(artifact) || !is2xx(signature)) return yield* trouble
      const fetched = { bytes: artifact.body, signature: signature.body }
      const accepted = this.#verify(kind, fetched, yield* wall)
      if (accepted === undefined) return yield* trouble
      this.#host.cache.set(path, fetched)
      return accepted
    })
  }

  #verify<A extends Signed>(kind: ArtifactKind<A>, artifact: FetchedArtifact, now: number): Accepted<A> | undefined {
    const trust = decodeTrustRoots(JSON.parse(text.decode(this.#host.trustFile)))
    if (!trust.ok) return undefined
    const slot = trust.value.ciReleaseKey
    const verdict = verify({
      kind,
      ...artifact,
      slot,
      now,
      windowMs: () => freshnessMs,
      highestSignedAt: () => undefined
    })
    return verdict.ok ? verdict : undefined
  }

  readonly manifestPoll = Effect.gen({ self: this }, function*() {
    for (;;) {
      yield* Effect.ignore(this.#pollManifests)
      yield* Effect.sleep(this.#cadences.manifestPoll)
    }
  })

  readonly #pollManifests = Effect.gen({ self: this }, function*() {
    const fleet = yield* this.#artifact(fleetKind, "/v1/fleet.resolved")
    for (const channel of Object.keys(fleet.value.channels)) {
      const rolloutId = rolloutIdOf(fleet.value, channel)
      if (rolloutId !== undefined) yield* Effect.ignore(this.#artifact(manifestKind, `/v1/rollouts/${rolloutId}`))
    }
    this.#fleet = fleet.value
  })

  // ---- Long poll (agent.md §6.5)

  readonly longpoll = Effect.gen({ self: this }, function*() {
    for (;;) {
      const polled = yield* Effect.result(this.#poll)
      if (Result.isFailure(polled)) yield* Effect.sleep(this.#cadences.errorPause)
    }
  })

  readonly #poll = Effect.gen({ self: this }, function*() {
    const response = yield* this.#request(
      { method: "GET", path: "/v1/agent/dispatch?wait=60" },
      this.#cadences.pollTimeout
    )
    if (response.status === 204) return
    if (response.status !== 200) return yield* trouble
    if (response.body.length === 0) return
    const dispatch = decodeDispatch(text.decode(response.body))
    if (Result.isFailure(dispatch)) return yield* trouble
    if (dispatch.success !== null) yield* this.#accept(dispatch.success)
  })

  #accept(dispatch: DispatchResponse) {
    const { enqueued_at, hostname, rollout_id, soak_due_at, target_closure } = dispatch
    return Effect.gen({ self: this }, function*() {
      if (hostname !== this.#host.name) return yield* trouble
      const { value } = yield* this.#artifact(manifestKind, `/v1/rollouts/${rollout_id}`)
      if (`${value.channel}@${value.channelRef}` !== rollout_id) return yield* trouble
      const entry = value.hostSet.find((one) => one.hostname === hostname)
      if (entry?.targetClosure !== target_closure) return yield* trouble
      if (!this.#records.has(rollout_id)) {
        this.#records.set(
          rollout_id,
          newReferenceRecord({
            rolloutId: rollout_id,
            hostname: "self",
            targetClosure: target_closure,
            dispatchedAt: yield* wall,
            soakDueAt: soak_due_at
          })
        )
      }
      this.#event(rollout_id, {
        kind: "DispatchAck",
        currentClosureAtDispatch: (yield* this.#runs()) ?? "",
        receivedAt: enqueued_at,
        seq: 0
      })
    })
  }

  // ---- Activation (agent.md §8)

  /** Serial, never interrupted by a newer intent. */
  readonly activation = Effect.gen({ self: this }, function*() {
    for (;;) {
      const intent = yield* Queue.take(this.#channels.intents)
      yield* intent.rollback ? this.#rollBack(intent) : this.#goForward(intent)
    }
  })

  #goForward({ rolloutId, target }: Intent) {
    const { hardware } = this.#host
    return Effect.gen({ self: this }, function*() {
      // Times of the end are taken at the beginning (A-W46).
      const at = yield* wall
      this.#event(rolloutId, {
        kind: "ActivationStarted",
        startedAt: at,
        switchMethod: "switch-to-configuration",
        seq: 0
      })
      hardware.store.add(target)
      hardware.setProfile(target)
      hardware.startSwitch(target, this.#host.nextSwitch(rolloutId, "forward"), yield* hardware.now)
      this.#event(
        rolloutId,
        (yield* this.#flips(target))
          ? { kind: "ActivationCompleted", observedCurrentClosure: target, exitCode: 0, completedAt: at, seq: 0 }
          : { kind: "ActivationFailed", exitCode: -1, stderrTail: "switch-poll-timeout", failedAt: at, seq: 0 }
      )
    })
  }

  /** To the generation before, whatever the intent names (A-W38). */
  #rollBack({ rolloutId }: Intent) {
    const { hardware } = this.#host
    return Effect.gen({ self: this }, function*() {
      const at = yield* wall
      const generation = (hardware.profile ?? 1) - 1
      const closure = hardware.generations[generation - 1]
      if (closure === undefined) return
      hardware.profile = generation
      hardware.startSwitch(closure, this.#host.nextSwitch(rolloutId, "rollback"), yield* hardware.now)
      if (!(yield* this.#flips(closure))) return
      this.#event(rolloutId, {
        kind: "RollbackComplete",
        revertedToClosure: closure,
        exitCode: 0,
        completedAt: at,
        seq: 0
      })
    })
  }

  /** Success is that the link shows the closure in time; the switch's exit code is not looked at (A-W40). */
  #flips(closure: string) {
    return Effect.gen({ self: this }, function*() {
      for (let waited = 0; waited < this.#cadences.switchBudget; waited += this.#cadences.linkPoll) {
        yield* Effect.sleep(this.#cadences.linkPoll)
        if ((yield* this.#runs()) === closure) return true
      }
      return false
    })
  }

  // ---- Probes (agent.md §9.2)

  /** One set of tickers: those of the last reset. A host without a file says nothing at all. */
  readonly probes = Effect.gen({ self: this }, function*() {
    for (let rolloutId = yield* Queue.take(this.#channels.resets);;) {
      rolloutId = yield* Effect.raceFirst(Queue.take(this.#channels.resets), this.#tickers(rolloutId))
    }
  })

  #tickers(rolloutId: string): Effect.Effect<never> {
    const checks = Object.entries(this.#host.checks ?? {})
    if (checks.length === 0) return Effect.never
    return Effect.gen({ self: this }, function*() {
      this.#event(rolloutId, {
        kind: "ProbeTopologyDeclared",
        probes: checks.map(([probeName, { kind, mode }]) => ({ probeName, kind, mode })),
        declaredAt: yield* wall,
        seq: 0
      })
      return yield* Effect.all(
        checks.filter(([, { mode }]) => mode !== "disabled").map(([name, check]) =>
          this.#ticker(rolloutId, name, check)
        ),
        { concurrency: "unbounded", discard: true }
      ).pipe(Effect.andThen(Effect.never))
    })
  }

  #ticker(rolloutId: string, probeName: string, { intervalMs, mode }: ReferenceCheck) {
    return Effect.gen({ self: this }, function*() {
      let before: ProbeStatus | undefined
      for (;;) {
        const status = this.#host.probe(yield* this.#runs())
        const observedAt = yield* wall
        if (before === undefined) {
          this.#event(rolloutId, { kind: "ProbeObservedFirst", probeName, mode, observedAt, seq: 0 })
        }
        if (status === "fail" && before !== "fail") {
          this.#event(rolloutId, { kind: "ProbeFailureFirst", probeName, mode, firstFailedAt: observedAt, seq: 0 })
        }
        this.#event(rolloutId, { kind: "ProbeResult", probeName, mode, status, observedAt, seq: 0 })
        before = status
        yield* Effect.sleep(intervalMs)
      }
    })
  }
}
