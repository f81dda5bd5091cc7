import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import type { FetchedArtifact } from "../../../src/Layers/Net/ArtifactSource.ts"
import { manifestJson, meta, seedOf, signed, signedAt, trustJson } from "../../support/artifacts.ts"
import { fleetFile, manifestFile, poll, release, rolloutId, world } from "../../support/artifactWorld.ts"
import { textOf, utf8 } from "../../support/tls.ts"

describe("polling of releases", () => {
  it.effect("the first look comes at once, and fleet and manifests are offered as one unit, byte for byte", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      yield* around.start
      yield* TestClock.adjust(0)
      const [unit] = around.published()
      assert.deepStrictEqual(unit?.fleet.bytes, around.files.get(fleetFile)?.bytes)
      assert.deepStrictEqual(unit?.fleet.signature, around.files.get(fleetFile)?.signature)
      assert.deepStrictEqual([...unit?.manifests.keys() ?? []], [rolloutId])
      assert.strictEqual(unit?.manifests.get(rolloutId)?.value.fleetResolvedHash, unit?.fleet.hash)
    }))

  it.effect("an unchanged release is offered once; a new one at the next look, every 30 s", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      yield* around.start
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(around.offered.length, 1)
      release(around.files, { meta: meta({ signedAt: "2026-04-24T10:05:00Z" }) })
      yield* TestClock.adjust("29 seconds")
      assert.strictEqual(around.offered.length, 1)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(around.published().length, 2)
    }))

  it.effect("an absent fleet is waited for without a refusal", () =>
    Effect.gen(function*() {
      const around = yield* world
      yield* around.start
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(around.offered, [])
      release(around.files)
      yield* poll
      assert.strictEqual(around.published().length, 1)
    }))

  const flip = (file: FetchedArtifact | undefined): FetchedArtifact => {
    const bytes = Uint8Array.from(file?.bytes ?? [])
    const at = textOf(bytes).indexOf("stable")
    bytes[at] = "S".charCodeAt(0)
    return { bytes, signature: file?.signature ?? new Uint8Array() }
  }
  const refused: ReadonlyArray<readonly [string, (files: Map<string, FetchedArtifact>) => void, string, string]> = [
    [
      "a tampered fleet",
      (files) => files.set(fleetFile, flip(files.get(fleetFile))),
      "fleet.resolved",
      "bad-signature"
    ],
    [
      "a tampered manifest",
      (files) => files.set(manifestFile, flip(files.get(manifestFile))),
      rolloutId,
      "bad-signature"
    ],
    [
      "a manifest signed by another key",
      (files) => files.set(manifestFile, signed(manifestJson(), seedOf("another"))),
      rolloutId,
      "bad-signature"
    ],
    [
      "a manifest of another fleet",
      (files) => files.set(manifestFile, signed(manifestJson())),
      rolloutId,
      "manifest-other-fleet"
    ],
    [
      "the manifest of another channel under this name",
      (files) => files.set(manifestFile, signed(manifestJson({ channel: "edge" }))),
      rolloutId,
      "manifest-other-rollout"
    ],
    ["a missing manifest", (files) => files.delete(manifestFile), rolloutId, "artifact-absent"],
    [
      "a truncated fleet",
      (files) => files.set(fleetFile, { ...signed("x"), bytes: utf8("{\"schemaVersion\":1") }),
      "fleet.resolved",
      "artifact-unparsable"
    ],
    [
      "a signed file of another shape",
      (files) => files.set(fleetFile, signed({ a: 1 })),
      "fleet.resolved",
      "artifact-unparsable"
    ],
    [
      "another schema version",
      (files) => release(files, { schemaVersion: 2 }),
      "fleet.resolved",
      "schema-version-unsupported"
    ],
    ["an unsigned date", (files) => release(files, { meta: meta({ signedAt: null }) }), "fleet.resolved", "not-signed"],
    [
      "a release of the future",
      (files) => release(files, { meta: meta({ signedAt: "2026-04-24T12:00:00Z" }) }),
      "fleet.resolved",
      "future-dated"
    ],
    [
      "an older release",
      (files) => release(files, { meta: meta({ signedAt: "2026-04-24T09:59:59Z" }) }),
      "fleet.resolved",
      "rolled-back"
    ],
    [
      "a commit that cannot be part of an address",
      (files) => release(files, { meta: meta({ ciCommit: "../../etc" }) }),
      "stable@../../etc",
      "rollout-malformed"
    ]
  ]
  for (const [name, change, artifact, reason] of refused) {
    it.effect(`${name}: refused once as ${reason}, the unit in force stays, the next good one is taken`, () =>
      Effect.gen(function*() {
        const around = yield* world
        release(around.files)
        yield* around.start
        yield* TestClock.adjust(0)
        change(around.files)
        yield* TestClock.adjust("10 minutes")
        assert.deepStrictEqual(around.refusals(), [[artifact, reason]])
        assert.strictEqual(around.published().length, 1)
        release(around.files, { meta: meta({ signedAt: "2026-04-24T10:01:00Z" }) })
        yield* poll
        assert.strictEqual(around.published().length, 2)
        assert.strictEqual(around.refusals().length, 1)
      }))
  }

  it.effect("a release that is being written is tried once more before it is refused", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      const whole = around.files.get(manifestFile)
      around.files.delete(manifestFile)
      yield* around.start
      yield* TestClock.adjust("500 millis")
      assert.deepStrictEqual(around.offered, [])
      if (whole !== undefined) around.files.set(manifestFile, whole)
      yield* TestClock.adjust("500 millis")
      assert.strictEqual(around.published().length, 1)
      assert.deepStrictEqual(around.refusals(), [])
    }))

  it.effect("a release goes stale with the smallest signed window, and that is told", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      yield* around.start
      // The smallest window is 120 minutes, and the clocks may differ by one.
      yield* TestClock.setTime(signedAt + 121 * 60_000)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(around.refusals(), [])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(around.refusals(), [["fleet.resolved", "stale"]])
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(around.refusals().length, 1)
    }))

  it.effect("the operator's ceiling lowers the window", () =>
    Effect.gen(function*() {
      const around = yield* world
      around.freshnessWindowSecs = 600
      release(around.files)
      yield* TestClock.setTime(signedAt + 12 * 60_000)
      yield* around.start
      yield* poll
      assert.deepStrictEqual(around.refusals(), [["fleet.resolved", "stale"]])
    }))

  it.effect("a rotated key is believed at the next look; a broken trust file believes nothing and ends nothing", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      around.trust.bytes = utf8("{")
      yield* around.start
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(around.offered, [])
      around.trust.bytes = utf8(JSON.stringify(trustJson()))
      yield* poll
      assert.strictEqual(around.published().length, 1)
    }))

  it.effect("after a restart the cached release is in force at once, and what is older stays refused", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      yield* Effect.scoped(Effect.andThen(around.start, TestClock.adjust(0)))
      around.files.clear()
      yield* around.start
      yield* TestClock.adjust(0)
      assert.strictEqual(around.published().length, 2)
      assert.deepStrictEqual(around.published()[1]?.fleet.hash, around.published()[0]?.fleet.hash)
      release(around.files, { meta: meta({ signedAt: "2026-04-24T09:59:59Z" }) })
      yield* poll
      yield* poll
      assert.deepStrictEqual(around.refusals(), [["fleet.resolved", "rolled-back"]])
    }))

  it.effect("a damaged trust memory refuses the start: starting over would accept what was refused", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      around.memory.bytes = utf8("{\"fleet\":")
      assert.match((yield* Effect.flip(around.start)).message, /trust memory is damaged/)
      assert.deepStrictEqual(around.offered, [])
    }))
})
