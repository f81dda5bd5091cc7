import { assert, describe, it } from "@effect/vitest"
import { digestOf, heartbeatOf, reportedClosure } from "../../src/Agent/Report.ts"
import type { HostRecord } from "../../src/Schema/HostRecord.ts"
import type { Capability } from "../../src/Schema/Wire.ts"
import { Bench, day } from "../support/agentBench.ts"
import { dispatch, newSystem, oldSystem, r1, second } from "../support/agentRig.ts"
import { recordIn } from "../support/records.ts"

describe("the digest of a record", () => {
  const flags = (record: HostRecord) => {
    const { diverged, quarantined, reason } = digestOf(record)
    return { diverged, quarantined, reason }
  }
  const none = { diverged: undefined, quarantined: undefined, reason: undefined }

  it("says nothing more while nothing is wrong", () => {
    for (const state of ["Pending", "Activating", "Deferred", "Soaking", "Converged"] as const) {
      assert.deepStrictEqual(flags(recordIn(state)), none, state)
    }
  })

  it("says that it diverged", () => {
    assert.isTrue(flags({ ...recordIn("Converged"), diverged: true }).diverged)
  })

  it("says so after the refusal of an event that ended the rollout", () => {
    for (const status of ["pass", "fail"] as const) {
      const bench = new Bench().soak()
      while (bench.entry().record.state === "Soaking") {
        bench.pass(5 * second).sample(status)
        bench.tick()
      }
      const { lastEventSeq, state } = bench.entry().record
      assert.strictEqual(state, status === "pass" ? "Converged" : "Failed")
      bench.deliver(r1, lastEventSeq - 1)
      assert.isUndefined(digestOf(bench.entry().record).diverged)
      bench.accept({
        _tag: "Delivered",
        rolloutId: r1,
        seq: lastEventSeq,
        kind: bench.events().at(-1)!.kind,
        verdict: { _tag: "Refused", reason: "invariant" }
      })
      assert.isTrue(digestOf(bench.entry().record).diverged, status)
    }
  })

  it("says why it failed, and condemns a closure only when that was at fault", () => {
    const failed = recordIn("Failed")
    assert(failed.state === "Failed")
    const reasons = { activation: "activation-failed", probes: "sustained-failure", drift: "closure-drift" } as const
    for (const failure of ["activation", "probes", "drift"] as const) {
      for (const closureAtFault of [true, false]) {
        assert.deepStrictEqual(flags({ ...failed, failure, closureAtFault }), {
          ...none,
          quarantined: closureAtFault ? true : undefined,
          reason: reasons[failure]
        })
      }
    }
    const reverted = recordIn("Reverted")
    assert(reverted.state === "Reverted")
    assert.isTrue(flags({ ...reverted, closureAtFault: true }).quarantined)
    assert.isUndefined(flags({ ...reverted, closureAtFault: false }).quarantined)
  })
})

describe("the closure that a heartbeat names", () => {
  it("is none while a switch is in flight, even when every event was delivered", () => {
    const bench = new Bench()
    bench.tick(oldSystem)
    assert.strictEqual(reportedClosure(bench.state), oldSystem)
    bench.accept(dispatch())
    bench.deliver()
    assert.strictEqual(bench.entry().record.state, "Activating")
    assert.isUndefined(reportedClosure(bench.state))
  })

  it("is none while events of the current rollout are undelivered, parked ones too", () => {
    const bench = new Bench().soak({ policy: { ...dispatch().policy, soakMs: day } })
    bench.tick(oldSystem)
    assert.isUndefined(reportedClosure(bench.state))
    bench.deliver(r1, 1)
    bench.accept({
      _tag: "Delivered",
      rolloutId: r1,
      seq: 2,
      kind: "ActivationCompleted",
      verdict: { _tag: "Parked", reason: "no-verdict" }
    })
    bench.deliver()
    assert.isUndefined(reportedClosure(bench.state))
    bench.accept({ _tag: "HeartbeatAnswered", replayFrom: { [r1]: 2 }, ackedThrough: {}, snapshots: [] })
    bench.deliver()
    assert.strictEqual(reportedClosure(bench.state), oldSystem)
  })

  it("is what runs, whatever that is, once the rollout is over", () => {
    const bench = new Bench().soak()
    bench.sample("pass")
    bench.tick()
    for (let at = 0; at < 65; at += 5) bench.pass(5 * second).tick()
    assert.strictEqual(bench.entry().record.state, "Converged")
    bench.deliver()
    bench.tick(newSystem)
    assert.strictEqual(reportedClosure(bench.state), newSystem)
  })
})

const facts = { at: 0, uptimeSecs: 1, version: "0", boot: false }

describe("what is fetched now", () => {
  const fetching = { closure: newSystem, done_bytes: 31, expected_bytes: 120 }

  it("is told to a control plane that keeps journals, and to no other", () => {
    const { state } = new Bench()
    const told = (...peer: ReadonlyArray<Capability>) =>
      heartbeatOf(state, { ...facts, fetching, peer: new Set(peer) }).fetching
    assert.deepStrictEqual(told("journal"), fetching)
    assert.isUndefined(told())
    assert.isUndefined(told("verdicts", "attempts"))
    assert.notProperty(heartbeatOf(state, { ...facts, peer: new Set(["journal"]) }), "fetching")
  })
})

describe("a heartbeat to the original", () => {
  const told = (bench: Bench, ...peer: ReadonlyArray<"journal">) => {
    const { current_closure, rollout_id } = heartbeatOf(bench.state, { ...facts, peer: new Set(peer) })
    return [current_closure, rollout_id]
  }

  it("hides the target until the soak is over, and names no rollout: snapshots say what it lacks", () => {
    const bench = new Bench().soak()
    bench.sample("pass")
    bench.tick()
    bench.deliver()
    assert.deepStrictEqual(told(bench), [undefined, undefined])
    assert.deepStrictEqual(told(bench, "journal"), [oldSystem, r1])
    for (let at = 0; at < 65; at += 5) bench.pass(5 * second).tick()
    bench.deliver()
    assert.strictEqual(bench.entry().record.state, "Converged")
    assert.deepStrictEqual(told(bench), [oldSystem, undefined])
  })

  it("hides the target of a release that failed on a host which still runs it", () => {
    const bench = new Bench().soak({ policy: { ...dispatch().policy, onHealthFailure: "halt" } })
    while (bench.entry().record.state === "Soaking") bench.pass(5 * second).sample("fail")
    bench.tick()
    bench.deliver()
    assert.strictEqual(bench.entry().record.state, "Failed")
    assert.deepStrictEqual(told(bench), [undefined, undefined])
  })

  it("names the rollout when something else runs: the replay header says what it lacks", () => {
    const bench = new Bench()
    bench.accept(dispatch({ policy: { ...dispatch().policy, onHealthFailure: "halt" } }))
    const event = { kind: "ActivationFailed", exitCode: 1, stderrTail: "", failedAt: 0, attempt: 1 } as const
    bench.accept({ _tag: "Settled", rolloutId: r1, event, at: 0 })
    bench.deliver()
    assert.deepStrictEqual(told(bench), [oldSystem, r1])
  })
})
