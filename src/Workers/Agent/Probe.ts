/**
 * Runs the declared probes while, and only while, the current record soaks (D10, D12). One session per soak: it declares
 * what the running system wants probed, then runs one ticker per probe. When the soak ends or another record becomes
 * current, the session is interrupted, and with it every run and its children.
 *
 * Failures: a declaration that cannot be read, wholly or in part, is one failing probe `declaration`, and is read again at
 * each of its runs; what a probe meets is its outcome, and one that could not be run is told to the log. What the reducer refuses is told to the log: as a rule the soak is
 * just over, and the session with it; while it is not, e.g. because the clock was set back, probing goes on.
 */
import { Effect } from "effect"
import { Inbox } from "../../Agent/Inbox.ts"
import type { Answer, TopologyDeclared } from "../../Agent/Input.ts"
import { Intents } from "../../Agent/Intents.ts"
import { AgentState, entriesOf } from "../../Agent/State.ts"
import { fail, type ProbeOutcome, Probes } from "../../Layers/Host/Probes.ts"
import { logOf } from "../../Layers/Logging.ts"
import { probesDue } from "../../Rollout/Owed.ts"
import { type HealthChecks, minimumIntervalSeconds } from "../../Schema/HealthChecks.ts"
import type { SoakingRecord } from "../../Schema/HostRecord.ts"
import { monotonicMs, untilNextTick, wallMs } from "../Pacer.ts"
import { plan, type Planned } from "./Planned.ts"

const log = logOf("agent_probe")

/** Without a signal the question is asked again this often: a signal that was lost costs no more. */
const lookEveryMs = 30_000

/** The synthetic probe that stands for a declaration which cannot be read (D12). */
export const declarationProbe = "declaration"
const declarationEveryMs = 30_000

/** The soak that probes are due for. */
const dueSoak = Effect.map(AgentState, (state) => probesDue(entriesOf(state.current())))

const isSame = (a: SoakingRecord | undefined, b: SoakingRecord | undefined): boolean =>
  a?.rolloutId === b?.rolloutId && a?.attempt === b?.attempt

/** Waits for a signal, or for the time after which a lost one does not matter. */
const signal = Effect.gen(function*() {
  const { probe } = yield* Intents
  yield* Effect.raceFirst(probe.rung, Effect.sleep(lookEveryMs))
})

const over = Effect.fnUntraced(function*(soak: SoakingRecord) {
  while (isSame(yield* dueSoak, soak)) yield* signal
})

const tellRefusal = (soak: SoakingRecord, message: string, answer: Answer) =>
  answer._tag === "Accepted"
    ? Effect.void
    : log.info(message, { rollout: soak.rolloutId, reason: answer.reason, detail: answer.detail })

const declare = Effect.fnUntraced(
  function*(soak: SoakingRecord, declared: Pick<TopologyDeclared, "probes" | "excused">) {
    const { attempt, rolloutId } = soak
    const at = yield* wallMs
    const answer = yield* (yield* Inbox).ask({ _tag: "TopologyDeclared", rolloutId, attempt, ...declared, at })
    yield* tellRefusal(soak, "the probe declaration was refused", answer)
  }
)

const offer = Effect.fnUntraced(
  function*(soak: SoakingRecord, probeName: string, mode: Planned["mode"], outcome: ProbeOutcome) {
    const { attempt, rolloutId } = soak
    const at = yield* wallMs
    const answer = yield* (yield* Inbox).ask({
      _tag: "ProbeSample",
      rolloutId,
      attempt,
      probeName,
      mode,
      at,
      ...outcome
    })
    yield* tellRefusal(soak, "a probe sample was refused", answer)
  }
)

/** A probe that runs once is done when it has passed, also before a restart; until then it is tried on its grid. */
function isDone(soak: SoakingRecord, name: string): boolean {
  const probe = Object.hasOwn(soak.probes, name) ? soak.probes[name] : undefined
  return probe?.lastPassAt !== undefined && probe.lastPassAt >= soak.activationCompletedAt
}

/** Runs at once, then on the grid that began then; runs that are late skip the points they missed. */
const ticker = Effect.fnUntraced(
  function*(soak: SoakingRecord, { intervalSeconds, mode, name, run, runOnce }: Planned) {
    if (runOnce && isDone(soak, name)) return
    const periodMs = Math.max(intervalSeconds, minimumIntervalSeconds) * 1000
    const start = yield* monotonicMs
    let before: ProbeOutcome["status"] | undefined
    while (true) {
      const outcome = yield* run
      if (outcome.status === "inconclusive" && before !== "inconclusive") {
        yield* log.warn("a probe could not be run", {
          rollout: soak.rolloutId,
          reason: "probe-inconclusive",
          detail: `${name}: ${outcome.failureReason ?? "unknown"}`
        })
      }
      before = outcome.status
      yield* offer(soak, name, mode, outcome)
      if (runOnce && outcome.status === "pass") return
      yield* Effect.sleep(untilNextTick(start, periodMs, yield* monotonicMs))
    }
  }
)

const declared = Effect.fnUntraced(function*(soak: SoakingRecord, checks: HealthChecks) {
  const { rollouts } = (yield* AgentState).current()
  const all = plan(checks, soak.policy, rollouts.get(soak.rolloutId)?.bookkeeping.baseline)
  yield* declare(soak, {
    probes: all.map(({ kind, mode, name }) => ({ probeName: name, kind, mode })),
    excused: all.filter(({ excused }) => excused).map(({ name }) => name)
  })
  const enabled = all.filter(({ mode }) => mode !== "disabled")
  yield* Effect.forEach(enabled, (one) => ticker(soak, one), {
    concurrency: "unbounded",
    discard: true
  })
  return yield* Effect.never
})

/** Fails until the declaration can be read (house rule 8). */
const undeclared = Effect.fnUntraced(function*(soak: SoakingRecord, first: string) {
  const probes = yield* Probes
  yield* declare(soak, {
    probes: [{ probeName: declarationProbe, kind: declarationProbe, mode: "enforce" }]
  })
  let failureReason = first
  while (true) {
    yield* offer(soak, declarationProbe, "enforce", fail(failureReason))
    yield* Effect.sleep(declarationEveryMs)
    const again = yield* probes.declared
    if (again._tag === "Declared") return
    failureReason = again.problem
  }
})

const session = Effect.fnUntraced(function*(soak: SoakingRecord) {
  const found = yield* (yield* Probes).declared
  return yield* found._tag === "Declared" ? declared(soak, found.checks) : undeclared(soak, found.problem)
})

/** Never ends; a defect ends the process through the supervisor (house rule 7). */
export const probe = Effect.gen(function*() {
  while (true) {
    const soak = yield* dueSoak
    if (soak === undefined) yield* signal
    else yield* Effect.raceFirst(session(soak), over(soak))
  }
})
