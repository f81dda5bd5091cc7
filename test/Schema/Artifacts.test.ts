import { assert, describe, it } from "@effect/vitest"
import {
  decodeBootstrapNonces,
  decodeFleetResolved,
  decodeRevocations,
  decodeRolloutManifest,
  encodeBootstrapNonces,
  encodeFleetResolved,
  encodeRevocations,
  encodeRolloutManifest,
  RolloutManifest
} from "../../src/Schema/Artifacts.ts"
import { type Decoded, decoder } from "../../src/Schema/Decode.ts"
import { decodeTrustMemory } from "../../src/Schema/Trust.ts"
import { closure, fleetJson, manifestJson, meta } from "../support/artifacts.ts"

const assertRefused = <A>(decoded: Decoded<A>, where: string) =>
  assert.isTrue(!decoded.ok && decoded.problem.includes(where), JSON.stringify(decoded))
function ok<A>(decoded: Decoded<A>): A {
  if (!decoded.ok) throw new Error(decoded.problem)
  return decoded.value
}

describe("fleet.resolved", () => {
  const decode = (overrides: Parameters<typeof fleetJson>[0]) => decodeFleetResolved(fleetJson(overrides))
  const host = { platform: "x", tags: [], channel: "stable", closureHash: null }
  const channel = {
    rolloutPolicy: "careful",
    reconcileIntervalMinutes: 1,
    freshnessWindow: 2,
    signingIntervalMinutes: 1
  }
  const policy = { strategy: "x", waves: [], healthGate: {}, onHealthFailure: "halt" }

  it("writes explicit nulls and leaves out what the original leaves out", () => {
    const value = ok(decodeFleetResolved({
      schemaVersion: 1,
      hosts: { a: host },
      channels: {},
      waves: {},
      meta: { schemaVersion: 1 }
    }))
    assert.deepStrictEqual(JSON.parse(JSON.stringify(encodeFleetResolved(value))), {
      schemaVersion: 1,
      hosts: { a: { ...host, pubkey: null } },
      channels: {},
      rolloutPolicies: {},
      waves: {},
      edges: [],
      channelEdges: [],
      disruptionBudgets: [],
      meta: { schemaVersion: 1, signedAt: null, ciCommit: null }
    })
  })
  it("round-trips", () => {
    const value = ok(decode({ channelEdges: [{ gates: "edge", gated: "stable" }] }))
    assert.deepStrictEqual(ok(decodeFleetResolved(encodeFleetResolved(value))), value)
  })
  it("reads the older names of a channel edge and writes the newer ones", () => {
    const value = ok(decode({ channelEdges: [{ before: "edge", after: "stable", reason: "r" }] }))
    assert.deepStrictEqual(value.channelEdges, [{ gates: "edge", gated: "stable", reason: "r" }])
    assert.deepStrictEqual(encodeFleetResolved(value).channelEdges, [{ gates: "edge", gated: "stable", reason: "r" }])
  })
  it.each<[string, Parameters<typeof fleetJson>[0], string]>([
    ["null for a list", { edges: null }, "edges"],
    ["null for a map", { rolloutPolicies: null }, "rolloutPolicies"],
    ["a host name that is a path", { hosts: { "../x": host } }, "../x"],
    ["a channel in capitals", { channels: { Stable: channel } }, "Stable"],
    ["a channel with @", { waves: { "a@b": [] } }, "a@b"],
    ["a channel named __proto__", { channels: JSON.parse(`{"__proto__":${JSON.stringify(channel)}}`) }, "__proto__"],
    [
      "a policy named __proto__",
      { rolloutPolicies: JSON.parse(`{"__proto__":${JSON.stringify(policy)}}`) },
      "__proto__"
    ],
    [
      "a closure that is a path",
      { hosts: { a: { ...host, closureHash: `/nix/store/${closure("1", "x")}` } } },
      "closureHash"
    ],
    ["a closure that climbs", { hosts: { a: { ...host, closureHash: ".." } } }, "closureHash"],
    ["the older name of the platform", { hosts: { a: { system: "x", tags: [], channel: "stable" } } }, "platform"],
    ["a negative window", { channels: { stable: { ...channel, freshnessWindow: -1 } } }, "freshnessWindow"],
    [
      "a window beyond u32",
      { channels: { stable: { ...channel, freshnessWindow: 4_294_967_296 } } },
      "freshnessWindow"
    ],
    ["half a minute", { waves: { stable: [{ hosts: [], soakMinutes: 0.5 }] } }, "soakMinutes"],
    [
      "soak seconds that are no integer",
      { waves: { stable: [{ hosts: [], soakMinutes: 1, soakSeconds: "9" }] } },
      "soakSeconds"
    ],
    ["an unknown reaction", { rolloutPolicies: { p: { ...policy, onHealthFailure: "Halt" } } }, "onHealthFailure"],
    ["before/after on a host edge", { edges: [{ before: "a", after: "b" }] }, "edges"],
    ["both names of a channel edge", { channelEdges: [{ before: "a", gates: "b", gated: "c" }] }, "channelEdges"],
    ["a time that is none", { meta: meta({ signedAt: "today" }) }, "signedAt"],
    ["a version that is text", { schemaVersion: "1" }, "schemaVersion"]
  ])("refuses %s", (_, overrides, where) => assertRefused(decode(overrides), where))
})

