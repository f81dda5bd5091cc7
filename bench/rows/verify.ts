/**
 * Verification of a manifest of 10,000 hosts, from its bytes to the decoded value. The floor is what cannot be left out:
 * JSON.parse, SHA-256 and one ed25519 verification, both by OpenSSL. The strict scan, which D13 demands of every artifact, is
 * reported apart and not part of the ratio.
 */
import { createHash, createPublicKey, verify as opensslVerify } from "node:crypto"
import { canonicalText, encodeUtf8, scan } from "../../src/Trust/CanonicalJson.ts"
import { manifestKind, verify } from "../../src/Trust/Verify.ts"
import { closure, manifestJson, publicKeyBytes, signed, signedAt, slot } from "../support/artifacts.ts"
import { inTurns, median, rowOf, shown } from "../support/figures.ts"

const rounds = 15
const hosts = 10_000

/** The shortest of three times, ms: what else the machine did and the garbage of others are not the work. */
const timed = (body: () => void): number =>
  Math.min(...Array.from({ length: 3 }, () => {
    const begin = performance.now()
    body()
    return performance.now() - begin
  }))

export const verifyManifest = async () => {
  const { bytes, signature } = signed(manifestJson({
    hostSet: Array.from({ length: hosts }, (_, i) => ({
      hostname: `host-${String(i).padStart(5, "0")}.example.fleet`,
      waveIndex: i % 5,
      targetClosure: closure(String(i % 10), `nixos-system-host-${i}-26.05.20260424.def4567`)
    }))
  }))
  const key = createPublicKey({
    format: "jwk",
    key: { kty: "OKP", crv: "Ed25519", x: Buffer.from(publicKeyBytes).toString("base64url") }
  })
  const request = {
    kind: manifestKind,
    bytes,
    signature,
    slot: slot(),
    now: signedAt,
    windowMs: () => 3_600_000,
    highestSignedAt: () => undefined
  }
  const decoder = new TextDecoder()
  const scans: Array<number> = []
  const ours = () => {
    const whole = timed(() => {
      const verdict = verify(request)
      if (!verdict.ok) throw new Error(verdict.detail)
    })
    const scanned = timed(() => scan(bytes))
    scans.push(scanned)
    return whole - scanned
  }
  const floor = () =>
    timed(() => {
      JSON.parse(decoder.decode(bytes))
      createHash("sha256").update(bytes).digest("hex")
      if (!opensslVerify(null, bytes, key, signature)) throw new Error("the floor does not verify")
    })
  if (canonicalText(JSON.parse(decoder.decode(bytes))) !== decoder.decode(encodeUtf8(decoder.decode(bytes)))) {
    throw new Error("the manifest is not canonical")
  }
  await inTurns(5, { ours, floor })
  const warm = scans.length
  const pairs = await inTurns(rounds, { ours, floor })
  return [
    rowOf("verify a manifest of 10,000 hosts, without the strict scan", { at: "most", ratio: 1.2 }, "ms", pairs, [
      `the strict scan takes ${shown(median(scans.slice(warm)))} ms more; the manifest has ${bytes.length} bytes`
    ])
  ]
}
