/**
 * Moves the host: asks what is owed, does that one thing, asks again (D7, D10, D11). It remembers nothing: a restart, a lost
 * or repeated wake-up and a supersession are the same question put to the journal and to the host.
 *
 * Failures:
 * - fetching: trouble of network, disk or daemon is retried until the deadline; then, and for an absent, untrusted or
 *   corrupt closure, ActivationFailed that does not condemn the closure;
 * - nobody can say whether the manifest still holds: asked again until the same deadline;
 * - a disk that is full or read-only: no switch forward starts, until the same deadline; a rollback uses what was kept for
 *   it, and waits only where nothing at all can be written (D1). The heartbeat says so meanwhile;
 * - a switch of somebody else holds the host: waited for, until the deadline of a switch;
 * - the guard cannot be armed: ActivationFailed before the switch starts, which does not condemn the closure;
 * - superseded while fetching or waiting: stops; a switch that runs already is never interrupted;
 * - the reducer refuses a result: told to the log, and asked again after a pause.
 *
 * Deadlines run by the monotonic clock, from where the record's times say that they are: a step of the wall clock moves none
 * of them.
 */
import { Effect } from "effect"
import { lookEveryMs, prepareUntil } from "../../Agent/Deadlines.ts"
import { Inbox } from "../../Agent/Inbox.ts"
import { Intents } from "../../Agent/Intents.ts"
import { Settings } from "../../Agent/Settings.ts"
import { AgentState, currentEntry, entriesOf, type State } from "../../Agent/State.ts"
import { SwitchPermit } from "../../Agent/SwitchPermit.ts"
import { DiskRoom, type DiskTrouble } from "../../Layers/Disk/DiskRoom.ts"
import { Activator, type RealiseFailure, type SwitchId } from "../../Layers/Host/Activator.ts"
import { Guard } from "../../Layers/Host/Guard.ts"
import { logOf } from "../../Layers/Logging.ts"
import type { UnnumberedEvent } from "../../Rollout/Host.ts"
import { type ActivationDuty, exitCodes, owed, switchesToRead } from "../../Rollout/Owed.ts"
import { millis } from "../../Schema/AgentConfig.ts"
import type { Baseline } from "../../Schema/AgentJournal.ts"
import type { GuardState } from "../../Schema/GuardOrder.ts"
import type { HostRecord } from "../../Schema/HostRecord.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import { monotonicMs, wallMs } from "../Pacer.ts"
import { takeBaseline } from "./Baseline.ts"
import { attended, tellBoot, tendGuard } from "./Guarding.ts"

const log = logOf("agent_activation")

/** Pause after a result that the reducer refused, and between two looks at a host that somebody else switches. */
const againMs = 5_000

/** Between two looks at a disk that is full or read-only: what an operator who just freed space is ready to wait. */
const diskEveryMs = 2_000

/** Between tries to fetch: doubling from the first to the cap. */
const retryFirstMs = 1_000
const retryCapMs = 60_000

/** One life of the worker. */
interface Life {
  /** When it began, monotonic ms. */
  readonly since: number
  /** Why an activation is held. */
  reason: Reason | undefined
  /** The closures that the host was told to keep; as `reason`, so that it is not said again. */
  retained: string | undefined
}

type Duty<Tag extends ActivationDuty["_tag"]> = Extract<ActivationDuty, { readonly _tag: Tag }>

/**
 * The time that the records' times are told by: the wall clock as the reducer last read it. Until it has seen a step, and has
 * moved the records with it, the step does not count here either.
 */
const recordMs = Effect.gen(function*() {
  const { clock } = (yield* AgentState).current()
  return clock === undefined ? yield* wallMs : Math.floor((yield* monotonicMs) + clock.offset)
})

/** What is owed now, with the running system and the switches in question read anew. */
const look = Effect.gen(function*() {
  const activator = yield* Activator
  const entries = entriesOf((yield* AgentState).current())
  const switches = yield* Effect.forEach(
    switchesToRead(entries),
    (id) => Effect.map(activator.switchResult(id), (state) => ({ id, state }))
  )
  const { running } = yield* activator.current
  // Last: what was seen before a guard fired is nothing that the guard did.
  const guard = yield* Effect.orElseSucceed((yield* Guard).state, (): GuardState => ({ _tag: "None" }))
  return owed(entries, { running, switches, guard }, yield* recordMs)
})

