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
import { Cause, Clock, Deferred, Effect, Exit, Fiber, Queue, Schedule, Schema, type Scope } from "effect"
import { CommitHeld } from "./Layers/Disk/CommitHeld.ts"

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
  /** Waits for the commit but never for room. For routes. */
  readonly tryAsk: (input: Input) => Effect.Effect<Answer, InboxClosed | InboxFull>
  /** For `run` only. */
  readonly queue: Queue.Queue<Offered<Input, Answer>, Cause.Done>
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
const readClocks = Clock.clockWith((clock) =>
  Effect.sync((): Now => ({
    wall: Math.floor(clock.currentTimeMillisUnsafe()),
    monotonic: Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  }))
)

/** Commits, and holds while the disk is full or read-only; every other error is a defect. */
const commitOrHold = <State, Input, Write, Action, Answer>(
  program: Program<State, Input, Write, Action, Answer>,
  writes: ReadonlyArray<Write>,
  now: Now
): Effect.Effect<void> =>
  Effect.try({
    try: () => {
      program.pulse?.()
      if (writes.length > 0) program.commit(writes, now)
    },
    catch: (error) => error
  }).pipe(
    Effect.catchIf((error) => !(error instanceof CommitHeld), Effect.die),
    Effect.tapError((error) =>
      Effect.logError("nothing can be made durable; holding all inputs until the disk takes them").pipe(
        Effect.annotateLogs(error instanceof CommitHeld ? { reason: error.reason, detail: error.message } : {})
      )
    ),
    Effect.retry(Schedule.min([Schedule.exponential(holdFirstMs), Schedule.spaced(holdCapMs)])),
    Effect.orDie
  )

/** The queue and its four doors. `capacity` is also the largest commit (house rule 5). */
export const makeInbox = Effect.fnUntraced(function*<Input, Answer>(
  capacity: number
): Effect.fn.Return<Inbox<Input, Answer>> {
  const queue = yield* Queue.bounded<Offered<Input, Answer>, Cause.Done>(capacity)
  const awaitReply = <E>(input: Input, enter: (offered: Offered<Input, Answer>) => Effect.Effect<boolean, E>) =>
    Effect.suspend(() => {
      const reply = Deferred.makeUnsafe<Answer, InboxClosed>()
      return Effect.flatMap(
        enter({ input, reply }),
        (entered): Effect.Effect<Answer, InboxClosed> => entered ? Deferred.await(reply) : new InboxClosed()
      )
    })
  return {
    offer: (input) => Queue.offer(queue, { input, reply: undefined }),
    // The queue's own `offer` suspends when full; the unsafe one answers at once.
    tryOffer: (input) => Queue.offerUnsafe(queue, { input, reply: undefined }),
    ask: (input) => awaitReply(input, (offered) => Queue.offer(queue, offered)),
    tryAsk: (input) =>
      awaitReply<InboxFull>(
        input,
        (offered) => Queue.isFullUnsafe(queue) ? new InboxFull() : Effect.succeed(Queue.offerUnsafe(queue, offered))
      ),
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
  let state = program.initial
  let draining = false
  let batch: ReadonlyArray<Offered<Input, Answer>> = []

  const fold = (now: Now) => {
    let next = state
    const writes: Array<Write> = []
    const actions: Array<Action> = []
    const take = (change: Change<State, Write, Action>) => {
      next = change.state
      for (const write of change.writes) writes.push(write)
      for (const action of change.actions) actions.push(action)
    }
    const answers = batch.map(({ input }) => {
      const decision = program.decide(next, input, now)
      take(decision)
      return decision.answer
    })
    const settled = program.settle?.(next, now)
    if (settled !== undefined) take(settled)
    return { next, writes, actions, answers }
  }

  const turn = Effect.gen(function*() {
    batch = yield* Queue.takeAll(queue)
    const now = yield* readClocks
    const { next, writes, actions, answers } = fold(now)
    yield* commitOrHold(program, writes, now)
    // No suspension from here on: whoever sees the answer sees the state, and an interruption cannot come between.
    yield* Effect.sync(() => {
      state = next
      program.publish(next)
      for (const [index, answer] of answers.entries()) {
        const reply = batch[index]?.reply
        if (reply !== undefined) Deferred.doneUnsafe(reply, Exit.succeed(answer))
      }
      batch = []
      if (!draining) actions.forEach(program.apply)
    })
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
    Effect.forever,
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
