import { assert, describe, it } from "@effect/vitest"
import { createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto"
import { reasons } from "../../src/Schema/Reasons.ts"
import type { KeySlot } from "../../src/Schema/Trust.ts"
import { canonicalText, encodeUtf8, type Json, sha256Hex } from "../../src/Trust/CanonicalJson.ts"
import { hostWindowMs, smallestWindowMs, staleness, withCeiling } from "../../src/Trust/Freshness.ts"
import { activeKeys, isRotationDue, keyProblems, readTrustRoots } from "../../src/Trust/Keys.ts"
import { emptyMemory, highestSignedAt, remember } from "../../src/Trust/NoGoingBack.ts"
import {
  type ArtifactKind,
  bootstrapNoncesKind,
  fleetKind,
  manifestKind,
  revocationsKind,
  type Signed,
  type Verdict,
  verify,
  verifyReasons,
  type VerifyRequest
} from "../../src/Trust/Verify.ts"
import {
  base64,
  commit,
  ed25519Key,
  fleetJson,
  manifestJson,
  meta,
  releaseKey,
  releaseSeed,
  seedOf,
  signed,
  signedAt,
  type SignedBytes,
  slot,
  trustJson
} from "../support/artifacts.ts"

const minutes = (count: number) => count * 60_000
const hours = (count: number) => minutes(60 * count)

function check<A extends Signed>(
  kind: ArtifactKind<A>,
  artifact: SignedBytes,
  overrides: Partial<VerifyRequest<A>> = {}
): Verdict<A> {
  return verify({
    kind,
    ...artifact,
    slot: slot(),
    now: signedAt + hours(1),
    windowMs: () => hours(3),
    highestSignedAt: () => undefined,
    ...overrides
  })
}
const nameOf = <A>(verdict: Verdict<A>) => verdict.ok ? "ok" : verdict.error

const otherKey = ed25519Key(seedOf("another key"))
const unknownKey = { algorithm: "ml-dsa-65", public: "AAAA" }
const p256 = generateKeyPairSync("ec", { namedCurve: "P-256" })
function p256Key(key: KeyObject) {
  const { x, y } = key.export({ format: "jwk" })
  return {
    algorithm: "ecdsa-p256",
    public: base64(Buffer.concat([x!, y!].map((part) => Buffer.from(part, "base64url"))))
  }
}

type Overrides = { readonly [key: string]: Json }

/** Every verdict of protocol.md §6.4, for one artifact type. */
function families<A extends Signed>(kind: ArtifactKind<A>, json: (overrides?: Overrides) => Json) {
  const good = signed(json())
  const by = (overrides: Partial<KeySlot>) => nameOf(check(kind, good, { slot: slot(overrides) }))
  const at = (now: number) => nameOf(check(kind, good, { now }))

  it("accepts a good one", () => assert.strictEqual(nameOf(check(kind, good)), "ok"))
  it("wrong key", () => assert.strictEqual(by({ current: otherKey }), "BadSignature"))
  it("too old", () => assert.strictEqual(at(signedAt + hours(4)), "Stale"))
  it("far in the future", () => assert.strictEqual(at(signedAt - hours(48)), "FutureDated"))
  it.each([
    [-60_001, "FutureDated"],
    [-60_000, "ok"],
    [-30_000, "ok"],
    [hours(3), "ok"],
    [hours(3) + 30_000, "ok"],
    [hours(3) + 60_000, "ok"],
    [hours(3) + 60_001, "Stale"]
  ])("seen %d ms after signing with a window of 3 h: %s", (age, name) => assert.strictEqual(at(signedAt + age), name))
  it("signedAt null", () =>
    assert.strictEqual(nameOf(check(kind, signed(json({ meta: meta({ signedAt: null }) })))), "NotSigned"))
  it("another schema version, before anything else is asked of it", () => {
    const verdict = check(kind, signed(json({ schemaVersion: 2, meta: meta({ signedAt: null }) })))
    assert.strictEqual(nameOf(verdict), "SchemaVersionUnsupported")
    assert.isTrue(!verdict.ok && verdict.detail.includes("2"))
  })
  it("no key", () => assert.strictEqual(by({ current: null }), "NoTrustRoots"))
  it("no key wins over bad bytes", () =>
    assert.strictEqual(
      nameOf(check(kind, { bytes: encodeUtf8("{"), signature: good.signature }, { slot: slot({ current: null }) })),
      "NoTrustRoots"
    ))
  it("second key matches", () => assert.strictEqual(by({ current: otherKey, previous: releaseKey }), "ok"))
  it("only an unknown algorithm", () => {
    const verdict = check(kind, good, { slot: slot({ current: unknownKey }) })
    assert.deepInclude(verdict, { error: "UnsupportedAlgorithm", detail: "ml-dsa-65" })
  })
  it("unknown algorithm beside a good key", () =>
    assert.strictEqual(by({ current: unknownKey, previous: releaseKey }), "ok"))
  it("a malformed key is BadSignature and is named", () => {
    const verdict = check(kind, good, {
      slot: slot({ current: { algorithm: "ed25519", public: "%%%" }, previous: otherKey })
    })
    assert.deepInclude(verdict, {
      error: "BadSignature",
      detail: "current: malformed ed25519 key: not padded base64; previous: does not match"
    })
  })
  it("P-256, also beside an ed25519 key before it", () => {
    const signature = sign("sha256", good.bytes, { key: p256.privateKey, dsaEncoding: "ieee-p1363" })
    const p256Artifact = { bytes: good.bytes, signature }
    const key = p256Key(p256.publicKey)
    assert.strictEqual(nameOf(check(kind, p256Artifact, { slot: slot({ current: key }) })), "ok")
    assert.strictEqual(nameOf(check(kind, p256Artifact, { slot: slot({ current: otherKey, previous: key }) })), "ok")
    assert.strictEqual(by({ current: key, previous: releaseKey }), "ok")
  })
  it("rejectBefore is strict and wins over age", () => {
    assert.strictEqual(by({ rejectBefore: signedAt + 1 }), "RejectedBeforeTimestamp")
    assert.strictEqual(by({ rejectBefore: signedAt }), "ok")
    const old = check(kind, good, { slot: slot({ rejectBefore: signedAt + 1 }), now: signedAt + hours(9) })
    assert.strictEqual(nameOf(old), "RejectedBeforeTimestamp")
  })
  it("a signature of any other length", () => {
    for (const length of [0, 63, 65, 4096]) {
      assert.strictEqual(nameOf(check(kind, { bytes: good.bytes, signature: new Uint8Array(length) })), "BadSignature")
    }
  })
  it("any changed byte", () => {
    for (let index = 0; index < good.bytes.length; index += 13) {
      const bytes = new Uint8Array(good.bytes)
      bytes[index]! ^= 0x01
      const name = nameOf(check(kind, { bytes, signature: good.signature }))
      assert.include(["Parse", "Canonicalize", "BadSignature"], name)
    }
  })
  it("cut bytes", () => {
    for (const length of [0, 1, good.bytes.length - 1]) {
      const artifact = { bytes: good.bytes.subarray(0, length), signature: good.signature }
      assert.strictEqual(nameOf(check(kind, artifact)), "Parse")
    }
  })
  it("duplicate keys, before the signature is looked at", () => {
    const bytes = encodeUtf8(`{"meta":1,"meta":2}`)
    assert.strictEqual(nameOf(check(kind, { bytes, signature: new Uint8Array(64) })), "Canonicalize")
  })
  it("a signed object of another shape", () => {
    for (const value of [null, [], {}, { schemaVersion: 1, meta: meta() }, 1, "x"] satisfies ReadonlyArray<Json>) {
      assert.strictEqual(nameOf(check(kind, signed(value))), "Parse")
    }
  })
  it("unknown fields are covered by the signature and ignored", () =>
    assert.strictEqual(nameOf(check(kind, signed(json({ fromTheFuture: { a: [1] } })))), "ok"))
  it("an older one than was accepted", () => {
    const highest = (time: number) => check(kind, good, { highestSignedAt: () => time })
    assert.strictEqual(nameOf(highest(signedAt + 1)), "RolledBack")
    assert.strictEqual(nameOf(highest(signedAt)), "ok")
    assert.strictEqual(nameOf(highest(signedAt - 1)), "ok")
  })
}

describe("a fleet", () => {
  families(fleetKind, fleetJson)
})
describe("a manifest", () => {
  families(manifestKind, manifestJson)
})
describe("revocations", () => {
  families(revocationsKind, (overrides) => ({ schemaVersion: 1, revocations: [], meta: meta(), ...overrides }))
})
describe("bootstrap nonces", () => {
  families(bootstrapNoncesKind, (overrides) => ({ schemaVersion: 1, bootstrapNonces: [], meta: meta(), ...overrides }))
})

describe("canonical form", () => {
  it("a signature over the canonical form holds for other spellings of it; hash and value are the same", () => {
    const good = signed(manifestJson())
    const spaced = encodeUtf8(JSON.stringify(manifestJson(), undefined, 2))
    const [a, b] = [check(manifestKind, good), check(manifestKind, { bytes: spaced, signature: good.signature })]
    assert.isTrue(a.ok && b.ok)
    if (!a.ok || !b.ok) return
    assert.strictEqual(a.hash, sha256Hex(good.bytes))
    assert.strictEqual(b.hash, a.hash)
    assert.deepStrictEqual(b.value, a.value)
    assert.strictEqual(b.bytes, spaced)
  })

  it("a signature over bytes that are not canonical does not hold", () => {
    const bytes = encodeUtf8(JSON.stringify(manifestJson(), undefined, 2))
    const signature = sign(null, bytes, privateKeyOf(releaseSeed))
    assert.strictEqual(nameOf(check(manifestKind, { bytes, signature })), "BadSignature")
  })

  it("times below a millisecond survive in the signed bytes", () => {
    const artifact = signed(manifestJson({ meta: meta({ signedAt: "2026-04-24T10:00:00.123456789+00:00" }) }))
    const verdict = check(manifestKind, artifact)
    assert.isTrue(verdict.ok && verdict.signedAt === signedAt + 123 && verdict.hash === sha256Hex(artifact.bytes))
  })
})

function privateKeyOf(seed: Uint8Array) {
  const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed])
  return { key: der, format: "der" as const, type: "pkcs8" as const }
}

