/**
 * Tells the service manager how the program is doing (D18): ready, alive, stopping. By the `systemd-notify` command,
 * because Node has no datagram sockets of the Unix family and the agent ships no native code. Does nothing when nobody
 * listens, which is the case outside of systemd.
 *
 * Failures: a notification that cannot be sent is logged and never harms the program; that it is ready, and a pulse, is sent
 * again soon, because a service manager that is busy for some seconds (it reloads its units in the middle of a switch) loses
 * it. If the pulses stay away, the service manager restarts the program. The unit needs `NotifyAccess=all`, since the command is another process.
 */
import { Clock, Context, Effect, Layer } from "effect"
import { execFile } from "node:child_process"
import { logOf } from "./Logging.ts"

const log = logOf("service_manager")

export class SystemdNotify extends Context.Service<SystemdNotify, {
  /** Does not wait for long: a manager that could not be told is told again until it was, since its start job waits for this. */
  readonly ready: Effect.Effect<void>
  /** Sent on its own with the layer's scope; for programs that know earlier. */
  readonly stopping: Effect.Effect<void>
  /**
   * The program lives. Synchronous and cheap, for the reducer's pulse: at most one command runs, and one is started at most
   * every half of the service manager's limit; after one that failed, every eighth.
   */
  readonly alive: () => void
}>()("nixfleet/Layers/SystemdNotify") {
  /** `environment`: of this process; systemd sets `NOTIFY_SOCKET` and `WATCHDOG_USEC` in it. */
  static readonly layer = (environment: Readonly<Record<string, string | undefined>>): Layer.Layer<SystemdNotify> =>
    environment["NOTIFY_SOCKET"] === undefined
      ? SystemdNotify.layerSilent
      : Layer.effect(SystemdNotify, fromSystemd(environment))

  static readonly layerSilent: Layer.Layer<SystemdNotify> = Layer.succeed(
    SystemdNotify,
    SystemdNotify.of({ ready: Effect.void, stopping: Effect.void, alive: () => {} })
  )
}

/** The command waits for the receiver; systemd itself gives up after five seconds. */
const commandLimitMs = 5_000
/** A program that was told to stop ends within two seconds (D18), whether or not anybody listens. */
const stoppingLimitMs = 1_000
/** Between two tries to say that the program is ready. */
const readyAgainMs = 1_000

const fromSystemd = Effect.fnUntraced(function*(environment: Readonly<Record<string, string | undefined>>) {
  const clock = yield* Clock.Clock
  const scope = yield* Effect.scope
  const runFork = Effect.runForkWith(yield* Effect.context())

  /** Whether it was told. */
  const send = (assignment: string): Effect.Effect<boolean> =>
    Effect.callback<boolean, string>((resume) => {
      const child = execFile(
        "systemd-notify",
        [`--pid=${process.pid}`, assignment],
        { timeout: commandLimitMs },
        (error) => resume(error === null ? Effect.succeed(true) : Effect.fail(error.message))
      )
      return Effect.sync(() => {
        child.kill()
      })
    }).pipe(
      // Where the system has no room for another process at all, Node throws.
      Effect.catchDefect((defect) => Effect.fail(String(defect))),
      Effect.catch((problem) =>
        Effect.as(
          log.warn("the service manager could not be told", {
            reason: "notify-failed",
            detail: `${assignment}: ${problem}`
          }),
          false
        )
      )
    )

  const watchdogMs = Number(environment["WATCHDOG_USEC"] ?? 0) / 1000
  const part = (of: number) => BigInt(Math.floor(watchdogMs * 1_000_000 / of))
  let nextPulse = clock.monotonicTimeNanosUnsafe()
  let sending = false
  const alive = () => {
    const now = clock.monotonicTimeNanosUnsafe()
    if (!(watchdogMs > 0) || sending || now < nextPulse) return
    sending = true
    runFork(Effect.map(send("WATCHDOG=1"), (told) => {
      nextPulse = now + part(told ? 2 : 8)
      sending = false
    }))
  }

  const readyAgain = Effect.sleep(readyAgainMs).pipe(
    Effect.andThen(send("READY=1")),
    Effect.repeat({ until: (told) => told }),
    Effect.forkIn(scope)
  )
  const ready = Effect.flatMap(send("READY=1"), (told) => told ? Effect.void : Effect.asVoid(readyAgain))
  const stopping = send("STOPPING=1")
  yield* Effect.addFinalizer(() => Effect.timeoutOption(stopping, stoppingLimitMs))
  return SystemdNotify.of({ ready, stopping: Effect.asVoid(stopping), alive })
})
