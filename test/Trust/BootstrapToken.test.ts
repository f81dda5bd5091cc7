import { assert, describe, it } from "@effect/vitest"
import type { BootstrapToken } from "../../src/Schema/Enrollment.ts"
import type { KeySlot } from "../../src/Schema/Trust.ts"
import { keyFingerprint, tokenBytes, verifyToken } from "../../src/Trust/BootstrapToken.ts"
import type { Json } from "../../src/Trust/CanonicalJson.ts"
import { publicKeyOfSeed, signEd25519 } from "../../src/Trust/Signature.ts"

const root = new Uint8Array(32).fill(7)
const other = new Uint8Array(32).fill(8)
const hour = 3_600_000
const issuedAt = Date.UTC(2026, 10, 20, 12)

const publicOf = (seed: Uint8Array) => Buffer.from(publicKeyOfSeed(seed)).toString("base64")
const none: KeySlot = { current: null, previous: null, successor: null, retireAt: null, rejectBefore: null }
const slot: KeySlot = { ...none, current: { algorithm: "ed25519", public: publicOf(root) } }

const claims = {
  hostname: "web-1",
  expectedPubkeyFingerprint: keyFingerprint(publicKeyOfSeed(other)),
  issuedAt: "2026-11-20T12:00:00Z",
  expiresAt: "2026-11-21T12:00:00Z",
  nonce: "00112233445566778899aabbccddeeff"
}

function token(over: { readonly [key: string]: Json } = {}, seed = root): BootstrapToken {
  const signed = { ...claims, ...over }
  const signature = Buffer.from(signEd25519(seed, tokenBytes(signed))).toString("base64")
  return { version: 1, claims: signed, signature }
}

const reason = (of: BootstrapToken, now = issuedAt + hour, keys = slot) => {
  const verdict = verifyToken(of, keys, now)
  return verdict.ok ? "ok" : verdict.reason
}

describe("bootstrap tokens", () => {
  it("a token of a root key gives its claims", () => {
    const verdict = verifyToken(token(), slot, issuedAt)
    assert.deepStrictEqual(verdict, {
      ok: true,
      claims: { ...claims, issuedAt, expiresAt: issuedAt + 24 * hour }
    })
  })

  it("the order of the members does not matter, and unknown members are covered by the signature", () => {
    const { hostname, ...rest } = claims
    const reordered = { ...rest, hostname, purpose: "lab" }
    const signature = Buffer.from(signEd25519(root, tokenBytes(reordered))).toString("base64")
    const ordered = { purpose: "lab", ...claims }
    assert.strictEqual(reason({ version: 1, claims: ordered, signature }), "ok")
    assert.strictEqual(reason({ version: 1, claims: { ...ordered, purpose: "prod" }, signature }), "bad-signature")
  })

  it("a token is good from the instant of issue until just before its end", () => {
    assert.strictEqual(reason(token(), issuedAt - 1), "token-not-yet-valid")
    assert.strictEqual(reason(token(), issuedAt), "ok")
    assert.strictEqual(reason(token(), issuedAt + 24 * hour - 1), "ok")
    assert.strictEqual(reason(token(), issuedAt + 24 * hour), "token-expired")
  })

  it("keys in rotation count, other algorithms do not", () => {
    const key = { algorithm: "ed25519", public: publicOf(root) }
    assert.strictEqual(reason(token(), issuedAt, { ...none, previous: key }), "ok")
    assert.strictEqual(
      reason(token(), issuedAt, { ...none, successor: key, retireAt: issuedAt + hour }),
      "ok"
    )
    assert.strictEqual(
      reason(token(), issuedAt, { ...none, successor: key, retireAt: issuedAt - hour }),
      "no-trust-roots"
    )
    assert.strictEqual(reason(token(), issuedAt, none), "no-trust-roots")
    assert.strictEqual(
      reason(token(), issuedAt, { ...none, current: { algorithm: "ecdsa-p256", public: publicOf(root) } }),
      "no-trust-roots"
    )
  })

  it("what was changed, or signed by another key, is refused", () => {
    const { signature } = token()
    assert.strictEqual(reason({ version: 1, claims: { ...claims, hostname: "web-2" }, signature }), "bad-signature")
    assert.strictEqual(reason(token({}, other)), "bad-signature")
    assert.strictEqual(reason({ ...token(), version: 2 }), "token-version")
  })

  it("hostile tokens: signatures and claims of any shape", () => {
    const good = token()
    for (
      const signature of ["", "AA==", good.signature.slice(0, -4), `${good.signature}AAAA`, `${good.signature}\n`, "ä"]
    ) assert.strictEqual(reason({ ...good, signature }), "bad-signature", JSON.stringify(signature))
    for (const  of of[null, 7, "x", [], {}, [claims]]) {
      const signature = Buffer.from(signEd25519(root, tokenBytes(of))).toString("base64")
      assert.strictEqual(reason({ version: 1, claims: of, signature }), "token-shape", JSON.stringify(of))
    }
    for (const over of [{ hostname: "../etc" }, { nonce: "" }, { issuedAt: 0 }, { expiresAt: null }]) {
      assert.strictEqual(reason(token(over)), "token-shape", JSON.stringify(over))
    }
  })
})
