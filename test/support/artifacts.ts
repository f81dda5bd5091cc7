// Builders of signed artifacts: JSON written by hand after protocol.md §8, so that a test does not lean on our encoders.
import { createHash } from "node:crypto"
import type { KeySlot } from "../../src/Schema/Trust.ts"
import { canonicalText, encodeUtf8, type Json } from "../../src/Trust/CanonicalJson.ts"
import { publicKeyOfSeed, signEd25519 } from "../../src/Trust/Signature.ts"

export const seedOf = (name: string): Uint8Array => createHash("sha256").update(name).digest()
export const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64")

/** The seed of vector M (protocol.md §10). */
export const releaseSeed = seedOf("nixfleet-harness-test-seed-2026")
export const ed25519Key = (seed: Uint8Array) => ({ algorithm: "ed25519", public: base64(publicKeyOfSeed(seed)) })
export const releaseKey = ed25519Key(releaseSeed)

export const slot = (overrides: Partial<KeySlot> = {}): KeySlot => ({
  current: releaseKey,
  previous: null,
  successor: null,
  retireAt: null,
  rejectBefore: null,
  ...overrides
})
export const trustJson = (ciReleaseKey: unknown = { current: releaseKey }) => ({ schemaVersion: 1, ciReleaseKey })

export const signedAt = Date.UTC(2026, 3, 24, 10)
export const signedAtText = "2026-04-24T10:00:00Z"
export const commit = "def4567abc123def4567abc123def4567abc123d"
export const closure = (digit: string, name: string) => `${digit.repeat(40)}-${name}`
export const meta = (overrides: { readonly [key: string]: Json } = {}): Json => ({
  schemaVersion: 1,
  signedAt: signedAtText,
  ciCommit: commit,
  ...overrides
})

const host = (channel: string, tags: ReadonlyArray<string>, closureHash: string | null) => ({
  platform: "x86_64-linux",
  tags,
  channel,
  closureHash,
  pubkey: null
})

/** Two channels; `stable` has a canary wave and a wave of two, `edge` is all at once with one host that has no closure. */
export const fleetJson = (overrides: { readonly [key: string]: Json } = {}): { readonly [key: string]: Json } => ({
  schemaVersion: 1,
  hosts: {
    "web-1": host("stable", ["web", "canary"], closure("1", "web")),
    "web-2": host("stable", ["web"], closure("1", "web")),
    "db-1": host("stable", ["db"], closure("2", "db")),
    "lab-1": host("edge", ["lab"], null)
  },
  channels: {
    stable: {
      rolloutPolicy: "careful",
      reconcileIntervalMinutes: 30,
      freshnessWindow: 180,
      signingIntervalMinutes: 60
    },
    edge: { rolloutPolicy: "fast", reconcileIntervalMinutes: 30, freshnessWindow: 120, signingIntervalMinutes: 60 }
  },
  rolloutPolicies: {
    careful: {
      strategy: "canary",
      waves: [
        { selector: { tags: ["canary"] }, soakMinutes: 30 },
        { selector: { all: true }, soakMinutes: 60, soakSeconds: 90 }
      ],
      healthGate: { systemdFailedUnits: { max: 0 } },
      onHealthFailure: "rollback-and-halt"
    },
    fast: { strategy: "all-at-once", waves: [], healthGate: {}, onHealthFailure: "halt" }
  },
  waves: {
    stable: [
      { hosts: ["web-1"], soakMinutes: 30 },
      { hosts: ["db-1", "web-2"], soakMinutes: 60, soakSeconds: 90 }
    ],
    edge: []
  },
  edges: [{ gated: "web-2", gates: "db-1", reason: null }],
  channelEdges: [],
  disruptionBudgets: [
    { selector: { tags: ["web"] }, maxInFlight: 1, maxInFlightPct: null },
    { selector: { tags: ["lab"] }, maxInFlight: 1, maxInFlightPct: null }
  ],
  meta: meta(),
  ...overrides
})

export const manifestJson = (overrides: { readonly [key: string]: Json } = {}): { readonly [key: string]: Json } => ({
  schemaVersion: 1,
  displayName: "stable@def4567a",
  channel: "stable",
  channelRef: commit,
  fleetResolvedHash: "1".repeat(64),
  hostSet: [
    { hostname: "db-1", waveIndex: 1, targetClosure: closure("2", "db") },
    { hostname: "web-1", waveIndex: 0, targetClosure: closure("1", "web") },
    { hostname: "web-2", waveIndex: 1, targetClosure: closure("1", "web") }
  ],
  healthGate: {},
  disruptionBudgets: [],
  meta: meta(),
  ...overrides
})

export interface SignedBytes {
  readonly bytes: Uint8Array
  readonly signature: Uint8Array
}

/** An artifact as a release publishes it: canonical bytes and their signature. */
export function signed(value: Json, seed: Uint8Array = releaseSeed): SignedBytes {
  const bytes = encodeUtf8(canonicalText(value))
  return { bytes, signature: signEd25519(seed, bytes) }
}