/** Where the current rollout would go back to; `undefined` when it is over, or has not begun. */
function wayBack(record: HostRecord | undefined): string | undefined {
  switch (record?.state) {
    case "Activating":
    case "Deferred":
    case "Soaking":
    case "Failed":
      return record.rollbackTarget
    case "Pending":
    case "Converged":
    case "Reverted":
    case undefined:
      return undefined
  }
}

/** What is going to be switched to, and what a rollback goes to, now and of the next rollout: no collector may take it. */
function neededClosures(state: State): ReadonlyArray<string> {
  const record = currentEntry(state)?.record
  const needed = [
    record?.state === "Activating" ? record.targetClosure : undefined,
    wayBack(record),
    state.lastConverged ?? state.firstObserved
  ]
  return [...new Set(needed.filter((closure) => closure !== undefined))]
}

/** Tells the host what it must keep, when that changes, until it does. */
const retain = Effect.fnUntraced(function*(life: Life) {
  const needed = neededClosures((yield* AgentState).current())
  const key = JSON.stringify(needed)
  if (life.retained === key) return
  if (yield* (yield* Activator).retain(needed)) life.retained = key
})

/** Waits for a signal, at most `ms`. */
const signalOr = Effect.fnUntraced(function*(ms: number) {
  const { activation } = yield* Intents
  yield* Effect.raceFirst(activation.rung, Effect.sleep(ms))
})

/** The longest wait between two looks. */
const untilNextLook = Effect.flatMap(Settings, (settings) => signalOr(lookEveryMs(settings)))

/** Ends when another attempt, or another rollout, has become the current one. */
const superseded = Effect.fnUntraced(function*(id: SwitchId) {
  const state = yield* AgentState
  while (true) {
    const record = currentEntry(state.current())?.record
    if (record?.rolloutId !== id.rolloutId || record.attempt !== id.attempt) return
    yield* untilNextLook
  }
})

/** Offers a result; one that is refused is told to the log, and the host is looked at again after a while. */
const settle = Effect.fnUntraced(function*(rolloutId: string, event: UnnumberedEvent) {
  const answer = yield* (yield* Inbox).ask({ _tag: "Settled", rolloutId, event, at: yield* wallMs })
  if (answer._tag === "Accepted") return
  yield* log.warn("the result of an activation was refused", {
    rollout: rolloutId,
    kind: event.kind,
    reason: answer.reason,
    detail: answer.detail
  })
  yield* signalOr(againMs)
})

/** Trouble of the infrastructure: the closure is not condemned (D11). */
const fail = Effect.fnUntraced(function*(id: SwitchId, exitCode: number, detail: string) {
  yield* settle(id.rolloutId, {
    kind: "ActivationFailed",
    exitCode,
    stderrTail: detail.slice(0, maxDetail).toWellFormed(),
    failedAt: yield* wallMs,
    closureAtFault: false,
    attempt: id.attempt
  })
})

/** Characters of a detail that fit the wire's `stderrTail`. */
const maxDetail = 4096

/** Why a switch cannot start; `undefined` when it can. */
type Trouble = { readonly exitCode: number; readonly detail: string } | undefined

const unprepared = (detail: string): Trouble => ({ exitCode: exitCodes.unrealised, detail })

/** Trouble of network, cache, disk or daemon may pass; what a source says of the closure itself stays true (D11). */
function isRetried(outcome: RealiseFailure): boolean {
  switch (outcome._tag) {
    case "Absent":
    case "Untrusted":
    case "Corrupt":
      return false
    case "CacheUnreachable":
    case "CacheAuth":
    case "CacheConfig":
    case "Transient":
    case "HostFault":
    case "Deadline":
    case "Cancelled":
      return true
  }
}

/** Fetches and verifies; tries again until `until`, monotonic ms. */
const fetchClosure = Effect.fnUntraced(function*(closure: string, until: number) {
  const activator = yield* Activator
  let pauseMs = retryFirstMs
  while (true) {
    const outcome = yield* activator.realise(closure)
    if (outcome._tag === "Ok") return undefined
    const left = until - (yield* monotonicMs)
    if (!isRetried(outcome) || left <= 0) {
      const exitCode = outcome._tag === "Untrusted" ? exitCodes.untrusted : exitCodes.unrealised
      const trouble: Trouble = { exitCode, detail: `${outcome._tag}: ${outcome.detail}` }
      return trouble
    }
    yield* log.warn("the closure cannot be fetched now; trying again", {
      reason: "fetch-failed",
      closure,
      outcome: outcome._tag,
      detail: outcome.detail
    })
    yield* Effect.sleep(Math.min(pauseMs, left))
    pauseMs = Math.min(pauseMs * 2, retryCapMs)
  }
})

