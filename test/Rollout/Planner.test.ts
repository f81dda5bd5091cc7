import { assert, describe, it } from "@effect/vitest"
import { newPending } from "../../src/Rollout/Host.ts"
import {
  type ChannelView,
  gates,
  judge,
  type ManifestView,
  type Plan,
  plan,
  type PlanAction,
  type PlanView,
  type RolloutView
} from "../../src/Rollout/Planner.ts"
import { hostsByWave, proofOf, reportWave } from "../../src/Rollout/planner/Waves.ts"
import { step } from "../../src/Rollout/Rollout.ts"
import type { HostRecord, RolloutRecord } from "../../src/Schema/HostRecord.ts"
import type { HostStateName } from "../../src/Schema/Wire.ts"
import { byAlice, candidate, flightsOf, type InForce, interventionsOf, noOrder, rolloutIn } from "../support/planner.ts"
import {
  after,
  assertState,
  failing,
  late,
  minutes,
  pending,
  policy,
  prior,
  recordIn,
  samples,
  seconds,
  t0,
  target
} from "../support/records.ts"

const soakMs = policy.soakMs
/** When a host of the fixtures, activated at t0 + 5 s, counts for its wave. */
const proven = seconds(5) + soakMs

/** Hosts by wave, e.g. [["a"], ["b", "c"]]. */
function topology(waves: ReadonlyArray<ReadonlyArray<string>>, closure = target) {
  const hosts = waves.flatMap((names, wave) => names.map((name) => [name, { wave, targetClosure: closure }] as const))
  return { hosts: Object.fromEntries(hosts), soakMs: waves.map(() => soakMs) }
}

const waves = [["canary"], ["b", "a"], ["e", "d", "c"]]

function manifest(fields: Partial<ManifestView> = {}): ManifestView {
  return {
    rolloutId: "stable@aa11",
    targetRef: "aa11",
    signedAt: t0,
    manifestHash: "h1",
    plan: topology(waves),
    order: noOrder,
    ...fields
  }
}

/** A rollout whose hosts are in the given states; hosts that are not named are Pending. */
function known(
  record: RolloutRecord,
  states: Readonly<Record<string, HostStateName | HostRecord>> = {},
  planned = topology(waves),
  held: ReadonlyArray<string> = []
): RolloutView {
  return {
    record,
    plan: planned,
    recordOf: (hostname) => {
      if (planned.hosts[hostname] === undefined) return undefined
      const state = states[hostname]
      return typeof state === "object" ? state : recordIn(state ?? "Pending", { fields: { hostname } })
    },
    isHeld: (hostname) => held.includes(hostname),
    isBehind: () => false,
    alwaysDeclares: () => true
  }
}

interface Scene {
  readonly manifest?: ManifestView | undefined
  readonly rollouts?: ReadonlyArray<RolloutView>
  readonly queued?: Readonly<Record<string, { readonly rolloutId: string; readonly attempt: number }>>
  readonly now?: number
  readonly channel?: Partial<ChannelView>
  readonly interventions?: InForce
  readonly quarantine?: {
    readonly rollouts?: Readonly<Record<string, ReadonlyArray<string>>>
    readonly closures?: ReadonlyArray<string>
  }
}

function scene(given: Scene): PlanView {
  const inForce = "manifest" in given ? given.manifest : manifest()
  return {
    now: given.now ?? late,
    channels: [{
      channel: "stable",
      after: [],
      isEmpty: false,
      ...(inForce === undefined ? {} : { manifest: inForce, current: inForce.rolloutId }),
      ...given.channel
    }],
    rolloutOf: (id) => given.rollouts?.find(({ record }) => record.rolloutId === id),
    dispatchOf: (hostname) => given.queued?.[hostname],
    quarantine: {
      rollouts: new Map(
        Object.entries(given.quarantine?.rollouts ?? {}).map(([id, closures]) => [id, new Set(closures)])
      ),
      closures: new Map(given.quarantine?.closures?.map((closure) => [closure, "a-host"]))
    },
    interventions: interventionsOf(given.interventions),
    channelOf: () => undefined,
    flights: flightsOf({}),
    convergedOn: () => undefined
  }
}

