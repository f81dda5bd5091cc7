/** A probe that could not be run: it never passes, and fails nothing until it has lasted (house rule 8, D12). */
import { assert, describe, it } from "@effect/vitest"
import { Bench, restarted } from "../support/agentBench.ts"
import { dispatch, minute, r1, second } from "../support/agentRig.ts"

const policy = { ...dispatch().policy, soakMs: minute, sustainedFailureMs: 2 * minute }
const blind = { failureReason: "EMFILE" }

function probed(bench: Bench) {
  const { record } = bench.entry()
  return record.state === "Soaking" ? record : assert.fail(`the record is ${record.state}`)
}

/** Samples every five seconds, with the ticks between. */
function samples(bench: Bench, status: "pass" | "fail" | "inconclusive", ms: number): void {
  for (let at = 0; at < ms && bench.entry().record.state === "Soaking"; at += 5 * second) {
    bench.pass(5 * second).sample(status, status === "pass" ? {} : blind)
    bench.tick()
  }
}

describe("a probe that could not be run", () => {
  it("is no pass: a soak that is over does not converge, and nothing is told of it", () => {
    const bench = new Bench().soak({ policy })
    samples(bench, "inconclusive", 9 * minute)
    assert.deepStrictEqual(probed(bench).inconclusive, { web: { since: 5 * second, reason: "EMFILE" } })
    assert.notInclude(bench.kinds(), "ProbeResult")
    assert.notInclude(bench.kinds(), "ProbeObservedFirst")
    bench.checkFold()
  })

  it("takes back what it said before: a pass counts no more until it passes again", () => {
    const bench = new Bench().soak({ policy })
    samples(bench, "pass", 50 * second)
    samples(bench, "inconclusive", 5 * minute)
    assert.strictEqual(probed(bench).probes["web"]?.status, "pass")
    samples(bench, "pass", 5 * second)
    assert.strictEqual(bench.entry().record.state, "Converged")
    bench.checkFold()
  })

  it("counts as failing once it has lasted ten minutes, with its reason; from then on the threshold runs", () => {
    const bench = new Bench().soak({ policy })
    samples(bench, "inconclusive", 10 * minute)
    assert.notInclude(bench.kinds(), "ProbeResult")
    samples(bench, "inconclusive", 5 * second)
    const told = bench.events().find(({ kind }) => kind === "ProbeResult")
    assert.deepInclude(told, {
      status: "fail",
      failureReason: "could not be run since 1970-01-01T00:00:05Z: EMFILE"
    })
    samples(bench, "inconclusive", 2 * minute - 5 * second)
    assert.strictEqual(bench.entry().record.state, "Soaking")
    samples(bench, "inconclusive", 5 * second)
    assert.strictEqual(bench.entry().record.state, "Failed")
    assert.notProperty(bench.entry().record, "inconclusive")
    bench.checkFold()
  })

  it("counts on over a restart, and a step of the clock neither shortens nor lengthens that", () => {
    const bench = new Bench().soak({ policy })
    samples(bench, "inconclusive", 5 * minute)
    bench.state = restarted(bench.state)
    samples(bench, "inconclusive", 3 * minute)
    bench.wall += 60 * minute
    samples(bench, "inconclusive", 2 * minute - 5 * second)
    assert.notInclude(bench.kinds(), "ProbeResult")
    samples(bench, "inconclusive", 10 * second)
    assert.include(bench.kinds(), "ProbeResult")
    bench.checkFold()
  })

  it("neither goes on with the failure before it, nor ends it", () => {
    const bench = new Bench().soak({ policy })
    samples(bench, "fail", 60 * second)
    samples(bench, "inconclusive", 3 * minute)
    assert.strictEqual(bench.entry().record.state, "Soaking")
    assert.strictEqual(probed(bench).probes["web"]?.failingSince, 5 * second)
    samples(bench, "fail", 5 * second)
    assert.strictEqual(bench.entry().record.state, "Failed")
    bench.checkFold()
  })

  it("that is only observed holds nothing", () => {
    const bench = new Bench().soak({ policy }, [])
    const topology = { _tag: "TopologyDeclared", rolloutId: r1, attempt: 1 } as const
    bench.accept({ ...topology, at: bench.wall, probes: [{ probeName: "web", kind: "http", mode: "observe" }] })
    for (let at = 0; at < 2 * minute; at += 5 * second) {
      bench.pass(5 * second)
      if (bench.entry().record.state !== "Soaking") break
      bench.sample("inconclusive", { mode: "observe" })
      bench.tick()
    }
    assert.strictEqual(bench.entry().record.state, "Converged")
  })

  it("holds nothing more when it is no longer declared", () => {
    const bench = new Bench().soak({ policy })
    samples(bench, "inconclusive", 2 * minute)
    bench.accept({ _tag: "TopologyDeclared", rolloutId: r1, attempt: 1, at: bench.wall, probes: [] })
    bench.tick()
    assert.strictEqual(bench.entry().record.state, "Converged")
    bench.checkFold()
  })

  it("costs few rows however often it comes and goes", () => {
    const bench = new Bench().soak({ policy: { ...policy, soakMs: 24 * 60 * minute } })
    const before = bench.rows().length
    for (let at = 0; at < 10 * minute; at += 10 * second) {
      bench.pass(5 * second).sample("inconclusive", blind)
      bench.pass(5 * second).sample("pass")
    }
    // A change in a quarter of a minute at most, and its end.
    assert.isAtMost(bench.rows().length - before, 2 * 4 * 10 + 5)
    bench.checkFold()
  })

  it("forbids a convergence also while the limit keeps it out of the journal", () => {
    const bench = new Bench().soak({ policy })
    samples(bench, "pass", 45 * second)
    samples(bench, "inconclusive", 5 * second)
    samples(bench, "pass", 5 * second)
    bench.pass(4 * second).sample("inconclusive", blind)
    assert.notProperty(probed(bench), "inconclusive")
    bench.pass(second).tick()
    assert.property(probed(bench), "inconclusive")
    bench.checkFold()
  })
})

