/**
 * One simulated operating-system process: its own clock and its own scheduler on the common time line. Ending it by `crash`
 * drops both, so that no fiber of it ever runs again and no finalizer does (house rule 4); what it wrote to its disk stays.
 *
 * The real programs run in it unchanged. They must not wait for anything but the clock and each other.
 */
import { Clock, Context, Duration, Effect, type Exit, type Fiber, Logger, Random, Scheduler } from "effect"
import type { Timeline } from "./Timeline.ts"

/** One line of a program's log. */
export interface LogLine {
  readonly level: string
  readonly message: unknown
  readonly annotations: Readonly<Record<string, unknown>>
  readonly cause: string | undefined
}

export interface ProcessOptions {
  readonly name: string
  readonly timeline: Timeline
  /** Epoch ms of the wall clock when the world began. */
  readonly epochMs: number
  readonly seed: string
  readonly log: (line: LogLine) => void
}

export class Process {
  readonly name: string
  readonly #timeline: Timeline
  readonly #context: Context.Context<never>
  #alive = true

  constructor({ epochMs, log, name, seed, timeline }: ProcessOptions) {
    this.name = name
    this.#timeline = timeline
    this.#context = Context.make(Clock.Clock, this.#clock(epochMs)).pipe(
      Context.add(Scheduler.Scheduler, this.#scheduler()),
      // One stream of numbers for all fibers of the process.
      Context.add(Random.Random, Effect.runSync(Random.withSeed(Effect.service(Random.Random), seed))),
      Context.add(Logger.CurrentLoggers, new Set([Logger.map(Logger.formatStructured, log)]))
    )
  }

  get alive(): boolean {
    return this.#alive
  }

  /** Runs an effect in this process; `ended` is told, unless the process has crashed. */
  fork<A, E>(effect: Effect.Effect<A, E>, ended: (exit: Exit.Exit<A, E>) => void): Fiber.Fiber<A, E> {
    const fiber = Effect.runForkWith(this.#context)(effect)
    fiber.addObserver((exit) => {
      if (this.#alive) ended(exit)
    })
    return fiber
  }

  /** Something that happens to this process later, unless it has crashed by then. */
  after(delayMs: number, run: () => void): void {
    this.#timeline.after(delayMs, () => {
      if (this.#alive) run()
    })
  }

  /** `kill -9`, or the power goes away. */
  crash(): void {
    this.#alive = false
  }

  #scheduler(): Scheduler.Scheduler {
    const timeline = this.#timeline
    const run = (task: () => void) => () => {
      if (this.#alive) task()
    }
    // One queue for all priorities: who comes first goes first, which is all that a replay needs.
    const dispatcher: Scheduler.SchedulerDispatcher = {
      scheduleTask: (task) => timeline.post(run(task)),
      flush: () => timeline.drain()
    }
    const byBudget = new Scheduler.MixedScheduler("sync")
    return {
      executionMode: "sync",
      shouldYield: (fiber) => byBudget.shouldYield(fiber),
      makeDispatcher: () => dispatcher
    }
  }

  #clock(epochMs: number): Clock.Clock {
    const timeline = this.#timeline
    const millis = () => epochMs + timeline.now
    const nanos = (ms: number) => BigInt(Math.round(ms * 1_000_000))
    return {
      currentTimeMillisUnsafe: millis,
      currentTimeMillis: Effect.sync(millis),
      currentTimeNanosUnsafe: () => nanos(millis()),
      currentTimeNanos: Effect.sync(() => nanos(millis())),
      monotonicTimeNanosUnsafe: () => nanos(timeline.now),
      monotonicTimeNanos: Effect.sync(() => nanos(timeline.now)),
      sleep: (duration) => {
        const ms = Duration.toMillis(duration)
        if (!Number.isFinite(ms)) return Effect.never
        return Effect.callback((resume) => {
          let waiting = true
          this.after(ms, () => {
            if (waiting) resume(Effect.void)
          })
          return Effect.sync(() => {
            waiting = false
          })
        })
      }
    }
  }
}
