/** What operators hold back, as gates, waves and the opening of rollouts see it (D8, D17). */
import { assert, describe, it } from "@effect/vitest"
import { judge, plan } from "../../../src/Rollout/Planner.ts"
import { opening } from "../../../src/Rollout/planner/Opening.ts"
import type { Candidate, ManifestView, RolloutView, Verdict } from "../../../src/Rollout/planner/View.ts"
import { hostsByWave, reportWave } from "../../../src/Rollout/planner/Waves.ts"
import type { RolloutStateName } from "../../../src/Schema/HostRecord.ts"
import type { HostStateName } from "../../../src/Schema/Wire.ts"
import { byAlice, candidate, flightsOf, interventionsOf, noOrder, rolloutIn } from "../../support/planner.ts"
import { late, policy, recordIn, t0, target } from "../../support/records.ts"

const held = (verdict: Verdict) => verdict.pass ? assert.fail("it passes") : verdict

describe("gates of what operators hold", () => {
  const by = byAlice
  const words = byAlice.by
  const cases: ReadonlyArray<readonly [string, Partial<Candidate>, gate: string, because: string, clearedBy: string]> =
    [
      [
        "a frozen channel",
        { frozen: { channel: "stable", ...by } },
        "frozen",
        `channel stable is frozen ${words}`,
        "nixfleet unfreeze --channel stable"
      ],
      [
        "all frozen",
        { frozen: { channel: null, ...by } },
        "frozen",
        `every channel is frozen ${words}`,
        "nixfleet unfreeze"
      ],
      ["a pause", { paused: by }, "paused", `the rollout is paused ${words}`, "nixfleet rollout resume stable@aa11"],
      ["a held host", { held: by }, "held", `the host is held ${words}`, "nixfleet host release web-1"]
    ]
  for (const [what, fields, gate, because, clearedBy] of cases) {
    it(`${what}: who, until when, why, and what ends it`, () => {
      assert.deepStrictEqual(held(judge(candidate(fields))), {
        pass: false,
        gate,
        because,
        clearedBy,
        earliestAt: by.until
      })
    })
  }

  it("a halt is told before what people hold", () => {
    const all = { frozen: { channel: null, ...by }, paused: by, held: by }
    assert.strictEqual(held(judge(candidate({ rollout: rolloutIn("Failed"), ...all }))).gate, "rollout-state")
    assert.strictEqual(held(judge(candidate(all))).gate, "frozen")
  })

  it("what keeps a held host out of a complete rollout is the hold", () => {
    assert.strictEqual(held(judge(candidate({ rollout: rolloutIn("Terminal"), held: by }))).gate, "held")
    assert.strictEqual(held(judge(candidate({ rollout: rolloutIn("Terminal") }))).gate, "rollout-state")
  })
})

const names = [["a"], ["b", "c"]]
const topology = {
  hosts: Object.fromEntries(
    names.flatMap((hosts, wave) => hosts.map((name) => [name, { wave, targetClosure: target }]))
  ),
  soakMs: names.map(() => policy.soakMs)
}
const manifest: ManifestView = {
  rolloutId: "stable@aa11",
  targetRef: "aa11",
  signedAt: t0,
  manifestHash: "h1",
  plan: topology,
  order: noOrder
}

/** A rollout whose hosts are Converged, but for those that are named. */
const rollout = (
  state: RolloutStateName,
  states: Readonly<Record<string, HostStateName>>,
  holds: ReadonlyArray<string> = []
): RolloutView => ({
  record: rolloutIn(state),
  plan: topology,
  recordOf: (hostname) => recordIn(states[hostname] ?? "Converged", { fields: { hostname } }),
  isHeld: (hostname) => holds.includes(hostname),
  isBehind: () => false,
  alwaysDeclares: () => true
})

