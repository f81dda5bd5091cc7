import { assert, describe, it } from "@effect/vitest"
import { disruptionBudget } from "../../../src/Rollout/gates/DisruptionBudget.ts"
import { judge } from "../../../src/Rollout/gates/Gates.ts"
import { named } from "../../../src/Rollout/gates/Words.ts"
import { mostInFlight } from "../../../src/Rollout/planner/Budgets.ts"
import type { Candidate, InFlight, Verdict } from "../../../src/Rollout/planner/View.ts"
import { proofOf } from "../../../src/Rollout/planner/Waves.ts"
import type { HostStateName } from "../../../src/Schema/Wire.ts"
import { budgetOf, candidate, flightsOf, rolloutIn } from "../../support/planner.ts"
import { late, minutes, policy, recordIn, seconds, target } from "../../support/records.ts"

type Held = Exclude<Verdict, { pass: true }>

const heldBy = (verdict: Verdict): Held => verdict.pass ? assert.fail("it passes") : verdict
const held = (fields: Partial<Candidate>): Held => heldBy(judge(candidate(fields)))

describe("verdicts name what they looked at (D17)", () => {
  it("a halt names the hosts that failed", () => {
    const verdict = held({ rollout: rolloutIn("Failed"), failed: ["a", "b", "c", "d", "e"] })
    assert.strictEqual(verdict.because, "the rollout is halted: it is Failed, because a, b, c and 2 more failed")
  })

  it("a quarantine names the closure and the host on which it failed", () => {
    const verdict = held({ quarantined: new Map([[target, "web-7"]]) })
    assert.strictEqual(verdict.because, `${target} is quarantined: it failed on web-7`)
    const condemned = held({ quarantined: new Map([["bad", "db-1"]]), condemnedBy: "bad" })
    assert.include(condemned.because, "bad, which its manifest names, failed on db-1")
  })

  it("a channel that is new to the database names the hosts of which not everything is known", () => {
    const verdict = held({ recovering: { untilAt: late + 1, missingHosts: ["a", "b"] } })
    assert.strictEqual(
      verdict.because,
      "the channel is new to this database, and not all that these hosts have done is known here yet: a and b"
    )
    assert.strictEqual(
      verdict.clearedBy,
      "a heartbeat, a poll and the missing events of each of them, or the end of the grace"
    )
    assert.strictEqual(verdict.earliestAt, late + 1)
  })

  it("lists are short: three names, and how many more", () => {
    assert.deepStrictEqual([[], ["a"], ["a", "b"], ["a", "b", "c"], ["a", "b", "c", "d"]].map(named), [
      "",
      "a",
      "a and b",
      "a, b and c",
      "a, b, c and 1 more"
    ])
  })
})

describe("host edges (control-plane.md §6.2, D11)", () => {
  const edge = (state: HostStateName, now: number = late): Candidate["edges"][number] => ({
    edge: { gates: "db-1", reason: "schema first" },
    proof: proofOf(recordIn(state), true, now)
  })

  const table: ReadonlyArray<readonly [HostStateName, string | undefined]> = [
    ["Pending", "it was not activated yet"],
    ["Activating", "it is activating"],
    ["Deferred", "it waits for reboot of kernel"],
    ["Soaking", "it is soaking"],
    ["Failed", "it has failed"],
    ["Reverted", "it was rolled back"],
    ["Converged", undefined]
  ]
  for (const [state, because] of table) {
    it(`the host before is ${state}: ${because === undefined ? "passes" : "holds"}`, () => {
      const verdict = judge(candidate({ edges: [edge(state)] }))
      assert.strictEqual(
        verdict.pass ? undefined : verdict.because,
        because === undefined ? undefined : `db-1 comes first (schema first): ${because}`
      )
      if (verdict.pass) return
      assert.strictEqual(verdict.gate, "host-edges")
      assert.strictEqual(verdict.clearedBy, "convergence of db-1")
      assert.isUndefined(verdict.earliestAt)
    })
  }

  it("one that the rollout does not have can never converge in it: only another release clears it", () => {
    const verdict = held({ edges: [edge("Soaking"), { edge: { gates: "ghost" }, proof: undefined }] })
    assert.match(verdict.because, /^db-1 comes first .* 1 more/)
    const alone = held({ edges: [{ edge: { gates: "ghost" }, proof: undefined }] })
    assert.strictEqual(alone.because, "ghost comes first: stable@aa11 has no such host")
    assert.strictEqual(alone.clearedBy, "publishing a fleet that has ghost on channel stable, or not the edge")
    assert.isUndefined(alone.earliestAt)
  })

  it("one whose soak is not over by this clock holds until it is", () => {
    const verdict = held({ edges: [edge("Converged", minutes(1))], now: minutes(1) })
    assert.strictEqual(verdict.earliestAt, seconds(5) + policy.soakMs)
    assert.strictEqual(verdict.clearedBy, "the end of the soak of db-1")
  })

  it("one that soaks says when it may be over, and that it must converge", () => {
    const verdict = held({ edges: [edge("Soaking", minutes(1))], now: minutes(1) })
    assert.strictEqual(verdict.earliestAt, seconds(5) + policy.soakMs)
    assert.strictEqual(verdict.clearedBy, "convergence of db-1")
    assert.deepStrictEqual(verdict.hosts, ["db-1"])
  })

  it("all edges must be satisfied; the first open one is told", () => {
    const verdict = held({ edges: [edge("Converged"), edge("Soaking"), edge("Pending")] })
    assert.match(verdict.because, /it is soaking; 1 more of the hosts before this one are not done$/)
  })
})

