/**
 * How a host gets its certificate (protocol.md §7.7, control-plane.md §8): the bootstrap token that an operator mints, and the
 * bodies of enrollment and renewal. Field names are the original's.
 */
import { Schema } from "effect"
import { decoder } from "./Decode.ts"
import { Hostname, text, Timestamp, UInt32, WireId } from "./Primitives.ts"

/** The only version of tokens there is. */
export const tokenVersion = 1

/** PEM text of one request or certificate with an ed25519 or P-256 key. */
const pem = text(8192)

/** What a token promises. `expectedPubkeyFingerprint`: base64 of the SHA-256 of the key's 32 raw bytes. */
export const TokenClaims = Schema.Struct({
  hostname: Hostname,
  expectedPubkeyFingerprint: text(64),
  issuedAt: Timestamp,
  /** From then on the token is void. */
  expiresAt: Timestamp,
  /** 16 random bytes as hex. */
  nonce: WireId
})
export type TokenClaims = typeof TokenClaims.Type

/**
 * `signature`: base64 of an ed25519 signature by an organisation root key over the canonical form of `claims` as they were
 * received, which is why they stay JSON here: they are decoded by whoever verifies them.
 */
export const BootstrapToken = Schema.Struct({
  version: UInt32,
  claims: Schema.Json,
  signature: text(128)
})
export type BootstrapToken = typeof BootstrapToken.Type

export const EnrollRequest = Schema.Struct({ token: BootstrapToken, csrPem: pem })
export type EnrollRequest = typeof EnrollRequest.Type

export const RenewRequest = Schema.Struct({ csrPem: pem })
export type RenewRequest = typeof RenewRequest.Type

/** The answer to both. */
export const IssuedCertificate = Schema.Struct({ certPem: text(16_384), notAfter: Timestamp })
export type IssuedCertificate = typeof IssuedCertificate.Type

export const decodeTokenClaims = decoder(TokenClaims)
export const decodeBootstrapToken = decoder(BootstrapToken)
export const decodeEnrollRequest = decoder(EnrollRequest)
export const decodeRenewRequest = decoder(RenewRequest)
export const decodeIssuedCertificate = decoder(IssuedCertificate)

export const encodeTokenClaims = Schema.encodeSync(TokenClaims)
export const encodeIssuedCertificate = Schema.encodeSync(IssuedCertificate)
