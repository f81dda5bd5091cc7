/**
 * The guard of an activation: a process apart from the agent that takes the host back to its last good closure when the agent
 * gives no sign of life for too long (D10, D11). It needs neither agent nor journal nor network.
 *
 * One directory an order, below the one that is given: `order` (for whom it stands), `recover` (how the driver goes back, as a
 * shell program), `lease` (the latest sign of life), `pid`. The guard fires by renaming `order` to `fired`, and is disarmed by
 * deleting `order`: the kernel decides who was first. `GuardProgram.ts` is the other side.
 *
 * A sign of life is a number in `lease`, written over the one before, so that a full disk does not look like a dead agent. Time
 * is what passes while the guard runs: neither a step of the clock nor a host that sleeps fires it.
 *
 * Failures: an order that cannot be made durable or started is told to who arms it; a renewal that fails is warned of; a guard
 * whose process is gone is found by `state`.
 */
import { Context, Effect, Layer, Option, Schema } from "effect"
import { randomUUID } from "node:crypto"
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, unlinkSync, writeSync } from "node:fs"
import { uptime } from "node:os"
import { dirname, join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { type GuardOrder, GuardOrderJson, type GuardState } from "../../Schema/GuardOrder.ts"
import { errorCode, readIfPresent, syncDirectory, writeAtomically } from "../Disk/AtomicFile.ts"
import { CommitHeld } from "../Disk/CommitHeld.ts"
import { logOf } from "../Logging.ts"
import { errorText } from "./DurableFiles.ts"
import { type GuardLauncher, guardMark } from "./GuardLaunch.ts"
import { carriesMark } from "./Processes.ts"

const log = logOf("agent_host")

export interface Guarding {
  readonly order: GuardOrder
  /** Shell program that takes the host back (`Activator.recovery`); run again until it succeeds. */
  readonly recovery: string
  /** Silence after which the guard fires, ms. */
  readonly windowMs: number
}

export class Guard extends Context.Service<Guard, {
  /** Durable and watched when it answers; else what went wrong, and then nothing is armed. */
  readonly arm: (guarding: Guarding) => Effect.Effect<string | undefined>
  /** A sign of life: from now on the guard waits for `windowMs`. */
  readonly renew: (windowMs: number) => Effect.Effect<void>
  /** Fails with what the system said. An order that cannot be understood is none. */
  readonly state: Effect.Effect<GuardState, string>
  /**
   * Synchronous and durable, for the reducer's commit. False when the guard of this activation has fired already. Throws
   * `CommitHeld` while the disk forbids it.
   */
  readonly disarm: (order: GuardOrder) => boolean
  /** Forgets what is over: orders that were disarmed, and a guard that has fired and ended. */
  readonly clear: Effect.Effect<void>
}>()("nixfleet/Layers/Host/Guard") {
  /** `directory`: its own, below a directory that exists. */
  static readonly layer = (directory: string, launch: GuardLauncher): Layer.Layer<Guard> =>
    Layer.succeed(Guard, make(directory, launch))
}

/** How long a guard that was started may take to say so. */
const startMs = 30_000
/** Twice what the service manager waits before it starts a guard again that was killed. */
const restartMs = 2_000
/** A shell has written its number within some milliseconds, and a switch waits for it. */
const pollMs = 4

const encodeOrder = Schema.encodeSync(GuardOrderJson)
const decodeOrder = Schema.decodeUnknownOption(GuardOrderJson)

const text = (file: string): string | undefined => {
  const bytes = readIfPresent(file)
  return bytes === undefined ? undefined : new TextDecoder().decode(bytes)
}

/** Of one length, so that it needs no further room on the disk. */
const leaseLine = (turn: number, seconds: number, at: number): string =>
  `${[turn, seconds, at].map((one) => String(one).padStart(12)).join(" ")}\n`

interface Lease {
  readonly turn: number
  readonly seconds: number
  /** When it was written, seconds since the boot. */
  readonly at: number
}

function leaseOf(place: string): Lease | undefined {
  const [turn, seconds, at] = (text(join(place, "lease")) ?? "").trim().split(/ +/).map(Number)
  return turn === undefined || seconds === undefined || at === undefined ? undefined : { turn, seconds, at }
}

const uptimeSeconds = (): number => Math.floor(uptime())
const seconds = (ms: number): number => Math.ceil(ms / 1000)

/** The orders that are there, as directories. */
function placesIn(directory: string): ReadonlyArray<string> {
  try {
    return readdirSync(directory).toSorted().map((name) => join(directory, name))
  } catch (error) {
    if (errorCode(error) === "ENOENT") return []
    throw error
  }
}

/** Why a file cannot be deleted now and may be later; the commit that wants it waits as for its own disk. */
const heldBy = { EROFS: "disk-read-only", ENOSPC: "disk-full" } as const

/** Durably; false when there is no such file. */
function deleted(file: string): boolean {
  try {
    unlinkSync(file)
    syncDirectory(dirname(file))
    return true
  } catch (error) {
    const code = errorCode(error)
    if (code === "ENOENT") return false
    if (code !== "EROFS" && code !== "ENOSPC") throw error
    throw new CommitHeld({ reason: heldBy[code], message: `${file}: ${errorText(error)}` })
  }
}

async function isWatched(place: string): Promise<boolean> {
  const pid = Number(text(join(place, "pid")))
  return pid > 0 && await carriesMark(pid, guardMark(place))
}

function orderIn(file: string): GuardOrder | undefined {
  const json = text(file)
  return json === undefined ? undefined : Option.getOrUndefined(decodeOrder(json))
}

async function stateOf(place: string): Promise<GuardState> {
  const armed = orderIn(join(place, "order"))
  if (armed !== undefined) {
    const lease = leaseOf(place)
    const leftMs = lease === undefined ? 0 : Math.max(0, lease.at + lease.seconds - uptimeSeconds()) * 1000
    return { _tag: "Armed", order: armed, watched: await isWatched(place), leftMs }
  }
  const fired = orderIn(join(place, "fired"))
  if (fired === undefined) return { _tag: "None" }
  return { _tag: "Fired", order: fired, acting: await isWatched(place) }
}

/** Of one that has fired first: it says more than any that is armed. */
async function overallState(directory: string): Promise<GuardState> {
  const states = await Promise.all(placesIn(directory).map(stateOf))
  return states.find(({ _tag }) => _tag === "Fired") ?? states.find(({ _tag }) => _tag === "Armed") ?? { _tag: "None" }
}

/** One that the service manager is about to start again cannot be started, but is there in a moment. */
async function started(place: string, launch: GuardLauncher): Promise<string | undefined> {
  const refused = await launch(place)
  const waitMs = refused === undefined ? startMs : restartMs
  for (let waitedMs = 0; waitedMs < waitMs; waitedMs += pollMs) {
    if (await isWatched(place)) return undefined
    await sleep(pollMs)
  }
  return refused ?? `it did not say that it runs within ${startMs} ms`
}

/** An order that is there already, its process gone, is watched again: there is no moment in which nothing is armed. */
async function arm(directory: string, launch: GuardLauncher, guarding: Guarding): Promise<string | undefined> {
  const json = encodeOrder(guarding.order)
  const present = placesIn(directory).find((place) => text(join(place, "order")) === json)
  if (present !== undefined) {
    renew(directory, guarding.windowMs)
    return await started(present, launch)
  }
  const place = join(directory, randomUUID())
  mkdirSync(place, { recursive: true, mode: 0o700 })
  const write = (name: string, content: string) => writeAtomically(join(place, name), Buffer.from(content))
  let problem: string | undefined
  try {
    write("recover", guarding.recovery)
    write("lease", leaseLine(1, seconds(guarding.windowMs), uptimeSeconds()))
    write("order", json)
    syncDirectory(directory)
    problem = await started(place, launch)
  } catch (error) {
    problem = errorText(error)
  }
  if (problem !== undefined) rmSync(place, { recursive: true, force: true })
  return problem
}

function renew(directory: string, windowMs: number): void {
  for (const place of placesIn(directory)) {
    const lease = leaseOf(place)
    if (lease === undefined || readIfPresent(join(place, "order")) === undefined) continue
    const handle = openSync(join(place, "lease"), "r+")
    try {
      writeSync(handle, leaseLine(lease.turn + 1, seconds(windowMs), uptimeSeconds()), 0)
    } finally {
      closeSync(handle)
    }
  }
}

/** Every order is deleted; only whether the one in question had fired is answered. */
function disarm(directory: string, order: GuardOrder): boolean {
  let first = true
  for (const place of placesIn(directory)) {
    if (deleted(join(place, "order"))) continue
    const fired = orderIn(join(place, "fired"))
    if (fired?.rolloutId === order.rolloutId && fired.attempt === order.attempt) first = false
  }
  return first
}

async function clear(directory: string): Promise<void> {
  for (const place of placesIn(directory)) {
    const { _tag } = await stateOf(place)
    if (_tag === "Armed" || (_tag === "Fired" && await isWatched(place))) continue
    rmSync(place, { recursive: true, force: true })
  }
}

const make = (directory: string, launch: GuardLauncher) => {
  const warned = (task: () => void | Promise<void>) =>
    Effect.tryPromise({ try: async () => task(), catch: errorText }).pipe(
      Effect.catch((detail) =>
        log.warn("the state of the guard cannot be changed", { reason: "guard-unreadable", detail })
      )
    )
  return Guard.of({
    arm: (guarding) =>
      Effect.promise(() => arm(directory, launch, guarding).catch(errorText)).pipe(Effect.uninterruptible),
    renew: (windowMs) => warned(() => renew(directory, windowMs)),
    state: readGuard(directory),
    disarm: (order) => disarm(directory, order),
    clear: warned(() => clear(directory))
  })
}

/** `state`, for those who only look. */
export const readGuard = (directory: string): Effect.Effect<GuardState, string> =>
  Effect.tryPromise({ try: () => overallState(directory), catch: errorText })