describe("vector M of protocol.md §10", () => {
  const text =
    `{"channel":"stable","channelRef":"def4567abc123def4567abc123def4567abc123d","displayName":"stable@def45678",`
    + `"disruptionBudgets":[],"fleetResolvedHash":"${"1".repeat(64)}","healthGate":{},"hostSet":[`
    + `{"hostname":"agent-01","targetClosure":"0000000000000000000000000000000000000000-host-a","waveIndex":0},`
    + `{"hostname":"agent-02","targetClosure":"1111111111111111111111111111111111111111-host-b","waveIndex":1}],`
    + `"meta":{"ciCommit":"def45678","schemaVersion":1,"signatureAlgorithm":"ed25519","signedAt":"2026-05-01T00:00:00Z"},`
    + `"schemaVersion":1}`
  const bytes = encodeUtf8(text)
  const signature = Buffer.from(
    "2W42PHQF8cwW+C/4dbZ5ICTE//KN9gz4YljQR0Z4h2NpjIYZ6DXDZLEJtQR1/h/3fmXytDII878VTRsjUwIbCA==",
    "base64"
  )

  it("has the stated length, hash and key", () => {
    assert.strictEqual(bytes.length, 586)
    assert.strictEqual(sha256Hex(bytes), "e024eb4dbaf7fba025f84919c465aabf28e2869cecd0099a290b8b39102b48b8")
    assert.strictEqual(releaseKey.public, "XGEGLc7caQGxOHt9EcWsRyhKk2fj6v5OVdDd+BFO8KY=")
    assert.strictEqual(createHash("sha256").update("nixfleet-harness-test-seed-2026").digest("hex").length, 64)
    assert.strictEqual(canonicalText(JSON.parse(text)), text)
  })

  it("verifies", () => {
    const verdict = check(manifestKind, { bytes, signature }, { now: Date.UTC(2026, 4, 1, 1) })
    assert.deepInclude(verdict, {
      ok: true,
      hash: "e024eb4dbaf7fba025f84919c465aabf28e2869cecd0099a290b8b39102b48b8",
      lineage: "manifest:stable",
      key: "current"
    })
    assert.isTrue(verdict.ok && verdict.value.channelRef === commit)
  })
})

