/**
 * One agent's core over a scripted host: two disks, a host and probes that outlive the process, so that a test can stop it
 * anywhere and start it again. Time passes by the TestClock only.
 */
import { assert } from "@effect/vitest"
import { Clock, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { layer as core } from "../../src/Agent/Core.ts"
import { fold } from "../../src/Agent/Fold.ts"
import { Inbox } from "../../src/Agent/Inbox.ts"
import type { Activate, Input } from "../../src/Agent/Input.ts"
import { Intents } from "../../src/Agent/Intents.ts"
import { Journal, journalMigrations, trustMigrations } from "../../src/Agent/Journal.ts"
import { Settings, settings } from "../../src/Agent/Settings.ts"
import { AgentState, type Folded, type RolloutEntry } from "../../src/Agent/State.ts"
import { type PermitVerdict, SwitchPermit } from "../../src/Agent/SwitchPermit.ts"
import { Database } from "../../src/Layers/Disk/Database.ts"
import { DiskRoom, type DiskTrouble } from "../../src/Layers/Disk/DiskRoom.ts"
import { MemoryDisk } from "../../src/Layers/Disk/MemoryDisk.ts"
import { Activator } from "../../src/Layers/Host/Activator.ts"
import { type HostScript, layer as memoryActivator, MemoryHost } from "../../src/Layers/Host/ActivatorMemory.ts"
import { Facts } from "../../src/Layers/Host/Facts.ts"
import { Guard } from "../../src/Layers/Host/Guard.ts"
import { layer as memoryGuard, MemoryGuard } from "../../src/Layers/Host/GuardMemory.ts"
import { Probes } from "../../src/Layers/Host/Probes.ts"
import { layer as memoryProbes, MemoryProbes, type ProbeScript } from "../../src/Layers/Host/ProbesMemory.ts"
import type { AgentConfig } from "../../src/Schema/AgentConfig.ts"
import { wireEventOf } from "../../src/Schema/AgentJournal.ts"
import type { HealthCheck, HealthChecks } from "../../src/Schema/HealthChecks.ts"
import type { AgentEvent } from "../../src/Schema/Wire.ts"
import { activation } from "../../src/Workers/Agent/Activation.ts"
import { advanceTicker } from "../../src/Workers/Agent/AdvanceTicker.ts"
import { probe } from "../../src/Workers/Agent/Probe.ts"

const hash = (fill: string) => fill.repeat(40)
export const oldSystem = `${hash("a")}-old`
export const newSystem = `${hash("b")}-new`
export const thirdSystem = `${hash("c")}-third`
export const r1 = "stable@01"
export const r2 = "stable@02"

export const second = 1000
export const minute = 60 * second

export const httpCheck: HealthCheck = {
  kind: "http",
  mode: "enforce",
  intervalSeconds: 5,
  runOnce: false,
  onBaselineFailure: "hold",
  url: "http://127.0.0.1/",
  expectStatus: 200,
  timeoutSecs: 10
}

/** A dispatch to `newSystem` at time 0: soak one minute, failing probes count after 30 s, then roll back. */
export const dispatch = (given: Partial<Activate> = {}): Activate => ({
  _tag: "Activate",
  rolloutId: r1,
  attempt: 1,
  targetClosure: newSystem,
  soakDueAt: 0,
  dispatchedAt: 0,
  receivedAt: 0,
  signedAt: 1,
  policy: { onHealthFailure: "rollback-and-halt", soakMs: minute, sustainedFailureMs: 30 * second },
  observed: oldSystem,
  ...given
})

export interface RigOptions {
  readonly checks?: HealthChecks
  readonly probes?: ProbeScript
  readonly host?: HostScript
  readonly settings?: Partial<AgentConfig>
  readonly permit?: PermitVerdict
  readonly hostname?: string
}

/** A clock whose wall time the test can step, while time itself goes on. */
const steppedClock = (clock: Clock.Clock, stepMs: () => number): Clock.Clock => {
  const currentTimeMillisUnsafe = () => clock.currentTimeMillisUnsafe() + stepMs()
  const currentTimeNanosUnsafe = () => clock.currentTimeNanosUnsafe() + BigInt(stepMs()) * 1_000_000n
  return {
    currentTimeMillisUnsafe,
    currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
    currentTimeNanosUnsafe,
    currentTimeNanos: Effect.sync(currentTimeNanosUnsafe),
    monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: clock.monotonicTimeNanos,
    sleep: (duration) => clock.sleep(duration)
  }
}

/** What a body can ask for. */
export type Parts =
  | Inbox
  | AgentState
  | Intents
  | Journal
  | Activator
  | Facts
  | Guard
  | Probes
  | Settings
  | SwitchPermit
  | DiskRoom

const workers: ReadonlyArray<Effect.Effect<never, never, Parts>> = [activation, advanceTicker, probe]

export class Rig {
  readonly journalDisk = new MemoryDisk("journal.db")
  readonly trustDisk = new MemoryDisk("trust.db")
  readonly host: MemoryHost
  /** Outlives the agent, as the host does. */
  readonly lifeline: MemoryGuard
  readonly facts: { readonly uptimeSeconds: number; bootId: string | undefined } = {
    uptimeSeconds: 0,
    bootId: "boot-1"
  }
  readonly probes: MemoryProbes
  /** What the question before each switch is answered. */
  permit: PermitVerdict
  /** What is wrong with the host's disks. */
  readonly room: { trouble: DiskTrouble | undefined } = { trouble: undefined }
  /** How far the wall clock of the agent was stepped. */
  wallStepMs = 0
  private readonly options: RigOptions

  constructor(options: RigOptions = {}) {
    this.options = options
    this.host = new MemoryHost({ initial: oldSystem, ...(options.host === undefined ? {} : { script: options.host }) })
    this.lifeline = new MemoryGuard(this.host)
    this.permit = options.permit ?? { _tag: "Holds" }
    this.probes = new MemoryProbes(options.checks ?? {}, options.probes)
  }

  private get layer() {
    const hostname = this.options.hostname ?? "host-1"
    const journal = Journal.layer(hostname, {
      journal: Database.layerMemory(this.journalDisk, journalMigrations),
      trust: Database.layerMemory(this.trustDisk, trustMigrations)
    })
    const config = settings({
      controlPlaneUrl: "https://cp.example",
      machineId: hostname,
      trustFile: "/trust.json",
      archiveSource: "/closures",
      ...this.options.settings
    })
    return Layer.mergeAll(
      core.pipe(
        Layer.provideMerge(journal),
        Layer.provideMerge(Settings.layer(config)),
        Layer.provideMerge(memoryGuard(this.lifeline, this.host))
      ),
      Facts.layerMemory(this.facts),
      memoryActivator(this.host),
      memoryProbes(this.probes),
      DiskRoom.layerMemory(this.room),
      SwitchPermit.layerOf(() => this.permit)
    )
  }

  private get clock() {
    return Effect.map(Clock.Clock, (clock) => steppedClock(clock, () => this.wallStepMs))
  }

  /** The core alone, for one life of the process; afterwards the rows must fold to the records. */
  still<A, E>(body: Effect.Effect<A, E, Parts>) {
    return Effect.flatMap(this.clock, (clock) =>
      body.pipe(
        Effect.tap(() => rowsFoldToRecords),
        // Each life of a process builds everything anew.
        Effect.provide(Layer.fresh(this.layer.pipe(Layer.provide(Layer.succeed(Clock.Clock, clock)))))
      ))
  }

  /** The core with the workers that move the host. */
  live<A, E>(body: Effect.Effect<A, E, Parts>) {
    return Effect.flatMap(this.clock, (clock) =>
      this.still(
        Effect.gen(function*() {
          for (const worker of workers) yield* Effect.forkScoped(Effect.provideService(worker, Clock.Clock, clock))
          yield* settled
          return yield* body
        }).pipe(Effect.scoped)
      ))
  }
}

export const ask = (input: Input) => Effect.flatMap(Inbox, (inbox) => inbox.ask(input))

/** Turns of the scheduler in which everything that needs no time gets done: a commit wakes a worker, which asks, ... */
const turns = 20

/** Lets everything happen that is due at this very moment: TestClock does not wait for it. */
export const settled = Effect.repeat(Effect.yieldNow, { times: turns })

/** Lets time pass, second by second, and all that is due in each moment happen in it. */
export const elapse = Effect.fnUntraced(function*(ms: number) {
  for (let left = ms; left > 0; left -= second) {
    yield* TestClock.adjust(Math.min(left, second))
    yield* settled
  }
})

/** Asks, expects to be accepted, and lets happen what that causes. */
export const offer = Effect.fnUntraced(function*(input: Input) {
  const answer = yield* ask(input)
  assert.deepStrictEqual(answer, { _tag: "Accepted" })
  yield* settled
})

export const expectRefusal = Effect.fnUntraced(function*(input: Input, reason: string) {
  const answer = yield* ask(input)
  assert.strictEqual(answer._tag === "Refused" ? answer.reason : "accepted", reason)
})

export const stateNow = Effect.map(AgentState, (state) => state.current())

export const entryOf = (rolloutId: string) =>
  Effect.map(stateNow, (state): RolloutEntry => {
    const entry = state.rollouts.get(rolloutId)
    if (entry === undefined) throw new Error(`no record of ${rolloutId}`)
    return entry
  })

export const recordOf = (rolloutId: string) => Effect.map(entryOf(rolloutId), (entry) => entry.record)

/** The events of a rollout as they were journaled. */
export const eventsOf = (rolloutId: string) =>
  Effect.gen(function*() {
    const rows = yield* (yield* Journal).rows
    return rows.filter((row) => row.rolloutId === rolloutId).flatMap((row): ReadonlyArray<AgentEvent> => {
      const event = wireEventOf(row.entry)
      return event === undefined ? [] : [event]
    })
  })

export const kindsOf = (rolloutId: string) =>
  Effect.map(eventsOf(rolloutId), (events) => events.map(({ kind }) => kind))

const byName = (a: string, b: string) => a < b ? -1 : 1

const durable = ({ bookkeeping, record }: Folded): Folded => ({ record, bookkeeping })

/** House rule 2: the records are the fold of the rows. */
export const rowsFoldToRecords = Effect.gen(function*() {
  const result = fold(yield* (yield* Journal).rows)
  if (!result.ok) throw new Error(`the rows do not fold: ${JSON.stringify(result)}`)
  const { rollouts } = yield* stateNow
  assert.deepStrictEqual([...result.rollouts.keys()].toSorted(byName), [...rollouts.keys()].toSorted(byName))
  for (const [id, entry] of rollouts) assert.deepStrictEqual(result.rollouts.get(id), durable(entry))
})
