/**
 * Seeded mutation of bytes: what tears, transmission faults and people with bad intentions make of a good input. Pure: the
 * same bytes and the same dice give the same result. Knows JSON only by its tokens, so that it also works on what is
 * broken already.
 */
import type { Random } from "../support/random.ts"

/** Results are cut there: large enough for every nesting and length rule, small enough for thousands of cases a second. */
export const maxMutantBytes = 262_144

type Mutation = (bytes: Uint8Array, dice: Random) => Uint8Array

const utf8 = new TextEncoder()
const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1")
const ofLatin1 = (text: string): Uint8Array => Buffer.from(text, "latin1")

/** Replaces `length` bytes at `at`. */
function splice(bytes: Uint8Array, at: number, length: number, insert: Uint8Array): Uint8Array {
  return Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + length)])
}

/** A piece of at most `longest` bytes. */
function piece(bytes: Uint8Array, dice: Random, longest: number): { readonly at: number; readonly length: number } {
  const at = dice.below(bytes.length + 1)
  return { at, length: Math.min(bytes.length - at, 1 + dice.below(longest)) }
}

/** Ill-formed and surprising UTF-8: overlong, surrogate, beyond the last plane, lone continuation, mark, NUL, joiners. */
const hostileText: ReadonlyArray<Uint8Array> = [
  [0xc0, 0x80],
  [0xed, 0xa0, 0x80],
  [0xf4, 0x90, 0x80, 0x80],
  [0x80],
  [0xef, 0xbb, 0xbf],
  [0x00],
  [0xff, 0xfe],
  [0xe2, 0x80, 0xa8],
  [0xf0, 0x9f, 0x98, 0x80],
  [0x65, 0xcc, 0x81]
].map((bytes) => Uint8Array.from(bytes))

/** JSON values that readers disagree about, or that meet a limit of some type. */
const hostileValues: ReadonlyArray<string> = [
  "null",
  "true",
  "{}",
  "[]",
  "\"\"",
  "0",
  "-0",
  "-1",
  "1.5",
  "1e3",
  "1e400",
  "-1e-400",
  "2147483648",
  "4294967296",
  "9007199254740991",
  "9007199254740993",
  "18446744073709551616",
  "9".repeat(400),
  "00",
  "NaN",
  "\"__proto__\"",
  "\"constructor\"",
  "\"\\ud800\"",
  "\"\\u0000\"",
  "\"../../etc/passwd\"",
  "\"1969-12-31T23:59:59Z\"",
  "\"9999-12-31T23:59:59.999Z\"",
  "\"2026-02-30T00:00:00Z\"",
  "\"2026-06-01T08:00:60+23:59\"",
  "{\"__proto__\":{\"a\":1}}",
  "{\"toString\":null}"
]

const tokens = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null/g
const members = /"(?:[^"\\]|\\.)*"\s*:\s*(?:"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|\[\]|\{\})/g

function someMatch(text: string, pattern: RegExp, dice: Random): RegExpExecArray | undefined {
  const found = [...text.matchAll(pattern)]
  return found.length === 0 ? undefined : dice.pick(found)
}

const flipBit: Mutation = (bytes, dice) => {
  if (bytes.length === 0) return bytes
  const out = Uint8Array.from(bytes)
  const at = dice.below(out.length)
  out[at] = out[at]! ^ (1 << dice.below(8))
  return out
}

const setByte: Mutation = (bytes, dice) => {
  const { at, length } = piece(bytes, dice, 1)
  return splice(bytes, at, length, Uint8Array.of(dice.below(256)))
}

const truncate: Mutation = (bytes, dice) => bytes.subarray(0, dice.below(bytes.length + 1))

const remove: Mutation = (bytes, dice) => {
  const { at, length } = piece(bytes, dice, 64)
  return splice(bytes, at, length, new Uint8Array())
}

const repeat: Mutation = (bytes, dice) => {
  const { at, length } = piece(bytes, dice, 128)
  return splice(bytes, at, 0, bytes.subarray(at, at + length))
}

