import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import {
  ClosureName,
  defaulted,
  EpochMillis,
  formatTimestamp,
  Hostname,
  Int32,
  isClosureName,
  isHostname,
  lastMillis,
  nullable,
  omittable,
  parseTimestamp,
  RolloutId,
  splitRolloutId,
  Timestamp,
  UInt32,
  UInt53
} from "../../src/Schema/Primitives.ts"

const accepts = (schema: Schema.ConstraintDecoder<unknown>, value: unknown) =>
  Result.isSuccess(Schema.decodeUnknownResult(schema)(value))

describe("whole numbers", () => {
  it("are never -0, which would be another value after it was written", () => {
    for (const schema of [UInt32, Int32, UInt53, EpochMillis]) {
      assert.isTrue(accepts(schema, JSON.parse("0")))
      assert.isFalse(accepts(schema, JSON.parse("-0")))
      assert.isFalse(accepts(schema, JSON.parse("-1e-400")))
    }
  })
})

describe("timestamps", () => {
  it.each([
    ["2026-06-01T08:00:00Z", Date.UTC(2026, 5, 1, 8)],
    ["2026-06-01T08:00:00+00:00", Date.UTC(2026, 5, 1, 8)],
    ["2026-06-01T10:30:00+02:30", Date.UTC(2026, 5, 1, 8)],
    ["2026-05-31T23:00:00-09:00", Date.UTC(2026, 5, 1, 8)],
    ["2026-06-01t08:00:00z", Date.UTC(2026, 5, 1, 8)],
    ["2026-06-01T08:00:00.2Z", Date.UTC(2026, 5, 1, 8, 0, 0, 200)],
    ["2026-06-01T08:00:00.250999999Z", Date.UTC(2026, 5, 1, 8, 0, 0, 250)],
    ["2024-02-29T00:00:00Z", Date.UTC(2024, 1, 29)],
    ["2016-12-31T23:59:60Z", Date.UTC(2016, 11, 31, 23, 59, 59, 999)]
  ])("reads %s", (text, at) => assert.strictEqual(parseTimestamp(text), at))

  it.each([
    "",
    "2026-06-01",
    "2026-06-01 08:00:00Z",
    "2026-06-01T08:00:00",
    "2026-06-01T24:00:00Z",
    "2026-06-01T08:60:00Z",
    "2026-06-01T08:00:61Z",
    "2026-02-29T00:00:00Z",
    "2026-04-31T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-00-10T00:00:00Z",
    "2026-06-01T08:00:00+24:00",
    "2026-06-01T08:00:00.1234567890Z",
    "1969-12-31T23:59:59Z",
    "1970-01-01T00:00:00+01:00",
    "+10000-01-01T00:00:00Z",
    "2026-06-01T08:00:00Z\n"
  ])("refuses %j", (text) => assert.isUndefined(parseTimestamp(text)))

  it("writes Z and a fraction only when one is needed", () => {
    assert.strictEqual(formatTimestamp(0), "1970-01-01T00:00:00Z")
    assert.strictEqual(formatTimestamp(Date.UTC(2026, 5, 1, 8, 0, 9, 250)), "2026-06-01T08:00:09.250Z")
  })

  it("are those of the language's own clock, day by day and back and forth", () => {
    const dayMs = 86_400_000
    for (let day = 0; day < 60_000; day += 13) {
      const at = day * dayMs + (day * 7_919 + day % 1000) % dayMs
      const iso = new Date(at).toISOString()
      const text = iso.replace(".000Z", "Z")
      assert.strictEqual(formatTimestamp(at), text)
      assert.strictEqual(formatTimestamp(at), text, "the same day again")
      assert.strictEqual(parseTimestamp(text), at)
      const [year, month] = iso.split("-")
      const last = new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate()
      for (const end of [28, 29, 30, 31]) {
        assert.strictEqual(parseTimestamp(`${year}-${month}-${end}T00:00:00Z`) !== undefined, end <= last)
      }
    }
    assert.strictEqual(formatTimestamp(lastMillis), "9999-12-31T23:59:59.999Z")
    assert.throws(() => formatTimestamp(Number.NaN))
  })

  it("refuses what RFC 3339 cannot write", () => {
    assert.isFalse(accepts(Timestamp, "9999-12-31T23:59:59-23:59"))
    assert.isFalse(accepts(Timestamp, 1_780_000_000_000))
  })
})