describe("keys of a slot", () => {
  it("a successor counts only before retireAt, and not without it", () => {
    const places = (overrides: Partial<KeySlot>, now: number) =>
      activeKeys(slot({ previous: otherKey, successor: otherKey, ...overrides }), now).map((key) => key.place)
    assert.deepStrictEqual(places({ retireAt: 1000 }, 999), ["current", "previous", "successor"])
    assert.deepStrictEqual(places({ retireAt: 1000 }, 1000), ["current", "previous"])
    assert.deepStrictEqual(places({}, 0), ["current", "previous"])
    assert.deepStrictEqual(places({ current: null, retireAt: 1000 }, 0), ["previous", "successor"])
  })

  it("rotation is due from retireAt on while a successor waits", () => {
    assert.isTrue(isRotationDue(slot({ successor: otherKey, retireAt: 5 }), 5))
    assert.isFalse(isRotationDue(slot({ successor: otherKey, retireAt: 5 }), 4))
    assert.isFalse(isRotationDue(slot({ retireAt: 5 }), 9))
  })

  it("problems name the place, also of a key that is not active", () => {
    const problems = keyProblems(slot({ previous: unknownKey, successor: { algorithm: "ecdsa-p256", public: "AA==" } }))
    assert.deepStrictEqual(problems, [
      "previous: unknown algorithm \"ml-dsa-65\"",
      "successor: malformed ecdsa-p256 key: 1 bytes instead of 64"
    ])
  })
})