/** Profile first: the boot entry takes its number from it (nix.md §4). Ends when the switch runs, or with the trouble. */
const start = Effect.fnUntraced(function*(closure: string, id: SwitchId, life: Life) {
  const activator = yield* Activator
  const until = (yield* monotonicMs) + millis((yield* Settings).switchTimeoutSecs)
  const profile = yield* activator.setProfile(closure)
  if (profile._tag === "Failed") return `the profile cannot be set: ${profile.detail}`
  while (true) {
    const outcome = yield* activator.startSwitch(closure, id)
    if (outcome._tag === "Started") return undefined
    if (outcome._tag === "Failed") return `the switch cannot be started: ${outcome.detail}`
    if ((yield* monotonicMs) >= until) return `another switch holds the host: ${outcome.detail}`
    yield* Effect.interruptible(Effect.sleep(againMs))
    yield* tendGuard(life.since)
  }
})

/** Asks for the mark that says "started"; false when the record may not move the host any more. */
const leave = Effect.fnUntraced(function*(id: SwitchId, baseline?: Baseline) {
  const { attempt, purpose, rolloutId } = id
  const at = yield* wallMs
  const answer = yield* (yield* Inbox).ask(
    purpose === "forward"
      ? {
        _tag: "ActivationStarted",
        rolloutId,
        attempt,
        switchMethod: (yield* Activator).method,
        ...(baseline === undefined ? {} : { baseline }),
        at
      }
      : { _tag: "RollbackStarted", rolloutId, attempt, at }
  )
  if (answer._tag === "Accepted") return true
  yield* log.warn("the switch may not start", {
    rollout: rolloutId,
    attempt,
    reason: answer.reason,
    detail: answer.detail
  })
  yield* signalOr(againMs)
  return false
})

/**
 * D14: the first run asks once more whether the manifest holds; a re-run goes on with the stored verdict (D11). While nobody
 * can say, it is asked again, until `until`, monotonic ms: an outage fails no rollout that could still go on.
 */
const permitted = Effect.fnUntraced(function*(id: SwitchId, until: number) {
  if (id.run > 1) return undefined
  const permit = yield* SwitchPermit
  while (true) {
    const verdict = yield* permit.check(id.rolloutId)
    if (verdict._tag === "Holds") return undefined
    if (verdict._tag === "Fails" || (yield* monotonicMs) >= until) return `${verdict.reason}: ${verdict.detail}`
    yield* log.warn("nobody can say whether the manifest still holds; asking again", {
      rollout: id.rolloutId,
      reason: verdict.reason,
      detail: verdict.detail
    })
    yield* Effect.sleep(againMs)
  }
})

/** Waits while the disks forbid it, at most until `until`, monotonic ms; what was wrong then. Said when it changes. */
const disksAllow = Effect.fnUntraced(function*(
  id: SwitchId,
  ask: Effect.Effect<DiskTrouble | undefined>,
  until: number
) {
  let said: string | undefined
  while (true) {
    const trouble = yield* ask
    if (trouble === undefined) return undefined
    const { detail, reason } = trouble
    if ((yield* monotonicMs) >= until) return `${reason}: ${detail}`
    if (said !== detail) {
      yield* log.warn(`the ${id.purpose} switch waits for the disk`, { rollout: id.rolloutId, reason, detail })
    }
    said = detail
    yield* Effect.sleep(diskEveryMs)
  }
})

/** The guard first: from here on somebody has to bring the host back when this process cannot. */
const startGuarded = Effect.fnUntraced(function*(closure: string, id: SwitchId, life: Life) {
  const guard = yield* tendGuard(life.since)
  switch (guard._tag) {
    case "Tended":
      return yield* start(closure, id, life)
    case "Unarmed":
      return `the guard cannot be armed: ${guard.problem}`
    case "Fired":
      // The next look fails the activation.
      return undefined
  }
})

/** How the host was before anything was switched: a further run finds what the first one left. */
const baselineOf = Effect.fnUntraced(function*({ rolloutId, run }: SwitchId) {
  const record = currentEntry((yield* AgentState).current())?.record
  return run > 1 || record?.state !== "Activating" ? undefined : yield* takeBaseline(rolloutId, record.policy)
})