function line(action: PlanAction): string {
  switch (action._tag) {
    case "Open":
      return `open ${action.rollout.rolloutId}`
    case "Reopen":
      return `reopen ${action.rollout.rolloutId} #${action.rollout.attempt}: ${action.restarted.join(" ")}`
    case "Refresh":
      return `refresh ${action.rolloutId} ${action.manifestHash}`
    case "CloseChannel":
      return `close ${action.channel}`
    case "Move":
      return action.event.kind === "WaveAdvanced"
        ? `wave ${action.event.fromWave} → ${action.event.toWave}`
        : "terminal"
    case "Dispatch":
      return `dispatch ${action.hostname} #${action.attempt}`
    case "Revoke":
      return `revoke ${action.hostname}`
  }
}

const lines = (result: Plan) => result.actions.map(line)
const waiting = (result: Plan) => result.verdicts.map(({ hostname, verdict }) => `${hostname}: ${verdict.gate}`)

describe("opening (D7, D15, P-19, P-20)", () => {
  it("a manifest that is new opens its rollout and dispatches its first wave in the same pass", () => {
    const result = plan(scene({}))
    assert.deepStrictEqual(lines(result), ["open stable@aa11", "dispatch canary #1"])
    assert.deepStrictEqual(result.actions[0], {
      _tag: "Open",
      rollout: rolloutIn("Opening", { openedAt: late }),
      carried: []
    })
    assert.deepStrictEqual(result.actions[1], {
      _tag: "Dispatch",
      hostname: "canary",
      rolloutId: "stable@aa11",
      attempt: 1,
      targetClosure: target
    })
    assert.deepStrictEqual(waiting(result), ["a", "b", "c", "d", "e"].map((name) => `${name}: wave-promotion`))
  })

  it("the same manifest again opens nothing", () => {
    const queued = { canary: { rolloutId: "stable@aa11", attempt: 1 } }
    assert.deepStrictEqual(lines(plan(scene({ rollouts: [known(rolloutIn("Active"))], queued }))), [])
  })

  it("the same topology signed again is refreshed and not rolled out again, whatever became of it", () => {
    for (const state of ["Terminal", "Failed", "Reverted"] as const) {
      const again = manifest({ manifestHash: "h2", signedAt: t0 + 1 })
      const hosts = Object.fromEntries(waves.flat().map((host) => [host, "Converged" as const]))
      assert.deepStrictEqual(lines(plan(scene({ manifest: again, rollouts: [known(rolloutIn(state), hosts)] }))), [
        "refresh stable@aa11 h2"
      ])
    }
  })

  it("other targets under the same id begin a new attempt on the hosts they concern (P-20)", () => {
    const hosts = {
      ...topology(waves).hosts,
      canary: { wave: 0, targetClosure: "rebuilt" },
      new: { wave: 2, targetClosure: target }
    }
    const changed = manifest({ manifestHash: "h2", signedAt: t0 + 1, plan: { ...topology(waves), hosts } })
    const before = known(rolloutIn("Failed", { currentWave: 1 }), {
      canary: "Converged",
      a: "Converged",
      b: "Failed",
      c: "Soaking",
      d: "Reverted"
    })
    const result = plan(scene({ manifest: changed, rollouts: [before] }))
    assert.deepStrictEqual(lines(result), ["reopen stable@aa11 #2: b canary d new", "dispatch canary #2"])
    const [reopened] = result.actions
    assert.deepStrictEqual(
      reopened?._tag === "Reopen" &&
        [reopened.rollout.state, reopened.rollout.currentWave, reopened.rollout.manifestHash],
      ["Opening", 0, "h2"]
    )
  })

  it("a host that leaves or changes its wave is another topology", () => {
    const { canary: _, ...rest } = topology(waves).hosts
    const changes = [rest, { ...topology(waves).hosts, a: { wave: 2, targetClosure: target } }]
    for (const hosts of changes) {
      const changed = manifest({ manifestHash: "h2", plan: { ...topology(waves), hosts } })
      const result = plan(scene({ manifest: changed, rollouts: [known(rolloutIn("Active"), { a: "Soaking" })] }))
      assert.strictEqual(lines(result)[0], "reopen stable@aa11 #2: ")
    }
  })

  it("a channel pointed back begins a new attempt on every host (D7)", () => {
    const back = known(rolloutIn("Superseded"), { canary: "Converged", a: "Converged" })
    const result = plan(scene({ manifest: manifest({ signedAt: t0 + 9 }), rollouts: [back] }))
    assert.deepStrictEqual(lines(result), ["reopen stable@aa11 #2: a b c canary d e", "dispatch canary #2"])
  })

  it("a pruned rollout whose manifest is still in force stays pruned, even when it is signed again (P-19)", () => {
    for (const manifestHash of ["h1", "h2"]) {
      const view = scene({ manifest: manifest({ manifestHash }), rollouts: [known(rolloutIn("Pruned"))] })
      assert.deepStrictEqual(plan(view), { actions: [], verdicts: [] })
    }
  })

  it("a channel without a manifest closes, once (D15)", () => {
    const view = { manifest: undefined, rollouts: [known(rolloutIn("Active"))] }
    assert.deepStrictEqual(lines(plan(scene({ ...view, channel: { current: "stable@aa11" } }))), ["close stable"])
    assert.deepStrictEqual(lines(plan(scene(view))), [])
  })

  it("a rollout without a host is complete (D15)", () => {
    assert.deepStrictEqual(lines(plan(scene({ manifest: manifest({ plan: topology([[]]) }) }))), [
      "open stable@aa11",
      "terminal"
    ])
  })
})

