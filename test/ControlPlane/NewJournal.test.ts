import { assert, describe, it } from "@effect/vitest"
import type { HostRecord } from "../../src/Schema/HostRecord.ts"
import type { HeartbeatRequest } from "../../src/Schema/Wire.ts"
import { Agent, dispatched, idOf, Plane, reference, type Release, soakMs, start } from "../support/controlPlane.ts"
import { random as seeded } from "../support/random.ts"

const r1: Release = { ref: "a1", waves: [["h1"], ["h2"]] }
const id = idOf(r1)

function ready(): Plane {
  const plane = new Plane()
  plane.publish(r1)
  plane.hear(r1)
  return plane
}

const deferred = (plane: Plane, agent: Agent) => {
  agent.accepts(plane)
  agent.tells(plane, { kind: "ActivationStarted", startedAt: plane.now, switchMethod: "test" })
  agent.tells(plane, { kind: "ActivationDeferred", component: "system", deferredAt: plane.now })
}

const converged = (plane: Plane, agent: Agent) => {
  agent.soaks(plane)
  plane.pass(soakMs)
  agent.converges(plane)
}

const failed = (plane: Plane, agent: Agent) => {
  agent.accepts(plane)
  agent.tells(plane, {
    kind: "ActivationFailed",
    exitCode: 1,
    stderrTail: "",
    failedAt: plane.now,
    closureAtFault: false
  })
}

const steps: Readonly<Record<string, (plane: Plane, agent: Agent) => void>> = {
  Pending: () => {},
  Activating: (plane, agent) => agent.accepts(plane),
  Deferred: deferred,
  Soaking: (plane, agent) => agent.soaks(plane),
  Converged: converged,
  Failed: failed
}

/** h1 is in this state, told by its first journal. */
function midway(state: string): { readonly plane: Plane; readonly agent: Agent } {
  const plane = ready()
  const agent = dispatched(plane, "h1")
  steps[state]?.(plane, agent)
  assert.strictEqual(plane.recordOf(id, "h1").state, state)
  plane.now += 10_000
  return { plane, agent }
}

const fresh = (n = 2): Partial<HeartbeatRequest> => ({ journal_id: `journal-${n}`, digests: [], boot: true })

const standing = ({ attempt, state }: HostRecord): ReadonlyArray<unknown> => [state, attempt]