/** Everything that a switch forward needs before its mark; what stands in its way. */
const prepare = Effect.fnUntraced(function*(duty: Duty<"Switch">, life: Life) {
  const { closure, id } = duty
  const settings = yield* Settings
  const { forward: allowed } = yield* DiskRoom
  const left = prepareUntil(duty, settings) - (yield* recordMs)
  const until = (yield* monotonicMs) + left
  // Before the fetch, which must not fill the disk to its end; and after it, because it may have.
  const noRoom = yield* disksAllow(id, allowed, until)
  if (noRoom !== undefined) return unprepared(noRoom)
  const trouble = yield* fetchClosure(closure, until)
  if (trouble !== undefined) return trouble
  yield* retain(life)
  const refusal = (yield* permitted(id, until)) ?? (yield* disksAllow(id, allowed, until))
  return refusal === undefined ? undefined : unprepared(refusal)
})

/**
 * From the mark until the switch runs nothing may come between, not even shutdown: a mark without its switch costs one of
 * the two runs.
 */
const forward = Effect.fnUntraced(function*(duty: Duty<"Switch">, life: Life) {
  const { closure, id } = duty
  const trouble = yield* attended(prepare(duty, life), life.since)
  if (trouble === "fired") return
  if (trouble !== undefined) return yield* fail(id, trouble.exitCode, trouble.detail)
  const baseline = yield* baselineOf(id)
  const problem = yield* Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      restore(leave(id, baseline)),
      (granted) => granted ? startGuarded(closure, id, life) : Effect.undefined
    )
  )
  if (problem !== undefined) yield* fail(id, exitCodes.unrealised, problem)
})

/** The mark comes first, so that every rollback ends in one result; the old system is in the store as a rule. */
const rollback = Effect.fnUntraced(function*({ closure, id }: Duty<"Rollback">, life: Life) {
  // A try that cannot write anything would only be one less.
  if ((yield* attended(disksAllow(id, (yield* DiskRoom).back, Infinity), life.since)) === "fired") return
  if (!(yield* leave(id))) return
  const until = (yield* monotonicMs) + millis((yield* Settings).switchTimeoutSecs)
  const trouble = yield* attended(fetchClosure(closure, until), life.since)
  if (trouble === "fired") return
  if (trouble !== undefined) return yield* fail(id, trouble.exitCode, trouble.detail)
  const problem = yield* Effect.uninterruptible(start(closure, id, life))
  if (problem !== undefined) yield* fail(id, exitCodes.unrealised, problem)
})

/** Something is owed but must wait: said when the reason changes. */
const hold = Effect.fnUntraced(function*(duty: Duty<"Hold">, life: Life) {
  if (life.reason !== duty.reason) {
    yield* log.warn("an activation is held", {
      rollout: duty.rolloutId,
      reason: duty.reason,
      detail: duty.detail
    })
  }
  life.reason = duty.reason
  const left = duty.until === undefined ? againMs : Math.max(0, duty.until - (yield* recordMs))
  yield* signalOr(Math.min(left, againMs, lookEveryMs(yield* Settings)))
})

/** Not beyond the next sign of life. */
const awaitSwitch = Effect.flatMap(
  Settings,
  (settings) => Effect.sleep(Math.min(millis(settings.switchPollSecs), lookEveryMs(settings)))
)

const act = Effect.fnUntraced(function*(duty: ActivationDuty, life: Life) {
  if (duty._tag !== "Hold") life.reason = undefined
  switch (duty._tag) {
    case "Idle":
      return yield* untilNextLook
    case "Hold":
      return yield* hold(duty, life)
    case "Settle":
      return yield* settle(duty.rolloutId, duty.event)
    case "AwaitSwitch":
      return yield* awaitSwitch
    case "Switch":
      return yield* Effect.raceFirst(forward(duty, life), superseded(duty.id))
    case "Rollback":
      return yield* Effect.raceFirst(rollback(duty, life), superseded(duty.id))
  }
})

/** Never ends; a defect ends the process through the supervisor (house rule 7). */
export const activation = Effect.gen(function*() {
  const life: Life = { since: yield* monotonicMs, reason: undefined, retained: undefined }
  yield* tellBoot
  while (true) {
    yield* tendGuard(life.since)
    const duty = yield* look
    // What is fetched is held by its fetch; to hold it before costs a command of Nix between a dispatch and its switch.
    if (duty._tag !== "Switch") yield* retain(life)
    yield* act(duty, life)
  }
})
