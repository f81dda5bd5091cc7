/**
 * Watches the workers: none may end while the program runs (house rule 7). A fiber forked into a scope dies silently; a
 * worker started here takes the process down, and the service manager starts it again.
 *
 * Owns the fibers of the workers, and ends them when its scope closes. Does not own their retries: what a worker expects
 * to fail it handles itself, so whatever arrives here is a fault.
 */
import { Cause, Context, Deferred, Effect, Exit, Layer, Schema, type Scope } from "effect"
import { logOf } from "../Layers/Logging.ts"

const log = logOf("shutdown")

/** A worker or the reducer ended. The process must end non-zero. */
export class WorkerEnded extends Schema.TaggedError<WorkerEnded>()("WorkerEnded", {
  worker: Schema.String,
  /** What ended it, with the stack of a defect. */
  message: Schema.String
}) {}

export class Supervisor extends Context.Service<Supervisor, {
  /** Runs `worker` in the present scope: a scope that closes stops it, and that is not a fault. */
  readonly start: <R>(
    name: string,
    worker: Effect.Effect<unknown, unknown, R>
  ) => Effect.Effect<void, never, R | Scope.Scope>
  /** Fails as soon as the first worker has ended; never succeeds. For the program's main. */
  readonly fatal: Effect.Effect<never, WorkerEnded>
}>()("nixfleet/Workers/Supervisor") {
  static readonly layer: Layer.Layer<Supervisor> = Layer.effect(
    Supervisor,
    Effect.gen(function*() {
      const fatal = yield* Deferred.make<never, WorkerEnded>()
      return Supervisor.of({
        start: Effect.fnUntraced(function*(name, worker) {
          let closing = false
          yield* worker.pipe(
            Effect.onExit((exit) =>
              closing && Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
                ? log.info("worker stopped", { task: name })
                : ended(fatal, name, endOf(exit))
            ),
            Effect.forkScoped
          )
          // After the fork: it runs before the fiber is interrupted, and tells shutdown from an interruption from within.
          yield* Effect.addFinalizer(() =>
            Effect.sync(() => {
              closing = true
            })
          )
        }),
        fatal: Deferred.await(fatal)
      })
    })
  )
}

const endOf = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "it returned, which no worker may do"

const ended = (fatal: Deferred.Deferred<never, WorkerEnded>, worker: string, message: string) =>
  log.error("a worker ended; the program cannot go on without it", {
    task: worker,
    reason: "worker-ended",
    detail: message
  }).pipe(
    Effect.andThen(Deferred.fail(fatal, new WorkerEnded({ worker, message }))),
    Effect.asVoid
  )
