/** Readers of text without a schema: canonical JSON, times, headers, verdicts, keys. */
import { assert } from "@effect/vitest"
import { Result } from "effect"
import { generateKeyPairSync } from "node:crypto"
import { receptionOf } from "../../../src/Agent/Envelope.ts"
import { hostOfCommonName } from "../../../src/ControlPlane/Api/Identity.ts"
import { readSnapshot } from "../../../src/ControlPlane/Snapshot.ts"
import { openSshKeyToPkcs8 } from "../../../src/Layers/Net/OpenSshKey.ts"
import { decodePrivateKey, decodePublicKey, encodePrivateKey, encodePublicKey } from "../../../src/Operator/KeyFiles.ts"
import { listenAddress } from "../../../src/Schema/ControlPlaneConfig.ts"
import { formatTimestamp, lastMillis, parseTimestamp, splitRolloutId } from "../../../src/Schema/Primitives.ts"
import { canonicalBytes, canonicalText, parseStrict, scan } from "../../../src/Trust/CanonicalJson.ts"
import { parseKey, verifies } from "../../../src/Trust/Signature.ts"
import { retryAfterMs } from "../../../src/Workers/Backoff.ts"
import { fleetJson, manifestJson, releaseKey, releaseSeed } from "../../support/artifacts.ts"
import { Plane } from "../../support/controlPlane.ts"
import { openSshPrivateKey } from "../../support/openssh.ts"
import { published, snapshotText } from "../../support/snapshots.ts"
import { textOf, utf8 } from "../../support/tls.ts"
import { mutated, oneOf } from "../Samples.ts"
import { checked, type Target } from "../Target.ts"

const json = [
  fleetJson(),
  manifestJson(),
  [1E30, 1e-7, 0, -0, 9007199254740991, "é\u2028\u{1F600}", {
    "\u20ac": 1,
    "\ufb33": 2,
    "\u{1F600}": 3,
    "1": 4,
    "": 5
  }],
  { a: [[[[]]], {}, "\u0000", null, true] }
].map((value) => utf8(JSON.stringify(value)))

/** What the strict scanner takes, `JSON.parse` takes too and finds the same in; the canonical form is its own. */
const canonicalJson: Target = {
  name: "canonical-json",
  weight: 2,
  source: mutated(oneOf(json)),
  check: checked((input) => {
    const scanned = scan(input)
    assert.deepStrictEqual(scan(input), scanned, "the verdict is stable")
    if (!scanned.ok) {
      assert.isNotEmpty(scanned.problem.detail)
      assert.isFalse(parseStrict(input).ok)
      assert.isFalse(canonicalBytes(input).ok)
      return
    }
    const canonical = canonicalBytes(input)
    if (!canonical.ok) return assert.fail("scanned, and not canonicalised")
    assert.deepInclude(scan(canonical.bytes), { ok: true, canonical: true })
    assert.strictEqual(scanned.canonical, Buffer.from(canonical.bytes).equals(input))
    assert.strictEqual(canonicalText(JSON.parse(textOf(canonical.bytes))), textOf(canonical.bytes))
    assert.strictEqual(canonicalText(JSON.parse(scanned.text)), textOf(canonical.bytes), "the same value")
  })
}

const timestamps: Target = {
  name: "timestamps",
  weight: 0.25,
  source: mutated(oneOf(
    [
      "2026-06-01T08:00:00Z",
      "2024-02-29T23:59:60.123456789+05:30",
      "9999-12-31T23:59:59.999-23:59",
      "1970-01-01t00:00:00z"
    ]
      .map(utf8)
  )),
  check: checked((input) => {
    const at = parseTimestamp(textOf(input))
    if (at === undefined) return
    assert.isTrue(Number.isSafeInteger(at) && at >= 0, String(at))
    // Beyond the last instant that RFC 3339 can write, the schema refuses (`EpochMillis`).
    if (at <= lastMillis) assert.strictEqual(parseTimestamp(formatTimestamp(at)), at)
  })
}

const headers: Target = {
  name: "headers",
  weight: 0.25,
  source: mutated(
    oneOf(["30", "Wed, 21 Oct 2026 07:28:00 GMT", "agent-web-1.fleet.test", "[::1]:8080", "stable@01"].map(utf8))
  ),
  check: checked((input) => {
    const text = textOf(input)
    const wait = retryAfterMs({ "retry-after": text }, 0)
    if (wait !== undefined) assert.isTrue(Number.isFinite(wait) && wait >= 0, String(wait))
    const host = hostOfCommonName(text, "fleet.test")
    if (host !== undefined) assert.strictEqual(`agent-${host}.fleet.test`, text)
    const { channel, ref } = splitRolloutId(text)
    assert.isTrue(text === channel || text === `${channel}@${ref}`)
    listenAddress(text)
  })
}

/** An answer to an event means something only with our verdict on a status that carries one (D4). */
const verdicts: Target = {
  name: "verdicts",
  weight: 0.5,
  source: mutated(oneOf(
    [
      { verdict: "refused", reason: "seq-reused" },
      { verdict: "gap", reason: "seq-gap", replay_from: 1 },
      { verdict: "busy", reason: "queue-full" }
    ].map((value) => utf8(JSON.stringify(value)))
  )),
  check: checked((input) => {
    for (const status of [100, 204, 400, 409, 422, 425, 429, 500, 503]) {
      const reception = receptionOf(status, textOf(input), 5)
      if (status === 204) assert.strictEqual(reception._tag, "Applied")
      else if (status !== 409 && status !== 422 && status !== 425) assert.strictEqual(reception._tag, "Undecided")
      if (reception._tag === "Gap") assert.isBelow(reception.replayFrom, 5)
    }
  })
}

const pair = generateKeyPairSync("ed25519")

const keyFiles: Target = {
  name: "key-files",
  source: mutated(oneOf([
    encodePrivateKey(releaseSeed),
    encodePublicKey(releaseSeed),
    utf8(openSshPrivateKey(pair.privateKey)),
    utf8(releaseKey.public)
  ])),
  check: checked((input) => {
    const seed = decodePrivateKey(input)
    if (seed.ok) assert.deepStrictEqual(decodePrivateKey(encodePrivateKey(seed.value)), seed)
    const shown = decodePublicKey(input)
    if (shown.ok) assert.strictEqual(parseKey({ algorithm: "ed25519", public: shown.value })._tag, "Ed25519")
    const converted = openSshKeyToPkcs8(textOf(input))
    if (Result.isFailure(converted)) assert.isNotEmpty(converted.failure)
    for (const algorithm of ["ed25519", "ecdsa-p256", "other"]) {
      verifies(parseKey({ algorithm, public: textOf(input) }), input, input.subarray(0, 64))
    }
  })
}

const plane = new Plane()
plane.offer({ _tag: "ArtifactsVerified", artifacts: published({ ref: "a1", waves: [["h1"], ["h2"]] }) })
plane.heartbeat("h1")

/** What is read as a snapshot is one: taken anew it reads the same. */
const snapshots: Target = {
  name: "snapshots",
  weight: 0.5,
  source: mutated(oneOf([utf8(snapshotText(plane.state, plane.now))])),
  check: checked((input) => {
    const read = readSnapshot(textOf(input))
    if (Result.isFailure(read)) return assert.isNotEmpty(read.failure)
    const { state, takenAt } = read.success
    const again = readSnapshot(snapshotText(state, takenAt))
    assert.strictEqual(Result.isSuccess(again) ? again.success.takenAt : undefined, takenAt)
  })
}

export const texts: ReadonlyArray<Target> = [canonicalJson, timestamps, headers, verdicts, keyFiles, snapshots]
