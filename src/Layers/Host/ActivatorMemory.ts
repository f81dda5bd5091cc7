/**
 * A scripted host: the `Activator` of unit tests and of the simulator. It keeps what a disk and a process table keep, in an
 * object that is made outside of the layer, so that a crashed agent finds the host as it left it. Durations pass by the
 * clock of Effect only; a switch goes on while no agent runs, because what has happened is worked out at the next look.
 *
 * Same contract as the drivers for real hosts (`test/support/activatorContract.ts`).
 */
import { Clock, Effect, Layer } from "effect"
import {
  Activator,
  type RealiseOutcome,
  type RealiseProgress,
  type SetProfileOutcome,
  type StartSwitchOutcome,
  type SwitchId,
  type SwitchResult
} from "./Activator.ts"

/** How a scripted switch ends; `closure` of the link says where `current-system` is then (D11). */
export type ScriptedEnd =
  | { readonly _tag: "Exit"; readonly code: number; readonly stderr?: string; readonly link?: "moved" | "unmoved" }
  /** Runs until its time limit. */
  | { readonly _tag: "Hang" }
  /** Its supervisor is gone without a result. */
  | { readonly _tag: "Lost" }
  | { readonly _tag: "Killed"; readonly signal: string }

export interface HostScript {
  /** What the `nth` (from 1) realisation of a closure that is not in the store yet does, and how long it takes. */
  readonly realise: (closure: string, nth: number) => { readonly durationMs: number; readonly outcome: RealiseOutcome }
  /** What a switch does, and how long it takes. */
  readonly switch: (closure: string, id: SwitchId) => { readonly durationMs: number; readonly end: ScriptedEnd }
  /** Set to fail: the profile cannot be written. */
  readonly setProfile?: (closure: string) => string | undefined
  /** Set to fail: closures cannot be kept now. */
  readonly retain?: () => boolean
}

/** Every closure is there after a second, every switch works and takes two. */
export const healthyScript: HostScript = {
  realise: () => ({ durationMs: 1000, outcome: { _tag: "Ok" } }),
  switch: () => ({ durationMs: 2000, end: { _tag: "Exit", code: 0 } })
}

interface MemorySwitch {
  readonly key: string
  readonly closure: string
  readonly endsAt: number
  readonly end: ScriptedEnd
  result: SwitchResult
}

/** What tests and the simulator's checks look at: one entry for each switch that really ran. */
export interface SwitchRun {
  readonly closure: string
  readonly id: SwitchId
  /** Milliseconds of the host's clock. */
  readonly at: number
}

export interface MemoryHostOptions {
  readonly script?: HostScript
  /** The system that runs before nixfleet: in the store, generation 1. */
  readonly initial?: string
  readonly switchTimeoutMs?: number
  /** The host's clock, milliseconds; steps of the wall clock must not show in it. */
  readonly now?: Effect.Effect<number>
}

const monotonicMillis = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos / 1_000_000n))
const killed = (signal: string): SwitchResult => ({ _tag: "Killed", signal, stderrTail: "" })

/** The state of one host. Survives its agent; lives as long as whoever made it. */
export class MemoryHost {
  /** May be exchanged while the host runs: a release that was bad is repaired. */
  script: HostScript
  readonly now: Effect.Effect<number>
  readonly switchTimeoutMs: number
  /** Every switch that ran, oldest first: "no attempt is activated twice" is checked on this. */
  readonly runs: Array<SwitchRun> = []
  running: string | undefined
  profile: number | undefined
  readonly generations: Array<string> = []
  readonly store = new Set<string>()
  /** What it was told last to keep. */
  retained: ReadonlyArray<string> = []
  /** How far a realisation has come; no script moves it. */
  progress: RealiseProgress | undefined
  readonly #realised = new Map<string, number>()
  readonly #switches = new Map<string, MemorySwitch>()

  constructor(options: MemoryHostOptions = {}) {
    this.script = options.script ?? healthyScript
    this.now = options.now ?? monotonicMillis
    this.switchTimeoutMs = options.switchTimeoutMs ?? 300_000
    if (options.initial !== undefined) {
      this.store.add(options.initial)
      this.generations.push(options.initial)
      this.profile = 1
      this.running = options.initial
    }
  }