describe("waves (D11, D12, D15)", () => {
  const converged = recordIn("Converged")

  const proofs: ReadonlyArray<[string, HostRecord | undefined, number, string]> = [
    ["no record", undefined, late, "Missing"],
    ["Pending", recordIn("Pending"), late, "Missing"],
    ["Activating", recordIn("Activating"), late, "Missing"],
    ["Deferred satisfies nothing", recordIn("Deferred"), late, "Missing"],
    ["Soaking", recordIn("Soaking"), late, "Missing"],
    ["Failed", recordIn("Failed"), late, "Missing"],
    ["Reverted", recordIn("Reverted"), late, "Missing"],
    ["Converged and its soak is over here", converged, proven, "Proven"],
    ["Converged a millisecond before", converged, proven - 1, "Due"],
    ["Converged without evidence", { ...converged, unproven: true }, late, "Missing"],
    ["Converged, but the agent says otherwise", { ...converged, diverged: true }, late, "Missing"]
  ]
  it.each(proofs)("%s", (_, record, now, expected) => {
    assert.strictEqual(proofOf(record, true, now)._tag, expected)
  })

  /** As an agent of the original without a health-checks file reports it: nothing was declared, nothing was probed. */
  const silent = assertState(
    after(
      pending(),
      [samples.DispatchAck, samples.ActivationStarted, samples.ActivationCompleted, samples.Converged],
      { origin: "Remote" }
    ),
    "Converged"
  )

  const undeclared: ReadonlyArray<[string, HostRecord, boolean, number, string]> = [
    ["is enough from an agent of the original, after its soak", silent, false, proven, "Proven"],
    ["is not enough before the soak is over here", silent, false, proven - 1, "Due"],
    ["is not enough from one that always declares", silent, true, late, "Missing"],
    ["is not enough on another closure", { ...silent, currentClosure: prior }, false, late, "Missing"]
  ]
  it.each(undeclared)("a convergence without a declared topology %s", (_, record, alwaysDeclares, now, expected) => {
    assert.strictEqual(proofOf(record, alwaysDeclares, now)._tag, expected)
  })

  it("a failing probe of an agent of the original stands against its convergence, declared or not", () => {
    const failed = after(
      pending(),
      [
        samples.DispatchAck,
        samples.ActivationStarted,
        samples.ActivationCompleted,
        failing(seconds(10)),
        samples.Converged
      ],
      { origin: "Remote" }
    )
    assert.strictEqual(proofOf(failed, false, late)._tag, "Missing")
  })

  it("waits for reboot of what was deferred, by name", () => {
    const report = reportWave(known(rolloutIn("Active"), { canary: "Deferred" }), hostsByWave(topology(waves)), late)
    assert.deepStrictEqual(report.waitsFor, [{ hostname: "canary", because: "waits for reboot of kernel" }])
  })

  const rows: ReadonlyArray<
    [string, Record<string, HostStateName | HostRecord>, number, number, ReadonlyArray<string>]
  > = [
    ["a canary that soaks holds the rest", { canary: "Soaking" }, 0, late, []],
    ["a converged canary releases the next wave at once", { canary: converged }, 0, proven, [
      "wave 0 → 1",
      "dispatch a #1",
      "dispatch b #1"
    ]],
    ["and not before its soak is over here", { canary: converged }, 0, proven - 1, []],
    ["one host of a wave holds the next", { canary: converged, a: converged, b: "Soaking" }, 1, late, []],
    ["several complete waves advance in one pass", { canary: converged, a: converged, b: converged }, 0, late, [
      "wave 0 → 1",
      "wave 1 → 2",
      "dispatch c #1",
      "dispatch d #1",
      "dispatch e #1"
    ]],
    ["the last wave ends the rollout", Object.fromEntries(waves.flat().map((name) => [name, converged])), 2, late, [
      "terminal"
    ]],
    [
      "converged everywhere, proof pending",
      Object.fromEntries(waves.flat().map((name) => [name, converged])),
      2,
      proven - 1,
      [
        "wave 2 → 2"
      ]
    ]
  ]
  it.each(rows)("%s", (_, states, currentWave, now, expected) => {
    const view = scene({ rollouts: [known(rolloutIn("Active", { currentWave }), states)], now })
    assert.deepStrictEqual(lines(plan(view)), expected)
  })

  it("Converging ends when the proof is there, and is entered once", () => {
    const states = Object.fromEntries(waves.flat().map((name) => [name, converged]))
    const converging = known(rolloutIn("Converging", { currentWave: 2 }), states)
    assert.deepStrictEqual(lines(plan(scene({ rollouts: [converging], now: proven - 1 }))), [])
    assert.deepStrictEqual(lines(plan(scene({ rollouts: [converging], now: proven }))), ["terminal"])
  })

  it("a wave that declares no host is complete", () => {
    const gaps = topology([[], ["a"], [], ["b"]])
    const result = plan(scene({ manifest: manifest({ plan: gaps }), rollouts: [known(rolloutIn("Active"), {}, gaps)] }))
    assert.deepStrictEqual(lines(result), ["wave 0 → 1", "dispatch a #1"])
    const next = known(rolloutIn("Active", { currentWave: 1 }), { a: converged }, gaps)
    assert.deepStrictEqual(lines(plan(scene({ manifest: manifest({ plan: gaps }), rollouts: [next] }))), [
      "wave 1 → 2",
      "wave 2 → 3",
      "dispatch b #1"
    ])
  })

  it("waves beyond the declared ones count, and declared ones without hosts end the rollout too", () => {
    assert.deepStrictEqual(hostsByWave({ ...topology([["a"], ["b"]]), soakMs: [] }), [["a"], ["b"]])
    assert.deepStrictEqual(hostsByWave({ hosts: {}, soakMs: [] }), [[]])
    const tail = topology([["a"], []])
    const done = known(rolloutIn("Active"), { a: converged }, tail)
    assert.deepStrictEqual(lines(plan(scene({ manifest: manifest({ plan: tail }), rollouts: [done] }))), [
      "wave 0 → 1",
      "terminal"
    ])
  })

  it("every move is legal for the machine", () => {
    for (const [, states, currentWave, now] of rows) {
      const start = rolloutIn("Active", { currentWave })
      plan(scene({ rollouts: [known(start, states)], now })).actions.reduce((present, action) => {
        if (action._tag !== "Move") return present
        const result = step(present, action.event)
        return result.ok ? result.record : assert.fail(JSON.stringify(result.error))
      }, start)
    }
  })

  it("says what a wave waits for, bounded, with the time when only time is missing", () => {
    const many = topology([["a", "b", "c", "d", "e"], ["z"]])
    const report = (states: Record<string, HostStateName | HostRecord>, now: number) =>
      reportWave(known(rolloutIn("Active"), states, many), hostsByWave(many), now)
    const mixed = report({ a: converged, b: "Soaking" }, late)
    assert.deepStrictEqual([mixed.complete, mixed.converged, mixed.waiting, mixed.hosts], [false, false, 4, 5])
    assert.deepStrictEqual(mixed.waitsFor.map(({ hostname }) => hostname), ["b", "c", "d"])
    assert.notProperty(report({ a: converged, b: "Soaking" }, proven - 1), "earliestAt")
    const states = Object.fromEntries(["a", "b", "c", "d", "e"].map((name) => [name, converged]))
    assert.strictEqual(report(states, proven - 1).earliestAt, proven)
    assert.isTrue(report({ ...states, a: { ...converged, unproven: true } }, late).converged)
    assert.isFalse(report({ ...states, b: "Soaking" }, proven - 1).converged, "one that has not converged is enough")
  })
})

