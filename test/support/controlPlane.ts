/**
 * A control plane without sockets: decision, plan and journal in one batch, at a time that the test sets, and agents that
 * step their own records locally, so that both sides can be compared (house rule 3).
 */
import { assert } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import type { Scope } from "effect"
import { createHash } from "node:crypto"
import { decide, settle } from "../../src/ControlPlane/Decide.ts"
import type {
  Action,
  ActionAnswer,
  Answer,
  Capabilities,
  EventReceived,
  Input,
  PollAnswer,
  VerifiedArtifacts
} from "../../src/ControlPlane/Input.ts"
import { Journal, journalMigrations } from "../../src/ControlPlane/Journal.ts"
import { defaultLimits } from "../../src/ControlPlane/Limits.ts"
import { emptyState, hostIn, type State } from "../../src/ControlPlane/State.ts"
import type { Write } from "../../src/ControlPlane/Write.ts"
import { Database, type DatabaseError } from "../../src/Layers/Disk/Database.ts"
import { MemoryDisk } from "../../src/Layers/Disk/MemoryDisk.ts"
import type { StateDirectoryUnusable } from "../../src/Layers/Disk/StateDirectory.ts"
import { Ids } from "../../src/Layers/Ids.ts"
import { newPending, step, type UnnumberedEvent } from "../../src/Rollout/Host.ts"
import type { HostRecord } from "../../src/Schema/HostRecord.ts"
import type { ActionTaken, OperatorAction } from "../../src/Schema/Interventions.ts"
import {
  AgentEvent,
  allCapabilities,
  type Capability,
  type DispatchResponse,
  type HeartbeatRequest,
  type Taken
} from "../../src/Schema/Wire.ts"
import { canonicalText } from "../../src/Trust/CanonicalJson.ts"

export const start = 1_778_893_200_000
export const capable: Capabilities = new Set(allCapabilities)
export const reference: Capabilities = new Set<Capability>()
export const soakMs = 300_000

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex")
export const closureOf = (ref: string, host: string): string => `${ref.padEnd(32, "0").slice(0, 32)}-${host}`

export interface Release {
  readonly channel?: string
  readonly ref: string
  readonly waves: ReadonlyArray<ReadonlyArray<string>>
  readonly signedAt?: number
  readonly onHealthFailure?: "halt" | "rollback-and-halt"
  /** Another closure than the ref's own. */
  readonly closures?: Readonly<Record<string, string>>
  /** Of the whole fleet, whichever release names them. */
  readonly budgets?: ReadonlyArray<{
    readonly hosts: ReadonlyArray<string>
    readonly maxInFlight?: number
    readonly maxInFlightPct?: number
  }>
  /** Pairs of hosts: the second waits for the first. */
  readonly edges?: ReadonlyArray<readonly [gates: string, gated: string]>
  /** Channels that come first. */
  readonly after?: ReadonlyArray<string>
}

export const idOf = ({ channel = "stable", ref }: Release): string => `${channel}@${ref}`

/** The verified unit of these releases, one a channel. */
export function unitOf(...releases: ReadonlyArray<Release>): VerifiedArtifacts {
  const signedAt = Math.max(...releases.map((release) => release.signedAt ?? start))
  const meta = { schemaVersion: 1, signedAt, ciCommit: releases[0]?.ref ?? null }
  const closure = (release: Release, host: string) => release.closures?.[host] ?? closureOf(release.ref, host)
  const disruptionBudgets = releases.flatMap(({ budgets = [] }) => budgets).map((budget) => ({
    selector: { tags: [], tagsAny: [], hosts: budget.hosts, channel: null, all: false },
    maxInFlight: budget.maxInFlight ?? null,
    maxInFlightPct: budget.maxInFlightPct ?? null
  }))
  const fleet = {
    schemaVersion: 1,
    hosts: Object.fromEntries(releases.flatMap((release) =>
      release.waves.flat().map((host) => [host, {
        platform: "x86_64-linux",
        tags: [],
        channel: release.channel ?? "stable",
        closureHash: closure(release, host),
        pubkey: null
      }])
    )),
    channels: Object.fromEntries(releases.map(({ channel = "stable" }) => [channel, {
      rolloutPolicy: channel,
      reconcileIntervalMinutes: 30,
      freshnessWindow: 180,
      signingIntervalMinutes: 60
    }])),
    rolloutPolicies: Object.fromEntries(releases.map(({ channel = "stable", onHealthFailure }) => [channel, {
      strategy: "staged",
      waves: [],
      healthGate: {},
      onHealthFailure: onHealthFailure ?? "rollback-and-halt" as const
    }])),
    waves: Object.fromEntries(releases.map(({ channel = "stable", waves }) => [
      channel,
      waves.map((hosts) => ({ hosts, soakMinutes: soakMs / 60_000 }))
    ])),
    edges: releases.flatMap(({ edges = [] }) => edges).map(([gates, gated]) => ({ gates, gated, reason: null })),
    channelEdges: releases.flatMap(({ after = [], channel = "stable" }) =>
      after.map((gates) => ({ gates, gated: channel, reason: null }))
    ),
    disruptionBudgets,
    meta
  }
  const fleetHash = sha256(JSON.stringify(fleet))
  const manifests = releases.map((release) => {
    const { channel = "stable", ref, waves } = release
    const value = {
      schemaVersion: 1,
      displayName: `${channel}@${ref}`,
      channel,
      channelRef: ref,
      fleetResolvedHash: fleetHash,
      hostSet: waves.flatMap((hosts, waveIndex) =>
        hosts.map((hostname) => ({ hostname, waveIndex, targetClosure: closure(release, hostname) }))
      ).toSorted((a, b) => a.hostname < b.hostname ? -1 : 1),
      healthGate: {},
      disruptionBudgets: disruptionBudgets
        .map(({ maxInFlight, maxInFlightPct, selector }) => ({
          selector,
          hosts: selector.hosts.toSorted(),
          maxInFlight,
          maxInFlightPct
        }))
        .filter(({ hosts }) => hosts.some((host) => waves.flat().includes(host))),
      meta
    }
    return [idOf(release), verified(value, release.signedAt ?? start)] as const
  })
  return { fleet: { ...verified(fleet, signedAt), hash: fleetHash }, manifests: new Map(manifests) }
}

