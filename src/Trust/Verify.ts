/**
 * The verification of a signed artifact, in the order and with the names of protocol.md §8.8: bytes in, verdict out. The
 * value in an acceptance was decoded from the bytes that verified (house rule 9). A refusal names one reason; no step is
 * skipped, none is made lenient by a flag.
 *
 * Costs one scan, one SHA-256, one signature and one `JSON.parse` when the bytes are canonical, as every release writes
 * them; nothing is decoded before a signature holds.
 */
import {
  artifactSchemaVersion,
  type BootstrapNonces,
  decodeBootstrapNonces,
  decodeFleetResolved,
  decodeRevocations,
  decodeRolloutManifest,
  type FleetResolved,
  type Meta,
  type Revocations,
  type RolloutManifest
} from "../Schema/Artifacts.ts"
import type { Decoded } from "../Schema/Decode.ts"
import { formatTimestamp, type Millis } from "../Schema/Primitives.ts"
import type { Reason } from "../Schema/Reasons.ts"
import type { KeySlot, TrustedKey } from "../Schema/Trust.ts"
import { canonicalText, encodeUtf8, type Json, scan, sha256Hex } from "./CanonicalJson.ts"
import { normaliseFleet } from "./FleetAndManifests.ts"
import { staleness } from "./Freshness.ts"
import { type ActiveKey, activeKeys, describeUnusable, type KeyPlace } from "./Keys.ts"
import { isRolledBack, type Lineage, manifestLineage } from "./NoGoingBack.ts"
import { signatureLength, verifies } from "./Signature.ts"

/** The names of protocol.md §8.8, and `RolledBack` (D14), each with its name in our catalogue. */
export const verifyReasons = {
  NoTrustRoots: "no-trust-roots",
  Parse: "artifact-unparsable",
  Canonicalize: "artifact-not-canonicalizable",
  UnsupportedAlgorithm: "unsupported-algorithm",
  BadSignature: "bad-signature",
  SchemaVersionUnsupported: "schema-version-unsupported",
  NotSigned: "not-signed",
  RejectedBeforeTimestamp: "rejected-before-timestamp",
  Stale: "stale",
  FutureDated: "future-dated",
  RolledBack: "rolled-back"
} as const satisfies Readonly<Record<string, Reason>>
export type VerifyError = keyof typeof verifyReasons

/** One of the four artifact types: how its value is read and which earlier artifact it replaces. */
export interface ArtifactKind<A> {
  readonly name: string
  readonly decode: (value: unknown) => Decoded<A>
  readonly lineage: (value: A) => Lineage
}

export interface Signed {
  readonly schemaVersion: number
  readonly meta: Meta
}

export const fleetKind: ArtifactKind<FleetResolved> = {
  name: "fleet.resolved",
  decode: (value) => {
    const decoded = decodeFleetResolved(value)
    return decoded.ok ? { ok: true, value: normaliseFleet(decoded.value) } : decoded
  },
  lineage: () => "fleet"
}
export const manifestKind: ArtifactKind<RolloutManifest> = {
  name: "rollout manifest",
  decode: decodeRolloutManifest,
  lineage: manifestLineage
}
export const revocationsKind: ArtifactKind<Revocations> = {
  name: "revocations",
  decode: decodeRevocations,
  lineage: () => "revocations"
}
export const bootstrapNoncesKind: ArtifactKind<BootstrapNonces> = {
  name: "bootstrap nonces",
  decode: decodeBootstrapNonces,
  lineage: () => "bootstrap-nonces"
}

export interface VerifyRequest<A> {
  readonly kind: ArtifactKind<A>
  /** As received. */
  readonly bytes: Uint8Array
  /** Content of the `.sig` file. */
  readonly signature: Uint8Array
  /** `ciReleaseKey` of the trust file, read for this verification. */
  readonly slot: KeySlot
  readonly now: Millis
  /** How old the artifact may be, in ms; see `Freshness.ts` for whose window it is. */
  readonly windowMs: (value: A) => Millis
  /** Highest `signedAt` accepted so far in the artifact's place (D14). */
  readonly highestSignedAt: (lineage: Lineage) => Millis | undefined
  /**
   * An earlier acceptance in the same place. Where bytes, signature and key are still the same, what they prove is; what time,
   * the slot and the memory say is judged anew.
   */
  readonly known?: Accepted<A> | undefined
}

/** Everything that later steps may use of an artifact; a value without it was not verified. */
export interface Accepted<A> {
  readonly ok: true
  readonly value: A
  readonly bytes: Uint8Array
  readonly signature: Uint8Array
  /** Lower-case hex SHA-256 of the canonical form: `fleetResolvedHash` of a fleet. */
  readonly hash: string
  readonly signedAt: Millis
  readonly lineage: Lineage
  /** Which key of the slot it was signed with. */
  readonly key: KeyPlace
  /** That key, as the trust file has it. */
  readonly signer: TrustedKey
}

