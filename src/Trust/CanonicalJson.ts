/**
 * RFC 8785 canonical JSON, and the strict reading that must come before it (D13, protocol.md §8.5).
 *
 * A signature covers the canonical form, so a text must have exactly one, and all readers must see the same value in it.
 * `scan` walks the text once without building anything: it refuses what RFC 8785 cannot express or what two parsers read
 * differently, and tells whether the text already is its own canonical form. Then nothing has to be written anew: the
 * signature is tried on the received bytes.
 */
import { hash } from "node:crypto"

/** A JSON value as `JSON.parse` gives it. */
export type Json = null | boolean | number | string | ReadonlyArray<Json> | { readonly [key: string]: Json }

/**
 * Why a text was refused. `Parse`: not UTF-8, not JSON, or beyond what any reader takes (nesting, number range).
 * `Canonicalize`: JSON whose meaning depends on the reader (duplicate keys, integers that a double cannot hold).
 */
export interface JsonProblem {
  readonly name: "Parse" | "Canonicalize"
  /** What, and at which character of the text (from 0). */
  readonly detail: string
}

export type Scan =
  | {
    readonly ok: true
    readonly text: string
    /** The text is its own canonical form. */
    readonly canonical: boolean
  }
  | { readonly ok: false; readonly problem: JsonProblem }

/** Arrays and objects inside each other; the limit of the original's parser. */
export const nestingLimit = 128

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** Reads bytes strictly; see the module's comment. Linear in their number. */
export function scan(bytes: Uint8Array): Scan {
  let text: string
  try {
    text = utf8.decode(bytes)
  } catch {
    return { ok: false, problem: { name: "Parse", detail: "not UTF-8" } }
  }
  const scanner = new Scanner(text)
  try {
    scanner.document()
  } catch (error) {
    if (error instanceof Refusal) return { ok: false, problem: error.problem }
    throw error
  }
  return { ok: true, text, canonical: scanner.canonical }
}

/** The value of bytes that pass `scan`. */
export function parseStrict(
  bytes: Uint8Array
): { readonly ok: true; readonly value: Json } | { readonly ok: false; readonly problem: JsonProblem } {
  const scanned = scan(bytes)
  return scanned.ok ? { ok: true, value: JSON.parse(scanned.text) } : scanned
}

/** The canonical form of bytes that pass `scan`: the same array when they are canonical already. */
export function canonicalBytes(
  bytes: Uint8Array
): { readonly ok: true; readonly bytes: Uint8Array } | { readonly ok: false; readonly problem: JsonProblem } {
  const scanned = scan(bytes)
  if (!scanned.ok) return scanned
  return { ok: true, bytes: scanned.canonical ? bytes : encodeUtf8(canonicalText(JSON.parse(scanned.text))) }
}

/** The canonical form of a value that came from strict text or is known to hold only finite numbers and whole characters. */
export function canonicalText(value: Json): string {
  // ECMAScript's own text of numbers and strings is the one that RFC 8785 prescribes; only the order of members is not.
  if (value === null || typeof value !== "object") return JSON.stringify(value)
  let members = ""
  if (isList(value)) {
    for (const member of value) members += `${members === "" ? "" : ","}${canonicalText(member)}`
    return `[${members}]`
  }
  for (const key of Object.keys(value).toSorted(byCodeUnits)) {
    members += `${members === "" ? "" : ","}${JSON.stringify(key)}:${canonicalText(value[key]!)}`
  }
  return `{${members}}`
}

