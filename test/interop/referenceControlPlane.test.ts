/** Our agents at a control plane of the original (control-plane.md, to the letter). */
import { assert, describe, it } from "@effect/vitest"
import { closureOf, rolloutIdOf } from "../../src/Simulation/Release.ts"
import { ReferenceControlPlaneWorld } from "../support/interopWorld.ts"
import type { ReferenceControlPlaneOptions } from "../support/referenceDatabase.ts"

/** A world in which r1 was published and everything has just started. */
function begun(seed: string, options: Partial<ReferenceControlPlaneOptions> = {}): ReferenceControlPlaneWorld {
  const world = new ReferenceControlPlaneWorld(seed, options)
  world.publish(1)
  world.start()
  return world
}

/** Every host comes to run this release, and the control plane comes to know. */
function assertConverges(world: ReferenceControlPlaneWorld, version: number): void {
  world.await(`all hosts run r${version}`, () => world.isConverged(version))
}

function settled(seed: string, options: Partial<ReferenceControlPlaneOptions> = {}): ReferenceControlPlaneWorld {
  const world = begun(seed, options)
  assertConverges(world, 1)
  return world
}

const switches = (world: ReferenceControlPlaneWorld, host: string) =>
  world.host(host).hardware.runs.map(({ closure, id }) => `${id.purpose} ${closure}`)

/** The canary is back on r1 and the control plane knows; nobody else was touched. */
function assertStopped(world: ReferenceControlPlaneWorld): void {
  world.await("the canary is back on r1", () => world.stateOf(2, "a") === "Reverted")
  world.pass(5 * 60_000)
  assert.deepStrictEqual(switches(world, "a"), [
    `forward ${closureOf(1)}`,
    `forward ${closureOf(2)}`,
    `rollback ${closureOf(1)}`
  ])
  for (const name of ["b", "c", "d"]) assert.deepStrictEqual(switches(world, name), [`forward ${closureOf(1)}`])
}

/** After a restart it is not ready at first, then ready but cold: it answers 204 and drops (C-W1). */
const slowStart = { notReadyMs: 2_000, coldMs: 25_000 }

const manners: Readonly<Record<string, Partial<ReferenceControlPlaneOptions>>> = {
  "parks polls": {},
  "is not ready at first, then drops what it answers with 204": { notReadyMs: 10_000, coldMs: 40_000 },
  "loses the first two dispatches that each host takes": { lostTakes: 2 },
  "answers every poll at once": { polls: "instant" },
  "says null when there is no work": { noWork: "null" },
  "does all of it": { ...slowStart, lostTakes: 1, polls: "instant", noWork: "null" }
}

describe("our agents at a control plane of the original", () => {
  it.for(Object.keys(manners))("complete a rollout, a rollback and its repair when it %s", (manner) => {
    const world = settled(manner, manners[manner])
    world.publish(2)
    assertStopped(world)
    assert.deepStrictEqual(world.database.quarantine, [{ channel: "stable", closure: closureOf(2) }])
    world.publish(3)
    assertConverges(world, 3)
    for (const name of ["b", "c", "d"]) {
      assert.deepStrictEqual(switches(world, name), [`forward ${closureOf(1)}`, `forward ${closureOf(3)}`])
    }
  })

  // Activations, soaks and convergences of all three waves lie in these moments.
  const moments = Array.from({ length: 22 }, (_, index) => index * 10_250)

  it.for(moments)("complete a rollout when it is killed after %i ms, and drops events after its start", (ms) => {
    const world = begun(`rollout ${ms}`, slowStart)
    world.pass(ms)
    world.machine.crash(3_000)
    assertConverges(world, 1)
    for (const name of world.hosts.keys()) assert.deepStrictEqual(switches(world, name), [`forward ${closureOf(1)}`])
  })

  it.for(moments)("complete a rollback when it is killed after %i ms, and drops events after its start", (ms) => {
    const world = settled(`rollback ${ms}`, slowStart)
    world.publish(2)
    world.pass(ms)
    world.machine.crash(3_000)
    assertStopped(world)
  })

  it.for(moments.slice(0, 11))("complete a rollout when the canary's agent is killed after %i ms", (ms) => {
    const world = begun(`agent ${ms}`)
    world.pass(ms)
    world.host("a").machine.crash(7_000)
    assertConverges(world, 1)
    assert.deepStrictEqual(switches(world, "a"), [`forward ${closureOf(1)}`])
  })

  it("tell it in the end what it dropped while it was cold for twenty minutes", () => {
    const world = begun("long cold")
    world.await("the canary soaks", () => world.stateOf(1, "a") === "Soaking")
    world.options = { coldMs: 20 * 60_000 }
    world.machine.crash(3_000)
    assertConverges(world, 1)
    assert.isAbove(world.timeline.now, 20 * 60_000)
  })

  it("never have their soak cut short by what it invents from heartbeats", () => {
    const world = begun("invented", slowStart)
    world.await("the canary soaks", () => world.stateOf(1, "a") === "Soaking", 1_000)
    // It forgets all that the canary told it: the target runs, and nothing says that it soaks.
    const key = `${rolloutIdOf(1)} a`
    const { currentClosure: _, ...record } = world.database.records.get(key)!
    world.database.records.set(key, { ...record, state: "Pending", lastEventSeq: 0 })
    world.pass(45_000)
    assert.strictEqual(world.stateOf(1, "a"), "Soaking")
    assert.deepStrictEqual([world.running().get("b"), world.running().get("c")], [closureOf(0), closureOf(0)])
    assertConverges(world, 1)
  })

  it("send it no field that the original does not know", () => {
    const world = settled("plain")
    world.publish(2)
    assertStopped(world)
    const requests = world.controlPlanes.flatMap(({ asked }) => asked).filter(({ method }) => method === "POST")
    const bodies = requests.map(({ body }) => JSON.parse(new TextDecoder().decode(body)))
    const fields = new Set(bodies.flatMap((body) => [...Object.keys(body), ...Object.keys(body.event ?? {})]))
    const additive = ["attempt", "deliveryId", "journalId", "closureAtFault", "cause", "journal_id", "digests", "boot"]
    assert.deepStrictEqual(additive.filter((name) => fields.has(name)), [])
    assert.isAbove(bodies.length, 20)
  })
})
