import { assert, describe, it } from "@effect/vitest"
import { type Finding, resolveDeclaration } from "../../src/Operator/Declaration.ts"
import { decodeFleetDeclaration } from "../../src/Schema/FleetDeclaration.ts"
import { closure } from "../support/artifacts.ts"

type Fields = Readonly<Record<string, unknown>>
const host = (overrides: Fields = {}): Fields => ({
  channel: "stable",
  platform: "x86_64-linux",
  tags: ["web"],
  closure: "web",
  ...overrides
})
const wave = (selector: Fields, soak: Fields = { soakMinutes: 10 }): Fields => ({ selector, ...soak })
const declaration = (overrides: Fields = {}): Fields => ({
  closures: { web: closure("1", "web") },
  channels: { stable: { rolloutPolicy: "careful", freshnessWindow: 120 } },
  rolloutPolicies: { careful: { waves: [wave({ tags: ["canary"] }), wave({ all: true })] } },
  hosts: { "web-1": host({ tags: ["web", "canary"] }), "web-2": host(), "web-3": host() },
  ...overrides
})

function resolve(overrides: Fields = {}, ref = "aa11") {
  const decoded = decodeFleetDeclaration(declaration(overrides))
  if (!decoded.ok) throw new Error(decoded.problem)
  return resolveDeclaration(decoded.value, ref)
}
const lines = (findings: ReadonlyArray<Finding>) => findings.map(({ at, message }) => `${at}: ${message}`)
function problemsOf(overrides: Fields, ref?: string): ReadonlyArray<string> {
  const resolved = resolve(overrides, ref)
  return resolved.ok ? [] : lines(resolved.problems)
}
function fleetOf(overrides: Fields = {}) {
  const resolved = resolve(overrides)
  if (!resolved.ok) throw new Error(lines(resolved.problems).join("\n"))
  return resolved.fleet
}

describe("a fleet declaration becomes a fleet", () => {
  it("with closures by name, defaults, and each host in the first wave that selects it", () => {
    const fleet = fleetOf()
    assert.deepStrictEqual(fleet.waves, {
      stable: [{ hosts: ["web-1"], soakMinutes: 10 }, { hosts: ["web-2", "web-3"], soakMinutes: 10 }]
    })
    assert.strictEqual(fleet.hosts["web-2"]!.closureHash, closure("1", "web"))
    assert.deepInclude(fleet.channels["stable"], { signingIntervalMinutes: 60, reconcileIntervalMinutes: 30 })
    assert.deepInclude(fleet.rolloutPolicies["careful"], { onHealthFailure: "rollback-and-halt", strategy: "canary" })
    assert.deepStrictEqual(fleet.meta, { schemaVersion: 1, signedAt: null, ciCommit: "aa11" })
  })
  it("with a closure written in full, or none", () => {
    const { hosts } = fleetOf({
      hosts: { a: host({ closure: closure("2", "x") }), b: host({ closure: null, tags: [] }) }
    })
    assert.strictEqual(hosts["a"]!.closureHash, closure("2", "x"))
    assert.isNull(hosts["b"]!.closureHash)
  })
  it("with soak seconds beside minutes that round them up", () => {
    const waves = [wave({ all: true }, { soakSeconds: 61 })]
    assert.deepInclude(fleetOf({ rolloutPolicies: { careful: { waves } } }).waves["stable"]![0], {
      soakSeconds: 61,
      soakMinutes: 2
    })
  })
  it("with one wave of everybody for all-at-once, which stays as it was written in the policy", () => {
    const fleet = fleetOf({ rolloutPolicies: { careful: { strategy: "all-at-once" } } })
    assert.deepStrictEqual(fleet.waves["stable"], [{ hosts: ["web-1", "web-2", "web-3"], soakMinutes: 0 }])
    assert.deepStrictEqual(fleet.rolloutPolicies["careful"]!.waves, [])
  })
  it("with hosts of another channel left out of its waves", () => {
    const fleet = fleetOf({
      channels: {
        stable: { rolloutPolicy: "careful", freshnessWindow: 120 },
        edge: { rolloutPolicy: "careful", freshnessWindow: 120 }
      },
      hosts: { a: host(), b: host({ channel: "edge" }) }
    })
    assert.deepStrictEqual(fleet.waves["edge"]!.map((one) => one.hosts), [[], ["b"]])
  })
})