describe("trust.json", () => {
  const read = (value: unknown) => readTrustRoots(encodeUtf8(JSON.stringify(value)))
  it("is read with explicit and with missing nulls", () => {
    const long = { current: releaseKey, previous: null, successor: null, retireAt: null, rejectBefore: null }
    assert.deepStrictEqual(read(trustJson(long)), read(trustJson({ current: releaseKey })))
    assert.isTrue(read(trustJson()).ok)
  })
  it("keeps the CA fields in both spellings, and refuses both at once", () => {
    for (const names of [["rootCaPem", "issuanceCaPems"], ["rootCAPem", "issuanceCAPems"]] as const) {
      const decoded = read({ ...trustJson(), [names[0]]: "PEM", [names[1]]: ["A", "B"] })
      assert.isTrue(decoded.ok && decoded.value.rootCaPem === "PEM" && decoded.value.issuanceCaPems.length === 2)
    }
    assert.isFalse(read({ ...trustJson(), rootCaPem: "a", rootCAPem: "b" }).ok)
  })
  it.each([
    ["another version", { ...trustJson(), schemaVersion: 2 }, "schemaVersion"],
    ["no version", { ciReleaseKey: {} }, "schemaVersion"],
    ["no slot", { schemaVersion: 1 }, "ciReleaseKey"],
    ["a slot of null", { schemaVersion: 1, ciReleaseKey: null }, "ciReleaseKey"],
    ["a misspelt field", trustJson({ current: releaseKey, rejectbefore: "2026-01-01T00:00:00Z" }), "rejectbefore"],
    ["a time that is none", trustJson({ current: releaseKey, rejectBefore: "yesterday" }), "rejectBefore"],
    ["a key without its text", trustJson({ current: { algorithm: "ed25519" } }), "public"],
    ["an unknown field", { ...trustJson(), extra: 1 }, "extra"],
    ["a list", [], "object"]
  ])("refuses %s", (_, value, where) => {
    const decoded = read(value)
    assert.isTrue(!decoded.ok && decoded.problem.includes(where), JSON.stringify(decoded))
  })
  it.each(["", "{", "{\"schemaVersion\":1,\"schemaVersion\":1}", "\ufeff{}"])(
    "refuses the bytes %j",
    (text) => assert.isFalse(readTrustRoots(encodeUtf8(text)).ok)
  )
})

describe("freshness windows", () => {
  const fleetOf = (json: { readonly [key: string]: Json }) => {
    const decoded = fleetKind.decode(json)
    if (!decoded.ok) throw new Error(decoded.problem)
    return decoded.value
  }
  const fleet = fleetOf(fleetJson())
  it("an agent goes by its own channel, the control plane by the smallest", () => {
    assert.strictEqual(hostWindowMs(fleet, "web-1"), minutes(180))
    assert.strictEqual(hostWindowMs(fleet, "lab-1"), minutes(120))
    assert.strictEqual(hostWindowMs(fleet, "unlisted"), minutes(120))
    assert.strictEqual(hostWindowMs(fleet, "constructor"), minutes(120))
    assert.strictEqual(smallestWindowMs(fleet), minutes(120))
    assert.strictEqual(smallestWindowMs(fleetOf(fleetJson({ channels: {}, hosts: {} }))), 0)
  })
  it("the flag lowers a window and never raises it", () => {
    assert.strictEqual(withCeiling(1000, undefined), 1000)
    assert.strictEqual(withCeiling(1000, 999), 999)
    assert.strictEqual(withCeiling(1000, 1001), 1000)
  })
  it("a huge window never overflows", () =>
    assert.isUndefined(staleness(0, 4_294_967_295 * 60_000, Date.UTC(9999, 0, 1))))
})

