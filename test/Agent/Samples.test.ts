/** How many rows probes and soaks cost: what is journaled is what is news (D5), and a repetition is none. */
import { assert, describe, it } from "@effect/vitest"
import { Bench, day } from "../support/agentBench.ts"
import { dispatch, minute, r1, second } from "../support/agentRig.ts"

const long = { policy: { ...dispatch().policy, soakMs: day, sustainedFailureMs: 2 * minute } }

/** What happened to `bench` since the last look, as kinds with their status. */
function telling(bench: Bench) {
  let seen = bench.events().length
  return () => {
    const fresh = bench.events().slice(seen)
    seen += fresh.length
    return fresh.map((event) => event.kind === "ProbeResult" ? `${event.kind} ${event.status}` : event.kind)
  }
}

describe("samples", () => {
  it("cost a row each for what is new: the first one, the first failure, the end of a failure", () => {
    const bench = new Bench().soak(long)
    const news = telling(bench)
    bench.pass(5 * second).sample("pass")
    assert.deepStrictEqual(news(), ["ProbeObservedFirst", "ProbeResult pass"])
    bench.pass(5 * second).sample("pass")
    assert.deepStrictEqual(news(), [])
    bench.pass(5 * second).sample("fail")
    assert.deepStrictEqual(news(), ["ProbeFailureFirst", "ProbeResult fail"])
    bench.pass(5 * second).sample("fail")
    assert.deepStrictEqual(news(), [])
    bench.pass(5 * second).sample("pass")
    assert.deepStrictEqual(news(), ["ProbeResult pass"])
    bench.checkFold()
  })

  it("that complete a sustained failure are journaled, however recent the last report was", () => {
    const bench = new Bench().soak({ policy: { onHealthFailure: "halt", soakMs: day, sustainedFailureMs: minute } })
    const news = telling(bench)
    bench.pass(second).sample("fail")
    bench.pass(59 * second).sample("fail")
    assert.notInclude(news(), "Failed")
    bench.pass(second).sample("fail")
    assert.deepStrictEqual(news(), ["ProbeResult fail", "Failed"])
  })

  it("of a failing probe are reported every five minutes", () => {
    const bench = new Bench().soak({ policy: { ...long.policy, sustainedFailureMs: day } })
    bench.sample("fail")
    const news = telling(bench)
    for (let at = 0; at < 600; at += 5) bench.pass(5 * second).sample("fail")
    assert.deepStrictEqual(news(), ["ProbeResult fail", "ProbeResult fail"])
  })
})

describe("a topology", () => {
  it("is news when a probe, its name or its mode is another, and only then", () => {
    const bench = new Bench().soak(long, ["web", "db"])
    const news = telling(bench)
    const declare = (...probes: ReadonlyArray<readonly [string, "enforce" | "observe" | "disabled"]>) => {
      bench.accept({
        _tag: "TopologyDeclared",
        rolloutId: r1,
        attempt: 1,
        at: bench.wall,
        probes: probes.map(([probeName, mode]) => ({ probeName, kind: "http", mode }))
      })
      return news()
    }
    assert.deepStrictEqual(declare(["web", "enforce"], ["db", "enforce"]), [])
    assert.deepStrictEqual(declare(["db", "enforce"], ["web", "enforce"]), [])
    assert.deepStrictEqual(declare(["web", "enforce"], ["db", "observe"]), ["ProbeTopologyDeclared"])
    assert.deepStrictEqual(declare(["web", "enforce"], ["cache", "observe"]), ["ProbeTopologyDeclared"])
    assert.deepStrictEqual(declare(["web", "enforce"]), ["ProbeTopologyDeclared"])
    assert.deepStrictEqual(declare(["web", "enforce"]), [])
    assert.deepStrictEqual(declare(["constructor", "enforce"]), ["ProbeTopologyDeclared"])
  })
})

describe("the running time of a soak", () => {
  const soaked = (soakMs: number, forMs: number) => {
    const bench = new Bench().soak({ policy: { ...long.policy, soakMs } })
    for (let at = 0; at < forMs; at += second) bench.pass(second).tick()
    return bench.rows().filter(({ entry }) => entry._tag === "Learned" && entry.fact.kind === "Soaked").length
  }

  it("is journaled about ten times, so that a crash costs a tenth of it, and a long one every minute", () => {
    assert.isAtLeast(soaked(2 * minute, 2 * minute), 8)
    assert.isAtMost(soaked(2 * minute, 2 * minute), 11)
    assert.isAtLeast(soaked(day, 30 * minute), 29)
    assert.isAtMost(soaked(day, 30 * minute), 30)
  })
})

describe("a process that has just begun", () => {
  it("does not end a soak before it has looked once, although the evidence of another process is complete", () => {
    const bench = new Bench().soak()
    for (let at = 0; at < 70; at += 1) bench.pass(second).tick()
    bench.sample("pass")
    const { bookkeeping, lane, record } = bench.entry()
    assert.strictEqual(record.state, "Soaking")
    const begun = new Bench({
      ...bench.state,
      rollouts: new Map([[r1, { record, bookkeeping, lane, transient: { probes: new Map() } }]])
    })
    begun.pass(bench.wall).tick()
    assert.strictEqual(begun.entry().record.state, "Soaking")
    begun.pass(second).tick()
    assert.strictEqual(begun.entry().record.state, "Converged")
  })
})

describe("the memory of what was accepted", () => {
  it("is written when it rises, and not when the same is accepted again", () => {
    const bench = new Bench()
    const accepted = (signedAt: number) => {
      bench.accept({ _tag: "ArtifactsAccepted", marks: [{ artifact: "fleet", signedAt }] })
      return bench.writes.length
    }
    assert.deepStrictEqual([accepted(5), accepted(5), accepted(6), accepted(5)], [1, 1, 2, 2])
  })
})
