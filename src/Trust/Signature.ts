/**
 * Detached signatures over bytes (protocol.md §8.6): ed25519 and ECDSA P-256, 64 raw bytes each. Keys come from
 * `trust.json`, so a malformed one is data with a sentence, never an exception.
 *
 * ed25519 is strict: S below the group order, canonical encodings, no point of small order as key or as R, and the equation
 * without cofactor. The curve is @noble/ed25519's, whose own strict verification still multiplies by the cofactor; the hash
 * is OpenSSL's, over the parts one after another, so that a manifest of megabytes is not copied.
 */
import * as ed25519 from "@noble/ed25519"
import { createHash, createPublicKey, hash, type KeyObject, verify as verifyWithOpenSsl } from "node:crypto"
import type { TrustedKey } from "../Schema/Trust.ts"

/** Bytes of a signature, whatever the algorithm. */
export const signatureLength = 64

export type VerifyKey =
  | { readonly _tag: "Ed25519"; readonly raw: Uint8Array; readonly point: ed25519.Point }
  | { readonly _tag: "EcdsaP256"; readonly key: KeyObject }
  /** The algorithm is not known here: skipped, so that a newer algorithm can be introduced beside an old one. */
  | { readonly _tag: "Unsupported"; readonly algorithm: string }
  | { readonly _tag: "Malformed"; readonly algorithm: string; readonly problem: string }

export function parseKey(key: TrustedKey): VerifyKey {
  switch (key.algorithm) {
    case "ed25519":
      return parseRaw(key, 32, parseEd25519)
    case "ecdsa-p256":
      return parseRaw(key, 64, parseEcdsaP256)
    default:
      return { _tag: "Unsupported", algorithm: key.algorithm }
  }
}

/** Whether `signature` is one of `message` by `key`; false for anything but 64 bytes and for unusable keys. */
export function verifies(key: VerifyKey, message: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== signatureLength) return false
  switch (key._tag) {
    case "Ed25519":
      return verifiesEd25519(key, message, signature)
    case "EcdsaP256":
      return verifyWithOpenSsl("sha256", message, { key: key.key, dsaEncoding: "ieee-p1363" }, signature)
    case "Unsupported":
    case "Malformed":
      return false
  }
}

/** An ed25519 signature; `seed` is the 32-byte private key of RFC 8032. */
export function signEd25519(seed: Uint8Array, message: Uint8Array): Uint8Array {
  return ed25519.sign(message, seed)
}

/** The 32 raw bytes of the public key that belongs to `seed`. */
export function publicKeyOfSeed(seed: Uint8Array): Uint8Array {
  return ed25519.getPublicKey(seed)
}

// The synchronous functions of @noble/ed25519 ask for their hash to be provided.
ed25519.hashes.sha512 = (message) => Uint8Array.from(hash("sha512", message, "buffer"))

const groupOrder = ed25519.Point.CURVE().n

function verifiesEd25519(
  key: { readonly raw: Uint8Array; readonly point: ed25519.Point },
  message: Uint8Array,
  signature: Uint8Array
): boolean {
  const s = integerOf(signature.subarray(32))
  if (s >= groupOrder) return false
  const r = decodePoint(signature.subarray(0, 32))
  if (r === undefined || r.isSmallOrder()) return false
  const digest = createHash("sha512").update(signature.subarray(0, 32)).update(key.raw).update(message).digest()
  const k = integerOf(digest) % groupOrder
  return sumOfMultiples(s, ed25519.Point.BASE, k, key.point.negate()).equals(r)
}

/**
 * `[a]P + [b]Q` by one chain of doublings, for public scalars below 2^256. About as fast as two multiplications by the library,
 * and without its table of multiples of the base point, which a process that checks a few signatures pays for (4,224 additions
 * at the first, megabytes from then on) and has nothing of.
 */
function sumOfMultiples(a: bigint, p: ed25519.Point, b: bigint, q: ed25519.Point): ed25519.Point {
  const bitsOfA = a.toString(2).padStart(256, "0")
  const bitsOfB = b.toString(2).padStart(256, "0")
  const both = p.add(q)
  let sum = ed25519.Point.ZERO
  for (let bit = 0; bit < 256; bit++) {
    sum = sum.double()
    if (bitsOfA[bit] === "1") sum = sum.add(bitsOfB[bit] === "1" ? both : p)
    else if (bitsOfB[bit] === "1") sum = sum.add(q)
  }
  return sum
}

function decodePoint(bytes: Uint8Array): ed25519.Point | undefined {
  try {
    return ed25519.Point.fromBytes(bytes)
  } catch {
    return undefined
  }
}

/** Little-endian. */
function integerOf(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes.toReversed()).toString("hex")}`)
}

function parseRaw(key: TrustedKey, length: number, parse: (raw: Uint8Array) => VerifyKey | undefined): VerifyKey {
  const malformed = (problem: string): VerifyKey => ({ _tag: "Malformed", algorithm: key.algorithm, problem })
  const raw = Buffer.from(key.public, "base64")
  // Node skips what is not base64 and forgives padding: only a text that it would write itself is meant.
  if (raw.toString("base64") !== key.public) return malformed("not padded base64")
  if (raw.length !== length) return malformed(`${raw.length} bytes instead of ${length}`)
  return parse(raw) ?? malformed("not a point of the curve that can be a key")
}

function parseEd25519(raw: Uint8Array): VerifyKey | undefined {
  const point = decodePoint(raw)
  return point === undefined || point.isSmallOrder() ? undefined : { _tag: "Ed25519", raw, point }
}

function parseEcdsaP256(raw: Uint8Array): VerifyKey | undefined {
  const coordinate = (start: number) => Buffer.from(raw.subarray(start, start + 32)).toString("base64url")
  try {
    const key = createPublicKey({
      format: "jwk",
      key: { kty: "EC", crv: "P-256", x: coordinate(0), y: coordinate(32) }
    })
    return { _tag: "EcdsaP256", key }
  } catch {
    return undefined
  }
}
