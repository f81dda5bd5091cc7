/** Laws of the host machine over random histories (house rules 2 and 3, protocol.md §6.1). */
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { type HostFact, learn, parityExcluded, type UnnumberedEvent } from "../../src/Rollout/Host.ts"
import { soakDue } from "../../src/Rollout/host/Evidence.ts"
import { HostRecord } from "../../src/Schema/HostRecord.ts"
import { AgentEvent, type AgentEventKind, agentEventKinds, type HostStateName } from "../../src/Schema/Wire.ts"
import { type Random, random } from "../support/random.ts"
import { apply, pending, policy, prior, t0, target } from "../support/records.ts"

const histories = 600
const stepsPerHistory = 60

const wireJson = Schema.fromJsonString(AgentEvent)
const recordJson = Schema.fromJsonString(HostRecord)
const encodeEvent = Schema.encodeSync(wireJson)
const decodeEvent = Schema.decodeSync(wireJson)
const encodeRecord = Schema.encodeSync(recordJson)
const decodeRecord = Schema.decodeSync(recordJson)

/** An event of `kind` as a worker might offer it at `now`: mostly plausible, sometimes wrong. */
function draw(r: Random, kind: AgentEventKind, now: number): UnnumberedEvent {
  const closure = r.pick([target, target, target, prior, "third-closure", ""])
  const probeName = r.pick(["web", "db", "__proto__"])
  const mode = r.pick(["enforce", "enforce", "observe", "disabled"] as const)
  const exitCode = r.pick([0, 0, 0, 1, 4, 100])
  switch (kind) {
    case "DispatchAck":
      return { kind, currentClosureAtDispatch: r.pick([prior, prior, target, ""]), receivedAt: now }
    case "ActivationStarted":
      return { kind, startedAt: now, switchMethod: "systemd-run" }
    case "ActivationCompleted":
      return { kind, observedCurrentClosure: closure, exitCode, completedAt: now }
    case "ActivationDeferred":
      return { kind, component: "kernel", deferredAt: now }
    case "ActivationFailed":
      return {
        kind,
        exitCode,
        stderrTail: "failed",
        failedAt: now,
        ...(r.chance(0.5) ? { closureAtFault: r.chance(0.5) } : {})
      }
    case "ProbeTopologyDeclared":
      return {
        kind,
        probes: ["web", "db"].slice(r.below(3)).map((name) => ({ probeName: name, kind: "http", mode })),
        declaredAt: now
      }
    case "ProbeObservedFirst":
      return { kind, probeName, mode, observedAt: now }
    case "ProbeResult":
      return r.chance(0.6)
        ? { kind, probeName, mode, status: "pass", observedAt: now }
        : { kind, probeName, mode, status: "fail", observedAt: now, failureReason: "refused" }
    case "ProbeFailureFirst":
      return { kind, probeName, mode, firstFailedAt: now }
    case "Failed":
      return {
        kind,
        failedAt: now,
        sustainedDurationSecs: 120,
        failingProbes: [probeName],
        policyApplied: r.pick(["halt", "rollback-and-halt"]),
        ...(r.chance(0.2) ? { cause: "closure-drift" as const } : {})
      }
    case "RollbackComplete":
      return { kind, revertedToClosure: closure, exitCode, completedAt: now }
    case "Converged":
      return { kind, convergedAt: now, currentClosure: closure }
  }
}

/** What the agent alone knows of its probes: the mirror must do without. */
function drawProbeFact(r: Random, now: number): HostFact {
  const probeName = r.pick(["web", "db", "__proto__"])
  switch (r.pick(["Inconclusive", "Conclusive", "Conclusive", "Excused"] as const)) {
    case "Inconclusive":
      return { kind: "Inconclusive", probeName, since: now, reason: "no systemd" }
    case "Conclusive":
      return { kind: "Conclusive", probeName }
    case "Excused":
      return { kind: "Excused", probes: r.pick([[], ["web"], ["db", "web"]]) }
  }
}

/** The kinds that lead on are drawn more often than the rest, so that histories get somewhere. */
const kindsDrawn: ReadonlyArray<AgentEventKind> = [
  ...agentEventKinds,
  "ActivationCompleted",
  "ProbeTopologyDeclared",
  "ProbeResult",
  "ProbeResult",
  "ProbeResult",
  "Converged",
  "Converged",
  "RollbackComplete"
]

