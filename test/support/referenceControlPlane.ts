/**
 * A control plane as the original is (control-plane.md), behind the same port as ours. Its faults are kept, because that is
 * what our agent has to live with: it answers 204 before it applies an event and drops what it cannot apply, a dispatch is
 * gone once it was taken, every heartbeat without a rollout id is answered with snapshots, and one that shows the target
 * running makes it invent the events that are missing.
 *
 * Left out, because no agent sees it: operator routes, revocations, enrollment, gates other than wave promotion.
 */
import { Clock, Effect, Queue } from "effect"
import type { FetchedArtifact } from "../../src/Layers/Net/ArtifactSource.ts"
import type { ExchangeHandler, ExchangeRequest, ExchangeResponse, Peer } from "../../src/Layers/Net/Exchange.ts"
import {
  decodeFleetResolved,
  decodeRolloutManifest,
  type FleetResolved,
  type RolloutManifest
} from "../../src/Schema/Artifacts.ts"
import { decoder } from "../../src/Schema/Decode.ts"
import { formatTimestamp } from "../../src/Schema/Primitives.ts"
import { type AgentEvent, AgentEventEnvelope, HeartbeatRequest, type OnHealthFailure } from "../../src/Schema/Wire.ts"
import { rolloutIdOf } from "../../src/Trust/FleetAndManifests.ts"
import {
  type DispatchRow,
  type ReferenceControlPlaneOptions,
  type ReferenceDatabase,
  referenceOptions,
  type Rollout,
  type RolloutState
} from "./referenceDatabase.ts"
import { newReferenceRecord, type ReferenceRecord, referenceStep } from "./referenceMachine.ts"

interface Manifests {
  readonly fleet: FleetResolved
  readonly byRollout: ReadonlyMap<string, RolloutManifest>
}

/** The original's fallback when no policy wave says how long, minutes. */
const defaultSoakMinutes = 60

const encoder = new TextEncoder()
const json = (
  status: number,
  value: unknown,
  headers: Readonly<Record<string, string>> = {}
): ExchangeResponse => ({
  status,
  headers: { "content-type": "application/json", ...headers },
  body: encoder.encode(JSON.stringify(value))
})
const bare = (status: number): ExchangeResponse => ({ status, headers: {}, body: new Uint8Array() })
const notReady = json(503, { error: "control plane not ready", reason: "awaiting first signed artifact" }, {
  "retry-after": "30"
})

const decodeEnvelope = decoder(AgentEventEnvelope)
const decodeHeartbeat = decoder(HeartbeatRequest)
const bodyOf = ({ body }: ExchangeRequest): unknown => JSON.parse(new TextDecoder().decode(body))
/** Clamped to 0–60 s, 60 when absent. */
const waitOf = ({ path }: ExchangeRequest) => Math.min(60, Number(/[?&]wait=(\d+)/.exec(path)?.[1] ?? 60)) * 1000
const machineOf = (peer: Peer | undefined) => /^agent-([^.]+)\./.exec(peer?.commonName ?? "")?.[1]
const recordKey = (rolloutId: string, hostname: string) => `${rolloutId} ${hostname}`

/** One process. */
export class ReferenceControlPlane {
  /** Every request, in order. */
  readonly asked: Array<ExchangeRequest> = []
  readonly #database: ReferenceDatabase
  readonly #published: ReadonlyMap<string, FetchedArtifact>
  readonly #options: ReferenceControlPlaneOptions
  #inbox: Queue.Queue<AgentEventEnvelope> | undefined
  /** The one signal that wakes every parked poll (C-W4). */
  readonly #parked = new Set<() => void>()
  #isReady = false
  #manifests: Manifests | undefined

  constructor(
    database: ReferenceDatabase,
    published: ReadonlyMap<string, FetchedArtifact>,
    options: Partial<ReferenceControlPlaneOptions> = {}
  ) {
    this.#database = database
    this.#published = published
    this.#options = { ...referenceOptions, ...options }
  }

  /** Its background tasks; ends only with its scope. */
  readonly run = Effect.gen({ self: this }, function*() {
    const inbox = yield* Queue.unbounded<AgentEventEnvelope>()
    this.#inbox = inbox
    return yield* Effect.all([this.#becomeReady, this.#pollManifests, this.#plan, this.#reduce(inbox)], {
      concurrency: "unbounded",
      discard: true
    })
  })

