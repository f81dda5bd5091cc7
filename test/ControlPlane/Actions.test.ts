/** What operators pause, hold, freeze and clear, from the action to the poll that is answered or not (D7, D8, D17). */
import { assert, describe, it } from "@effect/vitest"
import { at, sorted } from "../../src/ControlPlane/State.ts"
import {
  type EndingAction,
  type HoldingAction,
  longestHoldMs,
  type OperatorAction
} from "../../src/Schema/Interventions.ts"
import {
  clear,
  clearClosure,
  edge,
  freeze,
  halts,
  heard,
  hold,
  hour,
  inForce,
  pause,
  reason,
  releaseOf,
  resume,
  unfreeze,
  until,
  verdictOf,
  wide
} from "../support/actions.ts"
import {
  Agent,
  capable,
  closureOf,
  dispatched,
  idOf,
  Plane,
  reference,
  type Release,
  soakMs,
  start,
  unitOf
} from "../support/controlPlane.ts"

const waves: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"]] }

const rolloutOf = (plane: Plane, release: Release) => at(plane.state.rollouts, idOf(release))?.record

/** The latest row of the audit. */
const lastAction = ({ log }: Plane) =>
  log.flatMap(({ entry }) => entry.kind === "operator_action" ? [entry.payload] : []).at(-1)

/** From its dispatch to its end. */
function converges(plane: Plane, host: string, signedAt?: number): Agent {
  const dispatch = plane.poll(host)
  if (dispatch === undefined) return assert.fail(`${host} was not dispatched`)
  const agent = new Agent(host, dispatch, signedAt)
  agent.soaks(plane)
  plane.pass(soakMs)
  agent.converges(plane)
  return agent
}