/** Local histories as an agent makes them; `told` are the events that were accepted, in order. */
function live(seed: number) {
  const r = random(seed)
  const resolved = {
    ...policy,
    onHealthFailure: r.pick(["halt", "rollback-and-halt"] as const),
    ...(r.chance(0.5) ? { onDegraded: "soak" as const } : {})
  }
  const options = { policy: resolved, ...(r.chance(0.7) ? { rollbackTarget: prior } : {}) }
  const visited: Array<HostRecord> = []
  const told: Array<AgentEvent> = []
  let record: HostRecord = pending()
  let now = t0
  for (let i = 0; i < stepsPerHistory; i++) {
    const passed = r.below(60_000)
    now += passed
    record = learn(record, { kind: "Soaked", soakedMs: record.state === "Soaking" ? record.soakedMs + passed : 0 })
    if (r.chance(0.2)) record = learn(record, drawProbeFact(r, now))
    const event = draw(r, r.pick(kindsDrawn), now)
    const result = apply(record, event, { ...options, now })
    visited.push(record)
    if (!result.ok) continue
    record = result.record
    visited.push(record)
    told.push({ ...event, seq: record.lastEventSeq })
  }
  return { record, told, visited, options, now }
}

const comparable = (record: HostRecord) =>
  Object.fromEntries(Object.entries(record).filter(([field]) => !parityExcluded.some((name) => name === field)))

describe("laws of the host machine", () => {
  it("the mirror of an agent's own history is the agent's record, but for the excluded fields (house rule 3)", () => {
    const reached = new Set<HostStateName>()
    for (let seed = 0; seed < histories; seed++) {
      const { now, options, record, told } = live(seed)
      const mirror = told.map((event) => decodeEvent(encodeEvent(event))).reduce<HostRecord>((present, event) => {
        const result = apply(present, event, { origin: "Remote", policy: options.policy, seq: event.seq, now })
        return result.ok ? result.record : assert.fail(`seed ${seed}: ${JSON.stringify(result.error)}`)
      }, pending({ dispatchedAt: t0 - 5000 }))
      assert.deepStrictEqual(comparable(mirror), comparable(record), `seed ${seed}`)
      // What passed the agent's guards is provable from what it told.
      assert.notProperty(mirror, "unproven", `seed ${seed}`)
      reached.add(record.state)
    }
    for (const state of ["Converged", "Deferred", "Failed", "Reverted", "Soaking"] as const) {
      assert.isTrue(reached.has(state), state)
    }
  })

  it("the same events give the same record, and change nothing in place (house rule 2)", () => {
    const freeze = (value: object): void => {
      Object.freeze(value)
      for (const inner of Object.values(value)) if (typeof inner === "object" && inner !== null) freeze(inner)
    }
    for (let seed = 0; seed < 100; seed++) {
      const first = live(seed)
      for (const record of first.visited) freeze(record)
      const again = live(seed)
      assert.deepStrictEqual(again.record, first.record)
      const replayed = first.told.reduce<HostRecord>((present, event) => {
        const result = apply(present, event, { origin: "Remote", policy: first.options.policy, seq: event.seq })
        if (!result.ok) return assert.fail(JSON.stringify(result.error))
        freeze(result.record)
        return result.record
      }, pending())
      assert.deepStrictEqual(comparable(replayed), comparable(first.record))
    }
  })

  it("invariants of every record on the way (protocol.md §6.1)", () => {
    for (let seed = 0; seed < histories; seed++) {
      const { visited } = live(seed)
      let last = 0
      for (const record of visited) {
        assert.isAtLeast(record.lastEventSeq, last)
        last = record.lastEventSeq
        if (record.state !== "Soaking") {
          assert.notProperty(record, "inconclusive")
          assert.notProperty(record, "excused")
        }
        if (record.state === "Converged") {
          assert.strictEqual(record.currentClosure, record.targetClosure)
          assert.isAtLeast(record.convergedAt, soakDue(record))
        }
        if (record.state === "Reverted") {
          assert.strictEqual(record.currentClosure, record.revertedTo)
          assert.notStrictEqual(record.revertedTo, record.targetClosure)
        }
      }
    }
  })

  it("every record survives its journal", () => {
    for (let seed = 0; seed < 100; seed++) {
      for (const record of live(seed).visited) assert.deepStrictEqual(decodeRecord(encodeRecord(record)), record)
    }
  })
})