const moveOver: Mutation = (bytes, dice) => {
  const from = piece(bytes, dice, 128)
  const to = piece(bytes, dice, 128)
  return splice(bytes, to.at, to.length, bytes.subarray(from.at, from.at + from.length))
}

/** A run of one byte, long enough to meet a limit. */
const lengthBomb: Mutation = (bytes, dice) =>
  splice(bytes, dice.below(bytes.length + 1), 0, new Uint8Array(1 << (4 + dice.below(13))).fill(dice.below(128)))

const hostileUtf8: Mutation = (bytes, dice) => splice(bytes, dice.below(bytes.length + 1), 0, dice.pick(hostileText))

/** Arrays or objects inside each other, around the whole or as one value. */
const nest: Mutation = (bytes, dice) => {
  const depth = dice.pick([2, 126, 128, 129, 5000])
  const [open, close] = dice.chance(0.5) ? ["[", "]"] as const : ["{\"a\":", "}"] as const
  const text = latin1(bytes)
  const token = dice.chance(0.5) ? someMatch(text, tokens, dice) : undefined
  const inner = token === undefined ? text : token[0]
  const nested = open.repeat(depth) + inner + close.repeat(depth)
  return token === undefined
    ? ofLatin1(nested)
    : splice(bytes, token.index, inner.length, ofLatin1(nested))
}

const replaceValue: Mutation = (bytes, dice) => {
  const token = someMatch(latin1(bytes), tokens, dice)
  return token === undefined
    ? bytes
    : splice(bytes, token.index, token[0].length, utf8.encode(dice.pick(hostileValues)))
}

/** One value where another stood. */
const exchangeValue: Mutation = (bytes, dice) => {
  const text = latin1(bytes)
  const to = someMatch(text, tokens, dice)
  const from = someMatch(text, tokens, dice)
  return to === undefined || from === undefined ? bytes : splice(bytes, to.index, to[0].length, ofLatin1(from[0]))
}

const longText: Mutation = (bytes, dice) => {
  const token = someMatch(latin1(bytes), /"(?:[^"\\]|\\.)*"/g, dice)
  const fill = dice.pick(["a", "\\u0000", "é", "/", "-"]).repeat(dice.pick([64, 254, 256, 1025, 20_000]))
  return token === undefined ? bytes : splice(bytes, token.index + 1, 0, utf8.encode(fill))
}

const duplicateMember: Mutation = (bytes, dice) => {
  const member = someMatch(latin1(bytes), members, dice)
  return member === undefined ? bytes : splice(bytes, member.index, 0, ofLatin1(`${member[0]},`))
}

const removeMember: Mutation = (bytes, dice) => {
  const member = someMatch(latin1(bytes), members, dice)
  if (member === undefined) return bytes
  const comma = bytes[member.index + member[0].length] === 0x2c ? 1 : 0
  return splice(bytes, member.index, member[0].length + comma, new Uint8Array())
}

/** Decimal and octal numbers, as in tar headers, lines and headers. */
const changeNumber: Mutation = (bytes, dice) => {
  const digits = someMatch(latin1(bytes), /\d+/g, dice)
  if (digits === undefined) return bytes
  const length = digits[0].length
  const number = dice.pick(["0", "7".repeat(length), "9".repeat(length), "1", "-1", "99999999999", "+1", " 1"])
  const same = dice.chance(0.5) ? number.padStart(length, "0").slice(-length) : number
  return splice(bytes, digits.index, length, ofLatin1(same))
}

const mutations: ReadonlyArray<Mutation> = [
  flipBit,
  setByte,
  truncate,
  remove,
  repeat,
  moveOver,
  lengthBomb,
  hostileUtf8,
  nest,
  replaceValue,
  replaceValue,
  replaceValue,
  exchangeValue,
  exchangeValue,
  longText,
  duplicateMember,
  removeMember,
  changeNumber
]

/** One to four mutations, few more often than many: what is wrong in one place only passes most checks. */
export function mutate(bytes: Uint8Array, dice: Random): Uint8Array {
  let mutant = bytes
  do mutant = dice.pick(mutations)(mutant, dice).subarray(0, maxMutantBytes)
  while (dice.chance(0.4))
  return mutant
}
