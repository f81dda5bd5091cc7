import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { encodePrivateKey } from "../../src/Operator/KeyFiles.ts"
import { canonicalText, encodeUtf8, sha256Hex } from "../../src/Trust/CanonicalJson.ts"
import { checkManifestFleet } from "../../src/Trust/FleetAndManifests.ts"
import { fleetKind, manifestKind, verify } from "../../src/Trust/Verify.ts"
import { closure, releaseSeed, signedAt, signedAtText, slot } from "../support/artifacts.ts"
import { nixfleet, temporaryDirectory } from "../support/operator.ts"

const declaration = {
  ref: "aa11",
  closures: { web: closure("1", "web") },
  channels: {
    stable: { rolloutPolicy: "careful", freshnessWindow: 120 },
    edge: { rolloutPolicy: "careful", freshnessWindow: 240 },
    empty: { rolloutPolicy: "careful", freshnessWindow: 240 }
  },
  rolloutPolicies: {
    careful: {
      waves: [{ selector: { tags: ["canary"] }, soakSeconds: 5 }, { selector: { all: true }, soakMinutes: 1 }]
    }
  },
  hosts: {
    "web-1": { channel: "stable", platform: "x86_64-linux", tags: ["canary"], closure: "web" },
    "web-2": { channel: "stable", platform: "x86_64-linux", closure: "web" },
    "lab-1": { channel: "edge", platform: "x86_64-linux", tags: ["canary"], closure: closure("2", "lab") },
    "bare-1": { channel: "empty", platform: "x86_64-linux", tags: ["canary"] }
  }
}

/** A working folder with a declaration and a key; commands run in it with the clock at `signedAt`. */
const workspace = Effect.gen(function*() {
  const directory = yield* temporaryDirectory
  const at = (name: string) => join(directory, name)
  writeFileSync(at("fleet.json"), JSON.stringify(declaration))
  writeFileSync(at("key"), encodePrivateKey(releaseSeed))
  yield* TestClock.setTime(signedAt)
  const build = (...more: ReadonlyArray<string>) =>
    nixfleet(["release", "build", "--declaration", at("fleet.json"), "--out", at("rel"), ...more])
  const sign = (...more: ReadonlyArray<string>) =>
    nixfleet(["release", "sign", "--dir", at("rel"), "--key", at("key"), ...more])
  return { at, build, sign }
})

const declare = (at: (name: string) => string, overrides: object) =>
  Effect.sync(() => writeFileSync(at("fleet.json"), JSON.stringify({ ...declaration, ...overrides })))
const listed = (directory: string) => readdirSync(directory, { recursive: true, encoding: "utf8" }).toSorted()
const json = (file: string) => JSON.parse(readFileSync(file, "utf8"))

function verified(directory: string, now = signedAt) {
  const read = (name: string) => ({
    bytes: readFileSync(join(directory, name)),
    signature: readFileSync(join(directory, `${name}.sig`)),
    slot: slot(),
    now,
    windowMs: () => 0,
    highestSignedAt: () => undefined
  })
  const fleet = verify({ kind: fleetKind, ...read("fleet.resolved.json") })
  const manifest = verify({ kind: manifestKind, ...read("rollouts/stable@aa11.json") })
  return { fleet, manifest }
}

