/**
 * A machine that runs one program under a service manager: starts it, starts it again when it ended by itself, and keeps
 * between two processes what a machine keeps (the program's disks are closed over by `program`).
 */
import { type Effect, Exit, type Fiber } from "effect"
import type { Network } from "./Network.ts"
import { Process } from "./Process.ts"
import type { Timeline } from "./Timeline.ts"
import type { Trace } from "./Trace.ts"

/** What all machines of a world share. */
export interface Surroundings {
  readonly timeline: Timeline
  readonly trace: Trace
  readonly network: Network
  readonly epochMs: number
  readonly seed: string
}

/** `RestartSec` of the service manager. */
const restartMs = 2_000
/** A program that ends again and again is broken, whatever the faults were. */
const maxStarts = 200

export class Machine {
  readonly name: string
  readonly #world: Surroundings
  readonly #program: (process: Process) => Effect.Effect<unknown, unknown>
  #process: Process | undefined
  #main: Fiber.Fiber<unknown, unknown> | undefined
  #starts = 0

  constructor(name: string, world: Surroundings, program: (process: Process) => Effect.Effect<unknown, unknown>) {
    this.name = name
    this.#world = world
    this.#program = program
  }

  get running(): boolean {
    return this.#process !== undefined
  }

  start(): void {
    if (this.#process !== undefined) return
    this.#starts += 1
    if (this.#starts > maxStarts) throw new Error(`${this.name} was started ${maxStarts} times`)
    const { epochMs, seed, timeline, trace } = this.#world
    trace.add(this.name, `starts (${this.#starts})`)
    const process = new Process({
      name: this.name,
      timeline,
      epochMs,
      seed: `${seed}/${this.name}/${this.#starts}`,
      log: ({ annotations, level, message }) => trace.add(this.name, `${level} ${text(message)} ${text(annotations)}`)
    })
    this.#process = process
    this.#main = process.fork(this.#program(process), (exit) => {
      trace.add(this.name, Exit.isSuccess(exit) ? "ends" : `ends: ${String(exit.cause).split("\n")[0] ?? ""}`)
      this.#gone(process)
    })
  }

  /** `kill -9`: no finalizer runs. The service manager starts it again after `downMs`. */
  crash(downMs: number): void {
    if (this.#process === undefined) return
    this.#world.trace.add(this.name, `crashes for ${downMs} ms`)
    this.#gone(this.#process, downMs)
  }

  /** SIGTERM, as at an update: finalizers run, and the program is started again. */
  restart(): void {
    if (this.#process === undefined) return
    this.#world.trace.add(this.name, "is told to stop")
    this.#main?.interruptUnsafe()
  }

  #gone(process: Process, downMs = restartMs): void {
    process.crash()
    this.#world.network.hangUp(process)
    if (this.#process !== process) return
    this.#process = undefined
    this.#main = undefined
    this.#world.timeline.after(downMs, () => this.start())
  }
}

const text = (value: unknown): string => typeof value === "string" ? value : JSON.stringify(value)