describe("what is held is not dispatched until it is free again", () => {
  const table: ReadonlyArray<
    readonly [string, HoldingAction, EndingAction, gate: string, because: string, clearedBy: string]
  > = [
    [
      "a paused rollout",
      pause(wide),
      resume(wide),
      "paused",
      "the rollout is paused",
      "nixfleet rollout resume stable@a1"
    ],
    ["a held host", hold("h1"), releaseOf("h1"), "held", "the host is held", "nixfleet host release h1"],
    [
      "a frozen channel",
      freeze("stable"),
      unfreeze("stable"),
      "frozen",
      "channel stable is frozen",
      "nixfleet unfreeze --channel stable"
    ],
    ["a frozen fleet", freeze(null), unfreeze(null), "frozen", "every channel is frozen", "nixfleet unfreeze"]
  ]
  for (const [what, begin, end, gate, because, clearedBy] of table) {
    it(`${what}: names who, why and until when, and the poll that waits is answered when it ends`, () => {
      const plane = heard(wide)
      const taken = plane.act(begin)
      assert.deepInclude(taken, { action: begin, actor: "alice", at: start, goOn: [] })
      const waiterId = plane.park("h1")
      assert.isUndefined(plane.answerTo(waiterId))
      assert.deepStrictEqual(verdictOf(plane, "h1"), {
        rolloutId: "stable@a1",
        gate,
        because: `${because} by alice until 2026-05-16T02:00:00Z: "database migration"`,
        clearedBy,
        earliestAt: until
      })
      plane.act(end)
      assert.strictEqual(plane.answerTo(waiterId)?._tag, "Dispatch")
      assert.isUndefined(verdictOf(plane, "h1"))
    })

    it(`${what}: ends by itself at its time, and the log says so`, () => {
      const plane = heard(wide)
      plane.act(begin)
      plane.now = until - 1
      const waiterId = plane.park("h1")
      plane.batch({ _tag: "PlanTick" }, { _tag: "LeaseSweep" })
      assert.isUndefined(plane.answerTo(waiterId))
      plane.now = until
      plane.batch({ _tag: "LeaseSweep" })
      assert.strictEqual(plane.answerTo(waiterId)?._tag, "Dispatch")
      assert.deepStrictEqual(lastAction(plane), { by: "itself", action: { ...end, reason: "its time is over" } })
      assert.deepStrictEqual(inForce(plane), [])
    })

    it(`${what}: what was queued or had left is taken back in the same commit`, () => {
      const plane = heard(wide)
      assert.isDefined(plane.poll("h1"))
      assert.isDefined(at(plane.state.queue, "h1")?.lease)
      const rows = plane.writes.length
      assert.deepStrictEqual(plane.act(begin).goOn, ["h1"], "its dispatch may arrive all the same")
      assert.isUndefined(at(plane.state.queue, "h1"))
      const tags = plane.writes.slice(rows).map(({ _tag }) => _tag)
      assert.includeMembers(tags, ["AppendLog", "PutIntervention", "DropDispatch"])
    })
  }

  it("a poll that arrives in the same batch is not answered any more", () => {
    const plane = heard(wide)
    plane.batch(
      { _tag: "ActionAsked", action: freeze(null), actor: "alice" },
      { _tag: "Parked", host: "h1", waiterId: 77, capabilities: capable, issuedAt: 0, until: plane.now + 60_000 }
    )
    assert.isUndefined(plane.answerTo(77))
    assert.strictEqual(verdictOf(plane, "h1")?.gate, "frozen")
  })

  it("a host that is under way goes on, and the answer names it", () => {
    const plane = heard(wide, edge)
    const [h1, x1] = [dispatched(plane, "h1"), dispatched(plane, "x1")]
    h1.soaks(plane)
    x1.accepts(plane)
    assert.deepStrictEqual(plane.act(freeze(null)).goOn, ["h1", "x1"])
    assert.deepStrictEqual(plane.act(freeze("edge")).goOn, ["x1"])
    assert.deepStrictEqual(plane.act(pause(wide)).goOn, ["h1"])
    assert.deepStrictEqual(plane.act(hold("h2")).goOn, [])
    plane.pass(soakMs)
    h1.converges(plane)
    assert.strictEqual(plane.recordOf(idOf(wide), "h1").state, "Converged")
  })

  it("a freeze of one channel leaves the others alone, and a freeze of all ends without theirs", () => {
    const plane = heard(wide, edge)
    plane.act(freeze("edge"))
    assert.isUndefined(plane.poll("x1"))
    assert.isDefined(plane.poll("h1"))
    plane.act(freeze(null))
    assert.isUndefined(plane.poll("h2"))
    plane.act(unfreeze(null))
    assert.isDefined(plane.poll("h2"))
    assert.isUndefined(plane.poll("x1"))
    assert.match(verdictOf(plane, "x1")?.because ?? "", /^channel edge is frozen/)
  })

  it("a release that is published during a freeze waits for its end", () => {
    const plane = heard(wide)
    plane.act(freeze("stable"))
    const next: Release = { ...wide, ref: "b2", signedAt: start + 1000 }
    plane.publish(next)
    assert.strictEqual(rolloutOf(plane, next)?.state, "Active")
    assert.isUndefined(plane.poll("h1"))
    plane.act(unfreeze("stable"))
    assert.strictEqual(plane.poll("h1")?.rollout_id, idOf(next))
  })

  it("the same asked again takes the place of what was in force", () => {
    const plane = heard(wide)
    plane.act(hold("h1"))
    plane.act({ action: "HoldHost", host: "h1", reason: "longer", until: until + hour }, "bob")
    assert.deepStrictEqual(inForce(plane), ["host h1"])
    plane.pass(hour)
    assert.match(verdictOf(plane, "h1")?.because ?? "", /by bob until 2026-05-16T03:00:00Z: "longer"$/)
    plane.act(releaseOf("h1"))
    assert.isDefined(plane.poll("h1"))
  })

  it("a pause ends with its rollout: when it is superseded, and when it is complete", () => {
    const plane = heard(wide)
    plane.act(pause(wide))
    plane.publish({ ...wide, ref: "b2", signedAt: start + 1000 })
    plane.pass(1000)
    assert.deepStrictEqual(inForce(plane), [])
    const ended = (because: string) => ({
      by: "itself" as const,
      action: { ...resume(wide), reason: `the rollout is ${because}` }
    })
    assert.deepStrictEqual(lastAction(plane), ended("Superseded"))

    const other = heard({ ...wide, waves: [["h1"]] })
    const h1 = dispatched(other, "h1")
    h1.soaks(other)
    other.act({ ...pause(wide), until: start + 2 * hour })
    other.pass(soakMs)
    h1.converges(other)
    other.pass(1000)
    assert.deepStrictEqual(lastAction(other), ended("Terminal"))
  })
})

