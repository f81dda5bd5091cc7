/** The agent's decision alone: inputs at times of the test's choosing, rows kept, both clocks in the test's hand. */
import { assert } from "@effect/vitest"
import { makeDecide } from "../../src/Agent/Decide.ts"
import { fold } from "../../src/Agent/Fold.ts"
import type { Activate, Answer, Input, ProbeSample } from "../../src/Agent/Input.ts"
import type { RolloutEntry, State } from "../../src/Agent/State.ts"
import type { Write } from "../../src/Agent/Write.ts"
import { omit } from "../../src/Rollout/host/Model.ts"
import type { Row } from "../../src/Schema/AgentJournal.ts"
import { wireEventOf } from "../../src/Schema/AgentJournal.ts"
import type { AgentEvent } from "../../src/Schema/Wire.ts"
import { dispatch, minute, oldSystem, r1 } from "./agentRig.ts"

export const day = 24 * 60 * minute

export const emptyState: State = {
  hostname: "host-1",
  journalId: "j1",
  rollouts: new Map(),
  seqFloors: new Map(),
  rejections: new Map(),
  trust: new Map(),
  observedSince: 0
}

/** What a new process finds: all that is not durable is gone. */
export function restarted(state: State): State {
  const rollouts = [...state.rollouts].map(([id, { bookkeeping, lane, record }]): [string, RolloutEntry] => [
    id,
    { record, bookkeeping, lane, transient: { probes: new Map() } }
  ])
  return { ...omit(state, ["clock", "observed"]), observedSince: 0, rollouts: new Map(rollouts) }
}

export class Bench {
  state: State
  wall = 0
  monotonic = 0
  readonly writes: Array<Write> = []
  private readonly decide = makeDecide({
    probeResultMs: 5 * minute,
    inconclusiveMs: 10 * minute,
    retentionMs: 30 * day
  })

  constructor(state: State = emptyState) {
    this.state = state
  }

  /** Both clocks go on. */
  pass(ms: number): this {
    this.wall += ms
    this.monotonic += ms
    return this
  }

  ask(input: Input): Answer {
    const before = this.state
    const decision = this.decide(before, input, { wall: this.wall, monotonic: this.monotonic })
    if (decision.answer._tag === "Refused") {
      assert.strictEqual(decision.state, before)
      assert.deepStrictEqual(decision.writes, [])
    }
    this.state = decision.state
    this.writes.push(...decision.writes)
    return decision.answer
  }

  accept(input: Input): void {
    assert.deepStrictEqual(this.ask(input), { _tag: "Accepted" })
  }

  /** Why the input was refused, or `accepted`. */
  reasonOf(input: Input): string {
    const answer = this.ask(input)
    return answer._tag === "Refused" ? answer.reason : "accepted"
  }

  entry(rolloutId = r1): RolloutEntry {
    const entry = this.state.rollouts.get(rolloutId)
    if (entry === undefined) throw new Error(`no record of ${rolloutId}`)
    return entry
  }

  rows(): ReadonlyArray<Row> {
    return this.writes.flatMap((write) => write._tag === "AppendRow" ? [write.row] : [])
  }

  events(rolloutId = r1): ReadonlyArray<AgentEvent> {
    return this.rows().filter((row) => row.rolloutId === rolloutId).flatMap((row) => wireEventOf(row.entry) ?? [])
  }

  kinds(rolloutId = r1): ReadonlyArray<string> {
    return this.events(rolloutId).map(({ kind }) => kind)
  }

  /** House rule 2. */
  checkFold(): void {
    const result = fold(this.rows())
    assert.isTrue(result.ok)
    if (!result.ok) return
    for (const [id, { bookkeeping, record }] of this.state.rollouts) {
      assert.deepStrictEqual(result.rollouts.get(id), { record, bookkeeping })
    }
  }

  /** From the dispatch to a soak with one enforced probe, at the present time. The target ran already. */
  soak(given: Partial<Activate> = {}, probes: ReadonlyArray<string> = ["web"]): this {
    const activate = dispatch({ targetClosure: oldSystem, observed: given.targetClosure ?? oldSystem, ...given })
    const { attempt, rolloutId, targetClosure } = activate
    this.accept(activate)
    this.accept({
      _tag: "Settled",
      rolloutId,
      at: this.wall,
      event: {
        kind: "ActivationCompleted",
        observedCurrentClosure: targetClosure,
        exitCode: 0,
        completedAt: this.wall,
        attempt
      }
    })
    this.accept({
      _tag: "TopologyDeclared",
      rolloutId,
      attempt,
      at: this.wall,
      probes: probes.map((probeName) => ({ probeName, kind: "http", mode: "enforce" }))
    })
    return this
  }

  sample(status: ProbeSample["status"], given: Partial<ProbeSample> = {}): void {
    this.accept({
      _tag: "ProbeSample",
      rolloutId: r1,
      attempt: 1,
      probeName: "web",
      mode: "enforce",
      status,
      at: this.wall,
      ...given
    })
  }

  tick(observed: string = oldSystem): void {
    this.accept({ _tag: "Tick", observed })
  }

  /** Delivers what is undelivered, as the Outbound worker does, up to and including `through`. */
  deliver(rolloutId = r1, through = Infinity): void {
    for (;;) {
      const { lane, record } = this.entry(rolloutId)
      const event = this.events(rolloutId).find(({ seq }) => seq === lane.nextSeq)
      if (lane.nextSeq > Math.min(record.lastEventSeq, through) || event === undefined) return
      const { kind, seq } = event
      this.accept({ _tag: "Delivered", rolloutId, seq, kind, verdict: { _tag: "Applied" } })
    }
  }
}
