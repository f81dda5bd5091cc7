/**
 * Building blocks of every other schema: times, identifiers, and the two ways in which the wire says "absent".
 *
 * Times are epoch milliseconds (integers) in memory and RFC 3339 text at the edges. Signed bytes are never re-made from
 * decoded values, so the loss of digits below a millisecond cannot break a signature.
 */
import { DateTime, Effect, Option, Predicate, Schema, SchemaGetter, SchemaIssue, SchemaTransformation } from "effect"

/** A point in time, epoch milliseconds, wall clock. */
export type Millis = number

const rfc3339 =
  /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/

const dayMs = 86_400_000

/** Epoch milliseconds of an RFC 3339 instant, floored below a millisecond; `undefined` when the text is not one. */
export function parseTimestamp(text: string): Millis | undefined {
  if (!rfc3339.test(text)) return undefined
  // Every place is known now: reading the digits costs a tenth of what the groups of the expression would.
  const day0 = startOfDay(number(text, 0, 4), number(text, 5, 7), number(text, 8, 10))
  const hour = number(text, 11, 13)
  const minute = number(text, 14, 16)
  const second = number(text, 17, 19)
  if (day0 === undefined || hour > 23 || minute > 59 || second > 60) return undefined
  const fractionEnd = text.charCodeAt(19) === 0x2e ? endOfDigits(text, 20) : 19
  // A leap second is read as the last millisecond of its minute: both are legal RFC 3339, only one exists in epoch time.
  const millis = second === 60 ? 59_999 : second * 1000 + thousandths(text, 20, fractionEnd)
  const at = day0 + (hour * 60 + minute - offsetMinutes(text, fractionEnd)) * 60_000 + millis
  return at < 0 ? undefined : at
}

/** Epoch milliseconds at which a day of 1970 or later begins; `undefined` for a day that does not exist. */
function startOfDay(year: number, month: number, day: number): Millis | undefined {
  if (year < 1970 || month < 1 || month > 12 || day < 1) return undefined
  const start = Date.UTC(year, month - 1, day)
  // `Date.UTC` rolls over: a day of 29 to 31 exists when the next month begins after it.
  return day <= 28 || start < Date.UTC(year, month, 1) ? start : undefined
}

/** The decimal number of the digits in a range. */
function number(text: string, from: number, to: number): number {
  let value = 0
  for (let index = from; index < to; index++) value = value * 10 + text.charCodeAt(index) - 0x30
  return value
}

function endOfDigits(text: string, from: number): number {
  let at = from
  while (text.charCodeAt(at) >= 0x30 && text.charCodeAt(at) <= 0x39) at++
  return at
}

/** The first three digits of a fraction; 0 when the range is empty. */
function thousandths(text: string, from: number, to: number): number {
  const digits = Math.max(0, Math.min(to - from, 3))
  return number(text, from, from + digits) * 10 ** (3 - digits)
}

function offsetMinutes(text: string, zoneAt: number): number {
  const sign = text.charCodeAt(zoneAt)
  if (sign === 0x5a || sign === 0x7a) return 0
  const minutes = number(text, zoneAt + 1, zoneAt + 3) * 60 + number(text, zoneAt + 4, zoneAt + 6)
  return sign === 0x2d ? -minutes : minutes
}

const twoDigits = Array.from({ length: 100 }, (_, value) => String(value).padStart(2, "0"))
/** The day that was written last, and its text: nearly every time that is written is of today. */
let writtenDay = { start: Number.NaN, text: "" }

/** RFC 3339 UTC text with `Z` and no fraction, or three digits when they are needed (protocol.md §7.1). */
export function formatTimestamp(at: Millis): string {
  const ofDay = at - writtenDay.start
  // False for the first time ever, and for what is no time at all.
  if (!(ofDay >= 0 && ofDay < dayMs)) {
    const text = DateTime.formatIso(DateTime.makeUnsafe(at))
    writtenDay = { start: Math.floor(at / dayMs) * dayMs, text: text.slice(0, text.indexOf("T") + 1) }
    return text.endsWith(".000Z") ? `${text.slice(0, -5)}Z` : text
  }
  const seconds = Math.floor(ofDay / 1000)
  const millis = Math.floor(ofDay) % 1000
  const clock =
    `${twoDigits[Math.floor(seconds / 3600)]!}:${twoDigits[Math.floor(seconds / 60) % 60]!}:${twoDigits[seconds % 60]!}`
  return `${writtenDay.text}${clock}${millis === 0 ? "" : `.${String(millis).padStart(3, "0")}`}Z`
}

/** The last instant that RFC 3339 can write: 9999-12-31T23:59:59.999Z. */
export const lastMillis = 253_402_300_799_999

/** Integers of a range. `-0` passes every bound and would not be the same after it was written: it is refused. */
const whole = (minimum: number, maximum: number) =>
  Schema.Int.check(
    Schema.isBetween({ minimum, maximum }),
    Schema.makeFilter((value: number) => !Object.is(value, -0) || "expected 0, got -0")
  )

/** Epoch milliseconds as a value: what journals store. */
export const EpochMillis = whole(0, lastMillis)