describe("gates", () => {
  it("only Opening, Active and Converging dispatch: halt halts the rest of the wave (P-9)", () => {
    for (const state of ["Failed", "Reverted"] as const) {
      const stopped = known(rolloutIn(state, { currentWave: 2 }), {
        canary: "Converged",
        a: "Converged",
        b: "Converged",
        c: "Failed"
      })
      const result = plan(scene({ rollouts: [stopped], queued: { d: { rolloutId: "stable@aa11", attempt: 1 } } }))
      assert.deepStrictEqual(lines(result), ["revoke d"])
      assert.deepStrictEqual(waiting(result), ["d: rollout-state", "e: rollout-state"])
      assert.match(result.verdicts[0]!.verdict.because, /halted/)
    }
  })

  it("a stopped rollout advances no wave", () => {
    const stopped = known(rolloutIn("Failed"), { canary: "Converged" })
    assert.deepStrictEqual(lines(plan(scene({ rollouts: [stopped] }))), [])
  })

  it("quarantine holds by (channel, ref) while the manifest names what failed, and by closure", () => {
    for (const quarantine of [{ rollouts: { "stable@aa11": [target] } }, { closures: [target] }]) {
      const result = plan(scene({
        rollouts: [known(rolloutIn("Active"))],
        quarantine,
        queued: { canary: { rolloutId: "stable@aa11", attempt: 1 } }
      }))
      assert.deepStrictEqual(lines(result), ["revoke canary"])
      assert.strictEqual(waiting(result)[0], "canary: quarantine")
    }
    const others = { rollouts: { "edge@aa11": [target] }, closures: ["other"] }
    assert.include(lines(plan(scene({ quarantine: others }))), "dispatch canary #1")
  })

  it("quarantine of a ref ends when the ref is published again with repaired targets (P-20)", () => {
    const quarantine = { rollouts: { "stable@aa11": ["broken"] }, closures: ["broken"] }
    const result = plan(scene({ rollouts: [known(rolloutIn("Active"))], quarantine }))
    assert.include(lines(result), "dispatch canary #1")
  })

  it("quarantine holds hosts whose own closure is well while another of the manifest is not, and says which", () => {
    const planned = topology(waves)
    const mixed = { ...planned, hosts: { ...planned.hosts, e: { wave: 2, targetClosure: "broken" } } }
    const result = plan(scene({
      manifest: manifest({ plan: mixed }),
      rollouts: [known(rolloutIn("Active"), {}, mixed)],
      quarantine: { rollouts: { "stable@aa11": ["broken"] }, closures: ["broken"] }
    }))
    assert.deepStrictEqual(lines(result), [])
    const canary = result.verdicts.find(({ hostname }) => hostname === "canary")?.verdict
    assert.include(canary?.because, "stable@aa11 is quarantined: broken, which its manifest names")
    assert.strictEqual(
      canary?.clearedBy,
      "publishing a manifest that no longer names broken, or nixfleet quarantine clear stable@aa11"
    )
  })

  it("a database that may have lost another waits for the digests of all, or for the grace (D6)", () => {
    const recovering = { untilAt: minutes(30), missingHosts: ["a", "b"] }
    const at = (now: number, missingHosts = recovering.missingHosts) =>
      plan(
        scene({ rollouts: [known(rolloutIn("Active"))], now, channel: { recovering: { ...recovering, missingHosts } } })
      )
    const held = at(minutes(30) - 1)
    assert.deepStrictEqual(lines(held), [])
    assert.strictEqual(waiting(held)[0], "canary: recovery")
    assert.strictEqual(held.verdicts[0]!.verdict.earliestAt, minutes(30))
    assert.deepStrictEqual(lines(at(minutes(30))), ["dispatch canary #1"])
    assert.deepStrictEqual(lines(at(minutes(1), [])), ["dispatch canary #1"])
  })

  it("the wave gate says when, once only time is missing, and only to the next wave", () => {
    const soon = plan(scene({
      rollouts: [known(rolloutIn("Active"), { canary: "Converged" })],
      now: proven - 1
    }))
    assert.deepStrictEqual(
      soon.verdicts.map(({ hostname, verdict }) => [hostname, verdict.gate, verdict.earliestAt]),
      [["a", proven], ["b", proven], ["c", undefined], ["d", undefined], ["e", undefined]].map((
        [name, at]
      ) => [name, "wave-promotion", at])
    )
  })

  it("are asked in their order; the first that does not pass speaks", () => {
    const worst = candidate({
      hostname: "e",
      wave: 2,
      rollout: rolloutIn("Failed"),
      progress: reportWave(known(rolloutIn("Active")), hostsByWave(topology(waves)), late),
      frozen: { channel: "stable", ...byAlice },
      paused: byAlice,
      held: byAlice,
      recovering: { untilAt: late + 1, missingHosts: ["a"] },
      quarantined: new Map([[target, "a-host"]]),
      predecessors: [{ channel: "edge", because: "it runs", clearedBy: "its end" }],
      edges: [{ edge: { gates: "d" }, proof: proofOf(undefined, true, late) }]
    })
    const spoken = gates.map((gate) => {
      const verdict = gate(worst)
      return verdict.pass ? "pass" : verdict.gate
    })
    assert.deepStrictEqual(spoken, [
      "rollout-state",
      "frozen",
      "paused",
      "held",
      "recovery",
      "quarantine",
      "channel-edges",
      "wave-promotion",
      "host-edges"
    ])
    const first = judge(worst)
    assert.strictEqual(!first.pass && first.gate, "rollout-state")
    const { frozen: _frozen, held: _held, paused: _paused, ...free } = worst
    assert.deepStrictEqual(
      judge({
        ...free,
        wave: 0,
        rollout: rolloutIn("Active"),
        recovering: { untilAt: late, missingHosts: ["a"] },
        targetClosure: "x",
        predecessors: [],
        edges: []
      }),
      { pass: true }
    )
  })
})

