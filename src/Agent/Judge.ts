/**
 * Whether a fleet and a manifest may be acted on by this host, now (D13, D14; the order of protocol.md §8.8). Pure: bytes,
 * keys and times in, verdict out. Fleet and manifest are judged as the one unit as which they were published.
 */
import type { FleetResolved, RolloutManifest } from "../Schema/Artifacts.ts"
import type { ResolvedPolicy } from "../Schema/HostRecord.ts"
import type { Reason } from "../Schema/Reasons.ts"
import type { KeySlot } from "../Schema/Trust.ts"
import {
  checkHostTarget,
  checkManifestFleet,
  checkManifestId,
  hostEntry,
  resolvePolicy
} from "../Trust/FleetAndManifests.ts"
import { hostWindowMs, withCeiling } from "../Trust/Freshness.ts"
import {
  type Accepted,
  type ArtifactKind,
  fleetKind,
  manifestKind,
  type Signed,
  type Verdict,
  verify
} from "../Trust/Verify.ts"
import type { TrustMark } from "./Input.ts"

/** Why something cannot be taken, by a name of the catalogue. */
export interface Refusal {
  readonly reason: Reason
  readonly detail: string
}

export const refusal = (reason: Reason, detail: string): Refusal => ({ reason, detail })

/** An artifact and its signature as received. */
export interface SignedBytes {
  readonly bytes: Uint8Array
  readonly signature: Uint8Array
}

/** What every judgement needs to know. */
export interface Circumstances {
  readonly machineId: string
  /** `ciReleaseKey` of the trust file, read for this judgement. */
  readonly slot: KeySlot
  /** Epoch milliseconds. */
  readonly now: number
  /** The operator's upper bound of a window (D14). */
  readonly ceilingMs: number | undefined
  /** Highest accepted `signedAt` by artifact; a unit that was accepted before is judged without it. */
  readonly memory: ReadonlyMap<string, number>
}

const markOf = <A>(accepted: Accepted<A>): TrustMark => ({ artifact: accepted.lineage, signedAt: accepted.signedAt })

function check<A extends Signed>(
  kind: ArtifactKind<A>,
  artifact: SignedBytes,
  windowMs: (value: A) => number,
  { ceilingMs, memory, now, slot }: Circumstances
): Verdict<A> {
  return verify({
    kind,
    bytes: artifact.bytes,
    signature: artifact.signature,
    slot,
    now,
    windowMs: (value) => withCeiling(windowMs(value), ceilingMs),
    highestSignedAt: (lineage) => memory.get(lineage)
  })
}

export type FleetVerdict =
  | { readonly ok: true; readonly fleet: FleetResolved; readonly hash: string; readonly mark: TrustMark }
  | { readonly ok: false; readonly refusal: Refusal }

export function judgeFleet(artifact: SignedBytes, circumstances: Circumstances): FleetVerdict {
  const verdict = check(fleetKind, artifact, (fleet) => hostWindowMs(fleet, circumstances.machineId), circumstances)
  return verdict.ok
    ? { ok: true, fleet: verdict.value, hash: verdict.hash, mark: markOf(verdict) }
    : { ok: false, refusal: refusal(verdict.reason, `fleet.resolved: ${verdict.detail}`) }
}

/** What an accepted manifest means to this host. */
export interface Judged {
  readonly marks: ReadonlyArray<TrustMark>
  /** Of the manifest: what "newer" means between rollouts (D10). */
  readonly signedAt: number
  readonly targetClosure: string
  readonly policy: ResolvedPolicy
}

export type UnitVerdict =
  | { readonly ok: true; readonly judged: Judged }
  | { readonly ok: false; readonly refusal: Refusal }

/** What is asked of a manifest: the rollout, and for a dispatch the closure that it named. */
export interface Asked {
  readonly rolloutId: string
  /** Absent when nobody named one: then the manifest's own entry is taken. */
  readonly targetClosure: string | undefined
  readonly sustainedFailureMs: number
}

const refuse = (one: Refusal): UnitVerdict => ({ ok: false, refusal: one })

export function judgeUnit(
  fleetBytes: SignedBytes,
  manifestBytes: SignedBytes,
  asked: Asked,
  circumstances: Circumstances
): UnitVerdict {
  const fleet = judgeFleet(fleetBytes, circumstances)
  if (!fleet.ok) return fleet
  const window = hostWindowMs(fleet.fleet, circumstances.machineId)
  const manifest = check(manifestKind, manifestBytes, () => window, circumstances)
  if (!manifest.ok) return refuse(refusal(manifest.reason, `manifest ${asked.rolloutId}: ${manifest.detail}`))
  const mismatch = checkManifestId(manifest.value, asked.rolloutId) ?? checkManifestFleet(manifest.value, fleet.hash)
  if (mismatch !== undefined) return refuse(mismatch)
  return forHost(fleet.fleet, manifest.value, asked, circumstances.machineId, {
    marks: [fleet.mark, markOf(manifest)],
    signedAt: manifest.signedAt
  })
}

function forHost(
  fleet: FleetResolved,
  manifest: RolloutManifest,
  asked: Asked,
  machineId: string,
  verified: Pick<Judged, "marks" | "signedAt">
): UnitVerdict {
  const entry = hostEntry(manifest, machineId)
  const mismatch = checkHostTarget(manifest, machineId, asked.targetClosure ?? entry?.targetClosure ?? "")
  if (mismatch !== undefined || entry === undefined) {
    return refuse(mismatch ?? refusal("manifest-host-missing", `the manifest does not list ${machineId}`))
  }
  const policy = resolvePolicy(fleet, manifest.channel, entry.waveIndex, asked.sustainedFailureMs)
  return policy === undefined
    ? refuse(refusal("policy-missing", `the fleet has no policy for channel ${manifest.channel}`))
    : { ok: true, judged: { ...verified, targetClosure: entry.targetClosure, policy } }
}