export function encodeUtf8(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

/** Lower-case hex SHA-256, of a text that of its UTF-8; of the canonical form it is an artifact's identity (protocol.md §8.5). */
export function sha256Hex(content: Uint8Array | string): string {
  return hash("sha256", content, "hex")
}

function isList(value: Json): value is ReadonlyArray<Json> {
  return Array.isArray(value)
}

function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Unwinds the scanner; never leaves this module. */
class Refusal extends Error {
  readonly problem: JsonProblem
  constructor(problem: JsonProblem) {
    super(problem.detail)
    this.problem = problem
  }
}

const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const colon = 0x3a

/** Recursive descent over UTF-16 code units; recursion is bounded by `nestingLimit`. */
class Scanner {
  canonical = true
  private at = 0
  /** Start and end of the keys of every open object, innermost last; each object removes its own. */
  private readonly keys: Array<number> = []
  private readonly text: string

  constructor(text: string) {
    this.text = text
  }

  document(): void {
    if (this.text.charCodeAt(0) === 0xfeff) this.refuse("Parse", "a byte order mark")
    this.space()
    this.value(0)
    this.space()
    if (this.at < this.text.length) this.unexpected()
  }

  private value(depth: number): void {
    switch (this.text.charCodeAt(this.at)) {
      case 0x7b:
        return this.object(depth + 1)
      case 0x5b:
        return this.array(depth + 1)
      case quote:
        return this.string()
      case 0x74:
        return this.word("true")
      case 0x66:
        return this.word("false")
      case 0x6e:
        return this.word("null")
      default:
        return this.number()
    }
  }

  private array(depth: number): void {
    this.enter(depth)
    if (this.closes(0x5d)) return
    do {
      this.space()
      this.value(depth)
    } while (this.continues(0x5d))
  }

  private object(depth: number): void {
    this.enter(depth)
    if (this.closes(0x7d)) return
    const first = this.keys.length
    // Set once the order is broken: from then on comparing with the previous key no longer finds duplicates.
    let seen: Set<string> | undefined
    do {
      this.space()
      const start = this.at
      if (this.text.charCodeAt(start) !== quote) this.unexpected()
      this.string()
      const end = this.at
      const previous = this.keys.length
      this.keys.push(start, end)
      if (seen === undefined && previous > first) {
        const order = this.compareKeys(this.keys[previous - 2]!, this.keys[previous - 1]!, start, end)
        if (order === 0) this.duplicate(start, end)
        if (order > 0) {
          this.canonical = false
          seen = new Set()
          for (let key = first; key < previous; key += 2) seen.add(this.decoded(this.keys[key]!, this.keys[key + 1]!))
        }
      }
      if (seen !== undefined) {
        const name = this.decoded(start, end)
        if (seen.has(name)) this.duplicate(start, end)
        seen.add(name)
      }
      this.space()
      if (this.text.charCodeAt(this.at) !== colon) this.unexpected()
      this.at++
      this.space()
      this.value(depth)
    } while (this.continues(0x7d))
    this.keys.length = first
  }

  private enter(depth: number): void {
    if (depth > nestingLimit) this.refuse("Parse", `nesting deeper than ${nestingLimit}`)
    this.at++
  }

  /** Right after the opening bracket: whether it closes at once. */
  private closes(bracket: number): boolean {
    this.space()
    if (this.text.charCodeAt(this.at) !== bracket) return false
    this.at++
    return true
  }

  /** After an element: true at a comma, false at the closing bracket. */
  private continues(bracket: number): boolean {
    this.space()
    const code = this.text.charCodeAt(this.at)
    if (code !== comma && code !== bracket) this.unexpected()
    this.at++
    return code === comma
  }

  private space(): void {
    for (;;) {
      const code = this.text.charCodeAt(this.at)
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return
      this.canonical = false
      this.at++
    }
  }

  private word(word: string): void {
    if (!this.text.startsWith(word, this.at)) this.unexpected()
    this.at += word.length
  }

  private string(): void {
    const text = this.text
    for (;;) {
      // Nearly all of a manifest passes here, hence the local position.
      let at = this.at + 1
      let code = text.charCodeAt(at)
      while (code >= 0x20 && code !== quote && code !== backslash) code = text.charCodeAt(++at)
      this.at = at
      if (code === quote) break
      if (code !== backslash) this.unexpected()
      this.escape()
    }
    this.at++
  }

  /** From the backslash to the last character of the escape. */
  private escape(): void {
    const code = this.text.charCodeAt(this.at + 1)
    switch (code) {
      case quote:
      case backslash:
      case 0x62:
      case 0x66:
      case 0x6e:
      case 0x72:
      case 0x74:
        this.at++
        return
      case 0x2f:
        this.canonical = false
        this.at++
        return
      case 0x75:
        return this.unicodeEscape()
      default:
        return this.unexpected()
    }
  }

  private unicodeEscape(): void {
    const unit = this.hexUnit(this.at)
    // Canonical text writes only those controls this way that have no short escape, and in lower case.
    const isPlain = unit < 0x20 && !"\b\t\n\f\r".includes(String.fromCharCode(unit))
    if (!isPlain || /[A-F]/.test(this.text.slice(this.at + 2, this.at + 6))) this.canonical = false
    if (unit >= 0xdc00 && unit <= 0xdfff) this.refuse("Parse", "a lone surrogate")
    if (unit >= 0xd800 && unit <= 0xdbff) {
      const low = this.text.startsWith("\\u", this.at + 6) ? this.hexUnit(this.at + 6) : 0
      if (low < 0xdc00 || low > 0xdfff) this.refuse("Parse", "a lone surrogate")
      this.at += 6
    }
    this.at += 5
  }

  /** The code unit that `\uXXXX` at `from` stands for. */
  private hexUnit(from: number): number {
    const digits = this.text.slice(from + 2, from + 6)
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.unexpected()
    return Number.parseInt(digits, 16)
  }

  private number(): void {
    const start = this.at
    if (this.text.charCodeAt(this.at) === 0x2d) this.at++
    const integer = this.at
    this.digits()
    if (this.at - integer > 1 && this.text.charCodeAt(integer) === 0x30) {
      this.at = integer + 1
      this.unexpected()
    }
    // Up to 15 digits every integer is exact and its own canonical form, save a negative zero.
    const end = this.text.charCodeAt(this.at)
    const isInteger = end !== 0x2e && end !== 0x65 && end !== 0x45
    if (isInteger && this.at - integer <= 15 && (start === integer || this.text.charCodeAt(integer) !== 0x30)) return
    if (!isInteger) this.fractionAndExponent()
    this.checkNumber(start, isInteger)
  }

  private digits(): void {
    const start = this.at
    for (;;) {
      const code = this.text.charCodeAt(this.at)
      if (!(code >= 0x30 && code <= 0x39)) break
      this.at++
    }
    if (this.at === start) this.unexpected()
  }

  private fractionAndExponent(): void {
    if (this.text.charCodeAt(this.at) === 0x2e) {
      this.at++
      this.digits()
    }
    const code = this.text.charCodeAt(this.at)
    if (code !== 0x65 && code !== 0x45) return
    this.at++
    const sign = this.text.charCodeAt(this.at)
    if (sign === 0x2b || sign === 0x2d) this.at++
    this.digits()
  }

  private checkNumber(start: number, isInteger: boolean): void {
    const literal = this.text.slice(start, this.at)
    const value = Number(literal)
    if (!Number.isFinite(value)) this.refuse("Parse", "a number beyond the range of a double", start)
    const written = JSON.stringify(value)
    if (written === literal) return
    this.canonical = false
    // A canonical text of 17 digits or more need not be exact, and passed above; any other integer must be.
    if (isInteger && BigInt(literal) !== BigInt(value)) {
      this.refuse("Canonicalize", "an integer that a double cannot hold", start)
    }
  }

  /** Order by UTF-16 code units, as RFC 8785 sorts. Positions include the quotes. */
  private compareKeys(startA: number, endA: number, startB: number, endB: number): number {
    const text = this.text
    const length = Math.min(endA - startA, endB - startB) - 1
    for (let index = 1; index < length; index++) {
      const a = text.charCodeAt(startA + index)
      const b = text.charCodeAt(startB + index)
      if (a === backslash || b === backslash) {
        return byCodeUnits(this.decoded(startA, endA), this.decoded(startB, endB))
      }
      if (a !== b) return a - b
    }
    return (endA - startA) - (endB - startB)
  }

  private decoded(start: number, end: number): string {
    const literal = this.text.slice(start, end)
    return literal.includes("\\") ? JSON.parse(literal) : literal.slice(1, -1)
  }

  private duplicate(start: number, end: number): never {
    this.refuse(
      "Canonicalize",
      `the key ${this.text.slice(start, Math.min(end, start + 64))} twice in one object`,
      start
    )
  }

  private unexpected(): never {
    const found = this.at < this.text.length ? "an unexpected character" : "an unexpected end"
    this.refuse("Parse", found)
  }

  private refuse(name: JsonProblem["name"], what: string, at = this.at): never {
    throw new Refusal({ name, detail: `${what} at character ${at}` })
  }
}
