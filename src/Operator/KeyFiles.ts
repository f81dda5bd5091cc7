/**
 * The files of an ed25519 key pair: the private key as unencrypted PKCS#8 PEM, the public key as one line of base64. Pure.
 * Problems never repeat what a file holds.
 */
import type { Decoded } from "../Schema/Decode.ts"
import type { KeySlot } from "../Schema/Trust.ts"
import { encodeUtf8 } from "../Trust/CanonicalJson.ts"
import { parseKey, publicKeyOfSeed } from "../Trust/Signature.ts"

/** Bytes of an ed25519 private key. */
export const seedLength = 32

/** PKCS#8 version 1 around a 32-byte seed (protocol.md §9.4). */
const pkcs8Prefix = Buffer.from("302e020100300506032b657004220420", "hex")
const pem = /^-----BEGIN PRIVATE KEY-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END PRIVATE KEY-----\s*$/

export function encodePrivateKey(seed: Uint8Array): Uint8Array {
  const body = Buffer.concat([pkcs8Prefix, seed]).toString("base64")
  return encodeUtf8(`-----BEGIN PRIVATE KEY-----\n${body}\n-----END PRIVATE KEY-----\n`)
}

export function encodePublicKey(seed: Uint8Array): Uint8Array {
  return encodeUtf8(`${publicKeyText(seed)}\n`)
}

/** The seed of a private key file. */
export function decodePrivateKey(bytes: Uint8Array): Decoded<Uint8Array> {
  const match = pem.exec(Buffer.from(bytes).toString("latin1"))
  if (match === null) return { ok: false, problem: "not an unencrypted private key in PKCS#8 PEM" }
  const der = Buffer.from(match[1]!, "base64")
  const isEd25519 = der.length === pkcs8Prefix.length + seedLength
    && der.subarray(0, pkcs8Prefix.length).equals(pkcs8Prefix)
  return isEd25519
    ? { ok: true, value: new Uint8Array(der.subarray(pkcs8Prefix.length)) }
    : { ok: false, problem: "a private key, but not an ed25519 one" }
}

/** The public key as trust files write it, from either file of the pair. */
export function decodePublicKey(bytes: Uint8Array): Decoded<string> {
  const seed = decodePrivateKey(bytes)
  if (seed.ok) return { ok: true, value: publicKeyText(seed.value) }
  const text = Buffer.from(bytes).toString("latin1").trim()
  return parseKey({ algorithm: "ed25519", public: text })._tag === "Ed25519"
    ? { ok: true, value: text }
    : { ok: false, problem: "neither an ed25519 private key in PKCS#8 PEM nor an ed25519 public key in base64" }
}

/** The slot that believes this key alone. */
export function slotOf(publicKey: string): KeySlot {
  return {
    current: { algorithm: "ed25519", public: publicKey },
    previous: null,
    successor: null,
    retireAt: null,
    rejectBefore: null
  }
}

function publicKeyText(seed: Uint8Array): string {
  return Buffer.from(publicKeyOfSeed(seed)).toString("base64")
}