const verified = <A>(value: A, signedAt: number) => ({
  value,
  bytes: new TextEncoder().encode(JSON.stringify(value)),
  signature: new Uint8Array(64),
  hash: sha256(JSON.stringify(value)),
  signedAt
})

const encodeEvent = Schema.encodeSync(AgentEvent)

/** The input that the route makes of a posted event. */
export function eventInput(
  host: string,
  rolloutId: string,
  event: AgentEvent,
  options: { readonly journalId?: string; readonly capabilities?: Capabilities } = {}
): EventReceived {
  const capabilities = options.capabilities ?? capable
  const canonical = canonicalText(encodeEvent(event))
  const journalId = options.journalId ?? (capabilities.has("journal") ? `journal-of-${host}` : undefined)
  return {
    _tag: "EventReceived",
    envelope: { hostname: host, rolloutId, event, ...(journalId === undefined ? {} : { journalId }) },
    canonical,
    hash: sha256(canonical),
    capabilities
  }
}

/** One decided batch after another, committed when a journal is given. */
export class Plane {
  state: State
  now = start
  /** Everything that was applied, oldest first. */
  readonly actions: Array<Action> = []
  /** Everything that was written, oldest first. */
  readonly writes: Array<Write> = []
  readonly #journal: Journal["Service"] | undefined
  #nextWaiter = 1

  constructor(journal?: Journal["Service"]) {
    this.#journal = journal
    this.state = journal?.initial ?? emptyState("db", defaultLimits)
  }

  /** Offers inputs as one batch; gives their answers. */
  batch(...inputs: ReadonlyArray<Input>): ReadonlyArray<Answer> {
    const now = { wall: this.now, monotonic: this.now - start }
    const writes: Array<Write> = []
    const answers = inputs.map((input) => {
      const { actions, answer, state, writes: more } = decide(this.state, input, now)
      this.state = state
      this.actions.push(...actions)
      writes.push(...more)
      return answer
    })
    const settled = settle(this.state, now)
    if (settled !== undefined) {
      this.state = settled.state
      this.actions.push(...settled.actions)
      writes.push(...settled.writes)
    }
    this.writes.push(...writes)
    if (writes.length > 0) this.#journal?.commit(writes)
    return answers
  }

  offer(input: Input): Answer {
    return this.batch(input)[0]!
  }

  /** Time passes; the sweeper and the planner look once at its end. */
  pass(ms: number): void {
    this.now += ms
    this.batch({ _tag: "LeaseSweep" }, { _tag: "PlanTick" })
  }

  publish(...releases: ReadonlyArray<Release>): void {
    this.offer({ _tag: "ArtifactsVerified", artifacts: unitOf(...releases) })
  }

  /** Parks a poll, with a certificate that was issued then; gives the waiter's id. */
  park(host: string, capabilities: Capabilities = capable, issuedAt = 0): number {
    const waiterId = this.#nextWaiter++
    this.offer({ _tag: "Parked", host, waiterId, capabilities, issuedAt, until: this.now + 60_000 })
    return waiterId
  }

