/** Cuts text for reports: at most so many UTF-8 bytes, never through a character. */
import { StringDecoder } from "node:string_decoder"

/** Most bytes of a probe's failure reason, without the mark that it was cut (agent.md §9.3). */
export const reasonBytes = 512
const cutMark = "...[truncated]"

/** The first `reasonBytes` bytes of the text, and the mark when something was left out. */
export function truncateReason(text: string): string {
  const encoded = Buffer.from(text, "utf8")
  return encoded.length <= reasonBytes
    ? text
    : `${new StringDecoder("utf8").write(encoded.subarray(0, reasonBytes))}${cutMark}`
}

/** The last `limit` bytes as text, from the first whole character on. */
export function tailText(encoded: Uint8Array, limit: number): string {
  const tail = encoded.subarray(Math.max(0, encoded.length - limit))
  // A UTF-8 character has at most three continuation bytes, 10xxxxxx.
  let start = 0
  while (start < Math.min(3, tail.length) && tail.length < encoded.length && (tail[start]! & 0xc0) === 0x80) start++
  return Buffer.from(tail.subarray(start)).toString("utf8")
}
