/**
 * Each invariant can be broken: a fault is put into one function of the programs, and the search finds it, names the invariant
 * and tells a short history. An invariant that no fault breaks says nothing.
 */
import { assert, describe, it } from "@effect/vitest"
import { afterEach, vi } from "vitest"
import { type Explored, explored, modelOf } from "./models.ts"
import { search, told } from "./search.ts"

/** The fault that is in the programs now. */
const fault = vi.hoisted(() => ({ is: "" }))

vi.mock(import("../../src/Rollout/host/Evidence.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    convergenceObstacle: (...args) =>
      fault.is === "no evidence is asked for" ? undefined : real.convergenceObstacle(...args),
    sustainedFailure: (record) => fault.is === "no failure lasts" ? undefined : real.sustainedFailure(record)
  }
})
vi.mock(import("../../src/Rollout/Owed.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    currentOf: (entries) => fault.is === "the oldest record acts" ? entries[0] : real.currentOf(entries)
  }
})
vi.mock(import("../../src/Rollout/owed/Forward.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    forward: (...args) => {
      const duty = real.forward(...args)
      if (duty._tag !== "Switch") return duty
      return fault.is === "another closure is switched to" ? { ...duty, closure: "x".repeat(32) + "-other" } : duty
    }
  }
})
vi.mock(import("../../src/Rollout/owed/Model.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    stateOf: (...args) => {
      const state = real.stateOf(...args)
      return fault.is === "what ended counts as lost" && state?._tag === "Exited" ? { _tag: "Lost" } : state
    }
  }
})
vi.mock(import("../../src/Rollout/owed/Advance.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    advanceSoaking: (...args) => fault.is === "no soak ends" ? { _tag: "Idle" } : real.advanceSoaking(...args)
  }
})
vi.mock(import("../../src/Rollout/owed/Rollback.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    rollback: (current, observed, now) => {
      const duty = real.rollback(current, observed, now)
      const { record, rollbackStarts } = current
      const { attempt, rollbackTarget = "", rolloutId } = record
      if (fault.is === "rollbacks are tried again and again" && duty._tag === "Hold" && duty.until === undefined) {
        const id = { rolloutId, attempt, purpose: "rollback", run: rollbackStarts + 1 } as const
        return { _tag: "Rollback", id, closure: rollbackTarget }
      }
      return fault.is === "a rollback that has begun is done" && rollbackStarts > 0 &&
          observed.running === record.targetClosure
        ? {
          _tag: "Settle",
          rolloutId,
          event: {
            kind: "RollbackComplete",
            revertedToClosure: rollbackTarget,
            exitCode: 0,
            completedAt: now,
            attempt
          }
        }
        : duty
    }
  }
})
vi.mock(import("../../src/Rollout/host/Soak.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    stepSoaking: (record, input, now) => {
      const result = real.stepSoaking(record, input, now)
      const isForgotten = fault.is === "the mirror forgets a failure" && input.origin === "Remote" &&
        input.event.kind === "Failed" && result.ok
      return isForgotten ? { ...result, record: { ...record, soakedMs: 1 } } : result
    }
  }
})
vi.mock(import("../../src/Rollout/gates/RolloutState.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    rolloutState: (candidate) => fault.is === "nothing halts" ? { pass: true } : real.rolloutState(candidate)
  }
})
// What failed for its own fault is held by two gates.
vi.mock(import("../../src/Rollout/gates/Quarantine.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    quarantine: (candidate) => fault.is === "nothing halts" ? { pass: true } : real.quarantine(candidate)
  }
})
vi.mock(import("../../src/Rollout/gates/Recovery.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    recovery: (candidate) => fault.is === "nobody is waited for" ? { pass: true } : real.recovery(candidate)
  }
})
vi.mock(import("../../src/Rollout/gates/DisruptionBudget.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    disruptionBudget: (candidate) =>
      fault.is === "no place is counted" ? { pass: true } : real.disruptionBudget(candidate)
  }
})
vi.mock(import("../../src/Rollout/gates/WavePromotion.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    wavePromotion: (candidate) => fault.is === "no wave is waited for" ? { pass: true } : real.wavePromotion(candidate)
  }
})
vi.mock(import("../../src/Rollout/gates/Held.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    held: (candidate) => fault.is === "nobody can hold anything" ? { pass: true } : real.held(candidate)
  }
})
vi.mock(import("../../src/Rollout/planner/Opening.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    opening: (channel, manifest, known, view) => {
      const { manifestHash, rolloutId, signedAt } = manifest
      return fault.is === "a release is taken up again and again" && known !== undefined
        ? { _tag: "Refresh", rolloutId, manifestHash, signedAt }
        : real.opening(channel, manifest, known, view)
    }
  }
})
vi.mock(import("../../src/Rollout/planner/Waves.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    hostsByWave: (plan) => fault.is === "hosts are overlooked" ? [[]] : real.hostsByWave(plan)
  }
})
vi.mock(import("../../src/Rollout/Host.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    step: (record, input, now) => {
      const result = real.step(record, input, now)
      const isLeft = fault.is === "a number is left out" && input.origin === "Local" && result.ok &&
        result.record.state === "Soaking"
      return isLeft ? { ...result, record: { ...result.record, lastEventSeq: result.record.lastEventSeq + 1 } } : result
    }
  }
})
vi.mock(import("../../src/Agent/Decide/Delivery.ts"), async (original) => {
  const real = await original()
  return {
    ...real,
    delivered: (draft, input) => {
      const answer = real.delivered(draft, input)
      const entry = draft.entry(input.rolloutId)
      if (fault.is === "a record is dropped" && input.seq === 3) draft.state = { ...draft.state, rollouts: new Map() }
      if (fault.is === "a row is passed over" && input.seq === 2 && entry !== undefined) {
        draft.setLane(entry, { ...entry.lane, nextSeq: entry.record.lastEventSeq + 1 })
      }
      return answer
    }
  }
})