describe("a held host (D17)", () => {
  it("is none of its wave's, so that the others go on; its own turn comes when it is released, on the same attempt", () => {
    const plane = heard(waves)
    plane.act(hold("h3"))
    converges(plane, "h1")
    converges(plane, "h2")
    assert.strictEqual(rolloutOf(plane, waves)?.state, "Terminal")
    assert.strictEqual(verdictOf(plane, "h3")?.gate, "held", "it still waits, and for this alone")
    plane.act(releaseOf("h3"))
    assert.deepInclude(rolloutOf(plane, waves), { state: "Active", currentWave: 1, attempt: 2 })
    const dispatch = plane.poll("h3")
    assert.deepInclude(dispatch, { rollout_id: idOf(waves), attempt: 1 })
    assert.strictEqual(plane.recordOf(idOf(waves), "h2").state, "Converged", "the others stay as they are")
    const agent = new Agent("h3", dispatch!)
    agent.soaks(plane)
    plane.pass(soakMs)
    agent.converges(plane)
    assert.strictEqual(rolloutOf(plane, waves)?.state, "Terminal")
  })

  it("whose time ends before a restart knows the release has its turn all the same", () => {
    const plane = heard(waves)
    plane.act(hold("h3"))
    converges(plane, "h1")
    converges(plane, "h2")
    const { artifacts: _unit, ...cold } = plane.state
    plane.state = { ...cold, manifests: new Map() }
    plane.pass(hour)
    assert.deepStrictEqual(inForce(plane), [])
    assert.strictEqual(rolloutOf(plane, waves)?.state, "Terminal")
    plane.publish(waves)
    assert.isDefined(plane.poll("h3"))
  })

  it("is still its wave's when nobody else is there to try the release first", () => {
    const plane = heard(waves)
    plane.act(hold("h1"))
    assert.isUndefined(plane.poll("h2"))
    assert.deepInclude(verdictOf(plane, "h2"), {
      gate: "wave-promotion",
      because: "wave 1 of 2 is not complete: h1 was not activated yet and is held"
    })
    plane.act(releaseOf("h1"))
    converges(plane, "h1")
    plane.act(hold("h1"))
    assert.isDefined(plane.poll("h2"), "what it has proven it has proven")
  })

  it("is its rollout's when nobody else is there to try the release before the channels after it", () => {
    const after: Release = { ref: "a1", waves: [["h1"]], after: ["edge"] }
    const plane = new Plane()
    plane.publish({ ...edge, ref: "e0" }, { ...after, ref: "a0" })
    plane.hear(edge, after)
    plane.act(hold("x1"))
    plane.publish(edge, after)
    assert.isUndefined(plane.poll("h1"))
    assert.deepInclude(verdictOf(plane, "h1"), {
      gate: "channel-edges",
      because: "channel edge comes first: edge@e1 is in wave 1 of 1: x1 was not activated yet and is held"
    })
    plane.act(releaseOf("x1"))
    converges(plane, "x1")
    assert.isDefined(plane.poll("h1"))
  })

  it("leaves the count of its budgets", () => {
    const plane = heard({ ...wide, budgets: [{ hosts: ["h1", "h2"], maxInFlight: 1 }] })
    dispatched(plane, "h1").soaks(plane)
    assert.isUndefined(plane.poll("h2"))
    plane.act(hold("h1"))
    assert.isDefined(plane.poll("h2"))
  })

  it("still comes before the hosts that wait for it by an edge", () => {
    const plane = heard({ ref: "a1", waves: [["db", "web"]], edges: [["db", "web"]] })
    plane.act(hold("db"))
    assert.isUndefined(plane.poll("web"))
    assert.deepInclude(verdictOf(plane, "web"), {
      gate: "host-edges",
      because: "db comes first: it was not activated yet and is held"
    })
  })
})

