import { assert, describe, it } from "@effect/vitest"
import * as ed25519 from "@noble/ed25519"
import { createHash, generateKeyPairSync, sign, verify } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { parseKey, publicKeyOfSeed, signEd25519, verifies } from "../../src/Trust/Signature.ts"
import { base64, ed25519Key, seedOf } from "../support/artifacts.ts"

interface Vector {
  readonly tcId: number
  readonly comment: string
  readonly msg: string
  readonly sig: string
  readonly result: "valid" | "invalid"
}
interface Group {
  readonly publicKey: { readonly pk: string; readonly uncompressed: string }
  readonly tests: ReadonlyArray<Vector>
}
const hex = (text: string) => Uint8Array.from(Buffer.from(text, "hex"))
function wycheproof(file: string): ReadonlyArray<Group> {
  const path = join(import.meta.dirname, "../fixtures/vectors/wycheproof", file)
  return JSON.parse(readFileSync(path, "utf8")).testGroups
}

describe.each(
  [
    ["ed25519", "ed25519_test.json", (group: Group) => group.publicKey.pk, 76],
    [
      "ecdsa-p256",
      "ecdsa_secp256r1_sha256_p1363_test.json",
      (group: Group) => group.publicKey.uncompressed.slice(2),
      131
    ]
  ] as const
)("Wycheproof %s", (algorithm, file, publicHex, count) => {
  const groups = wycheproof(file)
  it(`has its ${count} vectors`, () => assert.strictEqual(groups.flatMap((group) => group.tests).length, count))

  const cases = groups.flatMap((group) => group.tests.map((test) => ({ ...test, publicKey: publicHex(group) })))
  it.each(cases)("$tcId $comment", (test) => {
    const key = parseKey({ algorithm, public: base64(hex(test.publicKey)) })
    assert.strictEqual(verifies(key, hex(test.msg), hex(test.sig)), test.result === "valid")
  })
})

const message = new TextEncoder().encode("a message")
const seed = seedOf("signature test")
const order = ed25519.Point.CURVE().n
const littleEndian = (value: bigint) => hex(value.toString(16).padStart(64, "0")).toReversed()
const integer = (bytes: Uint8Array) => BigInt(`0x${Buffer.from(bytes.toReversed()).toString("hex")}`)

/** Encodings of all eight points of small order. */
const smallOrder = [
  "0100000000000000000000000000000000000000000000000000000000000000",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0000000000000000000000000000000000000000000000000000000000000080",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"
]

describe("ed25519", () => {
  const key = parseKey(ed25519Key(seed))
  const signature = signEd25519(seed, message)

  it("agrees with OpenSSL in both directions", () => {
    const pair = generateKeyPairSync("ed25519")
    const jwk = pair.publicKey.export({ format: "jwk" })
    const theirs = parseKey({ algorithm: "ed25519", public: Buffer.from(jwk.x!, "base64url").toString("base64") })
    assert.isTrue(verifies(theirs, message, sign(null, message, pair.privateKey)))
    const spki = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), publicKeyOfSeed(seed)])
    assert.isTrue(verify(null, message, { key: spki, format: "der", type: "spki" }, signature))
  })

  it("refuses the malleable twin S + L", () => {
    const twin = new Uint8Array(signature)
    twin.set(littleEndian(integer(signature.subarray(32)) + order), 32)
    assert.isTrue(verifies(key, message, signature))
    assert.isFalse(verifies(key, message, twin))
  })

  it.each(smallOrder)("refuses the small-order key %s, whose signatures fit any message", (encoded) => {
    const weak = parseKey({ algorithm: "ed25519", public: base64(hex(encoded)) })
    assert.strictEqual(weak._tag, "Malformed")
    const anything = new Uint8Array(64)
    anything.set(hex(encoded))
    assert.isFalse(verifies(weak, message, anything))
  })

  it.each(smallOrder)("refuses a signature whose R is the small-order point %s", (encoded) => {
    const r = hex(encoded)
    const scalar = ed25519.utils.getExtendedPublicKey(seed).scalar
    const k = integer(createHash("sha512").update(r).update(publicKeyOfSeed(seed)).update(message).digest()) % order
    const crafted = new Uint8Array(64)
    crafted.set(r)
    crafted.set(littleEndian((k * scalar) % order), 32)
    assert.isFalse(verifies(key, message, crafted))
  })

  it("refuses a signature that holds only times the cofactor", () => {
    const { scalar } = ed25519.utils.getExtendedPublicKey(seed)
    const nonce = 123_456_789n
    const r = ed25519.Point.BASE.multiply(nonce).add(ed25519.Point.fromHex(smallOrder[4]!)).toBytes()
    const k = integer(createHash("sha512").update(r).update(publicKeyOfSeed(seed)).update(message).digest()) % order
    const crafted = new Uint8Array(64)
    crafted.set(r)
    crafted.set(littleEndian((nonce + k * scalar) % order), 32)
    assert.isTrue(ed25519.verify(crafted, message, publicKeyOfSeed(seed), { zip215: false }))
    assert.isFalse(verifies(key, message, crafted))
  })

  it("refuses every length but 64 and every flipped bit", () => {
    for (const length of [0, 1, 63, 65, 128]) {
      const bytes = new Uint8Array(length)
      bytes.set(signature.subarray(0, length))
      assert.isFalse(verifies(key, message, bytes))
    }
    for (let bit = 0; bit < 512; bit += 7) {
      const flipped = new Uint8Array(signature)
      flipped[bit >> 3]! ^= 1 << (bit & 7)
      assert.isFalse(verifies(key, message, flipped))
    }
  })
})

