/**
 * Histories from seeds: both real programs, everything goes wrong that may, and every promise is kept in the end. One seed
 * alone, with its whole history: `NIXFLEET_SEED=7 npx vitest run test/simulation/Story.test.ts`.
 */
import { assert, describe, it } from "@effect/vitest"
import { logTargets } from "../../src/Schema/Logs.ts"
import { reasons } from "../../src/Schema/Reasons.ts"
import { type Outcome, play } from "../../src/Simulation/Story.ts"
import { Explanations } from "../support/explanations.ts"

const only = process.env["NIXFLEET_SEED"]
const seeds = only === undefined ? Array.from({ length: 20 }, (_, index) => index + 1) : [Number(only)]
/** Enough to see what led to the end; the replay prints all. */
const shownLines = 120

const report = ({ history, lasted, problems, seed }: Outcome): string =>
  [
    `seed ${seed}, ${(lasted / 60_000).toFixed(1)} virtual minutes:`,
    ...problems.map((problem) => `- ${problem}`),
    "",
    ...(only === undefined ? history.slice(-shownLines) : history),
    "",
    `replay: NIXFLEET_SEED=${seed} npx vitest run test/simulation/Story.test.ts`
  ].join("\n")

/** Lines of a program's log that do not say who speaks, or not why something is wrong. */
const unexplained = (history: ReadonlyArray<string>): ReadonlyArray<string> =>
  history.filter((entry) => {
    const [, level, fields] = /^ *[\d.]+ \S+ +(INFO|WARN|ERROR|FATAL) .*?(\{.*\})$/.exec(entry) ?? []
    if (fields === undefined) return false
    const { reason, target }: { readonly reason?: string; readonly target?: string } = JSON.parse(fields)
    const isWrong = level !== "INFO" || reason !== undefined
    return !Object.hasOwn(logTargets, target ?? "") || isWrong && !Object.hasOwn(reasons, reason ?? "")
  })

describe("a history in which everything goes wrong that may", () => {
  const faults = new Map<string, number>()
  const actions = new Set<string>()
  const explanations = new Explanations()
  for (const seed of seeds) {
    it(`seed ${seed} keeps every promise, every host is explained in every state, and it is the same the second time`, () => {
      const first = play(seed, explanations.watcher())
      if (first.problems.length > 0) assert.fail(report(first))
      assert.deepStrictEqual(unexplained(first.history), [])
      assert.strictEqual(play(seed).hash, first.hash, `seed ${seed}: two runs differ`)
      for (const [kind, times] of Object.entries(first.faults)) faults.set(kind, (faults.get(kind) ?? 0) + times)
      for (const kind of Object.keys(first.actions)) actions.add(kind)
    })
  }

  it.skipIf(only !== undefined)("the seeds together met what a host may wait for, each by its name", () => {
    assert.isAbove(explanations.asked, 20_000)
    const { met } = explanations
    for (const reason of met) assert.isTrue(Object.hasOwn(reasons, reason), reason)
    assert.includeMembers([...met], [
      "at-target",
      "certificate-revoked",
      "disruption-budget",
      "health-unproven",
      "host-edges",
      "host-rolled-back",
      "host-silent",
      "not-acknowledged",
      "not-polled",
      "preparing",
      "probe-failing",
      "recovery",
      "rejected-by-host",
      "rolling-back",
      "rollout-state",
      "soaking",
      "switching",
      "wave-promotion"
    ])
  })

  it.skipIf(only !== undefined)("the operators together did everything that they can", () => {
    assert.deepStrictEqual([...actions].toSorted(), [
      "ClearQuarantine",
      "ClearRollout",
      "Freeze",
      "HoldHost",
      "PauseRollout",
      "ReleaseHost",
      "ResumeRollout",
      "Unfreeze"
    ])
  })

  it.skipIf(only !== undefined)("the seeds together met every kind of fault", () => {
    assert.deepStrictEqual([...faults.keys()].toSorted(), [
      "agent crash",
      "answer lost",
      "commit error",
      "control plane crash",
      "cut off",
      "delay",
      "full disk",
      "guard fired",
      "lost agent",
      "lost disk",
      "lost journal",
      "probes that cannot run",
      "request lost",
      "request repeated",
      "restart",
      "revoked"
    ])
  })
})