export interface Refused {
  readonly ok: false
  readonly error: VerifyError
  /** The same in our catalogue, for events and logs. */
  readonly reason: Reason
  readonly detail: string
}

export type Verdict<A> = Accepted<A> | Refused

/** Verifies one artifact; total. */
export function verify<A extends Signed>(request: VerifyRequest<A>): Verdict<A> {
  const keys = activeKeys(request.slot, request.now)
  if (keys.length === 0) return refused("NoTrustRoots", "no key of the release slot is active")
  const { known } = request
  if (known !== undefined && isUnchanged(request, known, keys)) return judge(request, known.value, known.hash, known)
  const read = readCanonical(request.bytes)
  if (!read.ok) return read
  const signer = keys.find((active) => verifies(active.key, read.canonical, request.signature))
  if (signer === undefined) return signatureRefused(keys, request.signature)
  const decoded = request.kind.decode(read.value())
  if (!decoded.ok) return refused("Parse", `not a ${request.kind.name}: ${decoded.problem}`)
  return judge(request, decoded.value, sha256Hex(read.canonical), { key: signer.place, signer: signer.trusted })
}

/** The same bytes, signed in the same way, with a key that still counts. */
function isUnchanged<A>(
  { bytes, signature }: VerifyRequest<A>,
  known: Accepted<A>,
  keys: ReadonlyArray<ActiveKey>
): boolean {
  const { key, signer } = known
  const isActive = keys.some(({ place, trusted }) =>
    place === key && trusted.algorithm === signer.algorithm && trusted.public === signer.public
  )
  return isActive && isEqual(known.signature, signature) && isEqual(known.bytes, bytes)
}

const isEqual = (a: Uint8Array, b: Uint8Array): boolean => a === b || Buffer.compare(a, b) === 0

/** Steps 6 to 10 of protocol.md §8.8, and D14: what the signed content itself says about its use. */
function judge<A extends Signed>(
  request: VerifyRequest<A>,
  value: A,
  hash: string,
  { key, signer }: Pick<Accepted<A>, "key" | "signer">
): Verdict<A> {
  const { kind, now, slot } = request
  if (value.schemaVersion !== artifactSchemaVersion) {
    return refused(
      "SchemaVersionUnsupported",
      `schemaVersion is ${value.schemaVersion}, known is ${artifactSchemaVersion}`
    )
  }
  const { signedAt } = value.meta
  if (signedAt === null) return refused("NotSigned", "meta.signedAt is null")
  const when = `signed at ${formatTimestamp(signedAt)}`
  if (slot.rejectBefore !== null && signedAt < slot.rejectBefore) {
    return refused("RejectedBeforeTimestamp", `${when}, before the slot's ${formatTimestamp(slot.rejectBefore)}`)
  }
  const windowMs = request.windowMs(value)
  const stale = staleness(signedAt, windowMs, now)
  if (stale !== undefined) {
    return refused(stale, `${when}; now ${formatTimestamp(now)}, window ${Math.round(windowMs / 60_000)} min`)
  }
  const lineage = kind.lineage(value)
  const highest = request.highestSignedAt(lineage)
  if (highest !== undefined && isRolledBack(highest, signedAt)) {
    return refused("RolledBack", `${when}, but ${lineage} of ${formatTimestamp(highest)} was accepted before`)
  }
  return { ok: true, value, bytes: request.bytes, signature: request.signature, hash, signedAt, lineage, key, signer }
}

type Readable =
  /** `value` parses when it is asked for: never for bytes that no key signed, unless they had to be canonicalized. */
  | { readonly ok: true; readonly canonical: Uint8Array; readonly value: () => Json }
  | Refused

function readCanonical(bytes: Uint8Array): Readable {
  const scanned = scan(bytes)
  if (!scanned.ok) return refused(scanned.problem.name, scanned.problem.detail)
  if (scanned.canonical) return { ok: true, canonical: bytes, value: () => JSON.parse(scanned.text) }
  const value: Json = JSON.parse(scanned.text)
  return { ok: true, canonical: encodeUtf8(canonicalText(value)), value: () => value }
}

function signatureRefused(keys: ReadonlyArray<ActiveKey>, signature: Uint8Array): Refused {
  const first = keys[0]!.key
  if (first._tag === "Unsupported" && keys.every(({ key }) => key._tag === "Unsupported")) {
    return refused("UnsupportedAlgorithm", first.algorithm)
  }
  if (signature.length !== signatureLength) {
    return refused("BadSignature", `the signature has ${signature.length} bytes instead of ${signatureLength}`)
  }
  const tried = keys.map(({ key, place }) => `${place}: ${describeUnusable(key) ?? "does not match"}`)
  return refused("BadSignature", tried.join("; "))
}

function refused(error: VerifyError, detail: string): Refused {
  return { ok: false, error, reason: verifyReasons[error], detail }
}