describe("clearing a halted rollout (D7)", () => {
  it("restarts what failed as its next attempt, lifts its quarantine, and it converges once the cause is repaired", () => {
    const plane = heard(wide)
    const failed = halts(plane, "h1")
    assert.strictEqual(rolloutOf(plane, wide)?.state, "Reverted")
    assert.isUndefined(plane.poll("h2"))
    assert.match(verdictOf(plane, "h2")?.clearedBy ?? "", /nixfleet rollout clear stable@a1/)
    const closure = closureOf("a1", "h1")
    assert.deepInclude(plane.act(clear(wide)), {
      restarted: ["h1"],
      needNewRef: [],
      lifted: [{ rolloutId: "stable@a1", closure }],
      halted: []
    })
    assert.deepStrictEqual(plane.state.quarantine, [])
    assert.deepInclude(rolloutOf(plane, wide), { state: "Active", attempt: 2, currentWave: 0 })
    failed.reports(plane)
    assert.deepStrictEqual(plane.state.quarantine, [], "a digest of the attempt before tells nothing new")
    assert.deepInclude(plane.recordOf("stable@a1", "h1"), { state: "Pending", attempt: 2 })
    assert.strictEqual(converges(plane, "h1").record.attempt, 2)
    assert.strictEqual(converges(plane, "h2").record.attempt, 1)
    assert.strictEqual(rolloutOf(plane, wide)?.state, "Terminal")
  })

  it("that fails again halts again, and is in quarantine again", () => {
    const plane = heard(wide)
    halts(plane, "h1")
    plane.act(clear(wide))
    halts(plane, "h1")
    assert.strictEqual(rolloutOf(plane, wide)?.state, "Reverted")
    assert.lengthOf(plane.state.quarantine, 1)
    assert.strictEqual(sorted(plane.state.lifted).length, 0)
    assert.deepStrictEqual(plane.act(clear(wide)).restarted, ["h1"])
    assert.strictEqual(plane.poll("h1")?.attempt, 3)
  })

  it("restarts a held host that failed when the rollout was complete without it", () => {
    const plane = heard(wide)
    const h1 = dispatched(plane, "h1")
    h1.soaks(plane)
    plane.act({ ...hold("h1"), until: until + hour })
    converges(plane, "h2")
    assert.strictEqual(rolloutOf(plane, wide)?.state, "Terminal")
    h1.rollsBack(plane)
    assert.strictEqual(rolloutOf(plane, wide)?.state, "Terminal")
    assert.deepStrictEqual(plane.act(clear(wide)).restarted, ["h1"])
    assert.isUndefined(plane.poll("h1"))
    plane.act(releaseOf("h1"))
    assert.strictEqual(plane.poll("h1")?.attempt, 2)
  })

  it("in the batch in which its targets change takes up the new ones, and the hosts that are new", () => {
    const plane = heard(wide)
    halts(plane, "h1")
    const closures = { h2: closureOf("ff", "h2") }
    const repaired: Release = { ...wide, waves: [["h1", "h2", "h3"]], signedAt: plane.now, closures }
    const [, answer] = plane.batch(
      { _tag: "ArtifactsVerified", artifacts: unitOf(repaired) },
      { _tag: "ActionAsked", actor: "alice", action: clear(wide) }
    )
    if (answer?._tag !== "Taken") return assert.fail(`answered with ${answer?._tag}`)
    assert.deepStrictEqual(answer.taken.restarted, ["h1"])
    assert.deepInclude(plane.poll("h1"), { attempt: 2, target_closure: closureOf("a1", "h1") })
    assert.deepInclude(plane.poll("h2"), { attempt: 2, target_closure: closureOf("ff", "h2") })
    assert.deepInclude(plane.poll("h3"), { attempt: 1, target_closure: closureOf("a1", "h3") })
  })

  it("in the batch in which its channel is pointed back to it leaves out nobody", () => {
    const plane = heard(wide)
    dispatched(plane, "h2").soaks(plane)
    halts(plane, "h1")
    const next: Release = { ...wide, ref: "b2", signedAt: plane.now + 1 }
    plane.publish(next)
    const dispatch = plane.poll("h2")
    if (dispatch === undefined) return assert.fail("h2 was not dispatched")
    new Agent("h2", dispatch, next.signedAt).accepts(plane)
    plane.batch(
      { _tag: "ArtifactsVerified", artifacts: unitOf({ ...wide, signedAt: plane.now + 2 }) },
      { _tag: "ActionAsked", actor: "alice", action: clear(wide) }
    )
    assert.deepInclude(plane.poll("h1"), { rollout_id: idOf(wide), attempt: 2 })
    assert.deepInclude(plane.poll("h2"), { rollout_id: idOf(wide), attempt: 2 })
  })

  it("stays paused or frozen where it was", () => {
    const plane = heard(wide)
    const h1 = dispatched(plane, "h1")
    h1.soaks(plane)
    plane.act(pause(wide))
    h1.rollsBack(plane)
    plane.pass(1000)
    assert.deepStrictEqual(inForce(plane), ["rollout stable@a1"])
    plane.act(clear(wide))
    assert.isUndefined(plane.poll("h1"))
    assert.strictEqual(verdictOf(plane, "h1")?.gate, "paused")
  })

  it("names the hosts whose agents do a rollout only once", () => {
    const plane = new Plane()
    plane.publish(wide)
    for (const host of ["h1", "h2"]) plane.heartbeat(host, {}, reference)
    plane.pass(150_000)
    const h1 = dispatched(plane, "h1")
    h1.soaks(plane)
    h1.rollsBack(plane)
    plane.heartbeat("h1", {}, reference)
    const taken = plane.act(clear(wide))
    assert.deepStrictEqual([taken.restarted, taken.needNewRef], [["h1"], ["h1"]])
    assert.isUndefined(plane.poll("h1", reference))
    assert.deepInclude(verdictOf(plane, "h1"), { gate: "attempt-not-supported" })
  })
})