  readonly handler: ExchangeHandler = (request, peer) =>
    Effect.suspend(() => {
      this.asked.push(request)
      const hostname = machineOf(peer)
      if (!this.#isReady) return Effect.succeed(notReady)
      if (hostname === undefined) return Effect.succeed(bare(401))
      const path = request.path.split("?")[0] ?? ""
      switch (path) {
        case "/v1/agent/dispatch":
          return this.#dispatch(hostname, waitOf(request))
        case "/v1/agent/events":
          return Effect.succeed(this.#event(request, hostname))
        case "/v1/agent/heartbeat":
          return Effect.succeed(this.#heartbeat(request, hostname))
        default:
          return Effect.succeed(this.#artifact(path))
      }
    })

  // ---- Artifacts

  #artifact(path: string): ExchangeResponse {
    const signature = path.endsWith("/sig")
    const name = signature ? path.slice(0, -"/sig".length) : path
    const file = this.#published.get(
      name === "/v1/fleet.resolved" ? "fleet.resolved.json" : `${name.slice("/v1/".length)}.json`
    )
    if (file === undefined) return bare(404)
    return { status: 200, headers: {}, body: signature ? file.signature : file.bytes }
  }

  /** The start primes what is served; what the reducer goes by comes with the first look of its own. */
  readonly #becomeReady = Effect.gen({ self: this }, function*() {
    yield* Effect.sleep(this.#options.notReadyMs)
    while (!this.#published.has("fleet.resolved.json")) yield* Effect.sleep(1_000)
    this.#isReady = true
  })

  readonly #pollManifests = Effect.gen({ self: this }, function*() {
    yield* Effect.sleep(this.#options.coldMs)
    for (;;) {
      this.#manifests = this.#readManifests() ?? this.#manifests
      this.#planNow(yield* Clock.currentTimeMillis)
      yield* Effect.sleep(this.#options.manifestPollMs)
    }
  })

  #readManifests(): Manifests | undefined {
    const read = (name: string): unknown => {
      const file = this.#published.get(name)
      return file === undefined ? undefined : JSON.parse(new TextDecoder().decode(file.bytes))
    }
    const fleet = decodeFleetResolved(read("fleet.resolved.json"))
    if (!fleet.ok) return undefined
    const byRollout = new Map(
      Object.keys(fleet.value.channels).flatMap((channel) => {
        const rolloutId = rolloutIdOf(fleet.value, channel)
        const manifest = decodeRolloutManifest(read(`rollouts/${rolloutId}.json`))
        return rolloutId !== undefined && manifest.ok ? [[rolloutId, manifest.value] as const] : []
      })
    )
    return { fleet: fleet.value, byRollout }
  }

  // ---- Events (control-plane.md §4.4)

  /** 204 before anything was done with it. */
  #event(request: ExchangeRequest, hostname: string): ExchangeResponse {
    const envelope = decodeEnvelope(bodyOf(request))
    if (!envelope.ok) return bare(422)
    if (envelope.value.hostname !== hostname) return bare(403)
    const { event, rolloutId } = envelope.value
    const stored = this.#database.records.get(recordKey(rolloutId, hostname))
    if (this.#inbox !== undefined && (stored === undefined || event.seq > stored.lastEventSeq)) {
      Queue.offerUnsafe(this.#inbox, envelope.value)
    }
    return bare(204)
  }

  #reduce(inbox: Queue.Queue<AgentEventEnvelope>) {
    return Effect.gen({ self: this }, function*() {
      for (;;) {
        const { event, hostname, rolloutId } = yield* Queue.take(inbox)
        this.#apply(hostname, rolloutId, event)
      }
    })
  }

