/**
 * The loop of the house: take all that waits, fold it through `decide` in order, commit once, publish, reply, apply
 * (house rules 1, 2, 4, 5). Generic: it knows nothing of hosts or HTTP. The agent and the control plane are this loop with
 * two deciders.
 *
 * Owns the queue, the published state and the order of things. Does not own the journal: `commit` is given.
 *
 * Failures: a full or read-only disk holds the batch, which is tried again until it is durable, and everything behind it
 * waits. Any other error of a commit, and any defect of the given functions, ends the loop: `ended` fails, the batch and
 * all that waits are answered `InboxClosed`, and the program must end (house rule 7).
 */
import { Cause, Clock, Deferred, Effect, Exit, Fiber, Queue, Schema, type Scope } from "effect"
import { CommitHeld } from "./Layers/Disk/CommitHeld.ts"
import { logOf } from "./Layers/Logging.ts"

const log = logOf("journal")

/** The two clocks at the moment of decision: `wall` epoch ms, `monotonic` ms since an arbitrary start; both integers. */
export interface Now {
  readonly wall: number
  readonly monotonic: number
}

/** What a fold caused besides an answer. Nothing of it is visible before the commit of its batch. */
export interface Change<State, Write, Action> {
  readonly state: State
  /** Rows, in order; empty when nothing durable changed. */
  readonly writes: ReadonlyArray<Write>
  /** What `apply` does after the commit: synchronous, total, never offers to the queue. */
  readonly actions: ReadonlyArray<Action>
}

/** What one input caused. */
export interface Decision<State, Write, Action, Answer> extends Change<State, Write, Action> {
  /** For the one who offered the input. A refusal is an answer and does not spoil the batch. */
  readonly answer: Answer
}

/** A program for the loop. All functions are synchronous; `decide` and `settle` are pure. */
export interface Program<State, Input, Write, Action, Answer> {
  readonly initial: State
  readonly decide: (state: State, input: Input, now: Now) => Decision<State, Write, Action, Answer>
  /** Runs once per batch after its last input, e.g. the planner for dirty channels; folded into the same commit. */
  readonly settle?: (state: State, now: Now) => Change<State, Write, Action> | undefined
  /**
   * One transaction; not called for a batch without writes. Throws `CommitHeld` when nothing is durable and a later try
   * may succeed (D1); it is then called again with the same arguments. Any other error ends the loop.
   */
  readonly commit: (writes: ReadonlyArray<Write>, now: Now) => void
  /** Called with every new state, before the replies and the actions of its batch. */
  readonly publish: (state: State) => void
  readonly apply: (action: Action) => void
  /** Called at each turn of the loop, and at each try of a held commit: the pulse of the service's watchdog (D18). */
  readonly pulse?: () => void
}

/** The input was not taken, or its fate is unknown because the loop ended: nobody may be told that it is durable. */
export class InboxClosed extends Schema.TaggedError<InboxClosed>()("InboxClosed", {}) {
  override readonly message = "the program is stopping and takes no more inputs"
}

/** The queue is full; try again after a while. */
export class InboxFull extends Schema.TaggedError<InboxFull>()("InboxFull", {}) {
  override readonly message = "too many inputs wait to be decided"
}

/** One waiting input. `reply` is completed after the commit of its batch, never before. */
export interface Offered<Input, Answer> {
  readonly input: Input
  readonly reply: Deferred.Deferred<Answer, InboxClosed> | undefined
}

/** Where sources put inputs. Workers may suspend, routes must not (house rule 5). An answer means: durable. */
export interface Inbox<in out Input, in out Answer> {
  /** Waits for room. For workers that need no answer; false once shutdown has begun. */
  readonly offer: (input: Input) => Effect.Effect<boolean>
  /** False when there is no room or shutdown has begun. */
  readonly tryOffer: (input: Input) => boolean
  /** Waits for room, then for the commit. For workers. */
  readonly ask: (input: Input) => Effect.Effect<Answer, InboxClosed>
  /** Waits for the commit but never for room. For routes; one that gives up waiting completes its `reply` itself. */
  readonly tryAsk: (
    input: Input,
    reply?: Deferred.Deferred<Answer, InboxClosed>
  ) => Effect.Effect<Answer, InboxClosed | InboxFull>
  /** For `run` only. */
  readonly queue: Queue.Queue<Offered<Input, Answer>, Cause.Done>
}