describe("manifest", () => {
  const decode = (overrides: Parameters<typeof manifestJson>[0]) => decodeRolloutManifest(manifestJson(overrides))
  const entry = { hostname: "a", waveIndex: 0, targetClosure: closure("1", "x") }
  it("round-trips", () => {
    const value = ok(decode({
      disruptionBudgets: [{ selector: { all: true }, hosts: ["a"], maxInFlight: null, maxInFlightPct: 10 }],
      meta: meta({ signatureAlgorithm: "ecdsa-p256" })
    }))
    assert.deepStrictEqual(ok(decodeRolloutManifest(encodeRolloutManifest(value))), value)
  })
  it.each<[string, Parameters<typeof manifestJson>[0], string]>([
    ["hosts out of order", { hostSet: [{ ...entry, hostname: "b" }, entry] }, "ascending"],
    ["a host twice", { hostSet: [entry, entry] }, "ascending"],
    ["a target that is empty", { hostSet: [{ ...entry, targetClosure: "" }] }, "targetClosure"],
    ["a negative wave", { hostSet: [{ ...entry, waveIndex: -1 }] }, "waveIndex"],
    ["a hash in capitals", { fleetResolvedHash: "A".repeat(64) }, "fleetResolvedHash"],
    ["a ref that is a path", { channelRef: "../../etc" }, "channelRef"],
    ["a channel that is a path", { channel: ".." }, "channel"],
    ["no host set", { hostSet: null }, "hostSet"]
  ])("refuses %s", (_, overrides, where) => assertRefused(decode(overrides), where))
})

it("revocations and nonces round-trip with explicit nulls", () => {
  const revocations = {
    schemaVersion: 1,
    revocations: [{ hostname: "a", notBefore: "2026-01-01T00:00:00Z" }],
    meta: meta()
  }
  assert.deepStrictEqual(encodeRevocations(ok(decodeRevocations(revocations))).revocations, [
    { hostname: "a", notBefore: "2026-01-01T00:00:00Z", reason: null, revokedBy: null }
  ])
  const nonces = {
    schemaVersion: 1,
    bootstrapNonces: [{ nonce: "00ff", hostname: "a", expiresAt: "2026-01-01T00:00:00Z" }],
    meta: meta()
  }
  assert.deepStrictEqual(encodeBootstrapNonces(ok(decodeBootstrapNonces(nonces))).bootstrapNonces, [
    { nonce: "00ff", hostname: "a", expiresAt: "2026-01-01T00:00:00Z", mintedAt: null, mintedBy: null }
  ])
  assertRefused(decodeRevocations({ ...revocations, revocations: [{ hostname: "a" }] }), "notBefore")
  assertRefused(
    decodeBootstrapNonces({ ...nonces, bootstrapNonces: [{ nonce: "", hostname: "a", expiresAt: "x" }] }),
    "nonce"
  )
})

it("a trust memory with a time that is none is refused", () => {
  assert.isTrue(decodeTrustMemory({ "fleet": 1, "manifest:stable": 2 }).ok)
  assertRefused(decodeTrustMemory({ fleet: "1" }), "fleet")
  assertRefused(decodeTrustMemory({ fleet: -1 }), "fleet")
})

describe("the host set of a manifest", () => {
  const entry = (hostname: unknown, change: Readonly<Record<string, unknown>> = {}) => ({
    hostname,
    waveIndex: 0,
    targetClosure: closure("0", "a"),
    ...change
  })
  const inherited: unknown = Object.create(entry("a"))
  const sets: ReadonlyArray<readonly [string, unknown]> = [
    ["empty", []],
    ["ascending", [entry("a"), entry("b", { waveIndex: 4_294_967_295 })]],
    ["unknown fields", [entry("a", { more: 1 })]],
    ["the same host twice", [entry("a"), entry("a")]],
    ["descending", [entry("b"), entry("a")]],
    ["by code units", [entry("B"), entry("a")]],
    ["an empty name", [entry("")]],
    ["a name of another type", [entry(1)]],
    ["no name", [{ waveIndex: 0, targetClosure: closure("0", "a") }]],
    ["inherited fields", [inherited]],
    ["a bad name", [entry("a"), entry("-b")]],
    ["a bad closure", [entry("a", { targetClosure: "/nix/store/x" })]],
    ["a wave of -0", [entry("a", { waveIndex: -0 })]],
    ["a wave of -1", [entry("a", { waveIndex: -1 })]],
    ["half a wave", [entry("a", { waveIndex: 0.5 })]],
    ["a wave beyond 32 bits", [entry("a", { waveIndex: 4_294_967_296 })]],
    ["a wave as text", [entry("a", { waveIndex: "0" })]],
    ["null", null],
    ["an entry of null", [null]],
    ["an object", {}]
  ]
  const decodeBySchema = decoder(RolloutManifest)

  it.each(sets)("%s: the same as by the schema, problem included", (_, hostSet) => {
    const manifest = { ...manifestJson(), hostSet }
    assert.deepStrictEqual(decodeRolloutManifest(manifest), decodeBySchema(manifest))
  })

  it.each([undefined, null, 1, "x", [], { ...manifestJson(), channel: 1 }, { ...manifestJson(), hostSet: undefined }])(
    "around it: %j",
    (value) => assert.deepStrictEqual(decodeRolloutManifest(value), decodeBySchema(value))
  )
})
