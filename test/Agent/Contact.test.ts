/** How the heartbeats go, as the journal keeps it: every change, and the same again only now and then. */
import { assert, describe, it } from "@effect/vitest"
import type { Write } from "../../src/Agent/Write.ts"
import { rejectionDetailLimit } from "../../src/Schema/Wire.ts"
import { Bench } from "../support/agentBench.ts"
import { minute, second } from "../support/agentRig.ts"

const answered = { _tag: "HeartbeatAnswered", replayFrom: {}, ackedThrough: {}, snapshots: [] } as const
const failed = { _tag: "HeartbeatFailed", reason: "unexpected-status", detail: "503" } as const

const isContact = (write: Write) => write._tag === "PutContact"

/** Heartbeats of one kind, one a minute; how many commits they cost. */
function beat(bench: Bench, input: typeof answered | typeof failed, minutes: number): number {
  const before = bench.writes.filter(isContact).length
  for (let count = 0; count < minutes; count++) bench.pass(minute).accept(input)
  return bench.writes.filter(isContact).length - before
}

describe("contact", () => {
  it("costs an idle host one commit in five minutes", () => {
    const bench = new Bench()
    assert.strictEqual(beat(bench, answered, 60), 12)
    assert.deepStrictEqual(bench.state.contact, { answered: true, since: minute, at: 56 * minute })
    assert.isTrue(bench.writes.every(isContact))
  })

  it("is there at once when it changes, in both directions", () => {
    const bench = new Bench()
    beat(bench, answered, 3)
    assert.strictEqual(beat(bench, failed, 1), 1)
    const failure = { at: 4 * minute, reason: "unexpected-status", detail: "503" }
    assert.deepStrictEqual(bench.state.contact, { answered: false, since: 4 * minute, at: 4 * minute, failure })
    assert.strictEqual(beat(bench, answered, 1), 1)
    assert.deepStrictEqual(bench.state.contact, { answered: true, since: 5 * minute, at: 5 * minute, failure })
  })

  it("tells another reason at once, the same one again only now and then", () => {
    const bench = new Bench()
    assert.strictEqual(beat(bench, failed, 5), 1)
    bench.pass(second).accept({ ...failed, reason: "control-plane-unreachable" })
    assert.strictEqual(bench.state.contact?.failure?.reason, "control-plane-unreachable")
    assert.strictEqual(bench.state.contact?.since, minute)
    assert.strictEqual(beat(bench, { ...failed, reason: "unexpected-status" }, 10), 2)
  })

  it("is due when the clock was set back", () => {
    const bench = new Bench()
    bench.wall = 60 * minute
    bench.accept(answered)
    bench.wall = 0
    bench.accept(answered)
    assert.strictEqual(bench.state.contact?.at, 0)
  })

  it("keeps what a peer said within its limit, whole characters only", () => {
    const bench = new Bench()
    bench.accept({ ...failed, detail: "\u{1f600}".repeat(rejectionDetailLimit) })
    const { detail } = bench.state.contact?.failure ?? { detail: "" }
    assert.isAtMost(detail.length, rejectionDetailLimit)
    assert.isTrue(detail.isWellFormed())
  })
})
