/**
 * A release as its files have it, signed or not, for whoever asks what it would do. Its parts must belong together as a control plane
 * demands it (D14); its signatures are not looked at, and are the control plane's to judge.
 */
import { Effect, Path } from "effect"
import type { Verified, VerifiedArtifacts } from "../ControlPlane/Input.ts"
import type { Millis } from "../Schema/Primitives.ts"
import { canonicalBytes, sha256Hex } from "../Trust/CanonicalJson.ts"
import { checkManifestFleet, checkManifestHosts, checkManifestId, rolloutIdOf } from "../Trust/FleetAndManifests.ts"
import { type ArtifactKind, fleetKind, manifestKind, type Signed } from "../Trust/Verify.ts"
import { configError } from "./Failure.ts"
import { readInput } from "./Files.ts"
import { fleetFile, manifestFile } from "./Release.ts"

export interface ReleaseFiles {
  readonly artifacts: VerifiedArtifacts
  readonly isSigned: boolean
}

/** One that is not signed counts as signed at `now`. */
export const readRelease = Effect.fnUntraced(function*(directory: string, now: Millis) {
  const paths = yield* Path.Path
  const read = Effect.fnUntraced(function*<A extends Signed>(kind: ArtifactKind<A>, name: string) {
    const path = paths.join(directory, name)
    const canonical = canonicalBytes(yield* readInput(path, kind.name))
    if (!canonical.ok) return yield* configError(`${path}: ${canonical.problem.detail}`)
    const { bytes } = canonical
    const decoded = kind.decode(JSON.parse(Buffer.from(bytes).toString("utf8")))
    if (!decoded.ok) return yield* configError(`${path} is not a ${kind.name}: ${decoded.problem}`)
    const { value } = decoded
    const signedAt = value.meta.signedAt ?? now
    return { value, bytes, signature: new Uint8Array(), hash: sha256Hex(bytes), signedAt } satisfies Verified<A>
  })
  const fleet = yield* read(fleetKind, fleetFile)
  const ids = Object.keys(fleet.value.channels).toSorted().flatMap((channel) => rolloutIdOf(fleet.value, channel) ?? [])
  const manifests = yield* Effect.forEach(ids, (rolloutId) =>
    Effect.gen(function*() {
      const manifest = yield* read(manifestKind, manifestFile(rolloutId))
      const mismatch = checkManifestId(manifest.value, rolloutId) ??
        checkManifestFleet(manifest.value, fleet.hash) ?? checkManifestHosts(manifest.value, fleet.value)
      if (mismatch !== undefined) {
        return yield* configError(`${manifestFile(rolloutId)} in ${directory}: ${mismatch.detail}`)
      }
      return [rolloutId, manifest] as const
    }))
  const release: ReleaseFiles = {
    artifacts: { fleet, manifests: new Map(manifests) },
    isSigned: fleet.value.meta.signedAt !== null
  }
  return release
})
