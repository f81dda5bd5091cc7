import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger, References } from "effect"
import { TestClock } from "effect/testing"
import { emptyState } from "../../../src/ControlPlane/State.ts"
import type { FetchedArtifact } from "../../../src/Layers/Net/ArtifactSource.ts"
import { formatTimestamp } from "../../../src/Schema/Primitives.ts"
import { fleetJson, meta, seedOf, signed, signedAt } from "../../support/artifacts.ts"
import { fleetFile, poll, release, type World, world } from "../../support/artifactWorld.ts"
import { nonceOf, noncesJson, revocationsJson } from "../../support/identities.ts"
import { utf8 } from "../../support/tls.ts"

const revocations = "revocations.json"
const nonces = "bootstrap-nonces.json"
const minute = 60_000

const revoked = (notBefore: Readonly<Record<string, number>>, at = signedAt): FetchedArtifact =>
  signed(revocationsJson(at, notBefore))
const listed = (name: string, at = signedAt): FetchedArtifact =>
  signed(noncesJson(at, [{ nonce: nonceOf(name), hostname: "web-1", expiresAt: at + 60 * minute }]))

const tags = ({ offered }: World) => offered.map(({ _tag }) => _tag)
/** Hosts that are revoked, by the state that the inputs made. */
const hosts = ({ state }: World) => state.identities.revocations?.list.revocations.map(({ hostname }) => hostname)
const tokens = ({ state }: World) => state.identities.nonces?.list.nonces.map(({ nonce }) => nonce)

/** Lines of the log that say why, as `target reason`. */
const logged: Array<string> = []
const collected = Logger.layer([
  Logger.make(({ fiber, logLevel }) => {
    const { reason, target } = fiber.getRef(References.CurrentLogAnnotations)
    if (typeof reason === "string" && typeof target === "string") logged.push(`${logLevel} ${target} ${reason}`)
  })
])

