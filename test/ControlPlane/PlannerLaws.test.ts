/**
 * Laws of the planner over random fleets and histories: answers and acknowledgements that are lost, hosts that fail, releases
 * that come while others roll, several polls answered in one batch. One seed alone: `NIXFLEET_SEED=7`.
 */
import { assert, describe, it } from "@effect/vitest"
import { HashMap } from "effect"
import { at, hostIn, sorted } from "../../src/ControlPlane/State.ts"
import { isLive } from "../../src/Rollout/Rollout.ts"
import { RandomFleet } from "../support/randomFleet.ts"

const only = process.env["NIXFLEET_SEED"]
const seeds = only === undefined ? Array.from({ length: 40 }, (_, index) => index + 1) : [Number(only)]
const steps = 250

function checkBudgets(world: RandomFleet): void {
  for (const { hosts, maxInFlight = Infinity } of world.budgets) {
    const flying = hosts.filter((host) => world.flying(host))
    assert.isAtMost(flying.length, maxInFlight, `in flight of ${hosts.join(" ")}: ${flying.join(" ")}`)
  }
}

/** A halted rollout has nothing queued, and nothing leased. */
function checkHalts({ plane }: RandomFleet): void {
  for (const [host, { rolloutId }] of sorted(plane.state.queue)) {
    const state = at(plane.state.rollouts, rolloutId)?.record.state
    assert.isTrue(state !== undefined && isLive(state), `${host} has a dispatch of ${rolloutId}, which is ${state}`)
  }
}

/** Waits, and could not be told to go: there is one reason, and a sentence for it. */
function checkVerdicts({ hosts, plane }: RandomFleet): void {
  const { state } = plane
  for (const host of hosts) {
    const inForce = [...state.manifests.values()].find(({ plan }) => Object.hasOwn(plan.hosts, host))
    const record = inForce === undefined ? undefined : hostIn(state, inForce.rolloutId, host)?.record
    const verdict = at(state.verdicts, host)
    const row = at(state.queue, host)
    if (record?.state === "Pending" && record.closedAt === undefined && row === undefined) {
      assert.strictEqual(verdict?.rolloutId, inForce?.rolloutId, `${host} waits without a verdict`)
    }
    if (verdict === undefined) continue
    assert.isAbove(Math.min(verdict.because.length, verdict.clearedBy.length, verdict.gate.length), 0)
  }
}

/** Nothing new is done, and nothing else is said, when nothing has changed. */
function checkRepeat({ plane }: RandomFleet): void {
  plane.offer({ _tag: "PlanTick" })
  const [writes, verdicts] = [plane.writes.length, HashMap.toEntries(plane.state.verdicts)]
  plane.offer({ _tag: "PlanTick" })
  assert.strictEqual(plane.writes.length, writes, "planned twice, and something was written")
  assert.deepStrictEqual(HashMap.toEntries(plane.state.verdicts), verdicts)
}

describe("laws of the planner (D8, D17)", () => {
  const met = new Map<string, number>()
  for (const seed of seeds) {
    it(`seed ${seed}`, () => {
      const world = new RandomFleet(seed)
      for (let step = 0; step < steps; step++) {
        world.step()
        checkBudgets(world)
        checkHalts(world)
        checkVerdicts(world)
        for (const { gate } of HashMap.values(world.plane.state.verdicts)) met.set(gate, (met.get(gate) ?? 0) + 1)
        if (step % 10 === 0) checkRepeat(world)
      }
      assert.isAbove(world.plane.log.length, 0)
      for (const { entry } of world.plane.log) {
        if (entry.kind !== "plan_action") continue
        if (entry.payload.action === "LeaseDispatch") met.set("leased", (met.get("leased") ?? 0) + 1)
        if ("carried" in entry.payload && entry.payload.carried !== undefined) {
          met.set("carried", (met.get("carried") ?? 0) + 1)
        }
      }
    })
  }

  it.skipIf(only !== undefined)("the seeds together met every gate that these histories can close", () => {
    assert.includeMembers([...met.keys()], [
      "carried",
      "channel-edges",
      "disruption-budget",
      "host-edges",
      "leased",
      "quarantine",
      "rollout-state",
      "wave-promotion"
    ])
  })
})