describe("release build", () => {
  it.effect("writes an unsigned fleet and a manifest for each channel with a closure, all canonical", () =>
    Effect.gen(function*() {
      const { at, build } = yield* workspace
      const built = yield* build()
      assert.strictEqual(built.code, 0, built.err)
      assert.deepStrictEqual(listed(at("rel")), [
        "fleet.resolved.json",
        "rollouts",
        "rollouts/edge@aa11.json",
        "rollouts/stable@aa11.json"
      ])
      for (const name of ["fleet.resolved.json", "rollouts/stable@aa11.json"]) {
        const text = readFileSync(join(at("rel"), name), "utf8")
        assert.strictEqual(text, canonicalText(JSON.parse(text)))
      }
      const fleet = json(at("rel/fleet.resolved.json"))
      assert.isNull(fleet.meta.signedAt)
      assert.isNull(fleet.hosts["bare-1"].closureHash)
      assert.isNull(fleet.hosts["web-1"].pubkey)
      const hash = sha256Hex(readFileSync(at("rel/fleet.resolved.json")))
      assert.strictEqual(json(at("rel/rollouts/stable@aa11.json")).fleetResolvedHash, hash)
      assert.include(built.out, "stable@aa11  2 hosts in 2 waves")
      assert.include(built.out, hash)
    }))

  it.effect("takes the ref from --ref before the declaration's, and needs one of them", () =>
    Effect.gen(function*() {
      const { at, build } = yield* workspace
      assert.strictEqual((yield* build("--ref", "bb22")).code, 0)
      assert.isTrue(existsSync(at("rel/rollouts/stable@bb22.json")))
      yield* declare(at, { ref: undefined })
      const without = yield* build()
      assert.strictEqual(without.code, 78)
      assert.include(without.err, "--ref")
    }))

  it.effect("refuses what can never work with every problem, exit 78, and writes nothing", () =>
    Effect.gen(function*() {
      const { at, build } = yield* workspace
      yield* declare(at, {
        edges: [{ gated: "web-1", gates: "gone" }],
        disruptionBudgets: [{ selector: { all: true }, maxInFlight: 0 }]
      })
      const refused = yield* build()
      assert.strictEqual(refused.code, 78)
      assert.include(refused.err, "edges[0].gates: there is no host gone")
      assert.include(refused.err, "disruptionBudgets[0].maxInFlight")
      assert.isFalse(existsSync(at("rel")))
    }))

  it.effect("warns of what works and may not be meant", () =>
    Effect.gen(function*() {
      const { at, build } = yield* workspace
      yield* declare(at, { disruptionBudgets: [{ selector: { tags: ["none"] }, maxInFlight: 1 }] })
      const built = yield* build()
      assert.strictEqual(built.code, 0)
      assert.include(built.err, "warning: disruptionBudgets[0].selector: selects no host")
    }))

  it.effect.each<[string, string | Uint8Array, string]>([
    ["cut", JSON.stringify(declaration).slice(0, -1), "unexpected end"],
    ["with a key twice", "{\"ref\":\"aa\",\"ref\":\"bb\"}", "twice"],
    ["that is not UTF-8", Uint8Array.of(0x7b, 0xff, 0x7d), "not UTF-8"],
    ["of the wrong type", JSON.stringify({ ...declaration, hosts: [] }), "hosts"],
    ["with an unknown field", JSON.stringify({ ...declaration, policies: {} }), "policies"],
    ["too large to read", new Uint8Array(16 * 1_048_576 + 1), "more than"]
  ])("refuses a declaration %s, exit 78", ([, content, message]) =>
    Effect.gen(function*() {
      const { at, build } = yield* workspace
      writeFileSync(at("fleet.json"), content)
      const refused = yield* build()
      assert.strictEqual(refused.code, 78)
      assert.include(refused.err, message)
    }))

  it.effect("does not put an unsigned release over a signed one, unless forced", () =>
    Effect.gen(function*() {
      const { at, build, sign } = yield* workspace
      yield* build()
      yield* sign()
      const before = readFileSync(at("rel/fleet.resolved.json"))
      const refused = yield* build("--ref", "bb22")
      assert.strictEqual(refused.code, 1)
      assert.include(refused.err, "--force")
      assert.deepStrictEqual(readFileSync(at("rel/fleet.resolved.json")), before)
      assert.strictEqual((yield* build("--force")).code, 0)
      assert.deepStrictEqual(listed(at("rel")).filter((name) => name.endsWith(".sig")), [])
    }))
})