describe("the lists beside the releases", () => {
  it.effect("come into force before the release, each as one input, and once", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      around.files.set(revocations, revoked({ "web-1": signedAt }))
      around.files.set(nonces, listed("a"))
      yield* around.start
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(tags(around), ["RevocationsVerified", "NoncesVerified", "ArtifactsVerified"])
      assert.deepStrictEqual([hosts(around), tokens(around)], [["web-1"], [nonceOf("a")]])
    }))

  it.effect("that never were revoke nobody, and hold no release back", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      yield* around.start
      yield* poll
      assert.deepStrictEqual(tags(around), ["ArtifactsVerified"])
      assert.deepStrictEqual([hosts(around), tokens(around)], [undefined, undefined])
    }))

  it.effect("are replaced by newer ones within a poll, entry by entry gone or new", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      around.files.set(revocations, revoked({ "web-1": signedAt, "web-2": signedAt }))
      yield* around.start
      yield* poll
      around.files.set(revocations, revoked({ "web-2": signedAt, "db-1": signedAt }, signedAt + 1_000))
      yield* poll
      assert.deepStrictEqual(hosts(around), ["web-2", "db-1"])
      around.files.set(revocations, revoked({}, signedAt + 2_000))
      yield* poll
      assert.deepStrictEqual(hosts(around), [])
    }))

  it.effect("that disappear stay in force, also after a restart", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      around.files.set(revocations, revoked({ "web-1": signedAt }))
      around.files.set(nonces, listed("a"))
      yield* around.start
      yield* poll
      around.files.delete(revocations)
      around.files.delete(nonces)
      yield* poll
      yield* around.start
      yield* poll
      assert.deepStrictEqual([hosts(around), tokens(around)], [["web-1"], [nonceOf("a")]])
      assert.deepStrictEqual(around.refusals(), [])
    }))

  const refusals: ReadonlyArray<readonly [what: string, file: () => FetchedArtifact, reason: string]> = [
    ["of an older time", () => revoked({}, signedAt - minute), "rolled-back"],
    ["of the future", () => revoked({}, signedAt + 10 * minute), "future-dated"],
    ["by another key", () => signed(revocationsJson(signedAt + 1, {}), seedOf("somebody")), "bad-signature"],
    ["of another kind", () => listed("a", signedAt + 1), "artifact-unparsable"],
    [
      "cut in the middle",
      () => ({ ...revoked({}, signedAt + 1), bytes: revoked({}).bytes.subarray(0, 40) }),
      "artifact-unparsable"
    ],
    ["with an entry twice over", () => {
      const text = Buffer.from(revoked({ "web-1": signedAt }).bytes).toString().replace("{", `{"meta":1,`)
      return { bytes: utf8(text), signature: new Uint8Array(64) }
    }, "artifact-not-canonicalizable"]
  ]
  for (const [what, file, reason] of refusals) {
    it.effect(`${reason}: a list ${what} is refused once, and un-revokes nobody`, () =>
      Effect.gen(function*() {
        const around = yield* world
        release(around.files)
        around.files.set(revocations, revoked({ "web-1": signedAt }))
        yield* around.start
        yield* poll
        around.files.set(revocations, file())
        yield* poll
        yield* poll
        assert.deepStrictEqual(around.refusals(), [["revocations", reason]])
        assert.deepStrictEqual(hosts(around), ["web-1"])
      }))
  }

  it.effect("that grow stale stay in force, are told once, and again as an error every hour", () =>
    Effect.gen(function*() {
      logged.length = 0
      const around = yield* world
      release(around.files)
      around.files.set(revocations, revoked({ "web-1": signedAt }))
      yield* around.start
      yield* poll
      // The fleet is signed anew, its list is not; the smallest window is of two hours.
      const later = signedAt + 130 * minute
      yield* TestClock.setTime(later)
      release(around.files, { meta: meta({ signedAt: formatTimestamp(later) }) })
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(around.refusals().filter(([name]) => name === "revocations"), [["revocations", "stale"]])
      assert.deepStrictEqual(hosts(around), ["web-1"])
      assert.strictEqual(around.published().length, 2, "releases go on")
      const errors = () => logged.filter((line) => line === "Error revocations stale").length
      assert.strictEqual(errors(), 0)
      yield* TestClock.adjust("51 minutes")
      assert.strictEqual(errors(), 1)
      around.files.set(revocations, revoked({ "db-1": signedAt }, later))
      yield* poll
      assert.deepStrictEqual(hosts(around), ["db-1"])
    }).pipe(Effect.provide(collected)))

  it.effect("are judged also while the release beside them is refused", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      yield* around.start
      yield* poll
      around.files.set(fleetFile, signed(fleetJson({ meta: meta({ signedAt: null }) })))
      around.files.set(revocations, revoked({ "web-1": signedAt }))
      yield* poll
      assert.deepStrictEqual(around.refusals(), [["fleet.resolved", "not-signed"]])
      assert.deepStrictEqual(hosts(around), ["web-1"])
    }))

  it.effect("hold every release back while nobody can tell who is revoked", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      around.files.set(revocations, signed(revocationsJson(signedAt, {}), seedOf("somebody")))
      yield* around.start
      yield* poll
      assert.deepStrictEqual(around.published(), [])
      around.files.set(revocations, revoked({}))
      yield* poll
      assert.strictEqual(around.published().length, 1)
    }))

  it.effect("that were accepted once are missed by a journal that is new", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      around.files.set(revocations, revoked({ "web-1": signedAt }))
      yield* around.start
      yield* poll
      around.files.delete(revocations)
      around.state = emptyState("another")
      around.offered.length = 0
      yield* around.start
      yield* poll
      assert.deepStrictEqual(around.published(), [], "neither from the cache nor from the source")
      around.files.set(revocations, revoked({}, signedAt + 1))
      yield* poll
      assert.strictEqual(around.published().length, 1)
    }))

  it.effect("of nonces that cannot be taken hold nothing back: nobody enrolls, everything else goes on", () =>
    Effect.gen(function*() {
      const around = yield* world
      release(around.files)
      around.files.set(nonces, signed(noncesJson(signedAt, []), seedOf("somebody")))
      yield* around.start
      yield* poll
      assert.strictEqual(around.published().length, 1)
      assert.deepStrictEqual(around.refusals(), [["bootstrap nonces", "bad-signature"]])
      assert.isUndefined(tokens(around))
    }))
})
