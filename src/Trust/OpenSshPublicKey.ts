/** A host's public key as OpenSSH writes it, and as fleet files declare it: `ssh-ed25519 <base64> [comment]` (protocol.md §9.4). */

const line = /^ssh-ed25519 ([A-Za-z0-9+/]+=*)(?: .*)?$/
/** Two length-prefixed fields: the type, and the 32 bytes that follow this. */
const prefix = Buffer.from("0000000b7373682d6564323535313900000020", "hex")
const keyLength = 32

/** The 32 raw bytes of the key; `undefined` for any other text. */
export function rawOpenSshKey(text: string): Uint8Array | undefined {
  const blob = Buffer.from(line.exec(text.trim())?.[1] ?? "", "base64")
  const isEd25519 = blob.length === prefix.length + keyLength && blob.subarray(0, prefix.length).equals(prefix)
  return isEd25519 ? blob.subarray(prefix.length) : undefined
}