/** RFC 3339 text on the wire, epoch milliseconds in memory. Any offset is read; `Z` is written. */
export const Timestamp = Schema.String.pipe(Schema.decodeTo(EpochMillis, {
  decode: SchemaGetter.transformEffect((text: string, options) => {
    const at = parseTimestamp(text)
    return at === undefined
      ? Effect.fail(
        new SchemaIssue.InvalidValue(
          { message: "expected an RFC 3339 time such as 2026-06-01T08:00:00Z" },
          text,
          options
        )
      )
      : Effect.succeed(at)
  }),
  encode: SchemaGetter.transform(formatTimestamp)
}))

/** u32 of the wire: versions, waves, minutes, limits. */
export const UInt32 = whole(0, 4_294_967_295)
/** i32 of the wire: exit codes. */
export const Int32 = whole(-2_147_483_648, 2_147_483_647)
/** u64 of the wire as far as a double holds it: sequence numbers and durations. */
export const UInt53 = whole(0, Number.MAX_SAFE_INTEGER)

const pattern = (regex: RegExp, message: string) => Schema.String.check(Schema.isPattern(regex, { message }))

/** A host's machine id: the name in its certificate, at most 253 characters as DNS names are. */
export const Hostname = pattern(
  /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/,
  "expected a host name: letters, digits, '.', '_' or '-', 1 to 253 long"
)

/** `<channel>@<ref>` (protocol.md §8.2). The strict shape of the routes; `splitRolloutId` takes the parts. */
export const RolloutId = pattern(
  /^[a-z0-9_-]{1,64}@[0-9a-f]{1,128}$/,
  "expected <channel>@<ref>: channel of a-z 0-9 _ -, ref of lower-case hex digits"
)

/** A closure: the base name of its store path, `<hash>-<name>`. Never a path. */
export const ClosureName = pattern(
  /^[0-9a-z]{32,64}-[0-9A-Za-z+._?=-]{1,211}$/,
  "expected the base name of a store path: <hash>-<name>"
)

/** The same as `Hostname`, for lists of ten thousand: counting in an expression costs twice as much as comparing lengths. */
export const isHostname = (name: string): boolean =>
  name.length <= 253 && /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(name)

/** The same as `ClosureName`, for lists of ten thousand. */
export function isClosureName(name: string): boolean {
  const hashLength = name.indexOf("-")
  return hashLength >= 32 && hashLength <= 64 && name.length <= hashLength + 1 + 211 &&
    /^[0-9a-z]+-[0-9A-Za-z+._?=-]+$/.test(name)
}

/** Channel and rollout id parts; splits at the first `@` as the reference does. */
export function splitRolloutId(rolloutId: string): { readonly channel: string; readonly ref: string } {
  const at = rolloutId.indexOf("@")
  return at < 0 ? { channel: rolloutId, ref: "" } : { channel: rolloutId.slice(0, at), ref: rolloutId.slice(at + 1) }
}

/**
 * Optional on the agent wire (protocol.md §7.1): left out when absent, read when missing or `null`.
 * In memory the key is absent.
 */
export function omittable<S extends Schema.Constraint>(schema: S) {
  return Schema.optionalKey(Schema.NullOr(schema)).pipe(Schema.decodeTo(
    Schema.optionalKey(Schema.toType(schema)),
    SchemaTransformation.transformOptional<S["Type"], S["Type"] | null>({
      decode: (value) => Option.filter(value, Predicate.isNotNullish) as Option.Option<S["Type"]>,
      encode: (value) => value
    })
  ))
}

/** Optional in signed artifacts (protocol.md §7.1): written as `null`, read when missing or `null`. */
export function nullable<S extends Schema.Constraint>(schema: S) {
  return Schema.NullOr(schema).pipe(Schema.withDecodingDefaultKey(Effect.succeed(null)))
}

/** A list, map or flag that may be missing but may not be `null` (protocol.md §7.1). */
export function defaulted<S extends Schema.Constraint>(schema: S, value: S["Encoded"]) {
  return Schema.withDecodingDefaultKey<S>(Effect.succeed(value))(schema)
}

/** Free text of the wire, bounded so that one field cannot fill a disk. */
export const text = (maxLength: number) => Schema.String.check(Schema.isMaxLength(maxLength))

/** An identifier as peers of the original write it: not empty, at most 255 characters, no control characters. */
export const WireId = pattern(
  /^[^\u0000-\u001f\u007f]{1,255}$/,
  "expected 1 to 255 characters without control characters"
)

/** A closure name of the wire: the original sends "" for "unknown"; absence is modelled where the value is used (D12). */
export const WireClosure = pattern(/^[^\u0000-\u001f\u007f/]{0,255}$/, "expected a closure name, or an empty string")

/**
 * A map whose keys all have a shape. `Schema.Record` alone drops members whose key does not match, and what is dropped is
 * not missed: a map of signed or written-by-hand data must be refused instead.
 */
export function mapOf<V extends Schema.Constraint>(key: Schema.Codec<string>, value: V) {
  const isKey: (name: string) => boolean = Schema.is(key)
  return Schema.Record(Schema.String, value).check(Schema.makeFilter((map: { readonly [key: string]: unknown }) => {
    const bad = Object.keys(map).find((name) => !isKey(name))
    return bad === undefined ? undefined : `expected only legal names as keys, got ${JSON.stringify(bad.slice(0, 64))}`
  }))
}
