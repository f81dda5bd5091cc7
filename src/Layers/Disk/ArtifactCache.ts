/**
 * Keeps the last good signed artifacts over a restart (D15). What belongs together (a fleet and its manifests; a manifest
 * and its signature) is one unit in one file, so that no crash and no reader ever sees half of it (D14).
 *
 * Owns files, their completeness and their number. Does not own trust: what is read is verified anew by its reader.
 *
 * Failures: a damaged file counts as absent and is logged; a failed write leaves the last good unit in place.
 */
import { Context, Effect, Layer, Schema } from "effect"
import { readdirSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"
import { logOf } from "../Logging.ts"
import { decodeUnit, encodeUnit, type SignedArtifact } from "./ArtifactUnit.ts"
import { readIfPresent, syncDirectory, temporaryPrefix, writeAtomically } from "./AtomicFile.ts"
import { ensureDirectory } from "./StateDirectory.ts"

const log = logOf("artifact_cache")

export type { SignedArtifact } from "./ArtifactUnit.ts"

/** The unit was not stored; the last good one is still there. */
export class CacheWriteFailed extends Schema.TaggedError<CacheWriteFailed>()("CacheWriteFailed", {
  reason: Schema.Literals(["cache-name-unsafe", "cache-unit-too-large", "cache-write-failed"]),
  message: Schema.String
}) {}

export interface CacheLimits {
  /** More units than this: the ones written longest ago go. */
  readonly maxUnits: number
  readonly maxUnitBytes: number
}

/** A host follows one channel, a control plane has one fleet: 64 leaves room for every rollout still of interest. */
export const defaultCacheLimits: CacheLimits = { maxUnits: 64, maxUnitBytes: 64 * 1024 * 1024 }

/** Rollout ids and words; it is a file name, and never one that starts with a dot. */
const safeName = /^[A-Za-z0-9_@-][A-Za-z0-9_@.-]{0,199}$/

export class ArtifactCache extends Context.Service<ArtifactCache, {
  /** The last good unit of that name; `undefined` when there is none. */
  readonly read: (name: string) => Effect.Effect<ReadonlyArray<SignedArtifact> | undefined>
  /** Replaces the unit; durable on return. */
  readonly write: (name: string, unit: ReadonlyArray<SignedArtifact>) => Effect.Effect<void, CacheWriteFailed>
}>()("nixfleet/Layers/Disk/ArtifactCache") {
  /** One file a unit in `directory`, which belongs to the cache alone. */
  static readonly layerFile = (
    directory: string,
    limits: CacheLimits = defaultCacheLimits
  ): Layer.Layer<ArtifactCache, CacheWriteFailed> =>
    Layer.effect(
      ArtifactCache,
      Effect.as(
        attempt(`cannot use the cache directory ${directory}`, () => ensureDirectory(directory)),
        ArtifactCache.of({
          read: (name) =>
            safeName.test(name)
              ? Effect.suspend(() => readUnit(join(directory, name)))
              : Effect.succeed(undefined),
          write: (name, unit) =>
            Effect.flatMap(checked(name, unit, limits), (bytes) =>
              attempt(`cannot write ${join(directory, name)}`, () => {
                writeAtomically(join(directory, name), bytes)
                evict(directory, limits.maxUnits)
              }))
        })
      )
    )

  /** Outlives the layer when the same `units` are given again, as files outlive a process. */
  static readonly layerMemory = (
    units: Map<string, Uint8Array>,
    limits: CacheLimits = defaultCacheLimits
  ): Layer.Layer<ArtifactCache> =>
    Layer.succeed(
      ArtifactCache,
      ArtifactCache.of({
        read: (name) => Effect.sync(() => opened(units.get(name))),
        write: (name, unit) =>
          Effect.map(checked(name, unit, limits), (bytes) => {
            units.delete(name)
            units.set(name, bytes)
            const oldest = [...units.keys()].slice(0, Math.max(0, units.size - limits.maxUnits))
            for (const gone of oldest) units.delete(gone)
          })
      })
    )
}

const attempt = <A>(what: string, f: () => A): Effect.Effect<A, CacheWriteFailed> =>
  Effect.try({
    try: f,
    catch: (cause) =>
      new CacheWriteFailed({
        reason: "cache-write-failed",
        message: `${what}: ${cause instanceof Error ? cause.message : String(cause)}`
      })
  })

const checked = (
  name: string,
  unit: ReadonlyArray<SignedArtifact>,
  limits: CacheLimits
): Effect.Effect<Uint8Array, CacheWriteFailed> =>
  Effect.suspend(() => {
    if (!safeName.test(name)) {
      return new CacheWriteFailed({
        reason: "cache-name-unsafe",
        message: `${JSON.stringify(name)} cannot be the name of a cached unit`
      })
    }
    const bytes = encodeUnit(unit)
    return bytes.length <= limits.maxUnitBytes ? Effect.succeed(bytes) : new CacheWriteFailed({
      reason: "cache-unit-too-large",
      message: `${name} has ${bytes.length} bytes, and the cache takes ${limits.maxUnitBytes}`
    })
  })

const opened = (bytes: Uint8Array | undefined) => bytes === undefined ? undefined : decodeUnit(bytes)

const readUnit = (file: string): Effect.Effect<ReadonlyArray<SignedArtifact> | undefined> =>
  Effect.try({ try: () => readIfPresent(file), catch: (cause) => String(cause) }).pipe(
    Effect.flatMap((bytes) => {
      const unit = opened(bytes)
      return unit === undefined && bytes !== undefined ? Effect.fail("the file is damaged") : Effect.succeed(unit)
    }),
    Effect.catch((detail) =>
      Effect.as(
        log.warn("a cached unit is ignored and will be fetched again", { reason: "cache-unreadable", file, detail }),
        undefined
      )
    )
  )

/** Removes the units written longest ago, and what a crash left half written. */
function evict(directory: string, maxUnits: number): void {
  const found = readdirSync(directory).map((name) => ({ name, writtenAt: statSync(join(directory, name)).mtimeMs }))
  const left = found.filter(({ name }) => name.startsWith(temporaryPrefix))
  const units = found.filter(({ name }) => safeName.test(name))
    .toSorted((a, b) => a.writtenAt - b.writtenAt || (a.name < b.name ? -1 : 1))
  const gone = [...left, ...units.slice(0, Math.max(0, units.length - maxUnits))]
  for (const { name } of gone) rmSync(join(directory, name), { force: true })
  if (gone.length > 0) syncDirectory(directory)
}
