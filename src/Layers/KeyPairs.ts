/** New key pairs from the operating system's randomness, for TLS. Private keys leave as unencrypted PKCS#8 PEM. */
import { generateKeyPairSync, type KeyObject } from "node:crypto"

export interface KeyPair {
  readonly publicKey: KeyObject
  readonly privateKey: KeyObject
}

/** `ed25519` for hosts, as their SSH keys; `p256` for authorities, servers and operators, which every TLS stack takes. */
export function newKeyPair(kind: "ed25519" | "p256"): KeyPair {
  return kind === "ed25519" ? generateKeyPairSync("ed25519") : generateKeyPairSync("ec", { namedCurve: "P-256" })
}

export function privateKeyPem(key: KeyObject): string {
  return key.export({ type: "pkcs8", format: "pem" }).toString()
}
