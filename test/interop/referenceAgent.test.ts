/** Agents of the original (agent.md, to the letter) at our control plane. */
import { assert, describe, it } from "@effect/vitest"
import { calm } from "../../src/Simulation/Network.ts"
import { closureOf, rolloutIdOf } from "../../src/Simulation/Release.ts"
import { ReferenceAgentsWorld } from "../support/interopWorld.ts"
import type { ReferenceHost } from "../support/referenceHost.ts"

const declared: ReferenceHost["checks"] = { web: { kind: "http", mode: "enforce", intervalMs: 30_000 } }
/** As good as no file: nothing is declared. */
const none: ReferenceHost["checks"] = {}

/** A world in which r1 was published and everything has just started. */
function begun(seed: string, checks = declared): ReferenceAgentsWorld {
  const world = new ReferenceAgentsWorld(seed)
  for (const host of world.hosts.values()) host.checks = checks
  world.publish(1)
  world.start()
  return world
}

/** Every host comes to run this release, and the control plane comes to know. */
function assertConverges(world: ReferenceAgentsWorld, version: number): void {
  world.await(`all hosts run r${version}`, () => world.isConverged(version))
}

function settled(seed: string, checks = declared): ReferenceAgentsWorld {
  const world = begun(seed, checks)
  assertConverges(world, 1)
  return world
}

const switches = (world: ReferenceAgentsWorld, host: string) =>
  world.host(host).hardware.runs.map(({ closure, id }) => `${id.purpose} ${closure}`)

describe("agents of the original at our control plane", () => {
  it("take a release through three waves, one after the other", () => {
    const world = begun("rollout")
    const order: Array<string> = []
    world.await("all hosts run r1", () => {
      for (const [name, running] of world.running()) {
        if (running === closureOf(1) && !order.includes(name)) order.push(name)
      }
      return world.isConverged(1)
    })
    assert.deepStrictEqual([order.slice(0, 2), order.slice(2).toSorted()], [["a", "b"], ["c", "d"]])
    for (const name of order) assert.deepStrictEqual(switches(world, name), [`forward ${closureOf(1)}`])
  })

  it("take a release through three waves when no host has a file of health checks", () => {
    const world = begun("silent", none)
    assertConverges(world, 1)
  })

  it("roll back from a bad release, which then halts and is quarantined, and take the one that repairs it", () => {
    const world = settled("rollback")
    world.publish(2)
    world.await("the canary is back on r1", () => world.stateOf(2, "a") === "Reverted")
    assert.deepStrictEqual(switches(world, "a").slice(1), [`forward ${closureOf(2)}`, `rollback ${closureOf(1)}`])
    world.pass(10 * 60_000)
    for (const name of ["b", "c", "d"]) assert.deepStrictEqual(switches(world, name), [`forward ${closureOf(1)}`])
    assert.deepStrictEqual(
      world.mirror().quarantine.map(({ channel, closure, ref }) => [`${channel}@${ref}`, closure]),
      [[rolloutIdOf(2), closureOf(2)]]
    )
    world.publish(3)
    assertConverges(world, 3)
  })

  // The canary's activation in small steps, then its soak and the waves behind it.
  const moments = [0, 500, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 6_500, 10_000, 30_000, 62_000, 80_000, 140_000]

  it.for(moments)("complete a rollout when the control plane is killed after %i ms", (ms) => {
    const world = begun(`control plane ${ms}`)
    world.pass(ms)
    world.controlPlane.machine.crash(20_000)
    assertConverges(world, 1)
  })

  it.for(moments)(
    "complete a rollout when the canary's agent is killed after %i ms and forgets all but its queue",
    (ms) => {
      for (const checks of [declared, none]) {
        const world = begun(`agent ${ms}`, checks)
        world.pass(ms)
        world.machines.get("a")!.crash(7_000)
        assertConverges(world, 1)
        assert.isAtMost(world.host("a").hardware.runs.length, 2)
      }
    }
  )

  it.for([3_000, 5_000, 30_000])(
    "complete a rollout when the agent that was killed after %i ms does not hear what it is told at its start",
    (ms) => {
      const world = begun(`deaf ${ms}`)
      world.pass(ms)
      world.machines.get("a")!.crash(2_000)
      world.network.weather = { ...calm, answerLost: 1 }
      // Its handshake and the first of its heartbeats.
      world.pass(14_000)
      world.network.weather = calm
      assertConverges(world, 1)
    }
  )

  it("complete a rollout when the control plane's database is lost while the canary soaks", () => {
    const world = begun("wiped")
    world.await("the canary soaks", () => world.stateOf(1, "a") === "Soaking", 1_000)
    world.controlPlane.machine.crash(5_000)
    world.controlPlane.disk.wipe()
    assertConverges(world, 1)
    for (const name of world.hosts.keys()) assert.deepStrictEqual(switches(world, name), [`forward ${closureOf(1)}`])
  })

  it.for(["1", "2", "3", "4", "5", "6"])("complete a rollout over a network that loses and repeats (%s)", (seed) => {
    const world = begun(`weather ${seed}`)
    world.network.weather = { lost: 0.05, answerLost: 0.08, repeated: 0.08, slow: 0.1, slowMs: 3_000 }
    world.pass(20 * 60_000)
    world.network.weather = calm
    assertConverges(world, 1)
  })

  it.for([500, 1_500, 3_000])("stay stopped when the canary's agent is killed %i ms after its failure", (ms) => {
    const world = settled(`forgetful ${ms}`)
    world.publish(2)
    world.await("the canary has failed", () => world.stateOf(2, "a") === "Failed", 100)
    world.pass(ms)
    world.machines.get("a")!.crash(7_000)
    world.pass(10 * 60_000)
    assert.strictEqual(world.running().get("a"), closureOf(1))
    for (const name of ["b", "c", "d"]) assert.deepStrictEqual(switches(world, name), [`forward ${closureOf(1)}`])
    world.publish(3)
    assertConverges(world, 3)
  })
})
