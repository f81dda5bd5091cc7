/** How an operator names a host, and its public key from the files in which keys are found. */
import { Result } from "effect"
import { Flag } from "effect/cli"
import { createPublicKey } from "node:crypto"
import { rawEd25519 } from "../Layers/Net/Certificates.ts"
import { isOpenSshKey, openSshKeyToPkcs8 } from "../Layers/Net/OpenSshKey.ts"
import type { Decoded } from "../Schema/Decode.ts"
import { Hostname } from "../Schema/Primitives.ts"
import { rawOpenSshKey } from "../Trust/OpenSshPublicKey.ts"

export const hostnameFlag = Flag.String("hostname").pipe(
  Flag.withSchema(Hostname),
  Flag.withDescription("The host, as the fleet declares it")
)

/**
 * The 32 raw bytes of an ed25519 public key, from: an OpenSSH public or (unencrypted) private key file, PEM of either, or
 * their base64.
 */
export function rawHostKey(bytes: Uint8Array): Decoded<Uint8Array> {
  const text = Buffer.from(bytes).toString("latin1").trim()
  const openSsh = rawOpenSshKey(text)
  if (openSsh !== undefined) return { ok: true, value: openSsh }
  if (isOpenSshKey(text)) {
    return Result.match(openSshKeyToPkcs8(text), {
      onSuccess: ofPem,
      onFailure: (problem): Decoded<Uint8Array> => ({ ok: false, problem })
    })
  }
  if (text.startsWith("-----BEGIN")) return ofPem(text)
  const raw = Buffer.from(text, "base64")
  return raw.length === 32 && raw.toString("base64") === text ? { ok: true, value: raw } : unreadable
}

const unreadable: Decoded<Uint8Array> = {
  ok: false,
  problem: "neither an ed25519 key of OpenSSH, nor one in PEM, nor 32 bytes in base64"
}

function ofPem(text: string): Decoded<Uint8Array> {
  try {
    const raw = rawEd25519(createPublicKey(text))
    return raw === undefined ? unreadable : { ok: true, value: raw }
  } catch {
    // Not the cause: it might repeat a part of a private key.
    return unreadable
  }
}