describe("disruption budgets (D17)", () => {
  const soaking = (endsAt?: number): Omit<InFlight, "hostname"> => ({
    rolloutId: "stable@aa11",
    doing: "is soaking",
    ...(endsAt === undefined ? {} : { endsAt })
  })
  const hosts = ["web-1", "web-2", "web-3", "web-4"]
  const asked = (fields: Partial<Candidate>): Verdict => disruptionBudget(candidate(fields))

  const limits: ReadonlyArray<readonly [number | null, number | null, number, number]> = [
    [2, null, 10, 2],
    [null, 25, 10, 2],
    [null, 25, 11, 2],
    [null, 25, 12, 3],
    [null, 1, 10, 1],
    [null, 0, 10, 1],
    [null, 100, 10, 10],
    [3, 20, 10, 2],
    [1, 90, 10, 1],
    [0, null, 10, 0],
    [null, null, 10, Infinity]
  ]
  for (const [maxInFlight, maxInFlightPct, of, most] of limits) {
    it(`maxInFlight ${maxInFlight}, maxInFlightPct ${maxInFlightPct} of ${of} hosts lets ${most} fly`, () => {
      assert.strictEqual(mostInFlight({ maxInFlight, maxInFlightPct }, of), most)
    })
  }

  it("holds when as many others are in flight as it allows, and says who, who clears it, and when", () => {
    const flights = () => flightsOf({ "web-2": soaking(late + 60_000), "web-3": soaking(late + 90_000) })
    assert.isTrue(asked({ budgets: [budgetOf(3, hosts)], flights: flights() }).pass)
    const verdict = heldBy(asked({ budgets: [budgetOf(2, hosts)], flights: flights() }))
    assert.deepStrictEqual(verdict, {
      pass: false,
      gate: "disruption-budget",
      because: "the budget of tags web lets 2 of its 4 hosts be in flight, and 2 are: " +
        "web-2 is soaking (stable@aa11) and web-3 is soaking (stable@aa11)",
      clearedBy:
        "convergence, failure or deferral of one of them; a host that did not take its dispatch, or stays silent, leaves the count",
      hosts: ["web-2", "web-3"],
      earliestAt: late + 60_000
    })
  })

  it("tells when enough of them may be done, and nothing when that is unknown or over already", () => {
    const at = (ends: ReadonlyArray<number | undefined>, max: number) =>
      heldBy(asked({
        budgets: [budgetOf(max, hosts)],
        flights: flightsOf(Object.fromEntries(ends.map((end, index) => [`web-${index + 2}`, soaking(end)])))
      })).earliestAt
    assert.strictEqual(at([late + 3, late + 1, late + 2], 1), late + 3)
    assert.strictEqual(at([late + 3, late + 1, late + 2], 3), late + 1)
    assert.isUndefined(at([late + 3, undefined], 1))
    assert.isUndefined(at([late], 1))
  })

  it("a host never counts against itself, whatever it does for an older rollout", () => {
    const budgets = [budgetOf(1, hosts)]
    assert.isTrue(asked({ budgets, flights: flightsOf({ "web-1": soaking() }) }).pass)
    const both = flightsOf({ "web-1": soaking(), "web-2": soaking() })
    assert.match(heldBy(asked({ budgets, flights: both })).because, /and 1 is: web-2 is soaking/)
  })

  it("one that has its lease has its place", () => {
    const flights = flightsOf({ "web-2": soaking() })
    assert.isTrue(asked({ budgets: [budgetOf(1, hosts)], flights, leased: true }).pass)
  })

  it("every budget of the host must allow it", () => {
    const wide = budgetOf(3, hosts, "channel stable")
    const narrow = budgetOf(1, ["web-1", "web-4"], "tags db")
    const flights = flightsOf({ "web-4": soaking() })
    assert.match(heldBy(asked({ budgets: [wide, narrow], flights })).because, /^the budget of tags db/)
    assert.isTrue(asked({ budgets: [wide], flights }).pass)
  })

  it("equal selectors share a count: a place taken in one is taken in the other", () => {
    const flights = flightsOf({})
    const [ours, theirs] = [budgetOf(1, hosts), budgetOf(1, hosts)]
    assert.isTrue(asked({ budgets: [ours], flights }).pass)
    flights.add([theirs], { hostname: "web-9", ...soaking() })
    assert.isFalse(asked({ budgets: [ours], flights }).pass)
    assert.isTrue(asked({ budgets: [budgetOf(1, hosts, "tags db")], flights }).pass)
  })

  it("a budget of nobody holds everybody, and says what would help", () => {
    const verdict = heldBy(asked({ budgets: [budgetOf(0, hosts)] }))
    assert.strictEqual(verdict.clearedBy, "publishing a release with a larger budget")
  })
})