  /** How often a realisation of the closure was started, this one included. */
  countRealise(closure: string): number {
    const nth = (this.#realised.get(closure) ?? 0) + 1
    this.#realised.set(closure, nth)
    return nth
  }

  setProfile(closure: string): SetProfileOutcome {
    const problem = this.script.setProfile?.(closure)
    if (problem !== undefined) return { _tag: "Failed", detail: problem }
    if (!this.store.has(closure)) return { _tag: "Failed", detail: `${closure} is not in the store` }
    if (this.profile === undefined || this.generations[this.profile - 1] !== closure) {
      if (this.generations.at(-1) !== closure) this.generations.push(closure)
      this.profile = this.generations.length
    }
    return { _tag: "Ok", generation: this.profile }
  }

  startSwitch(closure: string, id: SwitchId, now: number): StartSwitchOutcome {
    this.settle(now)
    if (!this.store.has(closure)) return { _tag: "Failed", detail: `${closure} is not in the store` }
    const key = keyOf(id)
    if (this.#switches.has(key)) return { _tag: "Started" }
    const other = this.#inFlight()
    if (other !== undefined) return { _tag: "Busy", detail: `another switch runs: ${other.key}` }
    const { durationMs, end } = this.script.switch(closure, id)
    const endsAt = now + (end._tag === "Hang" ? this.switchTimeoutMs : Math.min(durationMs, this.switchTimeoutMs))
    const timedOut = end._tag === "Hang" || durationMs > this.switchTimeoutMs
    this.#switches.set(key, {
      key,
      closure,
      endsAt,
      end: timedOut ? { _tag: "Hang" } : end,
      result: { _tag: "Running" }
    })
    this.runs.push({ closure, id, at: now })
    return { _tag: "Started" }
  }

  switchResult(id: SwitchId, now: number): SwitchResult {
    this.settle(now)
    return this.#switches.get(keyOf(id))?.result ?? { _tag: "Lost" }
  }

  isSwitching(): boolean {
    return this.#inFlight() !== undefined
  }

  /** Takes the name of a switch that did not begin: it never will. */
  forbidSwitch(id: SwitchId, closure: string, now: number): void {
    const key = keyOf(id)
    if (this.#switches.has(key)) return
    this.#switches.set(key, { key, closure, endsAt: now, end: { _tag: "Lost" }, result: killed("SIGKILL") })
  }

  /** The power goes away: what ran is lost, what was durable stays. */
  powerCut(now: number): void {
    this.settle(now)
    for (const one of this.#switches.values()) {
      if (one.result._tag === "Running") one.result = { _tag: "Lost" }
    }
  }

  /** Brings the host to `now`: switches that are due have ended, and moved the link when they do that. */
  settle(now: number): void {
    for (const one of this.#switches.values()) {
      if (one.result._tag !== "Running" || one.endsAt > now) continue
      one.result = resultOf(one.end)
      if (movesLink(one.end)) this.running = one.closure
    }
  }

  #inFlight(): MemorySwitch | undefined {
    return [...this.#switches.values()].find((one) => one.result._tag === "Running")
  }
}

const keyOf = (id: SwitchId): string => JSON.stringify([id.rolloutId, id.attempt, id.purpose, id.run])

function resultOf(end: ScriptedEnd): SwitchResult {
  switch (end._tag) {
    case "Exit":
      return { _tag: "Exited", code: end.code, stderrTail: end.stderr ?? "" }
    case "Hang":
      return { _tag: "TimedOut", stderrTail: "" }
    case "Killed":
      return killed(end.signal)
    case "Lost":
      return end
  }
}

/** As the real driver: exit 0 and 4 mean that the system was switched, unless the script says otherwise. */
function movesLink(end: ScriptedEnd): boolean {
  if (end._tag !== "Exit") return false
  return end.link === undefined ? end.code === 0 || end.code === 4 : end.link === "moved"
}

const realise = (host: MemoryHost, closure: string): Effect.Effect<RealiseOutcome> =>
  Effect.suspend(() => {
    if (host.store.has(closure)) return Effect.succeed<RealiseOutcome>({ _tag: "Ok" })
    const { durationMs, outcome } = host.script.realise(closure, host.countRealise(closure))
    return Effect.map(Effect.sleep(durationMs), () => {
      if (outcome._tag === "Ok") host.store.add(closure)
      return outcome
    })
  })

export const layer = (host: MemoryHost): Layer.Layer<Activator> =>
  Layer.succeed(
    Activator,
    Activator.of({
      method: "memory",
      current: Effect.map(host.now, (now) => {
        host.settle(now)
        return {
          running: host.running,
          profile: host.profile === undefined ? undefined : host.generations[host.profile - 1]
        }
      }),
      realise: (closure) => realise(host, closure),
      progress: Effect.sync(() => host.progress),
      retain: (closures) =>
        Effect.sync(() => {
          if (host.script.retain?.() === false) return false
          host.retained = closures
          return true
        }),
      setProfile: (closure) => Effect.sync(() => host.setProfile(closure)),
      startSwitch: (closure, id) => Effect.map(host.now, (now) => host.startSwitch(closure, id, now)),
      switchResult: (id) => Effect.map(host.now, (now) => host.switchResult(id, now)),
      // The memory guard moves the host itself.
      recovery: () => ""
    })
  )