/** A batch that was decided and is not durable yet. */
interface Folded<State, Write, Action, Answer> extends Change<State, Write, Action> {
  /** For those who wait, in the order of the inputs. */
  readonly answers: ReadonlyArray<readonly [reply: Deferred.Deferred<Answer, InboxClosed>, answer: Answer]>
}

/**
 * How long shutdown waits for a held commit, ms: a program that is told to stop ends within two seconds (D18). A commit
 * that is merely slow is synchronous, and never cut off.
 */
const drainLimitMs = 1_000

/** Between tries of a held commit, ms. The cap is what an operator who just freed space is ready to wait. */
const holdFirstMs = 100
const holdCapMs = 10_000

/** One reading of both clocks. */
const readClocks = (clock: Clock.Clock): Now => ({
  wall: Math.floor(clock.currentTimeMillisUnsafe()),
  monotonic: Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
})

/** By index, as elsewhere in this loop: an iterator for each input costs more than a small decision. */
const append = <A>(to: Array<A>, more: ReadonlyArray<A>): void => {
  for (let index = 0; index < more.length; index++) to.push(more[index]!)
}

/** The queue and its four doors. `capacity` is also the largest commit (house rule 5). */
export const makeInbox = Effect.fnUntraced(function*<Input, Answer>(
  capacity: number
): Effect.fn.Return<Inbox<Input, Answer>> {
  const queue = yield* Queue.bounded<Offered<Input, Answer>, Cause.Done>(capacity)
  /** With room, which is the rule, an input costs its reply and nothing else; `noRoom` is for the rest. */
  const awaitReply = <E>(
    input: Input,
    noRoom: (offered: Offered<Input, Answer>) => Effect.Effect<boolean, E>,
    given?: Deferred.Deferred<Answer, InboxClosed>
  ): Effect.Effect<Answer, E | InboxClosed> =>
    Effect.suspend(() => {
      const reply = given ?? Deferred.makeUnsafe<Answer, InboxClosed>()
      const offered = { input, reply }
      if (Queue.offerUnsafe(queue, offered)) return Deferred.await(reply)
      return Effect.flatMap(
        noRoom(offered),
        (entered): Effect.Effect<Answer, InboxClosed> => entered ? Deferred.await(reply) : new InboxClosed()
      )
    })
  return {
    offer: (input) => Queue.offer(queue, { input, reply: undefined }),
    // The queue's own `offer` suspends when full; the unsafe one answers at once.
    tryOffer: (input) => Queue.offerUnsafe(queue, { input, reply: undefined }),
    ask: (input) => awaitReply(input, (offered) => Queue.offer(queue, offered)),
    tryAsk: (input, reply) =>
      awaitReply<InboxFull>(input, () => Queue.isFullUnsafe(queue) ? new InboxFull() : Effect.succeed(false), reply),
    queue
  }
})

/**
 * Starts the loop in the present scope; the result never succeeds while the program runs, and dies with what ended the
 * loop: it is for the supervisor (house rule 7).
 *
 * When the scope closes, what is still buffered is decided, committed, published and answered, but not applied: the next
 * start owes it (house rule 4). Therefore sources must live in scopes that close earlier, and the journal in one that
 * closes later.
 */
