import { assert, describe, it } from "@effect/vitest"
import { hostIn } from "../../src/ControlPlane/State.ts"
import type { AgentEvent } from "../../src/Schema/Wire.ts"
import { dispatched, eventInput, idOf, Plane, probe, reference, type Release, start } from "../support/controlPlane.ts"

const r1: Release = { ref: "a1", waves: [["h1", "h2"]] }
const id = idOf(r1)

function ready(): Plane {
  const plane = new Plane()
  plane.publish(r1)
  plane.hear(r1)
  return plane
}

const applied = { _tag: "Applied" }
const duplicate = { _tag: "Duplicate" }

describe("Events (D2, D4)", () => {
  it("an exact repetition is a duplicate and changes nothing", () => {
    const plane = ready()
    const agent = dispatched(plane, "h1")
    agent.soaks(plane)
    const before = plane.state
    const rows = plane.writes.length
    for (const row of agent.rows) assert.deepStrictEqual(plane.post("h1", id, row), duplicate)
    assert.strictEqual(plane.state, before)
    assert.strictEqual(plane.writes.length, rows)
  })

  it("the same number with other content is refused by name, and written down", () => {
    const plane = ready()
    const agent = dispatched(plane, "h1")
    agent.soaks(plane)
    const forged: AgentEvent = { ...agent.rows[1]!, kind: "ActivationStarted", startedAt: 1, switchMethod: "forged" }
    assert.deepStrictEqual(plane.post("h1", id, forged), { _tag: "Refused", reason: "other-bytes", class: "guard" })
    assert.deepStrictEqual(plane.recordOf(id, "h1").lastEventSeq, agent.record.lastEventSeq)
    const row = plane.log.findLast(({ entry }) => entry.kind === "agent_event")
    assert.deepInclude(row?.entry, { numbered: false })
  })

  it("a number that another journal of the host has used is refused", () => {
    const plane = ready()
    const agent = dispatched(plane, "h1")
    agent.accepts(plane)
    const answer = plane.post("h1", id, agent.rows[0]!, { journalId: "another" })
    assert.deepStrictEqual(answer, { _tag: "Refused", reason: "seq-regression", class: "guard" })
  })

  it("a new journal that starts above what is known here goes on", () => {
    const plane = ready()
    const agent = dispatched(plane, "h1")
    agent.accepts(plane)
    const next = agent.does({ kind: "ActivationStarted", startedAt: plane.now, switchMethod: "test" }, plane.now)
    assert.deepStrictEqual(plane.post("h1", id, next, { journalId: "another" }), applied)
  })

  it("a gap names the first missing number and writes nothing; the events in order are then all applied", () => {
    const plane = ready()
    const agent = dispatched(plane, "h1")
    const other = new Plane()
    other.publish(r1)
    other.hear(r1)
    agent.soaks(other)
    const rows = plane.writes.length
    for (const row of agent.rows.slice(1, 3)) {
      assert.deepStrictEqual(plane.post("h1", id, row), { _tag: "Gap", replayFrom: 1 })
    }
    assert.strictEqual(plane.writes.length, rows)
    for (const row of agent.rows) assert.deepStrictEqual(plane.post("h1", id, row), applied)
    assert.strictEqual(plane.recordOf(id, "h1").state, "Soaking")
  })

  it("an agent that cannot supply what is missing is not blocked for ever", () => {
    const plane = ready()
    const agent = dispatched(plane, "h1")
    const accepted = agent.does(
      { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: plane.now },
      plane.now
    )
    const late = { ...accepted, seq: 9 }
    const answers = [1, 2, 3, 4].map(() => plane.post("h1", id, late)._tag)
    assert.deepStrictEqual(answers, ["Gap", "Gap", "Gap", "Applied"])
    assert.strictEqual(hostIn(plane.state, id, "h1")?.ledger.lastSeq, 9)
  })

  it("nor is one that has lost the beginnings of two rollouts, whose lanes take turns (D5)", () => {
    const plane = ready()
    const older = dispatched(plane, "h1").rolloutId
    plane.publish({ ref: "b2", waves: [["h1"]], signedAt: start + 1 })
    const newer = dispatched(plane, "h1").rolloutId
    const late: AgentEvent = { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: plane.now, seq: 9 }
    const turns = [1, 2, 3, 4].map(() => [older, newer].map((rollout) => plane.post("h1", rollout, late)._tag))
    assert.deepStrictEqual(turns, [["Gap", "Gap"], ["Gap", "Gap"], ["Gap", "Gap"], ["Applied", "Applied"]])
  })

  it("an event that was given up as missing and comes after all is refused and audited", () => {
    const plane = ready()
    plane.poll("h1", reference)
    const ack: AgentEvent = { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: plane.now, seq: 4 }
    plane.post("h1", id, ack, { capabilities: reference })
    const late: AgentEvent = { kind: "ActivationStarted", startedAt: plane.now, switchMethod: "test", seq: 3 }
    assert.deepStrictEqual(plane.post("h1", id, late, { capabilities: reference }), {
      _tag: "Refused",
      reason: "seq-regression",
      class: "guard"
    })
    assert.deepInclude(plane.log.at(-1)?.entry, { kind: "agent_event", numbered: false })
  })

  it("a repetition so old that its content is forgotten is a duplicate", () => {
    const plane = ready()
    const agent = dispatched(plane, "h1")
    agent.soaks(plane)
    for (let n = 0; n < 520; n++) agent.tells(plane, probe("pass", plane.now))
    assert.deepStrictEqual(plane.post("h1", id, agent.rows[0]!), duplicate)
  })

  it("gaps of an agent of the original are its own: it has no journal to replay", () => {
    const plane = ready()
    const dispatch = plane.poll("h1", reference)
    assert.isDefined(dispatch)
    const ack: AgentEvent = { kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: plane.now, seq: 4 }
    assert.deepStrictEqual(plane.post("h1", id, ack, { capabilities: reference }), applied)
  })

  it("events while the artifacts are cold are answered 'not ready' and are not lost", () => {
    const warm = ready()
    const agent = dispatched(warm, "h1")
    agent.soaks(warm)
    const plane = new Plane()
    for (const row of agent.rows) assert.deepStrictEqual(plane.post("h1", id, row), { _tag: "NotReady" })
    assert.strictEqual(plane.writes.length, 0)
    plane.publish(r1)
    for (const row of agent.rows) assert.deepStrictEqual(plane.post("h1", id, row), applied)
    assert.strictEqual(plane.recordOf(id, "h1").state, "Soaking")
  })

  it("a poison event is refused and consumes its number; the others pass", () => {
    const plane = ready()
    const agent = dispatched(plane, "h1")
    agent.accepts(plane)
    const poison: AgentEvent = { kind: "Converged", convergedAt: plane.now, currentClosure: "x", seq: 2 }
    assert.deepStrictEqual(plane.post("h1", id, poison), {
      _tag: "Refused",
      reason: "illegal-for-state",
      class: "illegal"
    })
    assert.isTrue(plane.recordOf(id, "h1").diverged)
    const next: AgentEvent = { kind: "ActivationStarted", startedAt: plane.now, switchMethod: "test", seq: 3 }
    assert.deepStrictEqual(plane.post("h1", id, next), applied)
    assert.deepStrictEqual(plane.post("h1", id, poison), duplicate)
    dispatched(plane, "h2").soaks(plane)
  })

  it("an event of an unknown rollout is refused and audited", () => {
    const plane = ready()
    const event: AgentEvent = { kind: "ActivationStarted", startedAt: 1, switchMethod: "test", seq: 1 }
    assert.deepStrictEqual(plane.post("h1", "stable@ffff", event), {
      _tag: "Refused",
      reason: "unknown-rollout",
      class: "illegal"
    })
    assert.deepInclude(plane.log.at(-1), { host: "h1", rolloutId: "stable@ffff" })
  })

  it("names that objects inherit are nobody", () => {
    const plane = ready()
    const event: AgentEvent = { kind: "ActivationStarted", startedAt: 1, switchMethod: "test", seq: 1 }
    assert.strictEqual(plane.post("constructor", id, event)._tag, "Refused")
    assert.strictEqual(plane.heartbeat("__proto__").response.bootstrap_rollouts.length, 0)
  })

  it("a refusal does not spoil its batch", () => {
    const plane = ready()
    const agent = dispatched(plane, "h1")
    const ack = agent.does({ kind: "DispatchAck", currentClosureAtDispatch: "", receivedAt: plane.now }, plane.now)
    const answers = plane.batch(
      eventInput("h2", id, { kind: "Converged", convergedAt: 1, currentClosure: "x", seq: 1 }),
      eventInput("h1", id, ack)
    )
    assert.deepStrictEqual(answers.map(({ _tag }) => _tag), ["Refused", "Applied"])
  })

  it("an event of another attempt is refused", () => {
    const plane = ready()
    dispatched(plane, "h1").accepts(plane)
    const started: AgentEvent = {
      kind: "ActivationStarted",
      startedAt: plane.now,
      switchMethod: "test",
      attempt: 2,
      seq: 2
    }
    assert.deepStrictEqual(plane.post("h1", id, started), { _tag: "Refused", reason: "wrong-attempt", class: "guard" })
  })

  it("probe results of a soaking host do not plan anew", () => {
    const plane = ready()
    const agent = dispatched(plane, "h1")
    agent.soaks(plane)
    const { state } = plane
    agent.tells(plane, probe("pass", plane.now))
    assert.strictEqual(plane.state.verdicts, state.verdicts)
    assert.strictEqual(plane.state.queue, state.queue)
  })
})

describe("Parity (house rule 3)", () => {
  /** Only the agent knows these; the mirror's own are listed in Host's documentation. */
  const ofOneSide = ["soakedMs", "rollbackTarget", "driftingSince", "dispatchedAt", "unproven"] as const
  const shared = (record: object) =>
    Object.fromEntries(
      Object.entries(record).filter(([key]) => !(ofOneSide as ReadonlyArray<string>).includes(key))
    )

  for (const story of ["converges", "rollsBack"] as const) {
    it(`the mirror equals the agent's record when a host ${story}`, () => {
      const plane = ready()
      const agent = dispatched(plane, "h1")
      agent.soaks(plane)
      assert.deepStrictEqual(shared(plane.recordOf(id, "h1")), shared(agent.record))
      plane.pass(300_000)
      agent[story](plane)
      assert.deepStrictEqual(shared(plane.recordOf(id, "h1")), shared(agent.record))
    })
  }
})
