/**
 * Reads an unencrypted OpenSSH ed25519 private key file, such as a host's `/etc/ssh/ssh_host_ed25519_key`, as a PKCS#8
 * key for TLS (agent.md §10.3, protocol.md §9.4). The host's SSH key is its TLS key: nothing is generated.
 *
 * Failures are sentences for a person: what the file is instead of what was expected. Key bytes never appear in them.
 */
import { Result } from "effect"

const header = "-----BEGIN OPENSSH PRIVATE KEY-----"
const footer = "-----END OPENSSH PRIVATE KEY-----"
const magic = "openssh-key-v1\0"
/** PKCS#8 version 1 around a 32-byte seed. */
const pkcs8Prefix = Buffer.from("302e020100300506032b657004220420", "hex")

/** Whether the text is in OpenSSH's own format rather than PKCS#8 or SEC1. */
export const isOpenSshKey = (text: string): boolean => text.includes(header)

/** Reads length-prefixed fields; every read beyond the end gives `undefined`. */
class Fields {
  private at = 0
  private readonly bytes: Buffer
  constructor(bytes: Buffer) {
    this.bytes = bytes
  }
  uint32(): number | undefined {
    if (this.at + 4 > this.bytes.length) return undefined
    const value = this.bytes.readUInt32BE(this.at)
    this.at += 4
    return value
  }
  field(): Buffer | undefined {
    const length = this.uint32()
    if (length === undefined || this.at + length > this.bytes.length) return undefined
    const value = this.bytes.subarray(this.at, this.at + length)
    this.at += length
    return value
  }
}

function unarmour(text: string): Buffer | undefined {
  const start = text.indexOf(header)
  const end = text.indexOf(footer)
  if (start < 0 || end < start) return undefined
  const base64 = text.slice(start + header.length, end).replace(/\s/g, "")
  return /^[A-Za-z0-9+/]+={0,2}$/.test(base64) ? Buffer.from(base64, "base64") : undefined
}

/** The key as PKCS#8 PEM, or why it cannot be one. */
export function openSshKeyToPkcs8(text: string): Result.Result<string, string> {
  const bytes = unarmour(text)
  if (bytes === undefined || bytes.subarray(0, magic.length).toString("latin1") !== magic) {
    return Result.fail("the OpenSSH private key is truncated or damaged")
  }
  const outer = new Fields(bytes.subarray(magic.length))
  const cipher = outer.field()?.toString("latin1")
  outer.field() // name of the key derivation
  outer.field() // its options
  const keys = outer.uint32()
  outer.field() // the public key
  const secret = outer.field()
  if (cipher !== undefined && cipher !== "none") {
    return Result.fail(`the OpenSSH private key is encrypted (${cipher}); a daemon needs one without a passphrase`)
  }
  if (keys !== 1 || secret === undefined) return Result.fail("the OpenSSH private key is truncated or damaged")
  const inner = new Fields(secret)
  const check = inner.uint32()
  if (check === undefined || check !== inner.uint32()) return Result.fail("the OpenSSH private key is damaged")
  const type = inner.field()?.toString("latin1")
  if (type !== "ssh-ed25519") {
    return Result.fail(`the OpenSSH private key is of type ${type ?? "unknown"}; only ssh-ed25519 is read`)
  }
  const publicKey = inner.field()
  const pair = inner.field()
  if (publicKey?.length !== 32 || pair?.length !== 64 || !pair.subarray(32).equals(publicKey)) {
    return Result.fail("the OpenSSH private key is damaged: its halves do not belong together")
  }
  const pkcs8 = Buffer.concat([pkcs8Prefix, pair.subarray(0, 32)]).toString("base64")
  return Result.succeed(`-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----\n`)
}
