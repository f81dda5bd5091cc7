/**
 * Bootstrap tokens (protocol.md §7.7, control-plane.md §8.1): an organisation root key says that the host of this name, with
 * this key, may have a certificate once. Pure: a token in, a verdict out. Who may still use a nonce is not decided here.
 */
import { hash } from "node:crypto"
import { type BootstrapToken, decodeTokenClaims, type TokenClaims, tokenVersion } from "../Schema/Enrollment.ts"
import type { Millis } from "../Schema/Primitives.ts"
import type { Reason } from "../Schema/Reasons.ts"
import type { KeySlot } from "../Schema/Trust.ts"
import { canonicalText, encodeUtf8, type Json } from "./CanonicalJson.ts"
import { activeKeys } from "./Keys.ts"
import { signatureLength, verifies } from "./Signature.ts"

/** Base64 SHA-256 of an ed25519 key's 32 raw bytes: how tokens name a key. */
export function keyFingerprint(raw: Uint8Array): string {
  return hash("sha256", raw, "base64")
}

/** The bytes that a token's signature covers. */
export function tokenBytes(claims: Json): Uint8Array {
  return encodeUtf8(canonicalText(claims))
}

export type TokenVerdict =
  | { readonly ok: true; readonly claims: TokenClaims }
  | { readonly ok: false; readonly reason: Reason; readonly detail: string }

const refused = (reason: Reason, detail: string): TokenVerdict => ({ ok: false, reason, detail })

/**
 * The claims of a token that a root key signed and whose time has come and not passed. In this order: version, signature (only
 * ed25519 keys count), shape, time; nothing of a token is read before its signature holds.
 */
export function verifyToken(token: BootstrapToken, slot: KeySlot, now: Millis): TokenVerdict {
  if (token.version !== tokenVersion) return refused("token-version", `version ${token.version}`)
  const keys = activeKeys(slot, now).filter(({ key }) => key._tag === "Ed25519")
  if (keys.length === 0) return refused("no-trust-roots", "orgRootKey has no ed25519 key that is active now")
  const signature = Buffer.from(token.signature, "base64")
  if (signature.length !== signatureLength || signature.toString("base64") !== token.signature) {
    return refused("bad-signature", `the token's signature is not base64 of ${signatureLength} bytes`)
  }
  const bytes = tokenBytes(token.claims)
  if (!keys.some(({ key }) => verifies(key, bytes, signature))) {
    return refused("bad-signature", "no organisation root key signed this token")
  }
  const claims = decodeTokenClaims(token.claims)
  if (!claims.ok) return refused("token-shape", claims.problem)
  const { expiresAt, issuedAt } = claims.value
  if (now < issuedAt) return refused("token-not-yet-valid", "the token was issued in the future")
  if (now >= expiresAt) return refused("token-expired", "the token has expired")
  return { ok: true, claims: claims.value }
}
