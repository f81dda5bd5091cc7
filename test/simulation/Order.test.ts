/** Budgets and edges with both real programs: nothing goes wrong here, so that every step has its time. */
import { assert, describe, it } from "@effect/vitest"
import { HashMap } from "effect"
import { openBooks, readMirror } from "../../src/Simulation/Checks.ts"
import { type Order, orderBroken } from "../../src/Simulation/Order.ts"
import { closureOf } from "../../src/Simulation/Release.ts"
import { World } from "../../src/Simulation/World.ts"

const hosts = ["a", "b", "c"]

function worldWith(order: Order): World {
  const world = new World({ seed: "order", waves: [hosts], soakSeconds: 5, order })
  world.publish(1)
  world.start()
  return world
}

/** Passes until all run the release; gives the greatest number of hosts that were seen in flight at one moment. */
function rollOut(world: World, version: number, order: Order): number {
  let most = 0
  for (let passed = 0; passed < 1_200; passed++) {
    world.pass(1_000)
    const entries = [...HashMap.values(readMirror(world).rollouts)].flatMap((rollout) =>
      HashMap.toValues(rollout.hosts)
    )
    const flying = entries.filter(({ record }) =>
      record.state === "Activating" || (record.state === "Soaking" && record.closedAt === undefined)
    )
    most = Math.max(most, new Set(flying.map(({ record }) => record.hostname)).size)
    if (world.hosts.every(({ hardware }) => hardware.running === closureOf(version)) && flying.length === 0) break
  }
  assert.isTrue(
    world.hosts.every(({ hardware }) => hardware.running === closureOf(version)),
    `r${version} is everywhere`
  )
  assert.deepStrictEqual(orderBroken(openBooks(world), order), [])
  return most
}

describe("a world with an order", () => {
  it("without a budget the hosts of a wave go together; with one of one, one after the other", () => {
    assert.strictEqual(rollOut(worldWith({ budgets: [], edges: [] }), 1, { budgets: [], edges: [] }), 3)
    const order: Order = { budgets: [{ hosts, maxInFlight: 1 }], edges: [] }
    assert.strictEqual(rollOut(worldWith(order), 1, order), 1)
  })

  it("a release that comes while another rolls keeps the budget over both", () => {
    const order: Order = { budgets: [{ hosts, maxInFlight: 1 }], edges: [] }
    const world = worldWith(order)
    while (!world.hosts.some(({ hardware }) => hardware.runs.length > 0)) world.pass(1_000)
    world.publish(2)
    assert.strictEqual(rollOut(world, 2, order), 1)
  })

  it("a host that waits for another one is switched after it has converged", () => {
    const order: Order = { budgets: [], edges: [["c", "a"]] }
    const world = worldWith(order)
    assert.strictEqual(rollOut(world, 1, order), 2, "b and c go together")
  })

  it("a lease that breaks the order is found in the log", () => {
    const world = worldWith({ budgets: [], edges: [] })
    rollOut(world, 1, { budgets: [], edges: [] })
    const asked: Order = { budgets: [{ hosts, maxInFlight: 1 }], edges: [["c", "a"]] }
    assert.strictEqual(orderBroken(openBooks(world), asked).length, 3)
  })
})
