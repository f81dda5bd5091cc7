/** Values as words for a person at a terminal. Pure; shared by the commands of all programs. */
import type { Millis } from "./Primitives.ts"

/** Text that other machines sent: control characters, which a terminal would obey, become `?`. */
export function printable(text: string): string {
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, "?")
}

/** A span of time in its largest unit; a negative one is none. */
export function describeAge(ms: Millis): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h`
  return `${Math.floor(seconds / 86_400)}d`
}

/** A time to come, in its two largest units and to the nearest minute: "1h" would be too little to say of 1 h 50 min. */
export function describeLeft(ms: Millis): string {
  const minutes = Math.round(ms / 60_000)
  if (ms < 60_000) return describeAge(ms)
  const [days, hours, left] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24, minutes % 60]
  if (days > 0) return `${days}d ${hours}h`
  return hours > 0 ? `${hours}h ${left}m` : `${left}m`
}

/** `31 of 120 MB`: both in the unit of the larger one, in powers of 1000, rounded down. */
export function describeProgress(doneBytes: number, expectedBytes: number | undefined): string {
  const largest = Math.max(doneBytes, expectedBytes ?? 0)
  const power = [1, 2, 3].filter((one) => largest >= 1000 ** one).length
  const of = (bytes: number) => Math.floor(bytes / 1000 ** power)
  const total = expectedBytes === undefined ? "" : ` of ${of(expectedBytes)}`
  return `${of(doneBytes)}${total} ${["B", "kB", "MB", "GB"][power] ?? ""}`
}