describe("lifting a quarantine", () => {
  it("of a closure takes it out wherever it failed, and says which rollouts stay halted", () => {
    const plane = heard(wide, edge)
    halts(plane, "h1")
    halts(plane, "x1")
    const closure = closureOf("a1", "h1")
    assert.deepInclude(plane.act(clearClosure(closure)), {
      lifted: [{ rolloutId: "stable@a1", closure }],
      halted: ["stable@a1"]
    })
    assert.deepStrictEqual(plane.state.quarantine.map(({ channel }) => channel), ["edge"])
    assert.isUndefined(plane.poll("h2"), "it is still halted")
    plane.act({ action: "ClearQuarantine", of: { rolloutId: idOf(edge) }, reason })
    assert.deepStrictEqual(plane.state.quarantine, [])
  })

  it("lets a release go that names the same closure again", () => {
    const plane = heard(wide)
    halts(plane, "h1")
    plane.publish({ ref: "b2", waves: wide.waves, signedAt: start + 1000, closures: { h1: closureOf("a1", "h1") } })
    assert.isUndefined(plane.poll("h1"))
    assert.match(verdictOf(plane, "h1")?.clearedBy ?? "", /nixfleet quarantine clear /)
    plane.act(clearClosure(closureOf("a1", "h1")))
    assert.strictEqual(plane.poll("h1")?.rollout_id, "stable@b2")
  })
})

describe("what cannot be done is refused by name, and leaves no trace", () => {
  const missing: Release = { ref: "ff", waves: [] }
  const cases: ReadonlyArray<readonly [OperatorAction, because: string, reason: string, detail: RegExp]> = [
    [pause(missing), "unknown", "rollout-unknown", /^there is no rollout stable@ff$/],
    [clear(missing), "unknown", "rollout-unknown", /stable@ff/],
    [hold("nobody"), "unknown", "host-unknown", /no host nobody/],
    [hold("constructor"), "unknown", "host-unknown", /no host constructor/],
    [freeze("nowhere"), "unknown", "channel-unknown", /no channel nowhere/],
    [freeze("constructor"), "unknown", "channel-unknown", /no channel constructor/],
    [clearClosure("x"), "unknown", "quarantine-unknown", /^nothing of closure x is in quarantine$/],
    [resume(wide), "not-now", "action-not-in-force", /^no pause of rollout stable@a1 is in force$/],
    [releaseOf("h1"), "not-now", "action-not-in-force", /^no hold of host h1 is in force$/],
    [unfreeze(null), "not-now", "action-not-in-force", /^no freeze of all channels is in force$/],
    [clear(wide), "not-now", "rollout-not-halted", /^stable@a1 is Active, and no host of it has failed$/],
    [{ ...hold("h1"), until: start }, "impossible", "until-passed", /is over already$/],
    [
      { ...hold("h1"), until: start + longestHoldMs + 1 },
      "impossible",
      "until-too-far",
      /is more than 90 days away$/
    ]
  ]
  for (const [action, because, name, detail] of cases) {
    it(`${action.action}: ${name}`, () => {
      const plane = heard(wide)
      const rows = plane.writes.length
      const answer = plane.ask(action)
      if (answer._tag !== "NotTaken") return assert.fail(JSON.stringify(answer))
      assert.deepStrictEqual([answer.because, answer.reason], [because, name])
      assert.match(answer.detail, detail)
      assert.strictEqual(plane.writes.length, rows)
    })
  }

  it("a rollout that is over cannot be paused, and one that is not in force cannot be cleared", () => {
    const plane = heard(wide)
    halts(plane, "h1")
    assert.deepInclude(plane.ask(pause(wide)), { because: "not-now", reason: "rollout-over" })
    plane.publish({ ...wide, ref: "b2", signedAt: start + 1000 })
    assert.deepInclude(plane.ask(clear(wide)), {
      because: "not-now",
      reason: "rollout-not-in-force",
      detail: "stable@b2 is in force on channel stable"
    })
  })

  it("the longest time is taken", () => {
    const plane = heard(wide)
    assert.strictEqual(plane.ask({ ...hold("h1"), until: start + longestHoldMs })._tag, "Taken")
  })
})