export const run = Effect.fnUntraced(function*<State, Input, Write, Action, Answer>(
  program: Program<State, Input, Write, Action, Answer>,
  { queue }: Pick<Inbox<Input, Answer>, "queue">
): Effect.fn.Return<Effect.Effect<void>, never, Scope.Scope> {
  const clock = yield* Clock.Clock
  let state = program.initial
  let draining = false
  let batch: ReadonlyArray<Offered<Input, Answer>> = []

  const fold = (now: Now): Folded<State, Write, Action, Answer> => {
    let next = state
    const writes: Array<Write> = []
    const actions: Array<Action> = []
    const answers: Array<Folded<State, Write, Action, Answer>["answers"][number]> = []
    for (const { input, reply } of batch) {
      const decision = program.decide(next, input, now)
      next = decision.state
      append(writes, decision.writes)
      append(actions, decision.actions)
      if (reply !== undefined) answers.push([reply, decision.answer])
    }
    const settled = program.settle?.(next, now)
    if (settled !== undefined) {
      next = settled.state
      append(writes, settled.writes)
      append(actions, settled.actions)
    }
    return { state: next, writes, actions, answers }
  }

  /** What the disk cannot take now comes back; every other error is thrown, and ends the loop. */
  const tryCommit = (writes: ReadonlyArray<Write>, now: Now): CommitHeld | undefined => {
    program.pulse?.()
    if (writes.length === 0) return undefined
    try {
      program.commit(writes, now)
      return undefined
    } catch (error) {
      if (error instanceof CommitHeld) return error
      throw error
    }
  }

  const hold = Effect.fnUntraced(function*(first: CommitHeld, writes: ReadonlyArray<Write>, now: Now) {
    let held: CommitHeld | undefined = first
    for (let waitMs = holdFirstMs; held !== undefined; waitMs = Math.min(2 * waitMs, holdCapMs)) {
      yield* log.error("nothing can be made durable; holding all inputs until the disk takes them", {
        reason: held.reason,
        detail: held.message
      })
      yield* Effect.sleep(waitMs)
      held = tryCommit(writes, now)
    }
  })

  /** Synchronous: whoever sees the answer sees the state, and an interruption cannot come between. */
  const finish = ({ actions, answers, state: next }: Folded<State, Write, Action, Answer>) => {
    state = next
    program.publish(next)
    for (const [reply, answer] of answers) Deferred.doneUnsafe(reply, Exit.succeed(answer))
    batch = []
    if (draining) return
    for (let index = 0; index < actions.length; index++) program.apply(actions[index]!)
  }

  /**
   * One batch in one step of the fiber, unless the disk holds it: what the runtime adds is paid once a batch and not once an
   * input. After a commit, which kept everything else waiting, everything else comes first.
   */
  const turn = Effect.flatMap(Queue.takeAll(queue), (taken) => {
    batch = taken
    const now = readClocks(clock)
    const folded = fold(now)
    const held = tryCommit(folded.writes, now)
    if (held !== undefined) return Effect.map(hold(held, folded.writes, now), () => finish(folded))
    finish(folded)
    return folded.writes.length === 0 ? Effect.void : Effect.yieldNow
  })

  /** Nobody waits for an answer that will not come. */
  const refuseTheRest = Queue.end(queue).pipe(
    Effect.andThen(Queue.collect(queue)),
    Effect.map((rest) => {
      for (const { reply } of [...batch, ...rest]) {
        if (reply !== undefined) Deferred.doneUnsafe(reply, Exit.fail(new InboxClosed()))
      }
    })
  )

  const loop = yield* turn.pipe(
    Effect.forever({ disableYield: true }),
    Effect.catchIf(Cause.isDone, () => Effect.void),
    Effect.onExit((exit) => Exit.isSuccess(exit) ? Effect.void : refuseTheRest),
    Effect.forkScoped
  )
  // After the fork: finalizers run last-in first-out, and the drain must come before the interruption of the loop.
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      draining = true
    }).pipe(
      Effect.andThen(Queue.end(queue)),
      Effect.andThen(Fiber.await(loop)),
      Effect.timeoutOption(drainLimitMs)
    )
  )

  return Fiber.join(loop)
})
