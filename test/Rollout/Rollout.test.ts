import { assert, describe, it } from "@effect/vitest"
import { isLive, nextAttempt, open, type RolloutEvent, type RolloutEventKind, step } from "../../src/Rollout/Rollout.ts"
import type { RolloutRecord, RolloutStateName } from "../../src/Schema/HostRecord.ts"
import { random } from "../support/random.ts"
import { minutes, t0 } from "../support/records.ts"

const states: ReadonlyArray<RolloutStateName> = [
  "Opening",
  "Active",
  "Converging",
  "Terminal",
  "Reverted",
  "Failed",
  "Superseded",
  "Pruned"
]

const record = (state: RolloutStateName, currentWave = 0): RolloutRecord => ({
  ...open({
    rolloutId: "stable@aa11",
    channel: "stable",
    targetRef: "aa11",
    signedAt: t0,
    manifestHash: "00",
    attempt: 1,
    openedAt: t0
  }),
  state,
  currentWave
})

const at = minutes(1)
const changed = (to: "Converged" | "Failed" | "Reverted"): RolloutEvent => ({
  kind: "HostStateChanged",
  at,
  hostname: "h1",
  from: "Soaking",
  to
})
const advanced = (fromWave: number, toWave: number): RolloutEvent => ({ kind: "WaveAdvanced", at, fromWave, toWave })

const events: { readonly [K in RolloutEventKind]: RolloutEvent } = {
  RolloutOpened: { kind: "RolloutOpened", at },
  HostJoined: { kind: "HostJoined", at, hostname: "h1", wave: 2 },
  HostStateChanged: changed("Converged"),
  WaveAdvanced: advanced(0, 1),
  RolloutTerminal: { kind: "RolloutTerminal", at },
  SuccessorOpened: { kind: "SuccessorOpened", at, successor: "stable@bb22" },
  RetentionExpired: { kind: "RetentionExpired", at },
  OperatorClearance: { kind: "OperatorClearance", at, operator: "eve", reason: "checked" }
}
const kinds = Object.keys(events) as ReadonlyArray<RolloutEventKind>

/** protocol.md §5.4 by hand, columns in the order of `events`; ✗ illegal, · no change, U needs a new attempt. */
const table: { readonly [S in RolloutStateName]: ReadonlyArray<RolloutStateName | "✗" | "·" | "U"> } = {
  // The original's ✗ under RolloutTerminal is open here: a rollout without a host is complete (D15).
  Opening: ["✗", "Active", "✗", "✗", "Terminal", "Superseded", "✗", "✗"],
  Active: ["✗", "·", "·", "Active", "Terminal", "Superseded", "✗", "✗"],
  Converging: ["✗", "·", "·", "Active", "Terminal", "Superseded", "✗", "✗"],
  Terminal: ["✗", "·", "·", "✗", "·", "Superseded", "Pruned", "✗"],
  Reverted: ["✗", "·", "·", "·", "·", "Superseded", "Pruned", "U"],
  Failed: ["✗", "·", "·", "·", "·", "Superseded", "Pruned", "U"],
  Superseded: ["✗", "·", "·", "·", "·", "·", "Pruned", "✗"],
  Pruned: ["✗", "✗", "✗", "✗", "✗", "✗", "✗", "✗"]
}