describe("what can never work is refused, with its place", () => {
  const channel = { rolloutPolicy: "careful", freshnessWindow: 120 }
  const budget = { selector: { all: true }, maxInFlight: 1 }
  it.each<[string, Fields, ReadonlyArray<string>]>([
    ["an unknown channel", { hosts: { a: host({ channel: "edge" }) } }, [
      "hosts.a.channel: there is no channel edge"
    ]],
    ["an unknown policy", { channels: { stable: { ...channel, rolloutPolicy: "constructor" } } }, [
      "channels.stable.rolloutPolicy: there is no policy constructor"
    ]],
    ["a host in no wave", { rolloutPolicies: { careful: { waves: [wave({ tags: ["canary"] })] } } }, [
      "hosts.web-2: no wave of policy careful selects it, so it would never be rolled out",
      "hosts.web-3: no wave of policy careful selects it, so it would never be rolled out"
    ]],
    ["a closure that is none", { closures: { web: "/nix/store/abc" } }, [
      "closures.web: \"/nix/store/abc\" is not a closure: <hash>-<name>, without a path"
    ]],
    ["a host's closure that is none", { hosts: { a: host({ closure: "wbe" }) } }, [
      "hosts.a.closure: \"wbe\" is not a closure: <hash>-<name>, without a path; nor is it a name from closures"
    ]],
    ["a window that holds no two signings", { channels: { stable: { ...channel, freshnessWindow: 119 } } }, [
      "channels.stable.freshnessWindow: 119 minutes do not hold two signing intervals of 60 minutes"
    ]],
    ["a window of nothing", {
      channels: { stable: { ...channel, freshnessWindow: 0, signingIntervalMinutes: 0 } },
      rolloutPolicies: { careful: { waves: [wave({ all: true }, { soakMinutes: 0 })] } }
    }, [
      "channels.stable.freshnessWindow: 0 minutes: every release would be stale at once"
    ]],
    ["a soak beyond the window", {
      rolloutPolicies: { careful: { waves: [wave({ all: true }, { soakMinutes: 121 })] } }
    }, [
      "rolloutPolicies.careful.waves[0]: soaks longer than the 120 minutes for which channel stable believes a release"
    ]],
    ["a soak in seconds beyond the window", {
      rolloutPolicies: { careful: { waves: [wave({ all: true }, { soakMinutes: 1, soakSeconds: 7201 })] } }
    }, [
      "rolloutPolicies.careful.waves[0]: soaks longer than the 120 minutes for which channel stable believes a release"
    ]],
    ["a wave without soak", { rolloutPolicies: { careful: { waves: [wave({ all: true }, {})] } } }, [
      "rolloutPolicies.careful.waves[0]: says neither soakMinutes nor soakSeconds"
    ]],
    ["a policy without waves", { rolloutPolicies: { careful: {} }, hosts: {} }, [
      "rolloutPolicies.careful.waves: strategy canary needs at least one wave"
    ]],
    ["an empty selector", { rolloutPolicies: { careful: { waves: [wave({}), wave({ all: true })] } } }, [
      "rolloutPolicies.careful.waves[0].selector: has no clause and can never select a host"
    ]],
    [
      "a selector of an unknown host",
      { rolloutPolicies: { careful: { waves: [wave({ all: true, hosts: ["x"] })] } } },
      [
        "rolloutPolicies.careful.waves[0].selector.hosts: there is no host x"
      ]
    ],
    ["a selector of an unknown channel", { disruptionBudgets: [{ ...budget, selector: { channel: "edge" } }] }, [
      "disruptionBudgets[0].selector.channel: there is no channel edge"
    ]],
    ["a budget of zero", { disruptionBudgets: [{ ...budget, maxInFlight: 0 }] }, [
      "disruptionBudgets[0].maxInFlight: 0 hosts in flight: its hosts would wait for ever"
    ]],
    ["a budget of no percent", { disruptionBudgets: [{ selector: { all: true }, maxInFlightPct: 0 }] }, [
      "disruptionBudgets[0].maxInFlightPct: 0 is not a percentage from 1 to 100"
    ]],
    ["a budget of too many percent", { disruptionBudgets: [{ selector: { all: true }, maxInFlightPct: 101 }] }, [
      "disruptionBudgets[0].maxInFlightPct: 101 is not a percentage from 1 to 100"
    ]],
    ["a budget without a limit", { disruptionBudgets: [{ selector: { all: true } }] }, [
      "disruptionBudgets[0]: limits nothing: give maxInFlight or maxInFlightPct"
    ]],
    ["an edge to nowhere", { edges: [{ gated: "web-1", gates: "x" }] }, ["edges[0].gates: there is no host x"]],
    ["a channel edge from nowhere", { channelEdges: [{ gated: "x", gates: "stable" }] }, [
      "channelEdges[0].gated: there is no channel x"
    ]]
  ])("%s", (_, overrides, expected) => assert.deepStrictEqual(problemsOf(overrides), expected))

  it.each(["", "AA11", "v1.0", "main", "a/b", "a@b", "a".repeat(129)])(
    "the ref %j",
    (ref) =>
      assert.deepStrictEqual(problemsOf({}, ref), [
        `ref: ${JSON.stringify(ref)} is not a commit: 1 to 128 lower-case hex digits`
      ])
  )

  it("all problems at once", () => {
    const problems = problemsOf({
      closures: { web: "x" },
      channels: { stable: { ...channel, freshnessWindow: 10 } },
      hosts: { a: host(), b: host({ channel: "gone" }) },
      edges: [{ gated: "a", gates: "a" }]
    }, "REF")
    assert.deepStrictEqual(problems.map((line) => line.slice(0, line.indexOf(":"))), [
      "ref",
      "closures.web",
      "hosts.b.channel",
      "channels.stable.freshnessWindow",
      "edges"
    ])
  })
})

