/**
 * The file format of cached artifacts: a line of JSON that says what follows, then the bytes. Pure. Guards against torn and
 * truncated files, not against attackers: signatures do that.
 *
 *     {"format":"nixfleet-artifacts-1","sha256":"…","entries":[{"name":"…","bytes":123,"signature":64},…]}\n
 *     <bytes><signature><bytes><signature>…
 */
import { Result, Schema } from "effect"
import { createHash } from "node:crypto"

/** An artifact as it was received, byte for byte, and the signature over it. */
export interface SignedArtifact {
  /** What it is within its unit, e.g. `fleet.resolved`. */
  readonly name: string
  readonly bytes: Uint8Array
  readonly signature: Uint8Array
}

const size = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2 ** 31 }))
const Header = Schema.Struct({
  format: Schema.Literal("nixfleet-artifacts-1"),
  /** Of everything after the header's line, lower-case hex digits. */
  sha256: Schema.String,
  entries: Schema.Array(Schema.Struct({ name: Schema.String, bytes: size, signature: size }))
})
const decodeHeader = Schema.decodeUnknownResult(Schema.fromJsonString(Header))

const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")
const newline = 0x0a

export function encodeUnit(unit: ReadonlyArray<SignedArtifact>): Uint8Array {
  const body = Buffer.concat(unit.flatMap(({ bytes, signature }) => [bytes, signature]))
  const header: typeof Header.Type = {
    format: "nixfleet-artifacts-1",
    sha256: digest(body),
    entries: unit.map(({ bytes, name, signature }) => ({ name, bytes: bytes.length, signature: signature.length }))
  }
  return Buffer.concat([Buffer.from(`${JSON.stringify(header)}\n`), body])
}

/** `undefined` for anything that `encodeUnit` did not make, whole. */
export function decodeUnit(file: Uint8Array): ReadonlyArray<SignedArtifact> | undefined {
  const end = file.indexOf(newline)
  if (end < 0) return undefined
  const header = decodeHeader(Buffer.from(file.subarray(0, end)).toString("utf8"))
  const body = file.subarray(end + 1)
  if (Result.isFailure(header) || header.success.sha256 !== digest(body)) return undefined
  let at = 0
  const take = (length: number) => body.slice(at, at += length)
  const unit = header.success.entries.map(({ bytes, name, signature }) => ({
    name,
    bytes: take(bytes),
    signature: take(signature)
  }))
  return at === body.length ? unit : undefined
}
