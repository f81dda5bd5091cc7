/**
 * Signed releases for a virtual world: one channel, waves of hosts, one closure for all, as a release pipeline publishes them;
 * and the list of revocations beside them.
 */
import type { FetchedArtifact } from "../Layers/Net/ArtifactSource.ts"
import {
  encodeFleetResolved,
  encodeRevocations,
  encodeRolloutManifest,
  type FleetResolved
} from "../Schema/Artifacts.ts"
import { canonicalText, encodeUtf8, type Json, sha256Hex } from "../Trust/CanonicalJson.ts"
import { projectManifest } from "../Trust/FleetAndManifests.ts"
import { publicKeyOfSeed, signEd25519 } from "../Trust/Signature.ts"
import { noOrder, type Order } from "./Order.ts"

export const channel = "stable"
/** The private key of every virtual world. It guards nothing. */
const signingSeed = new Uint8Array(32).fill(42)

export const trustFile: Uint8Array = encodeUtf8(JSON.stringify({
  schemaVersion: 1,
  ciReleaseKey: {
    current: { algorithm: "ed25519", public: Buffer.from(publicKeyOfSeed(signingSeed)).toString("base64") }
  }
}))

export interface Release {
  /** 1, 2, 3, …: names closure and commit. */
  readonly version: number
  /** Host names; the first wave is the canary. */
  readonly waves: ReadonlyArray<ReadonlyArray<string>>
  readonly soakSeconds: number
  readonly signedAt: number
  readonly order?: Order
}

const digits = (version: number) => version.toString(16).repeat(40).slice(0, 40)
export const closureOf = (version: number): string => `${digits(version)}-system-r${version}`
export const rolloutIdOf = (version: number): string => `${channel}@${digits(version)}`

const signed = (value: Json): FetchedArtifact & { readonly hash: string } => {
  const bytes = encodeUtf8(canonicalText(value))
  return { bytes, signature: signEd25519(signingSeed, bytes), hash: sha256Hex(bytes) }
}

/** Through JSON, so that what is signed is what is published. */
const asJson = (encoded: unknown): Json => JSON.parse(JSON.stringify(encoded))

/** The files of a release, by the names under which a control plane looks for them. */
export function filesOf(
  { order = noOrder, signedAt, soakSeconds, version, waves }: Release
): ReadonlyMap<string, FetchedArtifact> {
  const fleet: FleetResolved = {
    schemaVersion: 1,
    hosts: Object.fromEntries(
      waves.flat().toSorted().map((host) => [host, {
        platform: "x86_64-linux",
        tags: [],
        channel,
        closureHash: closureOf(version),
        pubkey: null
      }])
    ),
    channels: {
      [channel]: {
        rolloutPolicy: "waves",
        reconcileIntervalMinutes: 30,
        freshnessWindow: 600,
        signingIntervalMinutes: 60
      }
    },
    rolloutPolicies: {
      waves: {
        strategy: "canary",
        waves: waves.map((hosts) => ({
          selector: { tags: [], tagsAny: [], hosts, channel: null, all: false },
          soakMinutes: 1,
          soakSeconds
        })),
        healthGate: { systemdFailedUnits: { max: 0 } },
        onHealthFailure: "rollback-and-halt"
      }
    },
    waves: { [channel]: waves.map((hosts) => ({ hosts, soakMinutes: 1, soakSeconds })) },
    edges: order.edges.map(([gates, gated]) => ({ gates, gated, reason: null })),
    channelEdges: [],
    disruptionBudgets: order.budgets.map(({ hosts, maxInFlight }) => ({
      selector: { tags: [], tagsAny: [], hosts, channel: null, all: false },
      maxInFlight,
      maxInFlightPct: null
    })),
    meta: { schemaVersion: 1, signedAt, ciCommit: digits(version) }
  }
  const fleetFile = signed(asJson(encodeFleetResolved(fleet)))
  const manifest = projectManifest(fleet, fleetFile.hash, channel)
  return new Map([
    ["fleet.resolved.json", fleetFile],
    ...(manifest === undefined
      ? []
      : [[`rollouts/${rolloutIdOf(version)}.json`, signed(asJson(encodeRolloutManifest(manifest)))] as const])
  ])
}

/** Every certificate that these hosts (name → when they were revoked) had then is void; one of a host that is not named counts. */
export const revocationList = (revoked: ReadonlyMap<string, number>, signedAt: number): FetchedArtifact =>
  signed(asJson(encodeRevocations({
    schemaVersion: 1,
    revocations: [...revoked].map(([hostname, notBefore]) => ({
      hostname,
      notBefore,
      reason: "key copied",
      revokedBy: "operator"
    })),
    meta: { schemaVersion: 1, signedAt, ciCommit: null }
  })))