describe("identifiers", () => {
  it("are judged alike with and without the schema", () => {
    const closure = (hash: number, name: number) => `${"a".repeat(hash)}-${"n".repeat(name)}`
    const lengths = [0, 1, 31, 32, 33, 63, 64, 65, 210, 211, 212, 252, 253, 254]
    const names = [
      ...lengths.map((length) => "h".repeat(length)),
      ...lengths.flatMap((hash) => lengths.map((name) => closure(hash, name))),
      ...["", "-", ".a", "a.", "a-", "_a", "a_b", "A.b", "a b", "a\n", "ä", "a/b", "a\u0000"].flatMap((name) => [
        name,
        `${"a".repeat(32)}-${name}`,
        `${"a".repeat(31)}${name}-x`,
        `${"a".repeat(32)}-x${name}`
      ]),
      `${"A".repeat(32)}-x`,
      `${"a".repeat(32)}-x-y?=+`,
      `-${"a".repeat(32)}-x`
    ]
    for (const name of names) {
      assert.strictEqual(isHostname(name), accepts(Hostname, name), name)
      assert.strictEqual(isClosureName(name), accepts(ClosureName, name), name)
    }
  })

  it.each(["a", "edge-07", "edge-07.example.org", "A_b"])(
    "host name %s",
    (name) => assert.isTrue(accepts(Hostname, name))
  )
  it.each(["", "-a", "a-", "a/b", "a b", "é", "a\n", "a".repeat(254), 7, null])(
    "no host name %j",
    (name) => assert.isFalse(accepts(Hostname, name))
  )
  it.each(["stable@0f3c9a", "a_b-1@0"])("rollout id %s", (id) => assert.isTrue(accepts(RolloutId, id)))
  it.each([
    "stable",
    "stable@",
    "@0f",
    "Stable@0f",
    "stable@0F",
    "a@b@c",
    "../x@0f",
    "stable@0f/..",
    "stable@0f\u0000"
  ])(
    "no rollout id %j",
    (id) => assert.isFalse(accepts(RolloutId, id))
  )
  it("a rollout id splits at the first @", () => {
    assert.deepStrictEqual(splitRolloutId("a@b@c"), { channel: "a", ref: "b@c" })
    assert.deepStrictEqual(splitRolloutId("a"), { channel: "a", ref: "" })
  })
  it("a closure name is a base name with a hash", () => {
    assert.isTrue(accepts(ClosureName, `${"0".repeat(40)}-web-1.2`))
    for (
      const bad of [
        "web",
        `${"0".repeat(40)}-`,
        `../${"0".repeat(40)}-web`,
        `${"0".repeat(40)}-a/b`,
        `${"G".repeat(40)}-web`
      ]
    ) {
      assert.isFalse(accepts(ClosureName, bad), bad)
    }
  })
})

describe("absence", () => {
  const Shape = Schema.Struct({
    wire: omittable(UInt32),
    artifact: nullable(Schema.String),
    list: defaulted(Schema.Array(Schema.String), [])
  })
  const decode = Schema.decodeUnknownSync(Shape)
  const encode = Schema.encodeSync(Shape)

  it("wire fields are left out, artifact fields are null, lists default", () => {
    assert.deepStrictEqual(decode({}), { artifact: null, list: [] })
    assert.deepStrictEqual(decode({ wire: null, artifact: null }), { artifact: null, list: [] })
    assert.deepStrictEqual(encode({ artifact: null, list: [] }), { artifact: null, list: [] })
    assert.deepStrictEqual(encode({ wire: 3, artifact: "x", list: ["y"] }), { wire: 3, artifact: "x", list: ["y"] })
  })
  it("an explicit null list is an error", () => assert.throws(() => decode({ list: null })))
  it.each([-1, 1.5, 4_294_967_296, "1", Number.NaN])(
    "no u32: %j",
    (value) => assert.throws(() => decode({ wire: value }))
  )
})
