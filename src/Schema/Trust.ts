/**
 * `trust.json` (protocol.md §8.7): the keys that are believed. A file that a person or a configuration tool writes on the
 * host, so unknown fields are refused (D19): a misspelt `rejectBefore` must not silently protect nothing.
 */
import { Schema } from "effect"
import { withAliases } from "./Artifacts.ts"
import { strictDecoder } from "./Decode.ts"
import { defaulted, EpochMillis, mapOf, nullable, text, Timestamp } from "./Primitives.ts"

/** `public`: base64 of 32 raw bytes (`ed25519`) or of X‖Y, 64 bytes (`ecdsa-p256`). Checked where it is used, by name. */
export const TrustedKey = Schema.Struct({ algorithm: text(64), public: text(1024) })
export type TrustedKey = typeof TrustedKey.Type

/** One role's keys through a rotation: `successor` counts only before `retireAt`. */
export const KeySlot = Schema.Struct({
  current: nullable(TrustedKey),
  previous: nullable(TrustedKey),
  successor: nullable(TrustedKey),
  retireAt: nullable(Timestamp),
  /** Artifacts signed before this are refused whatever their age. */
  rejectBefore: nullable(Timestamp)
})
export type KeySlot = typeof KeySlot.Type

/** Both spellings of the CA fields are read: the original's module writes the second one (D13, P-24). */
export const TrustRoots = withAliases(
  Schema.Struct({
    schemaVersion: Schema.Literal(1),
    /** Signs fleets, manifests, revocations and nonces. */
    ciReleaseKey: KeySlot,
    /** Opaque; forwarded to nix. */
    cacheKeys: defaulted(Schema.Array(text(1024)), []),
    /** Signs bootstrap tokens; ed25519 only. */
    orgRootKey: nullable(KeySlot),
    rootCaPem: nullable(text(65_536)),
    issuanceCaPems: defaulted(Schema.Array(text(65_536)), [])
  }),
  { rootCAPem: "rootCaPem", issuanceCAPems: "issuanceCaPems" }
)
export type TrustRoots = typeof TrustRoots.Type

export const decodeTrustRoots = strictDecoder(TrustRoots)

/**
 * Highest accepted `signedAt` by artifact (D14): `fleet`, `manifest:<channel>`, `revocations`, `bootstrap-nonces`. Kept in a
 * file of its own, which outlives a reset of the journal.
 */
export const TrustMemory = mapOf(text(255), EpochMillis)
export type TrustMemory = typeof TrustMemory.Type

export const decodeTrustMemory = strictDecoder(TrustMemory)
