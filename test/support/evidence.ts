/** Evidence of a host as a collector writes it: document, signature and public key. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { canonicalText, encodeUtf8, type Json } from "../../src/Trust/CanonicalJson.ts"
import { publicKeyOfSeed, signEd25519 } from "../../src/Trust/Signature.ts"

const seed = new Uint8Array(32).fill(7)

/** An ed25519 public key as OpenSSH writes it. */
export function openSshLine(raw: Uint8Array): string {
  const blob = Buffer.concat([Buffer.from("0000000b7373682d6564323535313900000020", "hex"), raw])
  return `ssh-ed25519 ${blob.toString("base64")}`
}

export interface EvidenceFiles {
  readonly evidencePath: string
  readonly signaturePath: string
  readonly keyPath: string
}

export const evidenceIn = (directory: string): EvidenceFiles => ({
  evidencePath: join(directory, "evidence.json"),
  signaturePath: join(directory, "evidence.json.sig"),
  keyPath: join(directory, "ssh_host_ed25519_key.pub")
})

/** Writes all three, signed with the host's key. */
export function writeEvidence(directory: string, document: Json): EvidenceFiles {
  const files = evidenceIn(directory)
  const signature = signEd25519(seed, encodeUtf8(canonicalText(document)))
  writeFileSync(files.evidencePath, JSON.stringify(document, undefined, 2))
  writeFileSync(files.signaturePath, `${Buffer.from(signature).toString("base64")}\n`)
  writeFileSync(files.keyPath, `${openSshLine(publicKeyOfSeed(seed))} root@web-1\n`)
  return files
}
