/**
 * The bytes of `trust.json`, read anew for each verification, so that a rotation of keys needs no restart (protocol.md
 * §8.7). Owns no meaning: `Trust/Keys.ts` reads it.
 *
 * Failures: a file that cannot be read is a `TrustFileUnreadable`; nothing is remembered in its place (house rule 8).
 */
import { Context, Effect, Layer, Schema } from "effect"
import { readSmallFile } from "./SmallFile.ts"

export class TrustFileUnreadable extends Schema.TaggedError<TrustFileUnreadable>()("TrustFileUnreadable", {
  reason: Schema.Literals(["trust-file-unreadable"]),
  file: Schema.String,
  message: Schema.String
}) {}

export class TrustFile extends Context.Service<TrustFile, {
  readonly read: Effect.Effect<Uint8Array, TrustFileUnreadable>
}>()("nixfleet/Layers/Disk/TrustFile") {
  static readonly layerFile = (file: string): Layer.Layer<TrustFile> =>
    Layer.succeed(
      TrustFile,
      TrustFile.of({
        read: Effect.try({
          try: () => readSmallFile(file),
          catch: (cause) =>
            new TrustFileUnreadable({
              reason: "trust-file-unreadable",
              file,
              message: `cannot read ${file}: ${cause instanceof Error ? cause.message : String(cause)}`
            })
        })
      })
    )

  /** What `content` holds at the moment of the reading, as a file may be replaced. */
  static readonly layerMemory = (content: { bytes: Uint8Array }): Layer.Layer<TrustFile> =>
    Layer.succeed(TrustFile, TrustFile.of({ read: Effect.sync(() => content.bytes) }))
}