describe("ecdsa-p256", () => {
  const pair = generateKeyPairSync("ec", { namedCurve: "P-256" })
  const jwk = pair.publicKey.export({ format: "jwk" })
  const raw = Buffer.concat([Buffer.from(jwk.x!, "base64url"), Buffer.from(jwk.y!, "base64url")])
  const key = parseKey({ algorithm: "ecdsa-p256", public: base64(raw) })
  const signature = sign("sha256", message, { key: pair.privateKey, dsaEncoding: "ieee-p1363" })
  const n = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n

  it("accepts both s and n - s", () => {
    const s = BigInt(`0x${signature.subarray(32).toString("hex")}`)
    const twin = Buffer.concat([signature.subarray(0, 32), hex((n - s).toString(16).padStart(64, "0"))])
    assert.isTrue(verifies(key, message, signature))
    assert.isTrue(verifies(key, message, twin))
  })

  it("refuses DER", () => assert.isFalse(verifies(key, message, sign("sha256", message, pair.privateKey))))

  it("refuses a point off the curve as a key", () => {
    const off = Buffer.from(raw)
    off[63]! ^= 1
    assert.strictEqual(parseKey({ algorithm: "ecdsa-p256", public: base64(off) })._tag, "Malformed")
  })
})

describe("keys of trust.json", () => {
  it.each([
    ["ed25519", "not base64!", "not padded base64"],
    ["ed25519", base64(publicKeyOfSeed(seed)).replace("=", ""), "not padded base64"],
    ["ed25519", `${base64(publicKeyOfSeed(seed))}\n`, "not padded base64"],
    ["ed25519", "", "0 bytes instead of 32"],
    ["ed25519", base64(new Uint8Array(31)), "31 bytes instead of 32"],
    ["ed25519", base64(new Uint8Array(32).fill(0xff)), "not a point of the curve that can be a key"],
    ["ecdsa-p256", base64(new Uint8Array(65)), "65 bytes instead of 64"],
    ["ecdsa-p256", base64(new Uint8Array(64)), "not a point of the curve that can be a key"]
  ])(
    "%s %j is malformed: %s",
    (algorithm, publicKey, problem) =>
      assert.deepStrictEqual(parseKey({ algorithm, public: publicKey }), { _tag: "Malformed", algorithm, problem })
  )

  it("of an unknown algorithm are not called malformed", () =>
    assert.deepStrictEqual(parseKey({ algorithm: "ml-dsa-65", public: "x" }), {
      _tag: "Unsupported",
      algorithm: "ml-dsa-65"
    }))
})
