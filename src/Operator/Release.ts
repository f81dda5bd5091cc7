/**
 * The files of a release: the fleet and one manifest for each channel that has something to roll out, as canonical bytes
 * (protocol.md §8.5), and with a key their signatures. Pure. Paths are relative and as the control plane's source reads them.
 */
import {
  encodeFleetResolved,
  encodeRolloutManifest,
  type FleetResolved,
  type RolloutManifest
} from "../Schema/Artifacts.ts"
import type { Millis } from "../Schema/Primitives.ts"
import { canonicalText, encodeUtf8, sha256Hex } from "../Trust/CanonicalJson.ts"
import { projectManifest } from "../Trust/FleetAndManifests.ts"
import { publicKeyOfSeed, signEd25519 } from "../Trust/Signature.ts"
import { type ArtifactKind, fleetKind, manifestKind, type Signed, verify } from "../Trust/Verify.ts"
import type { OutputFile } from "./Files.ts"
import { slotOf } from "./KeyFiles.ts"

export const fleetFile = "fleet.resolved.json"
export const manifestFile = (rolloutId: string): string => `rollouts/${rolloutId}.json`
export const signatureFile = (artifact: string): string => `${artifact}.sig`

export interface Release {
  /** Lower-case hex SHA-256 of the fleet's canonical bytes. */
  readonly fleetHash: string
  readonly manifests: ReadonlyArray<RolloutManifest>
  /** Manifests first and the fleet last: a reader that sees the new fleet finds what belongs to it. */
  readonly files: ReadonlyArray<OutputFile>
}

/** The canonical bytes of a fleet: what is hashed, signed and published. */
export function fleetBytes(fleet: FleetResolved): Uint8Array {
  return encodeUtf8(canonicalText(encodeFleetResolved(fleet)))
}

export function manifestBytes(manifest: RolloutManifest): Uint8Array {
  return encodeUtf8(canonicalText(encodeRolloutManifest(manifest)))
}

/** One manifest per channel with a target, in the order of channel names. */
export function projectManifests(fleet: FleetResolved, fleetHash: string): ReadonlyArray<RolloutManifest> {
  return Object.keys(fleet.channels).toSorted().flatMap((channel) => projectManifest(fleet, fleetHash, channel) ?? [])
}

export function rolloutIdOfManifest(manifest: RolloutManifest): string {
  return `${manifest.channel}@${manifest.channelRef}`
}

/** Without signatures. */
export function buildRelease(fleet: FleetResolved): Release {
  return assemble(fleet, (path, bytes) => [{ path, bytes }])
}

/**
 * With `meta.signedAt` set and every artifact signed. Throws when what was made does not verify: publishing it would stop
 * every host that reads it.
 */
export function signRelease(fleet: FleetResolved, signedAt: Millis, seed: Uint8Array): Release {
  const release = assemble({ ...fleet, meta: { ...fleet.meta, signedAt } }, (path, bytes) => [
    { path: signatureFile(path), bytes: signEd25519(seed, bytes) },
    { path, bytes }
  ])
  const content = new Map(release.files.map((file) => [file.path, file.bytes]))
  const publicKey = Buffer.from(publicKeyOfSeed(seed)).toString("base64")
  const check = <A extends Signed>(kind: ArtifactKind<A>, path: string) => {
    const verdict = verify({
      kind,
      bytes: content.get(path)!,
      signature: content.get(signatureFile(path))!,
      slot: slotOf(publicKey),
      now: signedAt,
      windowMs: () => 0,
      highestSignedAt: () => undefined
    })
    if (!verdict.ok) throw new Error(`${path} was signed and does not verify: ${verdict.error}: ${verdict.detail}`)
  }
  check(fleetKind, fleetFile)
  for (const manifest of release.manifests) check(manifestKind, manifestFile(rolloutIdOfManifest(manifest)))
  return release
}

/**
 * Whether a manifest is the one that this fleet gives, save what every signing changes: its times and the fleet's hash.
 */
export function belongsTo(manifest: RolloutManifest, fleet: FleetResolved): boolean {
  const expected = projectManifest(fleet, manifest.fleetResolvedHash, manifest.channel)
  const core = (value: RolloutManifest) => sha256Hex(manifestBytes({ ...value, meta: fleet.meta }))
  return expected !== undefined && core(expected) === core(manifest)
}

function assemble(
  fleet: FleetResolved,
  filesOf: (path: string, bytes: Uint8Array) => ReadonlyArray<OutputFile>
): Release {
  const bytes = fleetBytes(fleet)
  const fleetHash = sha256Hex(bytes)
  const manifests = projectManifests(fleet, fleetHash)
  const files = manifests.flatMap((manifest) =>
    filesOf(manifestFile(rolloutIdOfManifest(manifest)), manifestBytes(manifest))
  )
  return { fleetHash, manifests, files: [...files, ...filesOf(fleetFile, bytes)] }
}