describe("the rollout machine (protocol.md §5.4)", () => {
  const cells = states.flatMap((state) => kinds.map((kind, column) => ({ state, kind, cell: table[state][column]! })))

  it("has 64 cells", () => {
    assert.strictEqual(cells.length, 64)
  })

  it.each(cells)("$state × $kind: $cell", ({ cell, kind, state }) => {
    const before = record(state)
    const result = step(before, events[kind])
    if (cell === "✗") {
      assert.deepStrictEqual(result, { ok: false, error: { _tag: "IllegalForState", from: state, kind } })
    } else if (cell === "U") {
      assert.deepStrictEqual(result, { ok: false, error: { _tag: "NeedsNewAttempt", from: state } })
    } else if (cell === "·") {
      assert.deepStrictEqual(result, { ok: true, record: before, effects: [] })
    } else {
      assert.strictEqual(result.ok && result.record.state, cell)
    }
  })

  const stepped = (before: RolloutRecord, event: RolloutEvent) => {
    const result = step(before, event)
    return result.ok ? result : assert.fail(JSON.stringify(result.error))
  }

  it("a host that failed or went back stops a live rollout", () => {
    for (const state of ["Active", "Converging"] as const) {
      for (const to of ["Failed", "Reverted"] as const) {
        const result = stepped(record(state), changed(to))
        assert.strictEqual(result.record.state, to)
        assert.deepStrictEqual(result.effects, [{ _tag: "RecordRolloutTransition", from: state, to, at }])
      }
    }
  })

  it("Failed becomes Reverted when its host has gone back, and never the other way round (P-8)", () => {
    assert.strictEqual(stepped(record("Failed"), changed("Reverted")).record.state, "Reverted")
    assert.strictEqual(stepped(record("Failed"), changed("Failed")).record.state, "Failed")
    assert.strictEqual(stepped(record("Reverted"), changed("Failed")).record.state, "Reverted")
  })

  it("a wave advances upwards only", () => {
    assert.deepStrictEqual(stepped(record("Active"), advanced(0, 1)), {
      ok: true,
      record: record("Active", 1),
      effects: [{ _tag: "UpdateCurrentWave", wave: 1 }]
    })
    assert.deepStrictEqual(stepped(record("Active", 3), advanced(1, 2)), {
      ok: true,
      record: record("Active", 3),
      effects: []
    })
    assert.deepStrictEqual(stepped(record("Active", 1), advanced(1, 1)), {
      ok: true,
      record: record("Converging", 1),
      effects: [{ _tag: "RecordRolloutTransition", from: "Active", to: "Converging", at }]
    })
    assert.deepStrictEqual(stepped(record("Converging", 1), advanced(1, 2)), {
      ok: true,
      record: record("Active", 2),
      effects: [
        { _tag: "RecordRolloutTransition", from: "Converging", to: "Active", at },
        { _tag: "UpdateCurrentWave", wave: 2 }
      ]
    })
    assert.deepStrictEqual(stepped(record("Converging", 1), advanced(1, 1)).effects, [])
  })

  it("the wave of a host that joins does not move the rollout's", () => {
    assert.deepStrictEqual(stepped(record("Opening"), events.HostJoined), {
      ok: true,
      record: record("Active"),
      effects: [{ _tag: "RecordRolloutTransition", from: "Opening", to: "Active", at }]
    })
  })

  it("ends are stamped with the event's time", () => {
    assert.strictEqual(stepped(record("Active"), events.RolloutTerminal).record.terminalAt, at)
    const { supersededAt, supersededBy } = stepped(record("Failed"), events.SuccessorOpened).record
    assert.deepStrictEqual([supersededAt, supersededBy], [at, "stable@bb22"])
  })

  it("a next attempt is the rollout from its first wave on, with no trace of the end before (D7)", () => {
    const ended = stepped(stepped(record("Active", 2), events.RolloutTerminal).record, events.SuccessorOpened).record
    assert.deepStrictEqual(nextAttempt(ended, { signedAt: t0 + 1, manifestHash: "11" }, minutes(9)), {
      ...record("Opening"),
      attempt: 2,
      signedAt: t0 + 1,
      manifestHash: "11",
      openedAt: minutes(9)
    })
  })

  it("laws over random histories (protocol.md §6.3)", () => {
    for (let seed = 0; seed < 500; seed++) {
      const r = random(seed)
      let present = record("Opening")
      for (let i = 0; i < 31; i++) {
        const event = r.pick([
          ...Object.values(events),
          changed("Failed"),
          changed("Reverted"),
          advanced(r.below(4), r.below(4))
        ])
        const result = step(present, event)
        if (present.state === "Pruned") {
          assert.deepStrictEqual(result, {
            ok: false,
            error: { _tag: "IllegalForState", from: "Pruned", kind: event.kind }
          })
        }
        if (!result.ok) continue
        assert.isAtLeast(result.record.currentWave, present.currentWave)
        for (const effect of result.effects) {
          if (effect._tag !== "RecordRolloutTransition") continue
          assert.deepStrictEqual([effect.from, effect.to], [present.state, result.record.state])
        }
        present = result.record
        if (present.state === "Terminal") assert.isDefined(present.terminalAt)
        if (present.state === "Superseded") assert.isDefined(present.supersededAt)
      }
    }
  })

  it("only Opening, Active and Converging are live (D17)", () => {
    assert.deepStrictEqual(states.filter(isLive), ["Opening", "Active", "Converging"])
  })
})
