import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import {
  canonicalBytes,
  canonicalText,
  encodeUtf8,
  nestingLimit,
  parseStrict,
  scan
} from "../../src/Trust/CanonicalJson.ts"

const vectors = join(import.meta.dirname, "../fixtures/vectors/jcs")
const canonicalize = (text: string): string => {
  const result = canonicalBytes(encodeUtf8(text))
  return result.ok ? Buffer.from(result.bytes).toString("utf8") : `${result.problem.name}: ${result.problem.detail}`
}

describe("RFC 8785 vectors", () => {
  it.each(readdirSync(join(vectors, "input")))("%s", (name) => {
    const expected = readFileSync(join(vectors, "output", name))
    const result = canonicalBytes(readFileSync(join(vectors, "input", name)))
    assert.isTrue(result.ok && Buffer.compare(result.bytes, expected) === 0)
  })

  it.each(readdirSync(join(vectors, "output")))(
    "the output of %s is its own canonical form and is not copied",
    (name) => {
      const bytes = readFileSync(join(vectors, "output", name))
      const scanned = scan(bytes)
      assert.isTrue(scanned.ok && scanned.canonical)
      const result = canonicalBytes(bytes)
      assert.isTrue(result.ok && result.bytes === bytes)
    }
  )

  it("gives the golden pair of the original", () =>
    assert.strictEqual(
      canonicalize(`{"b":2,"a":{"z":null,"y":true,"x":[3,1,2]},"schemaVersion":1}`),
      `{"a":{"x":[3,1,2],"y":true,"z":null},"b":2,"schemaVersion":1}`
    ))
})

describe("canonical forms", () => {
  it.each([
    ["1E30", "1e+30"],
    ["-0", "0"],
    ["-0.0", "0"],
    ["4.50", "4.5"],
    ["1e-7", "1e-7"],
    ["0.0000001", "1e-7"],
    ["0.000001", "0.000001"],
    ["9007199254740992", "9007199254740992"],
    ["100000000000000000000", "100000000000000000000"],
    ["1000000000000000000000", "1e+21"],
    ["333333333.33333329", "333333333.3333333"],
    ["1e-400", "0"],
    ["\" \\u002f \\/ \"", "\" / / \""],
    ["\"\\u000A\\u000b\\u001F\"", "\"\\n\\u000b\\u001f\""],
    ["\"\\u007f\"", "\"\u007f\""],
    ["\"\\ud83d\\ude02\"", "\"😂\""],
    ["\"\\u2028\"", "\"\u2028\""],
    [" [ ] ", "[]"],
    ["{ }", "{}"],
    ["{\"10\":1,\"9\":2,\"a\":3}", "{\"10\":1,\"9\":2,\"a\":3}"],
    ["{\"9\":2,\"10\":1}", "{\"10\":1,\"9\":2}"],
    // UTF-16 order: the pair D83D DE02 sorts before U+FB33, although UTF-8 bytes say otherwise.
    ["{\"\ufb33\":1,\"\u{1f602}\":2}", "{\"\u{1f602}\":2,\"\ufb33\":1}"],
    ["{\"__proto__\":{\"a\":1},\"A\":2}", "{\"A\":2,\"__proto__\":{\"a\":1}}"],
    ["{\"b\":1,\"\\u0061\":2}", "{\"a\":2,\"b\":1}"],
    ["{\"\":1,\"a\":2,\"aa\":3}", "{\"\":1,\"a\":2,\"aa\":3}"]
  ])("%s", (text, expected) => assert.strictEqual(canonicalize(text), expected))

  it("of a canonical form is that form, also for integers that print without being exact", () => {
    for (const text of ["9223372036854775808", "1e21", "123456789012345680000", "[1e300,{\"b\":-5e-324,\"a\":0.1}]"]) {
      const once = canonicalize(text)
      assert.strictEqual(canonicalize(once), once)
    }
  })

  it("are recognised exactly when nothing would change", () => {
    const texts = [
      "{\"a\":1,\"b\":[true,false,null,\"x\\n\"],\"c\":{\"d\":-1.5e-9}}",
      "{\"a\":1, \"b\":2}",
      "{\"b\":1,\"a\":2}",
      "\"\\u0061\"",
      "\"\\u001F\"",
      "\"\\u001f\"",
      "1.0",
      "10e0",
      "[1,2]\n"
    ]
    for (const text of texts) {
      const scanned = scan(encodeUtf8(text))
      assert.isTrue(scanned.ok && scanned.canonical === (canonicalText(JSON.parse(text)) === text), text)
    }
  })

  it("hold for generated documents in any order and spacing", () => {
    for (let round = 0; round < 200; round++) {
      const members = Array.from({ length: round % 7 }, (_, index) => [`k${(index * 31 + round) % 97}`, index] as const)
      const value = {
        list: [members.length, `t${round}`, Object.fromEntries(members)],
        name: `\u{1f300}${round}`
      }
      const loose = JSON.stringify(value, undefined, round % 3)
      assert.strictEqual(canonicalize(loose), canonicalText(value))
      assert.deepStrictEqual(JSON.parse(canonicalize(loose)), value)
    }
  })
})

