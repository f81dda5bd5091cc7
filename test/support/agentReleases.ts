/** Releases as an agent finds them at its control plane, signed by hand (protocol.md §8), at the TestClock's beginning. */
import { createHash } from "node:crypto"
import type { Json } from "../../src/Trust/CanonicalJson.ts"
import { closure, fleetJson, manifestJson, meta, releaseSeed, signed, type SignedBytes } from "./artifacts.ts"

/** A host of wave 2 of channel `stable`, which soaks 90 s. */
export const releaseHost = "web-2"
export const ref = "def4567abc123def4567abc123def4567abc123d"
export const rolloutId = `stable@${ref}`
export const closureOf = (digit: string) => closure(digit, "web")

export interface ReleaseOptions {
  readonly signedAt?: string
  readonly ref?: string
  readonly seed?: Uint8Array
  readonly fleet?: { readonly [key: string]: Json }
  readonly manifest?: { readonly [key: string]: Json }
}

export const fleetPath = "/v1/fleet.resolved"
export const manifestPath = (id = rolloutId) => `/v1/rollouts/${id}`

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")

/** Fleet and manifest of `stable`, by path. */
export function release(options: ReleaseOptions = {}): Readonly<Record<string, SignedBytes>> {
  const channelRef = options.ref ?? ref
  const signedMeta = meta({ signedAt: options.signedAt ?? "1970-01-01T00:00:00Z", ciCommit: channelRef })
  const fleet = signed(fleetJson({ meta: signedMeta, ...options.fleet }), options.seed ?? releaseSeed)
  const manifest = signed(
    manifestJson({ channelRef, fleetResolvedHash: sha256(fleet.bytes), meta: signedMeta, ...options.manifest }),
    options.seed ?? releaseSeed
  )
  return { [fleetPath]: fleet, [manifestPath(`stable@${channelRef}`)]: manifest }
}

/** Both signed, but the manifest belongs to another fleet. */
export const otherRelease = () => release({ manifest: { fleetResolvedHash: "0".repeat(64) } })

export const dispatched = (given: Readonly<Record<string, unknown>> = {}): Record<string, unknown> => ({
  hostname: releaseHost,
  rollout_id: rolloutId,
  target_closure: closureOf("1"),
  soak_due_at: "1970-01-01T00:01:30Z",
  enqueued_at: "1970-01-01T00:00:00Z",
  attempt: 1,
  ...given
})