  /** Drops what it cannot apply, without a word to anybody. */
  #apply(hostname: string, rolloutId: string, event: AgentEvent): void {
    const record = this.#database.records.get(recordKey(rolloutId, hostname))
    const policy = record === undefined ? undefined : this.#policyOf(record.channel)
    if (record === undefined || policy === undefined) return
    const next = referenceStep(record, event, policy)
    if (typeof next === "string") return
    this.#database.records.set(recordKey(rolloutId, hostname), next)
    this.#database.log.push({ hostname, rolloutId, event })
    if (event.kind === "RollbackComplete") {
      this.#database.quarantine.push({ channel: record.channel, closure: record.targetClosure })
    }
    if (next.state !== record.state) this.#hostChanged(next)
  }

  #policyOf(channel: string): OnHealthFailure | undefined {
    const fleet = this.#manifests?.fleet
    return fleet?.rolloutPolicies[fleet.channels[channel]?.rolloutPolicy ?? ""]?.onHealthFailure
  }

  /** The rollout machine (protocol.md §5): every rollback goes through Failed, and stays there. */
  #hostChanged({ rolloutId, state }: ReferenceRecord): void {
    const rollout = this.#database.rollouts.get(rolloutId)
    if (rollout === undefined || rollout.state !== "Active") return
    const move = (to: RolloutState) => this.#database.rollouts.set(rolloutId, { ...rollout, state: to })
    if (state === "Failed" || state === "Reverted") move(state)
    else if (this.#recordsOf(rolloutId).every((record) => record.state === "Converged")) move("Terminal")
  }

  #recordsOf(rolloutId: string): ReadonlyArray<ReferenceRecord> {
    return [...this.#database.records.values()].filter((record) => record.rolloutId === rolloutId)
  }

  // ---- Heartbeats (control-plane.md §4.1–§4.3)

  #heartbeat(request: ExchangeRequest, hostname: string): ExchangeResponse {
    const heartbeat = decodeHeartbeat(bodyOf(request))
    if (!heartbeat.ok) return bare(422)
    const { at, current_closure: closure, rollout_id: rolloutId } = heartbeat.value
    if (heartbeat.value.hostname !== hostname) return bare(403)
    if (closure !== undefined) {
      for (const record of this.#activeRecords(hostname)) {
        if (record.targetClosure === closure) this.#synthesise(record, at)
      }
    }
    const named = rolloutId === undefined ? undefined : this.#database.records.get(recordKey(rolloutId, hostname))
    const replays = named !== undefined && closure !== undefined && named.currentClosure !== closure
    const snapshots = rolloutId === undefined ? this.#activeRecords(hostname).map(snapshotOf) : []
    return json(
      200,
      {
        received_at: formatTimestamp(at),
        ...(snapshots.length === 0 ? {} : { bootstrap_rollouts: snapshots })
      },
      replays ? { "x-nixfleet-replay-from": String(named.lastEventSeq) } : {}
    )
  }

  /** In any rollout, superseded ones included. */
  #activeRecords(hostname: string): ReadonlyArray<ReferenceRecord> {
    const active = new Set(["Pending", "Activating", "Deferred", "Soaking"])
    return [...this.#database.records.values()].filter((record) =>
      record.hostname === hostname && active.has(record.state)
    )
  }

  /** Events that nobody sent, with the numbers that the agent will use (C-W13). */
  #synthesise(
    { hostname, lastEventSeq, rolloutId, soakDueAt, state, targetClosure }: ReferenceRecord,
    at: number
  ): void {
    let seq = lastEventSeq
    const invent = (event: AgentEvent) => this.#apply(hostname, rolloutId, event)
    const completed = () =>
      invent({
        kind: "ActivationCompleted",
        observedCurrentClosure: targetClosure,
        exitCode: 0,
        completedAt: at,
        seq: ++seq
      })
    if (state === "Activating" || state === "Deferred") completed()
    if (state !== "Pending") return
    invent({ kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: at, seq: ++seq })
    completed()
    invent({
      kind: "Converged",
      convergedAt: Math.max(at, soakDueAt),
      currentClosure: targetClosure,
      seq: ++seq
    })
  }

  // ---- Planner (control-plane.md §3.1, protocol.md §5.5)

  readonly #plan = Effect.gen({ self: this }, function*() {
    for (;;) {
      yield* Effect.sleep(this.#options.planMs)
      this.#planNow(yield* Clock.currentTimeMillis)
    }
  })

  #planNow(at: number): void {
    const now = Math.floor(at)
    for (const [rolloutId, manifest] of this.#manifests?.byRollout ?? []) {
      if (!this.#database.rollouts.has(rolloutId)) this.#open(rolloutId, manifest, now)
    }
    for (const rollout of this.#database.rollouts.values()) {
      const manifest = this.#manifests?.byRollout.get(rollout.rolloutId)
      if (manifest !== undefined && rollout.state !== "Superseded" && rollout.state !== "Terminal") {
        this.#dispatchDue(this.#promote(rollout, manifest), manifest, now)
      }
    }
  }

  /** The soak of every wave counts from here (C-W12). */
  #open(rolloutId: string, manifest: RolloutManifest, now: number): void {
    const { channel, hostSet } = manifest
    for (const other of this.#database.rollouts.values()) {
      if (other.channel === channel) this.#database.rollouts.set(other.rolloutId, { ...other, state: "Superseded" })
    }
    this.#database.rollouts.set(rolloutId, { rolloutId, channel, state: "Active", currentWave: 0 })
    const fleet = this.#manifests?.fleet
    const policy = fleet?.rolloutPolicies[fleet.channels[channel]?.rolloutPolicy ?? ""]
    for (const { hostname, targetClosure, waveIndex } of hostSet) {
      const soakMinutes = policy?.waves[waveIndex]?.soakMinutes ?? defaultSoakMinutes
      this.#database.records.set(
        recordKey(rolloutId, hostname),
        newReferenceRecord({
          rolloutId,
          hostname,
          targetClosure,
          dispatchedAt: now,
          soakDueAt: now + soakMinutes * 60_000
        })
      )
    }
  }

  #promote(rollout: Rollout, { hostSet }: RolloutManifest): Rollout {
    const hosts = hostSet.filter(({ waveIndex }) => waveIndex === rollout.currentWave)
    const done = hosts.length > 0 && hosts.every(({ hostname }) => {
      const state = this.#database.records.get(recordKey(rollout.rolloutId, hostname))?.state
      return state === "Converged" || state === "Deferred"
    })
    if (!done || !hostSet.some(({ waveIndex }) => waveIndex > rollout.currentWave)) return rollout
    const promoted = { ...rollout, currentWave: rollout.currentWave + 1 }
    this.#database.rollouts.set(rollout.rolloutId, promoted)
    return promoted
  }

  /** Again with every pass, for as long as a host does not acknowledge. */
  #dispatchDue({ currentWave, rolloutId }: Rollout, { hostSet }: RolloutManifest, now: number): void {
    for (const { hostname, targetClosure, waveIndex } of hostSet) {
      const record = this.#database.records.get(recordKey(rolloutId, hostname))
      if (record?.state !== "Pending" || waveIndex > currentWave) continue
      const { soakDueAt } = record
      this.#database.queue.set(`${hostname} ${rolloutId}`, {
        hostname,
        rolloutId,
        targetClosure,
        soakDueAt,
        enqueuedAt: now
      })
    }
    if (this.#database.queue.size > 0) { for (const wake of this.#parked) wake() }
  }

  // ---- Long poll (control-plane.md §3)

  #dispatch(hostname: string, waitMs: number): Effect.Effect<ExchangeResponse> {
    return Effect.gen({ self: this }, function*() {
      const wait = this.#options.polls === "instant" ? 0 : waitMs
      const row = this.#take(hostname) ?? (yield* this.#park(hostname, wait))
      if (row === undefined) return this.#options.noWork === "null" ? json(200, null) : bare(204)
      const key = `${hostname} ${row.rolloutId}`
      const takes = (this.#database.takes.get(key) ?? 0) + 1
      this.#database.takes.set(key, takes)
      if (takes <= this.#options.lostTakes) return yield* Effect.never
      return json(200, {
        hostname,
        rollout_id: row.rolloutId,
        target_closure: row.targetClosure,
        soak_due_at: formatTimestamp(row.soakDueAt),
        enqueued_at: formatTimestamp(row.enqueuedAt)
      })
    })
  }

  /** Taken is gone, whoever reads the answer. */
  #take(hostname: string): DispatchRow | undefined {
    const found = [...this.#database.queue].find(([, row]) => row.hostname === hostname)
    if (found !== undefined) this.#database.queue.delete(found[0])
    return found?.[1]
  }

  #park(hostname: string, waitMs: number) {
    const woken = Effect.callback<DispatchRow>((resume) => {
      const wake = () => {
        const row = this.#take(hostname)
        if (row === undefined) return
        this.#parked.delete(wake)
        resume(Effect.succeed(row))
      }
      this.#parked.add(wake)
      return Effect.sync(() => this.#parked.delete(wake))
    })
    return Effect.raceFirst(woken, Effect.as(Effect.sleep(waitMs), undefined))
  }
}

/** camelCase inside of a snake_case answer; no probe state (control-plane.md §2.4). */
function snapshotOf(record: ReferenceRecord) {
  const time = (name: string, at: number | undefined) => at === undefined ? {} : { [name]: formatTimestamp(at) }
  const { channel, currentClosure, currentClosureAtDispatch, hostname, lastEventSeq, rolloutId, state } = record
  return {
    rolloutId,
    hostname,
    channel,
    state,
    targetClosure: record.targetClosure,
    ...(currentClosureAtDispatch === undefined ? {} : { currentClosureAtDispatch }),
    ...(currentClosure === undefined ? {} : { currentClosure }),
    ...time("dispatchedAt", record.dispatchedAt),
    ...time("dispatchAckedAt", record.dispatchAckedAt),
    ...time("activationStartedAt", record.activationStartedAt),
    ...time("activationCompletedAt", record.activationCompletedAt),
    ...time("soakDueAt", record.soakDueAt),
    lastEventSeq
  }
}
