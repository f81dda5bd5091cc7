/** Writes keys in OpenSSH's private key format, so that tests need no `ssh-keygen`. */
import type { KeyObject } from "node:crypto"

const field = (bytes: Uint8Array | string): Buffer => {
  const content = Buffer.from(bytes)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(content.length)
  return Buffer.concat([length, content])
}

export interface OpenSshOptions {
  readonly cipher?: string
  readonly type?: string
  /** Replaces the second check number: what a wrong passphrase looks like. */
  readonly brokenCheck?: boolean
}

/** An ed25519 private key as `ssh-keygen -t ed25519 -N ""` writes it. */
export function openSshPrivateKey(key: KeyObject, options: OpenSshOptions = {}): string {
  const jwk = key.export({ format: "jwk" })
  const seed = Buffer.from(jwk.d ?? "", "base64url")
  const publicKey = Buffer.from(jwk.x ?? "", "base64url")
  const type = options.type ?? "ssh-ed25519"
  const blob = Buffer.concat([field(type), field(publicKey)])
  const secret = Buffer.concat([
    Buffer.from([1, 2, 3, 4]),
    Buffer.from(options.brokenCheck === true ? [9, 9, 9, 9] : [1, 2, 3, 4]),
    field(type),
    field(publicKey),
    field(Buffer.concat([seed, publicKey])),
    field("root@host")
  ])
  const padding = Buffer.from(Array.from({ length: (8 - secret.length % 8) % 8 }, (_, index) => index + 1))
  const bytes = Buffer.concat([
    Buffer.from("openssh-key-v1\0", "latin1"),
    field(options.cipher ?? "none"),
    field("none"),
    field(""),
    Buffer.from([0, 0, 0, 1]),
    field(blob),
    field(Buffer.concat([secret, padding]))
  ])
  const lines = bytes.toString("base64").match(/.{1,70}/g) ?? []
  return `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines.join("\n")}\n-----END OPENSSH PRIVATE KEY-----\n`
}