describe("strict reading refuses", () => {
  it.each([
    ["", "Parse"],
    ["   ", "Parse"],
    ["{", "Parse"],
    ["{\"a\":1", "Parse"],
    ["{\"a\"", "Parse"],
    ["{\"a\":1,}", "Parse"],
    ["{a:1}", "Parse"],
    ["[1,]", "Parse"],
    ["[1 2]", "Parse"],
    ["[1]]", "Parse"],
    ["{} {}", "Parse"],
    ["nul", "Parse"],
    ["nulL", "Parse"],
    ["True", "Parse"],
    ["NaN", "Parse"],
    ["Infinity", "Parse"],
    ["-", "Parse"],
    ["+1", "Parse"],
    ["01", "Parse"],
    ["-01", "Parse"],
    ["1.", "Parse"],
    [".5", "Parse"],
    ["1e", "Parse"],
    ["1e+", "Parse"],
    ["0x10", "Parse"],
    ["\"", "Parse"],
    ["\"a\nb\"", "Parse"],
    ["\"\u0000\"", "Parse"],
    ["\"\\x41\"", "Parse"],
    ["\"\\u12\"", "Parse"],
    ["\"\\u12g4\"", "Parse"],
    ["'a'", "Parse"],
    ["// c\n1", "Parse"],
    ["\ufeff{}", "Parse"],
    ["\u00a01", "Parse"],
    ["\"\\ud800\"", "Parse"],
    ["\"\\udc00\"", "Parse"],
    ["\"\\ud800\\ud800\"", "Parse"],
    ["\"\\ud800x\"", "Parse"],
    ["\"\\ud800\\n\"", "Parse"],
    ["1e400", "Parse"],
    ["-1e400", "Parse"],
    ["9".repeat(400), "Parse"],
    ["9007199254740993", "Canonicalize"],
    ["-9007199254740993", "Canonicalize"],
    ["18446744073709551615", "Canonicalize"],
    ["{\"a\":1,\"a\":1}", "Canonicalize"],
    ["{\"a\":1,\"\\u0061\":1}", "Canonicalize"],
    ["{\"b\":1,\"c\":1,\"a\":1,\"b\":2}", "Canonicalize"],
    ["{\"b\":1,\"a\":1,\"a\":2}", "Canonicalize"],
    ["{\"x\":{\"b\":{\"z\":1},\"a\":[{\"q\":1,\"b\":2}],\"b\":1}}", "Canonicalize"],
    ["{\"\":1,\"\":2}", "Canonicalize"]
  ])("%j as %s", (text, name) => {
    const scanned = scan(encodeUtf8(text))
    assert.isTrue(!scanned.ok && scanned.problem.name === name, JSON.stringify(scanned))
  })

  it.each([
    ["a stray byte", [0x22, 0xff, 0x22]],
    ["a cut sequence", [0x22, 0xe2, 0x82]],
    ["an overlong slash", [0x22, 0xc0, 0xaf, 0x22]],
    ["a surrogate in UTF-8", [0x22, 0xed, 0xa0, 0x80, 0x22]],
    ["UTF-16", [0xff, 0xfe, 0x31, 0x00]]
  ])("%s as not UTF-8", (_, bytes) => {
    const scanned = scan(Uint8Array.from(bytes))
    assert.deepStrictEqual(scanned, { ok: false, problem: { name: "Parse", detail: "not UTF-8" } })
  })

  it("nesting beyond the limit, and only beyond it", () => {
    const nested = (depth: number) => encodeUtf8("[".repeat(depth) + "]".repeat(depth))
    assert.isTrue(scan(nested(nestingLimit)).ok)
    assert.isFalse(scan(nested(nestingLimit + 1)).ok)
    assert.isFalse(scan(encodeUtf8("{\"a\":".repeat(1_000_000))).ok)
  })

  it("every text that JSON.parse refuses, and every cut of a document", () => {
    const text = "{\"a\":[1.5e3,true,null,\"\\u00e9\\\\\"],\"b\":{\"c\":false}}"
    for (let end = 0; end < text.length; end++) {
      assert.isFalse(scan(encodeUtf8(text.slice(0, end))).ok, text.slice(0, end))
    }
    for (let at = 0; at < text.length; at++) {
      for (const junk of ["\"", "{", "]", ",", "\\", "0", "\u0001"]) {
        const broken = text.slice(0, at) + junk + text.slice(at + 1)
        let isJson = true
        try {
          JSON.parse(broken)
        } catch {
          isJson = false
        }
        if (!isJson) assert.isFalse(scan(encodeUtf8(broken)).ok, broken)
      }
    }
  })

  it("duplicates with their name and place", () => {
    const scanned = scan(encodeUtf8("{\"rejectBefore\":1,\"rejectBefore\":2}"))
    assert.deepStrictEqual(scanned, {
      ok: false,
      problem: { name: "Canonicalize", detail: "the key \"rejectBefore\" twice in one object at character 18" }
    })
  })
})

it("parsing gives the value that JSON.parse gives", () => {
  const text = "{\"n\":[0,-1,1.25],\"s\":\"\\u00e9\",\"o\":{\"__proto__\":1}}"
  assert.deepStrictEqual(parseStrict(encodeUtf8(text)), { ok: true, value: JSON.parse(text) })
})
