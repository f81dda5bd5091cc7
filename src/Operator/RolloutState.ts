/**
 * How a rollout stands, as the control plane tells it, and waiting for that to change. The first question must be answered: a
 * wrong address, a certificate that is refused or a name that nobody knows is told at once. After it, a control plane that is away or
 * restarts is waited for, and standard error says so.
 */
import { Clock, Console, Effect } from "effect"
import { RolloutLifecycle } from "../Schema/OperatorViews.ts"
import { malformed, type NoView, requestView } from "./Connection.ts"
import { type CommandFailure, failed, type Unconverged } from "./Failure.ts"
import { printable } from "./Table.ts"

/** Between two looks, ms: operators are few, and a look is two small answers from memory. */
const lookMs = 1_000
/** Between tries while the control plane is away, ms: doubled each time up to this. */
const awayCapMs = 10_000

export interface Standing {
  readonly how: "converged" | Unconverged
  /** For a person, printable: `stable@aa11 has converged`. */
  readonly text: string
}

/** The states of a rollout in which no host is dispatched any more, and what each means for the one who waits. */
export function standingOf({ rolloutId, state, supersededBy, terminalAt }: RolloutLifecycle): Standing {
  const ended = (text: string): Standing => ({ how: "ended", text: printable(`${rolloutId} ${text}`) })
  switch (state) {
    case "Terminal":
      return { how: "converged", text: printable(`${rolloutId} has converged`) }
    case "Failed":
      return ended("has failed and is halted")
    case "Reverted":
      return ended("was rolled back and is halted")
    case "Superseded":
    case "Pruned": {
      const by = supersededBy === null ? "" : ` by ${supersededBy}`
      return terminalAt === null
        ? ended(`was superseded${by} before it converged`)
        : { how: "converged", text: printable(`${rolloutId} has converged, and was superseded${by} since`) }
    }
    default:
      return { how: "under-way", text: printable(`${rolloutId} is ${state}`) }
  }
}

/** A rollout by its id. */
export const readStanding = Effect.fnUntraced(function*(rolloutId: string) {
  const path = `/v1/rollouts/${rolloutId}/lifecycle`
  const { view } = yield* requestView(path, RolloutLifecycle)
  if (view.rolloutId !== rolloutId) return yield* malformed(path, "the answer is about another rollout")
  return standingOf(view)
})

export interface Watch<R> {
  /** How it stands. */
  readonly ask: Effect.Effect<Standing, NoView, R>
  /** What belongs to the same look, and may put off its end. */
  readonly afterwards?: (standing: Standing) => Effect.Effect<Standing, NoView, R>
  /** Before each pause. */
  readonly waiting?: (standing: Standing) => Effect.Effect<void>
  /** How long to go on looking; for ever without it. */
  readonly timeoutMs?: number | undefined
}

const monotonicMs = Clock.clockWith((clock) => Effect.sync(() => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)))

/** Looks once, then again and again until it is over or the time is; gives what the last look that was answered found. */
export const lookUntilOver = Effect.fnUntraced(function*<R>(
  { afterwards = Effect.succeed, ask, timeoutMs, waiting = () => Effect.void }: Watch<R>
): Effect.fn.Return<Standing, CommandFailure, R> {
  let failures = 0
  const answered = Effect.suspend(() => {
    const wasAway = failures > 0
    failures = 0
    return wasAway ? Console.error("the control plane answers again") : Effect.void
  })
  const look = ask.pipe(Effect.tap(answered), Effect.flatMap(afterwards))
  const end = timeoutMs === undefined ? Number.POSITIVE_INFINITY : (yield* monotonicMs) + timeoutMs
  let last = yield* Effect.mapError(look, ({ message }) => failed(message))
  while (last.how === "under-way") {
    const left = end - (yield* monotonicMs)
    if (left <= 0) break
    yield* waiting(last)
    const pause = failures === 0 ? lookMs : Math.min(awayCapMs, lookMs * 2 ** (failures - 1))
    yield* Effect.sleep(Math.min(pause, left))
    const found = yield* Effect.result(look)
    if (found._tag === "Success") last = found.success
    else {
      if (found.failure.kind === "refused") return yield* failed(found.failure.message)
      failures += 1
      yield* Console.error(`waiting for the control plane: ${printable(found.failure.message)}`)
    }
  }
  return last
})