describe("no going back", () => {
  it("remembers the highest time of each lineage and never lowers it", () => {
    let memory = remember(emptyMemory, "manifest:stable", 10)
    memory = remember(memory, "manifest:edge", 5)
    const same = remember(memory, "manifest:stable", 7)
    assert.strictEqual(same, memory)
    memory = remember(memory, "manifest:stable", 11)
    assert.deepStrictEqual(memory, { "manifest:stable": 11, "manifest:edge": 5 })
    assert.strictEqual(highestSignedAt(memory, "manifest:stable"), 11)
    assert.isUndefined(highestSignedAt(memory, "fleet"))
    assert.isUndefined(highestSignedAt(memory, "constructor"))
  })
  it("each channel has its own memory", () => {
    const memory = { "manifest:edge": signedAt + 1, "fleet": signedAt + 1 }
    const artifact = signed(manifestJson())
    const highest = (lineage: string) => highestSignedAt(memory, lineage)
    assert.strictEqual(nameOf(check(manifestKind, artifact, { highestSignedAt: highest })), "ok")
  })
})

it("every verdict has a name in the catalogue", () => {
  for (const reason of Object.values(verifyReasons)) assert.isTrue(Object.hasOwn(reasons, reason))
})

describe("an artifact that was accepted before", () => {
  const artifact = signed(manifestJson())
  const counted = () => {
    const counts = { decoded: 0 }
    const kind: typeof manifestKind = {
      ...manifestKind,
      decode: (value) => {
        counts.decoded += 1
        return manifestKind.decode(value)
      }
    }
    return { counts, kind }
  }
  const first = check(manifestKind, artifact)
  if (!first.ok) throw new Error(first.detail)

  it("is not decoded again while bytes, signature and key are the same", () => {
    const { counts, kind } = counted()
    const same = { bytes: Uint8Array.from(artifact.bytes), signature: Uint8Array.from(artifact.signature) }
    const again = check(kind, same, { known: first })
    assert.strictEqual(counts.decoded, 0)
    assert.deepStrictEqual({ ...again, bytes: artifact.bytes, signature: artifact.signature }, { ...first })
  })

  it("is judged anew by time, slot and memory", () => {
    const again = (overrides: Partial<VerifyRequest<typeof first.value>>) =>
      nameOf(check(manifestKind, artifact, { known: first, ...overrides }))
    assert.strictEqual(again({ now: signedAt + hours(4) }), "Stale")
    assert.strictEqual(again({ now: signedAt - hours(1) }), "FutureDated")
    assert.strictEqual(again({ slot: slot({ rejectBefore: signedAt + 1 }) }), "RejectedBeforeTimestamp")
    assert.strictEqual(again({ highestSignedAt: () => signedAt + 1 }), "RolledBack")
    assert.strictEqual(again({ slot: slot({ current: null }) }), "NoTrustRoots")
    assert.strictEqual(again({ slot: slot({ current: otherKey }) }), "BadSignature")
    assert.strictEqual(
      again({ slot: slot({ current: null, successor: releaseKey, retireAt: signedAt }) }),
      "NoTrustRoots"
    )
    assert.strictEqual(again({ slot: slot({ current: otherKey, previous: releaseKey }) }), "ok")
  })

  it("is verified when a byte of it or of its signature differs", () => {
    const { counts, kind } = counted()
    const other = signed(manifestJson({ displayName: "another" }))
    assert.strictEqual(nameOf(check(kind, { ...artifact, bytes: other.bytes }, { known: first })), "BadSignature")
    assert.strictEqual(
      nameOf(check(kind, { ...artifact, signature: other.signature }, { known: first })),
      "BadSignature"
    )
    const verdict = check(kind, other, { known: first })
    assert.isTrue(verdict.ok && verdict.value.displayName === "another")
    assert.strictEqual(counts.decoded, 1)
  })
})
