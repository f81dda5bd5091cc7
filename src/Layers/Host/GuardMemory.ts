/**
 * The guard of a scripted host (`ActivatorMemory.ts`), for unit tests and the simulator: in an object that outlives its agent,
 * by the host's clock. What has happened is worked out at the next look, or whenever its maker says.
 */
import { Effect, Layer } from "effect"
import type { GuardOrder, GuardState } from "../../Schema/GuardOrder.ts"
import type { SwitchId } from "./Activator.ts"
import type { MemoryHost } from "./ActivatorMemory.ts"
import { Guard } from "./Guard.ts"

/** Between two looks of a guard that waits for the host. */
const againMs = 1_000

interface Kept {
  readonly order: GuardOrder
  dueAt: number
  watched: boolean
  firedAt: number | undefined
  /** The switch back was begun, or must not be. */
  done: boolean
}

export class MemoryGuard {
  readonly #host: MemoryHost
  #kept: Kept | undefined
  /** Set: why no guard can be armed. */
  trouble: string | undefined
  /** Every order that fired, oldest first, with the time of the host's clock. */
  readonly fired: Array<{ readonly order: GuardOrder; readonly at: number }> = []

  constructor(host: MemoryHost) {
    this.#host = host
  }

  arm(order: GuardOrder, windowMs: number, now: number): string | undefined {
    if (this.trouble !== undefined) return this.trouble
    this.#kept = { order, dueAt: now + windowMs, watched: true, firedAt: undefined, done: false }
    return undefined
  }

  renew(windowMs: number, now: number): void {
    this.settle(now)
    if (this.#kept?.firedAt === undefined && this.#kept !== undefined) this.#kept.dueAt = now + windowMs
  }

  /** As of the last look. */
  disarm({ attempt, rolloutId }: GuardOrder): boolean {
    const kept = this.#kept
    if (kept?.firedAt === undefined) {
      this.#kept = undefined
      return true
    }
    return kept.order.rolloutId !== rolloutId || kept.order.attempt !== attempt
  }

  clear(): void {
    if (this.#kept?.firedAt !== undefined && this.#kept.done) this.#kept = undefined
  }

  /** Nothing was heard of the agent for long enough. */
  expire(now: number): void {
    if (this.#kept?.firedAt === undefined && this.#kept !== undefined) this.#kept.dueAt = now
    this.settle(now)
  }

  /** Its process is killed, or the host is booted: nobody fires it any more. */
  kill(): void {
    if (this.#kept === undefined) return
    this.#kept.watched = false
    if (this.#kept.firedAt !== undefined) this.#kept.done = true
  }

  state(now: number): GuardState {
    this.settle(now)
    const kept = this.#kept
    if (kept === undefined) return { _tag: "None" }
    const { order, watched } = kept
    return kept.firedAt === undefined
      ? { _tag: "Armed", order, watched, leftMs: Math.max(0, kept.dueAt - now) }
      : { _tag: "Fired", order, acting: !kept.done || this.#host.switchResult(backOf(order), now)._tag === "Running" }
  }

  /** Brings the guard, and the host that it moves, to `now`. */
  settle(now: number): void {
    const kept = this.#kept
    if (kept === undefined || !kept.watched || kept.done || now < kept.dueAt) return
    if (kept.firedAt === undefined) this.fired.push({ order: kept.order, at: kept.dueAt })
    kept.firedAt ??= kept.dueAt
    for (; !kept.done && kept.dueAt <= now; kept.dueAt += againMs) kept.done = this.#goBack(kept.order, kept.dueAt)
  }

  /** What `Recovery.ts` does; false while another switch holds the host. */
  #goBack(order: GuardOrder, now: number): boolean {
    const host = this.#host
    host.settle(now)
    if (host.running !== undefined && !order.expected.includes(host.running)) return true
    const { attempt, forwardRun, rolloutId } = order
    if (host.isSwitching()) return false
    host.forbidSwitch({ rolloutId, attempt, purpose: "forward", run: forwardRun }, order.closure, now)
    host.setProfile(order.closure)
    return host.startSwitch(order.closure, backOf(order), now)._tag !== "Busy"
  }
}

const backOf = ({ attempt, rollbackRun, rolloutId }: GuardOrder): SwitchId => ({
  rolloutId,
  attempt,
  purpose: "rollback",
  run: rollbackRun
})

export const layer = (guard: MemoryGuard, host: MemoryHost): Layer.Layer<Guard> =>
  Layer.succeed(
    Guard,
    Guard.of({
      arm: ({ order, windowMs }) => Effect.map(host.now, (now) => guard.arm(order, windowMs, now)),
      renew: (windowMs) => Effect.map(host.now, (now) => guard.renew(windowMs, now)),
      state: Effect.map(host.now, (now) => guard.state(now)),
      disarm: (order) => guard.disarm(order),
      clear: Effect.sync(() => guard.clear())
    })
  )
