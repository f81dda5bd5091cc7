/**
 * The files of a release: the fleet and one manifest for each channel that has something to roll out, as canonical bytes
 * (protocol.md §8.5), and with a key their signatures. Paths are relative and as the control plane's source reads them.
 */
import { Effect } from "effect"
import {
  encodeFleetResolved,
  encodeRolloutManifest,
  type FleetResolved,
  type RolloutManifest
} from "../Schema/Artifacts.ts"
import type { Millis } from "../Schema/Primitives.ts"
import { canonicalText, encodeUtf8, sha256Hex } from "../Trust/CanonicalJson.ts"
import { projectManifest } from "../Trust/FleetAndManifests.ts"
import { type ArtifactKind, fleetKind, manifestKind, type Signed, verify } from "../Trust/Verify.ts"
import type { OutputFile } from "./Files.ts"
import type { Signing } from "./Signing.ts"

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
  return assemble(fleet)
}

/**
 * With `meta.signedAt` set and every artifact signed. A defect when what was made does not verify: publishing it would stop
 * every host that reads it.
 */
export const signRelease = Effect.fnUntraced(function*(fleet: FleetResolved, signedAt: Millis, { key, sign }: Signing) {
  const meta = { ...fleet.meta, signedAt, signatureAlgorithm: key.algorithm }
  const release = assemble({ ...fleet, meta })
  const check = <A extends Signed>(kind: ArtifactKind<A>, path: string, bytes: Uint8Array, signature: Uint8Array) => {
    const slot = { current: key, previous: null, successor: null, retireAt: null, rejectBefore: null }
    const verdict = verify({
      kind,
      bytes,
      signature,
      slot,
      now: signedAt,
      windowMs: () => 0,
      highestSignedAt: () => undefined
    })
    if (!verdict.ok) throw new Error(`${path} was signed and does not verify: ${verdict.error}: ${verdict.detail}`)
  }
  const files: Array<OutputFile> = []
  for (const { bytes, path } of release.files) {
    const signature = yield* sign(bytes)
    if (path === fleetFile) check(fleetKind, path, bytes, signature)
    else check(manifestKind, path, bytes, signature)
    files.push({ path: signatureFile(path), bytes: signature }, { path, bytes })
  }
  return { ...release, files } satisfies Release
})

/**
 * Whether a manifest is the one that this fleet gives, save what every signing changes: its times and the fleet's hash.
 */
export function belongsTo(manifest: RolloutManifest, fleet: FleetResolved): boolean {
  const expected = projectManifest(fleet, manifest.fleetResolvedHash, manifest.channel)
  const core = (value: RolloutManifest) => sha256Hex(manifestBytes({ ...value, meta: fleet.meta }))
  return expected !== undefined && core(expected) === core(manifest)
}

function assemble(fleet: FleetResolved): Release {
  const bytes = fleetBytes(fleet)
  const fleetHash = sha256Hex(bytes)
  const manifests = projectManifests(fleet, fleetHash)
  const files = manifests.map((manifest) => ({
    path: manifestFile(rolloutIdOfManifest(manifest)),
    bytes: manifestBytes(manifest)
  }))
  return { fleetHash, manifests, files: [...files, { path: fleetFile, bytes }] }
}