describe("A host whose journal was replaced in the middle of a rollout (D2, D7)", () => {
  const table: ReadonlyArray<readonly [state: string, after: readonly [string, number]]> = [
    ["Pending", ["Pending", 1]],
    ["Activating", ["Pending", 2]],
    ["Deferred", ["Pending", 2]],
    ["Soaking", ["Pending", 2]],
    ["Converged", ["Converged", 1]],
    ["Failed", ["Failed", 1]]
  ]
  it.each(table)("%s becomes %j", (state, after) => {
    const { plane } = midway(state)
    plane.heartbeat("h1", fresh())
    assert.deepStrictEqual(standing(plane.recordOf(id, "h1")), after)
  })

  it("is dispatched the next attempt, above the numbers of the old journal, and converges by it", () => {
    const { agent, plane } = midway("Soaking")
    plane.heartbeat("h1", fresh())
    const dispatch = plane.poll("h1") ?? assert.fail("no dispatch")
    assert.strictEqual(dispatch.attempt, 2)
    assert.strictEqual(dispatch.last_event_seq, agent.record.lastEventSeq)
    const again = new Agent("h1", dispatch, undefined, "journal-2")
    again.soaks(plane)
    plane.heartbeat("h1", { ...fresh(), digests: [again.digest] })
    plane.pass(soakMs)
    again.converges(plane)
    assert.deepStrictEqual(standing(plane.recordOf(id, "h1")), ["Converged", 2])
  })

  it("that says it once more before it was dispatched again owes no third attempt", () => {
    const { plane } = midway("Soaking")
    plane.heartbeat("h1", fresh())
    const dispatch = plane.poll("h1") ?? assert.fail("no dispatch")
    plane.heartbeat("h1", fresh())
    assert.strictEqual(plane.recordOf(id, "h1").attempt, 2)
    new Agent("h1", dispatch, undefined, "journal-2").accepts(plane)
    // Written before it accepted, and overtaken by the acknowledgement.
    plane.heartbeat("h1", fresh())
    assert.deepStrictEqual(standing(plane.recordOf(id, "h1")), ["Activating", 2])
  })

  it("is not believed against its own acknowledgement, however the two cross", () => {
    const { plane } = midway("Activating")
    for (const fields of [{}, { boot: true }, { at: plane.now - 60_000 }]) {
      plane.heartbeat("h1", { digests: [], ...fields })
      assert.deepStrictEqual(standing(plane.recordOf(id, "h1")), ["Activating", 1])
    }
  })

  it("is not believed in a heartbeat that was written before the acknowledgement", () => {
    const { plane } = midway("Activating")
    plane.heartbeat("h1", { ...fresh(), at: plane.now - 10_000 })
    assert.deepStrictEqual(standing(plane.recordOf(id, "h1")), ["Activating", 1])
  })

  it("is not guessed from a heartbeat that does not say what is in the journal", () => {
    const { plane } = midway("Soaking")
    plane.offer({
      _tag: "HeartbeatReceived",
      issuedAt: 0,
      heartbeat: { hostname: "h1", at: plane.now, journal_id: "journal-2" },
      capabilities: new Set(["journal", "verdicts", "attempts"])
    })
    plane.heartbeat("h1", {}, reference)
    assert.deepStrictEqual(standing(plane.recordOf(id, "h1")), ["Soaking", 1])
  })

  it("an agent of the original keeps no journal, and none is missed", () => {
    const plane = ready()
    plane.heartbeat("h1", {}, reference)
    const agent = new Agent("h1", plane.poll("h1", reference) ?? assert.fail("no dispatch"))
    const ack = agent.does(
      { kind: "DispatchAck", currentClosureAtDispatch: "0-before", receivedAt: plane.now },
      plane.now
    )
    plane.post("h1", id, ack, { capabilities: reference })
    for (let n = 0; n < 3; n++) {
      plane.now += 60_000
      plane.heartbeat("h1", {}, reference)
      assert.deepStrictEqual(standing(plane.recordOf(id, "h1")), ["Activating", 1])
    }
  })

  it("loses journal after journal: it is given up and said, once a journal", () => {
    const { plane } = midway("Activating")
    for (let journal = 2; journal <= 5; journal++) {
      plane.now += 10_000
      plane.heartbeat("h1", fresh(journal))
      plane.heartbeat("h1", fresh(journal))
      const dispatch = plane.poll("h1")
      if (dispatch !== undefined) new Agent("h1", dispatch, undefined, `journal-${journal}`).accepts(plane)
    }
    assert.deepStrictEqual(standing(plane.recordOf(id, "h1")), ["Activating", 3])
    const said = plane.actions.filter((action) =>
      action._tag === "Log" && action.entry.message.includes("one journal after the other")
    )
    assert.lengthOf(said, 2)
  })

  it("whatever is delayed or repeated, each journal begins at most one attempt, and the last one gets its own", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const dice = seeded(seed)
      const plane = ready()
      dispatched(plane, "h1").accepts(plane)
      const sent: Array<Partial<HeartbeatRequest>> = [{ digests: [], at: start - 1 }]
      let journal = 1
      let knows = true
      for (let step = 0; step < 40; step++) {
        plane.now += 1_000
        if (journal < 3 && dice.chance(0.1)) {
          journal += 1
          knows = false
        }
        if (!knows) sent.push({ ...fresh(journal), at: plane.now })
        if (dice.chance(0.7)) plane.heartbeat("h1", dice.chance(0.5) ? sent.at(-1) : dice.pick(sent))
        const dispatch = knows || dice.chance(0.6) ? undefined : plane.poll("h1")
        if (dispatch !== undefined) {
          new Agent("h1", dispatch, undefined, `journal-${journal}`).accepts(plane)
          knows = true
        }
        assert.isAtMost(plane.recordOf(id, "h1").attempt, journal, `seed ${seed}, step ${step}`)
      }
      if (knows) continue
      plane.now += 1_000
      plane.heartbeat("h1", { ...fresh(journal), at: plane.now })
      assert.isDefined(plane.poll("h1"), `seed ${seed}: journal ${journal} waits for ever`)
    }
  })
})
