/**
 * Asks systemd about its units, by `systemctl`: the `systemd` probe, and the units that count for the signed health gate.
 * Questions only; nothing is started or stopped. Each has its own time limit, a fixed environment, and no terminal.
 *
 * Failures: a host without systemd, a `systemctl` that is missing, that does not answer in time or whose answer cannot be
 * read: the probe could not be run, and says why.
 */
import { Effect } from "effect"
import type { HealthCheck } from "../../Schema/HealthChecks.ts"
import { describeEnd, runCommand } from "./nix/Command.ts"
import { fail, type FailedUnits, inconclusive, pass, type ProbeOutcome } from "./Probes.ts"

export type SystemdCheck = Extract<HealthCheck, { readonly kind: "systemd" }>

type Environment = Readonly<Record<string, string>>

/** Of the health gate's question; a declared check brings its own. */
const gateLimitMs = 10_000
/** Units that a reason names. */
const namedUnits = 5

type Answer =
  | { readonly _tag: "Said"; readonly text: string }
  | { readonly _tag: "Unknown"; readonly problem: string }

const ask = (args: ReadonlyArray<string>, limitMs: number, environment: Environment): Effect.Effect<Answer> =>
  Effect.map(
    runCommand({
      program: "systemctl",
      args: ["--no-pager", "--no-ask-password", ...args],
      // No colours and no translation in what is read here.
      environment: { ...environment, LC_ALL: "C.UTF-8", SYSTEMD_COLORS: "0", SYSTEMD_URLIFY: "0" },
      limitMs
    }),
    (end): Answer =>
      end._tag === "Exited" && end.code === 0
        ? { _tag: "Said", text: end.stdout }
        : { _tag: "Unknown", problem: describeEnd("systemctl", end).replaceAll("\n", " | ") }
  )

/** First words of the lines; each is the name of a unit. */
function readFailedUnits(text: string): FailedUnits {
  const units = text.split("\n").flatMap((line) => line.trim() === "" ? [] : [line.trim().split(/\s+/)[0]!])
  const strange = units.find((unit) => !/^\S{1,255}\.[a-z]+$/.test(unit))
  return strange === undefined
    ? { _tag: "Units", units: [...new Set(units)].toSorted() }
    : {
      _tag: "Unknown",
      problem: `systemctl list-units said ${JSON.stringify(strange.slice(0, 64))}, which is no unit`
    }
}

const failedUnitsWithin = (limitMs: number, environment: Environment): Effect.Effect<FailedUnits> =>
  Effect.map(
    ask(["list-units", "--state=failed", "--all", "--full", "--plain", "--no-legend"], limitMs, environment),
    (answer) => answer._tag === "Said" ? readFailedUnits(answer.text) : answer
  )

export const failedUnits = (environment: Environment): Effect.Effect<FailedUnits> =>
  failedUnitsWithin(gateLimitMs, environment)

const listed = (units: ReadonlyArray<string>): string =>
  units.length <= namedUnits
    ? units.join(", ")
    : `${units.slice(0, namedUnits).join(", ")} and ${units.length - namedUnits} more`

/** Whether so many failed units are too many; those of `before` had failed before the switch and do not count. */
export function judgeFailedUnits(found: FailedUnits, max: number, before: ReadonlyArray<string> = []): ProbeOutcome {
  if (found._tag === "Unknown") return inconclusive(found.problem)
  const units = found.units.filter((unit) => !before.includes(unit))
  if (units.length <= max) return pass
  const besides = found.units.length - units.length
  return fail(
    `${units.length} units failed, ${max} may: ${listed(units)}` +
      (besides === 0 ? "" : `; ${besides} that failed before the switch are not counted`)
  )
}

/** While it reloads, a unit goes on to serve. */
const active: ReadonlySet<string> = new Set(["active", "reloading", "refreshing"])

/** One block of `systemctl show` for each unit that was asked for, in that order, with an empty line between. */
function judgeUnits(text: string, units: ReadonlyArray<string>): ProbeOutcome {
  const blocks = text.split(/\n\n+/).filter((block) => block.trim() !== "")
  if (blocks.length !== units.length) {
    return inconclusive(`systemctl show told of ${blocks.length} units, asked for ${units.length}`)
  }
  const problems = units.flatMap((unit, index) => {
    const told = new Map(
      blocks[index]!.split("\n").map((line) => {
        const at = line.indexOf("=")
        return [line.slice(0, at), line.slice(at + 1)]
      })
    )
    const state = told.get("ActiveState") ?? "unknown"
    if (active.has(state)) return []
    return [
      told.get("LoadState") === "not-found"
        ? `${unit} does not exist`
        : `${unit} is ${state} (${told.get("SubState") ?? "unknown"})`
    ]
  })
  return problems.length === 0 ? pass : fail(problems.join(", "))
}

const runUnits = (units: ReadonlyArray<string>, limitMs: number, environment: Environment) =>
  Effect.map(
    ask(["show", "--property=LoadState,ActiveState,SubState", "--", ...units], limitMs, environment),
    (answer) => answer._tag === "Said" ? judgeUnits(answer.text, units) : inconclusive(answer.problem)
  )

/** What failed counts more than what is not known, and that more than what passed. */
function worse(a: ProbeOutcome, b: ProbeOutcome): ProbeOutcome {
  const rank = { fail: 2, inconclusive: 1, pass: 0 } as const
  return rank[b.status] > rank[a.status] ? b : a
}

export const runSystemd = Effect.fnUntraced(function*(check: SystemdCheck, environment: Environment) {
  const { maxFailedUnits, timeoutSecs, units } = check
  const limitMs = timeoutSecs * 1000
  const ofUnits = units.length === 0 ? pass : yield* runUnits(units, limitMs, environment)
  if (maxFailedUnits === undefined || ofUnits.status === "fail") return ofUnits
  return worse(ofUnits, judgeFailedUnits(yield* failedUnitsWithin(limitMs, environment), maxFailedUnits))
})
