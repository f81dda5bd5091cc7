/**
 * Where the highest accepted signing times are kept (D14): a file of its own, because it must survive what empties the
 * journal. Owns bytes and durability; what they mean is `Trust/NoGoingBack.ts`.
 *
 * It is written just before what it remembers is offered to the reducer. Ahead of the journal it does no
 * harm (what was accepted may be accepted again, only older is refused), while behind it an older artifact could slip in
 * after a crash. Writing the same again is harmless, so a held commit may be repeated.
 */
import { Context, Effect, Layer, Schema } from "effect"
import { dirname } from "node:path"
import { errorCode, readIfPresent, writeAtomically } from "./AtomicFile.ts"
import { CommitHeld } from "./CommitHeld.ts"
import { prepareStateDirectory, type StateDirectoryUnusable } from "./StateDirectory.ts"

/** The file is there and cannot be read. Starting without it would forget what was refused (house rule 8). */
export class TrustMemoryUnreadable extends Schema.TaggedError<TrustMemoryUnreadable>()("TrustMemoryUnreadable", {
  reason: Schema.Literals(["trust-memory-unreadable"]),
  file: Schema.String,
  message: Schema.String
}) {}

export class TrustMemory extends Context.Service<TrustMemory, {
  readonly file: string
  /** The content; `undefined` when nothing was ever accepted. */
  readonly load: Effect.Effect<Uint8Array | undefined, TrustMemoryUnreadable>
  /** Durable on return; throws `CommitHeld` when the disk is full or read-only. */
  readonly save: (bytes: Uint8Array) => void
}>()("nixfleet/Layers/Disk/TrustMemory") {
  static readonly layerFile = (file: string): Layer.Layer<TrustMemory, StateDirectoryUnusable> =>
    Layer.effect(
      TrustMemory,
      Effect.as(
        prepareStateDirectory(dirname(file)),
        TrustMemory.of({
          file,
          load: Effect.try({
            try: () => readIfPresent(file),
            catch: (cause) =>
              new TrustMemoryUnreadable({
                reason: "trust-memory-unreadable",
                file,
                message: `cannot read ${file}: ${cause instanceof Error ? cause.message : String(cause)}`
              })
          }),
          save: (bytes) => {
            try {
              writeAtomically(file, bytes)
            } catch (error) {
              throw heldByDisk(file, error)
            }
          }
        })
      )
    )

  /** Outlives the layer when the same `memory` is given again, as a file outlives a process. */
  static readonly layerMemory = (memory: MemoryFile): Layer.Layer<TrustMemory> =>
    Layer.succeed(
      TrustMemory,
      TrustMemory.of({
        file: "trust memory",
        load: Effect.sync(() => memory.bytes),
        save: (bytes) => {
          memory.bytes = bytes
        }
      })
    )
}

/** A file in memory. */
export interface MemoryFile {
  bytes: Uint8Array | undefined
}

function heldByDisk(file: string, error: unknown): unknown {
  const message = `${file}: ${error instanceof Error ? error.message : String(error)}`
  switch (errorCode(error)) {
    case "ENOSPC":
    case "EDQUOT":
      return new CommitHeld({ reason: "disk-full", message })
    case "EROFS":
      return new CommitHeld({ reason: "disk-read-only", message })
    default:
      return error
  }
}