  /** How the poll was answered, if it was. */
  answerTo(waiterId: number): PollAnswer | undefined {
    const found = this.actions.filter((action) => action._tag === "CompleteWaiter" && action.waiterId === waiterId)
    assert.isAtMost(found.length, 1, "a poll is answered once")
    const action = found[0]
    return action?._tag === "CompleteWaiter" ? action.answer : undefined
  }

  /** A poll that does not wait: gives the dispatch that it is answered with at once, if any. */
  poll(host: string, capabilities: Capabilities = capable): DispatchResponse | undefined {
    const waiterId = this.park(host, capabilities)
    const answer = this.answerTo(waiterId)
    if (answer === undefined) this.offer({ _tag: "Unparked", host, waiterId })
    return answer?._tag === "Dispatch" ? answer.dispatch : undefined
  }

  heartbeat(
    host: string,
    fields: Partial<HeartbeatRequest> = {},
    capabilities: Capabilities = capable,
    issuedAt: number = start
  ) {
    const answer = this.offer({
      _tag: "HeartbeatReceived",
      issuedAt,
      heartbeat: {
        hostname: host,
        at: this.now,
        ...(capabilities.has("journal") ? { journal_id: `journal-of-${host}`, digests: [] } : {}),
        ...fields
      },
      capabilities
    })
    if (answer._tag !== "Heartbeat") return assert.fail(`a heartbeat was answered with ${answer._tag}`)
    return answer
  }

  post(host: string, rolloutId: string, event: AgentEvent, options: Parameters<typeof eventInput>[3] = {}): Answer {
    return this.offer(eventInput(host, rolloutId, event, options))
  }

  /** An operator does something; it must be taken. */
  act(action: OperatorAction, actor = "alice"): ActionTaken {
    const answer = this.ask(action, actor)
    return answer._tag === "Taken" ? answer.taken : assert.fail(`${action.action}: ${JSON.stringify(answer)}`)
  }

  /** The same, whatever becomes of it. */
  ask(action: OperatorAction, actor = "alice"): ActionAnswer {
    const answer = this.offer({ _tag: "ActionAsked", action, actor })
    return answer._tag === "Taken" || answer._tag === "NotTaken" ? answer : assert.fail(`answered with ${answer._tag}`)
  }

  /** Every host of the releases is heard: nothing has to be recovered. */
  hear(...releases: ReadonlyArray<Release>): void {
    for (const host of releases.flatMap(({ waves }) => waves.flat())) this.greets(host)
  }

  /** All that a new database waits for of a host (D6). */
  greets(host: string, fields: Partial<HeartbeatRequest> = {}): void {
    this.heartbeat(host, fields)
    this.polls(host)
  }

  /** A poll that ends before anything is planned. */
  polls(host: string, taken?: Taken): void {
    const waiterId = this.#nextWaiter++
    const told = taken === undefined ? {} : { taken }
    this.batch(
      { _tag: "Parked", host, waiterId, capabilities: capable, issuedAt: 0, until: this.now + 60_000, ...told },
      { _tag: "Unparked", host, waiterId }
    )
  }

  recordOf(rolloutId: string, host: string): HostRecord {
    const entry = hostIn(this.state, rolloutId, host)
    return entry === undefined ? assert.fail(`${host} has no record in ${rolloutId}`) : entry.record
  }

  get log() {
    return this.writes.flatMap((write) => write._tag === "AppendLog" ? [write.row] : [])
  }
}

/** An agent in one rollout: steps its own record, keeps its rows, and tells them to whatever plane it is given. */
export class Agent {
  record: HostRecord
  readonly rows: Array<AgentEvent> = []
  readonly host: string
  readonly rolloutId: string
  readonly #journalId: string | undefined

  /** `journalId`: the host's first journal when nothing is said. */
  constructor(host: string, dispatch: DispatchResponse, signedAt = start, journalId?: string) {
    this.host = host
    this.#journalId = journalId
    this.rolloutId = dispatch.rollout_id
    this.record = newPending({
      rolloutId: dispatch.rollout_id,
      hostname: host,
      channel: dispatch.rollout_id.slice(0, dispatch.rollout_id.indexOf("@")),
      targetClosure: dispatch.target_closure,
      attempt: dispatch.attempt ?? 1,
      dispatchedAt: dispatch.enqueued_at,
      soakDueAt: dispatch.soak_due_at,
      signedAt,
      lastEventSeq: dispatch.last_event_seq ?? 0
    })
  }

  /** Steps an event locally; it becomes a row. */
  does(event: UnnumberedEvent, now: number): AgentEvent {
    const numbered: AgentEvent = { ...event, seq: this.record.lastEventSeq + 1, attempt: this.record.attempt }
    const facts = { policy: { onHealthFailure: "rollback-and-halt", soakMs, sustainedFailureMs: 120_000 } } as const
    const result = step(
      this.record,
      numbered.kind === "DispatchAck"
        ? { origin: "Local", event: numbered, facts: { ...facts, rollbackTarget: "0-before" } }
        : { origin: "Local", event: numbered },
      now
    )
    if (!result.ok) return assert.fail(`${event.kind} in ${this.record.state}: ${JSON.stringify(result.error)}`)
    this.record = result.record
    this.rows.push(numbered)
    return numbered
  }

