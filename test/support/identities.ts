/** Keys, tokens, requests and signed lists, as operators and hosts make them: JSON by hand after protocol.md §7.7, §8.3 and §8.4. */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto"
import { makeRequest, rawEd25519 } from "../../src/Layers/Net/Certificates.ts"
import { formatTimestamp } from "../../src/Schema/Primitives.ts"
import { keyFingerprint, tokenBytes } from "../../src/Trust/BootstrapToken.ts"
import type { Json } from "../../src/Trust/CanonicalJson.ts"
import { signEd25519 } from "../../src/Trust/Signature.ts"
import { base64, ed25519Key, meta, releaseKey, seedOf, slot } from "./artifacts.ts"

export const rootSeed = seedOf("organisation root")
export const rootSlot = slot({ current: ed25519Key(rootSeed) })
/** A trust file with both keys. */
export const trustWithRoot = {
  schemaVersion: 1,
  ciReleaseKey: { current: releaseKey },
  orgRootKey: { current: ed25519Key(rootSeed) }
}

export interface HostKey {
  readonly privateKey: KeyObject
  readonly raw: Uint8Array
  /** As tokens name it. */
  readonly fingerprint: string
  /** As fleets declare it. */
  readonly openSsh: string
}

const openSshPrefix = Buffer.from("0000000b7373682d6564323535313900000020", "hex")
const pkcs8Prefix = Buffer.from("302e020100300506032b657004220420", "hex")

/** The same key for the same name. */
export function hostKey(name: string): HostKey {
  const der = Buffer.concat([pkcs8Prefix, seedOf(name)])
  const privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" })
  const raw = Buffer.from(privateKey.export({ format: "jwk" }).x ?? "", "base64url")
  return {
    privateKey,
    raw,
    fingerprint: keyFingerprint(raw),
    openSsh: `ssh-ed25519 ${base64(Buffer.concat([openSshPrefix, raw]))} root@${name}`
  }
}

export const p256Key = () => generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey

export const csr = (commonName: string, { privateKey }: Pick<HostKey, "privateKey">): string =>
  makeRequest({ commonName }, privateKey)

export const nonceOf = (name: string): string => Buffer.from(seedOf(name).subarray(0, 16)).toString("hex")

export interface TokenParts {
  readonly host: string
  readonly key: HostKey
  readonly nonce: string
  readonly issuedAt: number
  readonly expiresAt: number
  readonly seed?: Uint8Array
  /** Over the claims. */
  readonly claims?: { readonly [key: string]: Json }
}

export function token({ claims, expiresAt, host, issuedAt, key, nonce, seed = rootSeed }: TokenParts) {
  const all: { readonly [key: string]: Json } = {
    hostname: host,
    expectedPubkeyFingerprint: key.fingerprint,
    issuedAt: formatTimestamp(issuedAt),
    expiresAt: formatTimestamp(expiresAt),
    nonce,
    ...claims
  }
  return { version: 1, claims: all, signature: base64(signEd25519(seed, tokenBytes(all))) }
}

export interface NonceEntry {
  readonly nonce: string
  readonly hostname: string
  readonly expiresAt: number
}

export const noncesJson = (signedAt: number, entries: ReadonlyArray<NonceEntry>): Json => ({
  schemaVersion: 1,
  bootstrapNonces: entries.map(({ expiresAt, hostname, nonce }) => ({
    nonce,
    hostname,
    expiresAt: formatTimestamp(expiresAt),
    mintedAt: null,
    mintedBy: null
  })),
  meta: meta({ signedAt: formatTimestamp(signedAt) })
})

/** Times by host: certificates that were issued earlier are void. */
export const revocationsJson = (signedAt: number, notBefore: Readonly<Record<string, number>>): Json => ({
  schemaVersion: 1,
  revocations: Object.entries(notBefore).map(([hostname, at]) => ({
    hostname,
    notBefore: formatTimestamp(at),
    reason: "stolen",
    revokedBy: "ada"
  })),
  meta: meta({ signedAt: formatTimestamp(signedAt) })
})

export const rawOf = (key: KeyObject): Uint8Array => rawEd25519(key) ?? new Uint8Array()
