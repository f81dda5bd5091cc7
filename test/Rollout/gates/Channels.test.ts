/** In which order a pass plans channels, and what it sees of those that come first. */
import { assert, describe, it } from "@effect/vitest"
import {
  type ChannelView,
  type ManifestView,
  plan,
  type PlanView,
  type RolloutView
} from "../../../src/Rollout/Planner.ts"
import { predecessorsFirst } from "../../../src/Rollout/planner/Predecessors.ts"
import type { HostStateName } from "../../../src/Schema/Wire.ts"
import { flightsOf, interventionsOf, noOrder, rolloutIn } from "../../support/planner.ts"
import { late, policy, recordIn, t0, target } from "../../support/records.ts"

const channel = (name: string, ...after: ReadonlyArray<string>): ChannelView => ({
  channel: name,
  after: after.map((gates) => ({ gates })),
  isEmpty: false
})

const orderOf = (...channels: ReadonlyArray<ChannelView>) =>
  predecessorsFirst(channels).map((one) => one.channel).join(" ")

const manifestOf = (name: string): ManifestView => ({
  rolloutId: `${name}@aa11`,
  targetRef: "aa11",
  signedAt: t0,
  manifestHash: "h1",
  plan: { hosts: { [`${name}-1`]: { wave: 0, targetClosure: target } }, soakMs: [policy.soakMs] },
  order: noOrder
})

/** Channels whose one host each is in this state; `later` waits for `first`. */
function viewOf(state: HostStateName, planned: ReadonlyArray<string>, now = late): PlanView {
  const channels = ["first", "later"].map((name) => ({
    channel: name,
    after: name === "later" ? [{ gates: "first" }] : [],
    isEmpty: false,
    manifest: manifestOf(name),
    current: `${name}@aa11`
  }))
  const rollouts = channels.map(({ channel: name, manifest }): RolloutView => ({
    record: rolloutIn("Active", { rolloutId: manifest.rolloutId, channel: name }),
    plan: manifest.plan,
    recordOf: (hostname) => recordIn(name === "first" ? state : "Pending", { fields: { hostname } }),
    isHeld: () => false,
    isBehind: () => false,
    alwaysDeclares: () => true
  }))
  return {
    now,
    channels: channels.filter((one) => planned.includes(one.channel)),
    channelOf: (name) => channels.find((one) => one.channel === name),
    rolloutOf: (id) => rollouts.find(({ record }) => record.rolloutId === id),
    dispatchOf: () => undefined,
    quarantine: { rollouts: new Map(), closures: new Map() },
    interventions: interventionsOf(),
    flights: flightsOf({}),
    convergedOn: () => undefined
  }
}

const done = (view: PlanView) => plan(view).actions.map((action) => action._tag).join(" ")

describe("channels that come first (D15)", () => {
  it("each is planned after those that it waits for, otherwise by name", () => {
    assert.strictEqual(orderOf(channel("c"), channel("a", "c"), channel("b")), "c a b")
    assert.strictEqual(
      orderOf(channel("b", "d"), channel("d", "c"), channel("c"), channel("a", "elsewhere")),
      "a c d b"
    )
  })

  it("a circle is planned all the same, each once, and in the same order whatever order they come in", () => {
    const [a, b, c] = [channel("a", "b"), channel("b", "c"), channel("c", "a")]
    assert.strictEqual(orderOf(a, b, c), "c b a")
    assert.strictEqual(orderOf(c, a, b), "c b a")
  })

  it("one that becomes complete in this pass lets the next begin in it", () => {
    assert.strictEqual(done(viewOf("Converged", ["later", "first"])), "Move Dispatch")
    assert.strictEqual(done(viewOf("Soaking", ["later", "first"])), "")
  })

  it("one that this pass does not plan is as far as its record says", () => {
    assert.strictEqual(done(viewOf("Converged", ["later"])), "", "complete, and not recorded as that yet")
  })

  it("says when the last soak of the one before may be over", () => {
    const [held] = plan(viewOf("Converged", ["later", "first"], t0 + 6_000)).verdicts
    assert.strictEqual(held?.verdict.gate, "channel-edges")
    assert.strictEqual(held?.verdict.earliestAt, t0 + 5_000 + policy.soakMs)
  })
})