  /** Steps an event and tells it at once; it must be applied. */
  tells(plane: Plane, event: UnnumberedEvent): void {
    const journal = this.#journalId === undefined ? {} : { journalId: this.#journalId }
    const answer = plane.post(this.host, this.rolloutId, this.does(event, plane.now), journal)
    assert.deepStrictEqual(answer, { _tag: "Applied" })
  }

  accepts(plane: Plane, deliveryId?: string): void {
    this.tells(plane, {
      kind: "DispatchAck",
      currentClosureAtDispatch: "0-before",
      receivedAt: plane.now,
      ...(deliveryId === undefined ? {} : { deliveryId })
    })
  }

  /** From the acknowledged dispatch to a soak with a passing probe. */
  soaks(plane: Plane): void {
    this.accepts(plane)
    this.tells(plane, { kind: "ActivationStarted", startedAt: plane.now, switchMethod: "test" })
    this.tells(plane, {
      kind: "ActivationCompleted",
      observedCurrentClosure: this.record.targetClosure,
      exitCode: 0,
      completedAt: plane.now
    })
    this.tells(plane, {
      kind: "ProbeTopologyDeclared",
      probes: [{ probeName: "web", kind: "http", mode: "enforce" }],
      declaredAt: plane.now
    })
    this.tells(plane, probe("pass", plane.now))
  }

  /** Converges at the plane's present time; the soak must be over. */
  converges(plane: Plane): void {
    const { record } = this
    if (record.state === "Soaking") this.record = { ...record, soakedMs: soakMs }
    this.tells(plane, {
      kind: "Converged",
      convergedAt: plane.now,
      currentClosure: this.record.targetClosure
    })
  }

  /** Fails its soak and rolls back. */
  rollsBack(plane: Plane): void {
    this.tells(plane, probe("fail", plane.now))
    plane.now += 120_000
    this.tells(plane, probe("fail", plane.now))
    this.tells(plane, {
      kind: "Failed",
      failedAt: plane.now,
      sustainedDurationSecs: 120,
      failingProbes: ["web"],
      policyApplied: "rollback-and-halt"
    })
    this.tells(plane, {
      kind: "RollbackComplete",
      revertedToClosure: "0-before",
      exitCode: 0,
      completedAt: plane.now
    })
  }

  get digest(): NonNullable<HeartbeatRequest["digests"]>[number] {
    const { attempt, lastEventSeq, rolloutId, state, targetClosure } = this.record
    const atFault = (state === "Failed" || state === "Reverted") && this.record.closureAtFault
    return {
      rollout_id: rolloutId,
      state,
      target_closure: targetClosure,
      attempt,
      last_event_seq: lastEventSeq,
      ...(atFault ? { quarantined: true } : {})
    }
  }

  /** Sends a heartbeat with its digest, then the rows that the answer asks for. */
  reports(plane: Plane): void {
    const { response } = plane.heartbeat(this.host, { digests: [this.digest] })
    const from = response.replay_from?.[this.rolloutId]
    if (from === undefined) return
    for (const row of this.rows.filter(({ seq }) => seq >= from)) {
      assert.deepStrictEqual(plane.post(this.host, this.rolloutId, row), { _tag: "Applied" })
    }
  }
}

export const probe = (status: "pass" | "fail", observedAt: number): UnnumberedEvent => ({
  kind: "ProbeResult",
  probeName: "web",
  mode: "enforce",
  status,
  observedAt
})

/** Polls for a dispatch that must be there, and gives the agent that received it. */
export function dispatched(plane: Plane, host: string): Agent {
  const dispatch = plane.poll(host)
  return dispatch === undefined ? assert.fail(`${host} was not dispatched`) : new Agent(host, dispatch)
}

const overMemory = (disk: MemoryDisk) => Database.layerMemory(disk, journalMigrations)

/** A journal on this disk, or in this database file, for the present scope. */
export const openJournal = (
  database: MemoryDisk | Layer.Layer<Database, DatabaseError | StateDirectoryUnusable>
): Effect.Effect<Journal["Service"], never, Scope.Scope> =>
  Effect.gen(function*() {
    const layer = database instanceof MemoryDisk ? overMemory(database) : database
    const context = yield* Layer.build(
      Layer.fresh(Journal.layer(defaultLimits).pipe(Layer.provide([Layer.fresh(layer), Ids.layer])))
    )
    return yield* Journal.pipe(Effect.provide(context))
  }).pipe(Effect.orDie)