describe("circles of waiting are refused and shown", () => {
  const two = {
    channels: {
      stable: { rolloutPolicy: "careful", freshnessWindow: 120 },
      edge: { rolloutPolicy: "careful", freshnessWindow: 120 }
    },
    hosts: { a: host({ tags: ["canary"] }), b: host(), c: host({ channel: "edge" }) }
  }
  it.each<[string, Fields, string | undefined]>([
    ["a host after itself", { edges: [{ gated: "web-1", gates: "web-1" }] }, "host web-1 → host web-1"],
    ["two hosts after each other", {
      edges: [{ gated: "web-2", gates: "web-3" }, { gated: "web-3", gates: "web-2" }]
    }, "host web-2 → host web-3 → host web-2"],
    [
      "a host after one of a later wave",
      { edges: [{ gated: "web-1", gates: "web-2" }] },
      "wave 1 of stable → host web-1 → host web-2 → wave 1 of stable"
    ],
    ["a host after one of an earlier wave", { edges: [{ gated: "web-2", gates: "web-1" }] }, undefined],
    ["channels after each other", {
      ...two,
      channelEdges: [{ gated: "stable", gates: "edge" }, { gated: "edge", gates: "stable" }]
    }, "channel edge → channel stable → channel edge"],
    ["a host after one of a channel that comes later", {
      ...two,
      channelEdges: [{ gated: "edge", gates: "stable" }],
      edges: [{ gated: "a", gates: "c" }]
    }, "channel stable → wave 1 of stable → host a → host c → channel stable"],
    ["a host after one of a channel that comes earlier", {
      ...two,
      channelEdges: [{ gated: "edge", gates: "stable" }],
      edges: [{ gated: "c", gates: "a" }]
    }, undefined]
  ])("%s", (_, overrides, circle) => {
    const expected = circle === undefined
      ? []
      : [`edges: these wait for each other, and none could ever start: ${circle}`]
    assert.deepStrictEqual(problemsOf(overrides), expected)
  })

  it("a chain of ten thousand hosts is no circle and no stack overflow", () => {
    const names = Array.from({ length: 10_000 }, (_, index) => `h${index}`)
    assert.deepStrictEqual(
      problemsOf({
        rolloutPolicies: { careful: { waves: [wave({ all: true })] } },
        hosts: Object.fromEntries(names.map((name) => [name, host()])),
        edges: names.slice(1).map((name, index) => ({ gated: name, gates: names[index] }))
      }),
      []
    )
  })
})

it("what works and may not be meant is a warning", () => {
  const resolved = resolve({
    channels: {
      stable: { rolloutPolicy: "careful", freshnessWindow: 120 },
      edge: { rolloutPolicy: "careful", freshnessWindow: 120 }
    },
    rolloutPolicies: {
      careful: { waves: [wave({ tags: ["nobody"] }), wave({ all: true })] },
      spare: { waves: [wave({ all: true })] }
    },
    // A budget of one host is meant; one of nobody is not.
    disruptionBudgets: [
      { selector: { tags: ["nobody"] }, maxInFlight: 1 },
      { selector: { hosts: ["web-1"] }, maxInFlight: 1 }
    ]
  })
  assert.isTrue(resolved.ok)
  assert.deepStrictEqual(lines(resolved.warnings), [
    "channels.edge: no host is on it",
    "rolloutPolicies.spare: no channel uses it",
    "rolloutPolicies.careful.waves[0]: selects no host of channel stable that an earlier wave has not",
    "disruptionBudgets[0].selector: selects no host"
  ])
})

describe("the shape of a declaration", () => {
  it.each<[string, Fields, string]>([
    ["an unknown field", { budgets: [] }, "budgets"],
    ["an unknown field of a host", { hosts: { a: host({ closures: "x" }) } }, "closures"],
    [
      "an unknown field of a wave",
      { rolloutPolicies: { p: { waves: [{ ...wave({ all: true }), soak: 1 }] } } },
      "soak"
    ],
    ["a host name that is a path", { hosts: { "../a": host() } }, "../a"],
    ["a channel in capitals", { channels: { Stable: { rolloutPolicy: "p", freshnessWindow: 1 } } }, "Stable"],
    [
      "a negative soak",
      { rolloutPolicies: { p: { waves: [wave({ all: true }, { soakMinutes: -1 })] } } },
      "soakMinutes"
    ],
    ["a key that is no OpenSSH line", { hosts: { a: host({ pubkey: "ssh-rsa AAAA" }) } }, "pubkey"],
    ["no channels", { channels: undefined }, "channels"]
  ])("refuses %s", (_, overrides, where) => {
    const decoded = decodeFleetDeclaration(declaration(overrides))
    assert.isTrue(!decoded.ok && decoded.problem.includes(where), JSON.stringify(decoded))
  })
  it("takes an OpenSSH line", () => {
    const pubkey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHGoLbMQ0SpPFMcCTYj2Vb8LQ1eYtyDkJ3bvoVHtWxPQ root@web-1"
    assert.isTrue(decodeFleetDeclaration(declaration({ hosts: { a: host({ pubkey }) } })).ok)
  })
})