describe("release sign", () => {
  it.effect("sets signedAt and writes signatures of 64 bytes that hosts accept, as one unit", () =>
    Effect.gen(function*() {
      const { at, build, sign } = yield* workspace
      yield* build()
      const outcome = yield* sign("--out", at("pub"))
      assert.strictEqual(outcome.code, 0, outcome.err)
      assert.include(outcome.out, signedAtText)
      assert.deepStrictEqual(listed(at("pub")), [
        "fleet.resolved.json",
        "fleet.resolved.json.sig",
        "rollouts",
        "rollouts/edge@aa11.json",
        "rollouts/edge@aa11.json.sig",
        "rollouts/stable@aa11.json",
        "rollouts/stable@aa11.json.sig"
      ])
      assert.strictEqual(statSync(at("pub/fleet.resolved.json.sig")).size, 64)
      const { fleet, manifest } = verified(at("pub"))
      assert.isTrue(fleet.ok && manifest.ok)
      if (!fleet.ok || !manifest.ok) return
      assert.strictEqual(fleet.signedAt, signedAt)
      assert.isUndefined(checkManifestFleet(manifest.value, fleet.hash))
      assert.isFalse(existsSync(at("rel/fleet.resolved.json.sig")))
    }))

  it.effect("signs the same release again, later, in its place", () =>
    Effect.gen(function*() {
      const { at, build, sign } = yield* workspace
      yield* build()
      yield* sign()
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* sign()).code, 0)
      const { fleet, manifest } = verified(at("rel"), signedAt + 3_600_000)
      assert.isTrue(fleet.ok && manifest.ok && fleet.signedAt === signedAt + 3_600_000)
    }))

  it.effect("keeps the manifests of other releases", () =>
    Effect.gen(function*() {
      const { at, build, sign } = yield* workspace
      yield* build()
      yield* sign("--out", at("pub"))
      const first = readFileSync(at("pub/rollouts/stable@aa11.json"))
      yield* build("--ref", "bb22")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* sign("--out", at("pub"))).code, 0)
      assert.deepStrictEqual(readFileSync(at("pub/rollouts/stable@aa11.json")), first)
      assert.isTrue(existsSync(at("pub/rollouts/stable@bb22.json.sig")))
      assert.strictEqual(json(at("pub/fleet.resolved.json")).meta.ciCommit, "bb22")
    }))

  it.effect("does not publish what hosts would refuse as rolled back", () =>
    Effect.gen(function*() {
      const { at, build, sign } = yield* workspace
      yield* build()
      yield* sign("--out", at("pub"))
      yield* TestClock.setTime(signedAt - 1)
      const before = readFileSync(at("pub/fleet.resolved.json"))
      const refused = yield* sign("--out", at("pub"))
      assert.strictEqual(refused.code, 1)
      assert.include(refused.err, "rolled back")
      assert.deepStrictEqual(readFileSync(at("pub/fleet.resolved.json")), before)
    }))

  it.effect("refuses a manifest that the fleet beside it does not give", () =>
    Effect.gen(function*() {
      const { at, build, sign } = yield* workspace
      yield* build()
      const file = at("rel/rollouts/stable@aa11.json")
      const manifest = json(file)
      manifest.hostSet[0].targetClosure = closure("9", "evil")
      writeFileSync(file, encodeUtf8(canonicalText(manifest)))
      const refused = yield* sign()
      assert.strictEqual(refused.code, 1)
      assert.include(refused.err, "was not built from the fleet beside it")
      assert.isFalse(existsSync(at("rel/fleet.resolved.json.sig")))
    }))

  it.effect.each<[string, (at: (name: string) => string) => void, number, string]>([
    ["without a build", (at) => mkdirSync(at("rel")), 78, "fleet.resolved.json: there is no such file"],
    [
      "of a fleet that is none",
      (at) => {
        mkdirSync(at("rel"))
        writeFileSync(at("rel/fleet.resolved.json"), "{}")
      },
      1,
      "is not a fleet"
    ],
    ["with a public key", (at) => writeFileSync(at("key"), `${"A".repeat(43)}=\n`), 78, "PKCS#8 PEM"],
    [
      "with a key of another kind",
      (at) => writeFileSync(at("key"), `-----BEGIN PRIVATE KEY-----\n${"A".repeat(64)}\n-----END PRIVATE KEY-----\n`),
      78,
      "not an ed25519 one"
    ]
  ])("refuses to sign %s", ([, spoil, code, message]) =>
    Effect.gen(function*() {
      const { at, sign } = yield* workspace
      spoil(at)
      const refused = yield* sign()
      assert.strictEqual(refused.code, code)
      assert.include(refused.err, message)
    }))

  it.effect("leaves the published unit as it was when a file cannot be written", () =>
    Effect.gen(function*() {
      const { at, build, sign } = yield* workspace
      yield* build()
      yield* sign("--out", at("pub"))
      const before = listed(at("pub")).filter((name) => name.includes(".")).map((name) =>
        readFileSync(join(at("pub"), name))
      )
      // A directory where the last temporary file would be: staging fails after the others were staged.
      mkdirSync(at("pub/.tmp-fleet.resolved.json"))
      writeFileSync(at("pub/.tmp-fleet.resolved.json/x"), "")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* sign("--out", at("pub"))).code, 1)
      const names = listed(at("pub")).filter((name) =>
        !name.startsWith(".tmp-fleet.resolved.json") && name.includes(".")
      )
      assert.deepStrictEqual(names.map((name) => readFileSync(join(at("pub"), name))), before)
    }))
})

it.effect("usage errors exit 64: a missing flag, an unknown flag, an unknown command", () =>
  Effect.gen(function*() {
    for (const args of [["release", "build"], ["release", "sign", "--nope"], ["release", "publish"], ["relase"]]) {
      assert.strictEqual((yield* nixfleet(args)).code, 64, args.join(" "))
    }
    for (const args of [["--help"], ["--version"], ["release", "build", "--help"]]) {
      assert.strictEqual((yield* nixfleet(args)).code, 0, args.join(" "))
    }
    assert.include((yield* nixfleet(["--version"])).out, "9.9.9")
  }))

it.effect("an output directory that cannot be written is told as such, exit 1", () =>
  Effect.gen(function*() {
    const { at, build } = yield* workspace
    writeFileSync(at("rel"), "a file")
    const refused = yield* build()
    assert.strictEqual(refused.code, 1)
    assert.include(refused.err, "cannot")
  }))