const of = (group: ReadonlyArray<Explored>, name: string): Explored => {
  const found = group.find((one) => one.name === name)
  return found ?? assert.fail(`there is no model of ${name}`)
}
const two = of(explored.superseding, "two rollouts")
const held = of(explored.operator, "an operator who does two things")
const alone: Explored = { ...held, bounds: {} }
const budget: Explored = {
  ...of(explored.budget, "two hosts, a budget of one, and a database that is lost"),
  bounds: {},
  without: []
}
const waves = of(explored.waves, "two hosts in two waves, whose agents crash")
const back: Explored = { ...alone, without: ["ends its switch in another way", "cannot fetch"] }

/** The fault, the invariant that finds it, where, and the longest history that a person should have to read. */
const faults: ReadonlyArray<readonly [string, string, Explored, number]> = [
  ["no evidence is asked for", "converged-is-proven", alone, 12],
  ["another closure is switched to", "only-what-is-named", alone, 10],
  ["what ended counts as lost", "one-activation-an-attempt", alone, 14],
  ["rollbacks are tried again and again", "switches-are-bounded", back, 28],
  ["no soak ends", "ends-when-all-goes-well", alone, 14],
  ["a rollback that has begun is done", "rollback-ends-where-recorded", { ...alone, bounds: { crash: 1 } }, 16],
  ["no failure lasts", "ends-when-all-goes-ill", alone, 20],
  ["the oldest record acts", "newest-release-wins", two, 14],
  ["the mirror forgets a failure", "received-is-equal", alone, 30],
  ["a record is dropped", "attempts-end-once", alone, 16],
  ["nothing halts", "halted-dispatches-nothing", budget, 20],
  ["nobody is waited for", "nothing-offered-in-recovery", alone, 3],
  ["no place is counted", "budget-is-kept", budget, 6],
  ["no wave is waited for", "waves-in-order", waves, 3],
  ["nobody can hold anything", "nothing-held-is-dispatched", held, 6],
  ["a release is taken up again and again", "plan-comes-to-rest", alone, 3],
  ["hosts are overlooked", "every-wait-is-explained", alone, 3],
  ["a number is left out", "numbers-without-gaps", alone, 10],
  ["a row is passed over", "acknowledged-is-kept", alone, 16]
]

describe("a fault in the programs", () => {
  afterEach(() => {
    fault.is = ""
  })

  it.each(faults)("%s: is found by %s", { timeout: 300_000 }, (is, invariant, model, longest) => {
    fault.is = is
    const { broken } = search(modelOf({ ...model }))
    if (broken === undefined) return assert.fail("nothing was found")
    assert.strictEqual(broken.invariant, invariant, told(broken))
    assert.isAtMost(broken.history.length - 1, longest, told(broken))
  })
})
