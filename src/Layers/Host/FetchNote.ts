/**
 * How far the fetch of this host has come, for those who look from another process: a small file in the state directory,
 * written by the process that fetches at most once a second, and only while it fetches. No part of the journal and never
 * durable on purpose: it is worth nothing after a crash.
 *
 * Failures: a note that cannot be written, or not be read, is none; nobody waits for it. One that a dead agent left is removed
 * at the next start, and is too old before.
 */
import { Clock, Effect, Layer, Schema } from "effect"
import { renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { FetchingStatus } from "../../Schema/AgentStatus.ts"
import { EpochMillis } from "../../Schema/Primitives.ts"
import { temporaryPrefix } from "../Disk/AtomicFile.ts"
import { readSmallFile } from "../Disk/SmallFile.ts"
import { Activator, type RealiseProgress } from "./Activator.ts"

const noteName = "fetching.json"

/** Often enough for a person who looks twice. */
const writeEveryMs = 1_000
/** An older note, or one from the future, is of a process that ended, or of a clock that was set. */
const validMs = 10_000

const Note = Schema.fromJsonString(Schema.Struct({ at: EpochMillis, ...FetchingStatus.fields }))
const encode = Schema.encodeSync(Note)
const decode = Schema.decodeUnknownResult(Note)

const quietly = (act: () => void): Effect.Effect<void> =>
  Effect.ignore(Effect.try({ try: act, catch: () => undefined }))

/** Whole to every reader at any time, without fsync. */
function put(directory: string, at: number, { closure, doneBytes, expectedBytes }: RealiseProgress): void {
  const temporary = join(directory, `${temporaryPrefix}${noteName}`)
  const text = encode({ at, closure, doneBytes, ...(expectedBytes === undefined ? {} : { expectedBytes }) })
  try {
    writeFileSync(temporary, text, { mode: 0o600 })
    renameSync(temporary, join(directory, noteName))
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
}

const remove = (directory: string) => quietly(() => rmSync(join(directory, noteName), { force: true }))

/** The same driver, which notes in `directory` how far it has come. The directory is there and locked. */
export const layerNoting = <E, R>(
  directory: string,
  driver: Layer.Layer<Activator, E, R>
): Layer.Layer<Activator, E, R> =>
  Layer.effect(
    Activator,
    Effect.gen(function*() {
      const activator = yield* Activator
      yield* remove(directory)
      const note = Effect.gen(function*() {
        const progress = yield* activator.progress
        if (progress === undefined) return
        const at = Math.floor(yield* Clock.currentTimeMillis)
        yield* quietly(() => put(directory, at, progress))
      })
      const notes = Effect.interruptible(Effect.forever(Effect.andThen(Effect.sleep(writeEveryMs), note)))
      return Activator.of({
        ...activator,
        realise: (closure) => Effect.ensuring(Effect.raceFirst(activator.realise(closure), notes), remove(directory))
      })
    })
  ).pipe(Layer.provide(driver))

/** What the agent that runs on this state directory fetches, as far as it says so. */
export const readFetchNote = (directory: string): Effect.Effect<FetchingStatus | undefined> =>
  Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    const text = yield* Effect.try(() => readSmallFile(join(directory, noteName)).toString("utf8"))
    const note = yield* Effect.fromResult(decode(text))
    const { at, ...fetching } = note
    return Math.abs(now - at) <= validMs ? fetching : undefined
  }).pipe(Effect.orElseSucceed(() => undefined))