describe("dispatch (D8)", () => {
  it("queues a Pending host once, and again when its attempt is another", () => {
    const at = (attempt: number) =>
      lines(plan(scene({
        rollouts: [known(rolloutIn("Active"), { canary: pending({ hostname: "canary", attempt: 2 }) })],
        queued: { canary: { rolloutId: "stable@aa11", attempt } }
      })))
    assert.deepStrictEqual(at(2), [])
    assert.deepStrictEqual(at(1), ["dispatch canary #2"])
  })

  it("leaves alone what another rollout queued, what a newer rollout closed, and what is under way", () => {
    const queued = { canary: { rolloutId: "edge@aa11", attempt: 7 } }
    for (const state of ["Active", "Failed"] as const) {
      assert.deepStrictEqual(lines(plan(scene({ rollouts: [known(rolloutIn(state))], queued }))), [])
    }
    const closed = known(rolloutIn("Active"), { canary: pending({ closedAt: t0 }) })
    assert.deepStrictEqual(lines(plan(scene({ rollouts: [closed] }))), [])
    for (const state of ["Activating", "Deferred", "Soaking"] as const) {
      assert.deepStrictEqual(lines(plan(scene({ rollouts: [known(rolloutIn("Active"), { canary: state })] }))), [])
    }
  })

  it("channels and hosts are planned in ascending order of names, whatever order they come in", () => {
    const view = scene({ rollouts: [] })
    const edge = {
      channel: "edge",
      after: [],
      isEmpty: false,
      manifest: manifest({ rolloutId: "edge@aa11", plan: topology([["z", "y"]]) })
    }
    const forward = plan({ ...view, channels: [...view.channels, edge] })
    const backward = plan({ ...view, channels: [edge, ...view.channels] })
    assert.deepStrictEqual(forward, backward)
    assert.deepStrictEqual(lines(forward), [
      "open edge@aa11",
      "dispatch y #1",
      "dispatch z #1",
      "open stable@aa11",
      "dispatch canary #1"
    ])
  })

  it("planning again on what it led to says nothing new", () => {
    const first = plan(scene({}))
    const opened = first.actions[0]
    if (opened?._tag !== "Open") return assert.fail("nothing opened")
    const joined = step(opened.rollout, { kind: "HostJoined", at: late, hostname: "a", wave: 1 })
    if (!joined.ok) return assert.fail("not joined")
    const queued = { canary: { rolloutId: "stable@aa11", attempt: 1 } }
    const again = plan(scene({ rollouts: [known(joined.record)], queued }))
    assert.deepStrictEqual(again.actions, [])
    assert.deepStrictEqual(again.verdicts, first.verdicts)
  })

  it("10,000 hosts are planned in one linear pass", () => {
    const names = Array.from({ length: 10_000 }, (_, i) => `host-${String(i).padStart(5, "0")}`)
    const planned = topology([names.slice(0, 5000), names.slice(5000)])
    let asked = 0
    const record = newPending({ ...pending(), hostname: "h" })
    const big: RolloutView = {
      record: rolloutIn("Active"),
      plan: planned,
      recordOf: () => {
        asked++
        return record
      },
      isHeld: () => false,
      isBehind: () => false,
      alwaysDeclares: () => true
    }
    const result = plan(scene({ manifest: manifest({ plan: planned }), rollouts: [big] }))
    assert.strictEqual(result.actions.length, 5000)
    assert.strictEqual(result.verdicts.length, 5000)
    assert.isAtMost(asked, 3 * names.length)
  })
})