describe("a probe that failed before the switch already", () => {
  const excuse = (bench: Bench, ...excused: ReadonlyArray<string>) =>
    bench.accept({
      _tag: "TopologyDeclared",
      rolloutId: r1,
      attempt: 1,
      at: bench.wall,
      probes: [{ probeName: "web", kind: "http", mode: "enforce" }],
      excused
    })

  it("holds the release and does not fail it, until it passes", () => {
    const bench = new Bench().soak({ policy })
    excuse(bench, "web")
    samples(bench, "fail", 60 * minute)
    assert.strictEqual(bench.entry().record.state, "Soaking")
    samples(bench, "pass", 5 * second)
    assert.strictEqual(bench.entry().record.state, "Converged")
    assert.notProperty(bench.entry().record, "excused")
    bench.checkFold()
  })

  it("is the release's own once it has passed", () => {
    const bench = new Bench().soak({ policy: { ...policy, soakMs: 60 * minute } })
    excuse(bench, "web")
    samples(bench, "fail", 5 * minute)
    samples(bench, "pass", 5 * second)
    samples(bench, "fail", 2 * minute + 5 * second)
    assert.strictEqual(bench.entry().record.state, "Failed")
    bench.checkFold()
  })

  it("fails it when it is no longer excused, because another check has its name now", () => {
    const bench = new Bench().soak({ policy })
    excuse(bench, "web")
    samples(bench, "fail", 5 * minute)
    excuse(bench)
    samples(bench, "fail", 5 * second)
    bench.pass(5 * second).tick()
    assert.strictEqual(bench.entry().record.state, "Failed")
    bench.checkFold()
  })

  it("is said once: the same again is no row", () => {
    const bench = new Bench().soak({ policy })
    excuse(bench, "web")
    const before = bench.rows().length
    excuse(bench, "web")
    assert.strictEqual(bench.rows().length, before)
  })
})

describe("what was wrong before the switch", () => {
  it("is durable with the mark that says the switch started, and gone with the next attempt", () => {
    const bench = new Bench()
    const baseline = {
      failed: [{ probeName: "web", declaration: "d", reason: "500" }],
      failedUnits: ["old.service"]
    }
    bench.accept(dispatch())
    const started = { _tag: "ActivationStarted", rolloutId: r1, switchMethod: "memory", at: 0 } as const
    bench.accept({ ...started, attempt: 1, baseline })
    assert.deepStrictEqual(bench.entry().bookkeeping.baseline, baseline)
    // A further run finds what the first one left, and brings none.
    bench.accept({ ...started, attempt: 1 })
    assert.deepStrictEqual(bench.entry().bookkeeping.baseline, baseline)
    bench.accept(dispatch({ attempt: 2 }))
    assert.notProperty(bench.entry().bookkeeping, "baseline")
    bench.checkFold()
  })

  it("is not kept when the switch may not start", () => {
    const bench = new Bench()
    bench.accept(dispatch())
    const refused = bench.reasonOf({
      _tag: "ActivationStarted",
      rolloutId: r1,
      attempt: 2,
      switchMethod: "memory",
      baseline: { failed: [], failedUnits: ["a.service"] },
      at: 0
    })
    assert.strictEqual(refused, "wrong-attempt")
    assert.notProperty(bench.entry().bookkeeping, "baseline")
  })
})
