/**
 * Verifies a file of which only its shape tells what it is: any of the four signed artifacts. Pure. The shape proves
 * nothing by itself; the verification that it selects checks it whole.
 */
import type { Millis } from "../Schema/Primitives.ts"
import type { KeySlot } from "../Schema/Trust.ts"
import { type Json, parseStrict } from "../Trust/CanonicalJson.ts"
import { smallestWindowMs } from "../Trust/Freshness.ts"
import {
  type Accepted,
  type ArtifactKind,
  bootstrapNoncesKind,
  fleetKind,
  manifestKind,
  type Refused,
  revocationsKind,
  type Signed,
  verify
} from "../Trust/Verify.ts"

export interface JudgeRequest {
  readonly bytes: Uint8Array
  readonly signature: Uint8Array
  readonly slot: KeySlot
  readonly now: Millis
  /** Instead of the window that the artifact is signed with, or of `defaultWindowMs`. */
  readonly windowMs: Millis | undefined
}

export type Judgement = (Omit<Accepted<Signed>, "value"> & { readonly what: string }) | Refused

/** Only a fleet says how long it may be believed; the original takes an hour for everything else (protocol.md §8.9). */
export const defaultWindowMs: Millis = 3_600_000

export function judge(request: JudgeRequest): Judgement {
  return judgeByShape(request.bytes)(request)
}

const judgeAs = <A extends Signed>(
  kind: ArtifactKind<A>,
  what: (value: A) => string,
  ownWindowMs: (value: A) => Millis = () => defaultWindowMs
) =>
({ windowMs, ...request }: JudgeRequest): Judgement => {
  const verdict = verify({
    ...request,
    kind,
    windowMs: (value) => windowMs ?? ownWindowMs(value),
    highestSignedAt: () => undefined
  })
  return verdict.ok ? { ...verdict, what: what(verdict.value) } : verdict
}

const counted = (count: number, noun: string) => `${count} ${noun}${count === 1 ? "" : "s"}`

const judgeFleet = judgeAs(
  fleetKind,
  (fleet) => `fleet of ${counted(Object.keys(fleet.hosts).length, "host")}`,
  smallestWindowMs
)
const judgeManifest = judgeAs(
  manifestKind,
  (manifest) => `manifest ${manifest.channel}@${manifest.channelRef} for ${counted(manifest.hostSet.length, "host")}`
)
const judgeRevocations = judgeAs(
  revocationsKind,
  (revocations) => counted(revocations.revocations.length, "revocation")
)
const judgeNonces = judgeAs(
  bootstrapNoncesKind,
  (nonces) => counted(nonces.bootstrapNonces.length, "bootstrap nonce")
)
const judgeUnknown = judgeAs<Signed>(
  {
    name: "signed artifact",
    decode: () => ({ ok: false, problem: "it has the shape of none of the four" }),
    lineage: () => "fleet"
  },
  () => "unknown"
)

/** By the field that only one kind has. */
function judgeByShape(bytes: Uint8Array): (request: JudgeRequest) => Judgement {
  const parsed = parseStrict(bytes)
  if (!parsed.ok || !isObject(parsed.value)) return judgeUnknown
  if (Object.hasOwn(parsed.value, "hostSet")) return judgeManifest
  if (Object.hasOwn(parsed.value, "hosts")) return judgeFleet
  if (Object.hasOwn(parsed.value, "revocations")) return judgeRevocations
  if (Object.hasOwn(parsed.value, "bootstrapNonces")) return judgeNonces
  return judgeUnknown
}

function isObject(value: Json): value is { readonly [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value)
}