describe("a held host and its wave", () => {
  const report = (states: Readonly<Record<string, HostStateName>>, holds: ReadonlyArray<string>) =>
    reportWave(
      { ...rollout("Active", states, holds), record: rolloutIn("Active", { currentWave: 1 }) },
      hostsByWave(topology),
      late
    )

  it("the wave is complete without it, whatever it does", () => {
    for (const state of ["Pending", "Activating", "Soaking", "Failed"] as const) {
      assert.deepInclude(report({ b: state }, ["b"]), { complete: true, hosts: 1, waiting: 0 })
      assert.deepInclude(report({ b: state }, ["c"]), { complete: false, hosts: 1, waiting: 1 })
      assert.deepInclude(report({ b: state }, ["b", "c"]), { complete: true, hosts: 0, waiting: 0 })
    }
  })

  it("a wave of which everybody is held proves nothing to those after it, unless it had converged before", () => {
    const only = (state: HostStateName) =>
      reportWave(
        { ...rollout("Active", { a: state }, ["a"]), record: rolloutIn("Active") },
        hostsByWave(topology),
        late
      )
    assert.deepInclude(only("Pending"), {
      complete: false,
      waitsFor: [{ hostname: "a", because: "was not activated yet and is held" }]
    })
    assert.deepInclude(only("Converged"), { complete: true, hosts: 1 })
  })

  it("the last wave waits for those who are held when nobody has tried the release before it", () => {
    const last = { hosts: { b: topology.hosts["b"]! }, soakMs: topology.soakMs }
    const only = { ...rollout("Active", { b: "Pending" }, ["b"]), plan: last }
    const waves = hostsByWave(last)
    assert.deepStrictEqual(waves, [[], ["b"]])
    const told = reportWave({ ...only, record: rolloutIn("Active", { currentWave: 1 }) }, waves, late)
    assert.deepInclude(told, { complete: false, hosts: 1, waiting: 1 })
  })

  it("the rollout is planned to its end without it", () => {
    const view = {
      now: late,
      channels: [{ channel: "stable", after: [], isEmpty: false, manifest, current: "stable@aa11" }],
      rolloutOf: () => rollout("Active", { b: "Pending" }, ["b"]),
      dispatchOf: () => undefined,
      quarantine: { rollouts: new Map<string, ReadonlySet<string>>(), closures: new Map<string, string>() },
      interventions: interventionsOf({ holds: { b: byAlice } }),
      channelOf: () => undefined,
      flights: flightsOf({}),
      convergedOn: () => undefined
    }
    assert.deepStrictEqual(
      plan(view).actions.map((action) => action._tag === "Move" ? action.event.kind : action._tag),
      ["WaveAdvanced", "RolloutTerminal"]
    )
  })
})

describe("a complete rollout in which a host was left behind", () => {
  const view = { now: late, convergedOn: () => undefined }
  const channel = { channel: "stable", current: "stable@aa11" }
  const opened = (known: RolloutView) => opening(channel, manifest, known, view)

  it("opens again when the host is held no longer; nobody begins anew", () => {
    const action = opened(rollout("Terminal", { c: "Pending" }))
    if (action?._tag !== "Reopen") return assert.fail(`${action?._tag}`)
    assert.deepStrictEqual([action.restarted, action.rollout.attempt, action.rollout.state], [[], 2, "Opening"])
  })

  it("stays as it is while the host is held, and when nobody was left behind", () => {
    assert.isUndefined(opened(rollout("Terminal", { c: "Pending" }, ["c"])))
    assert.isUndefined(opened(rollout("Terminal", {})))
    assert.isUndefined(opened(rollout("Terminal", { c: "Failed" })))
  })

  it("stays as it is when the host has taken something newer meanwhile", () => {
    const known = rollout("Terminal", {})
    const closed = recordIn("Pending", { fields: { hostname: "c", closedAt: late } })
    assert.isUndefined(opened({ ...known, recordOf: (name) => name === "c" ? closed : known.recordOf(name) }))
  })
})
