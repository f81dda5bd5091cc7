import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { generateKeyPairSync } from "node:crypto"
import { existsSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { decodePrivateKey } from "../../src/Operator/KeyFiles.ts"
import { readTrustRoots } from "../../src/Trust/Keys.ts"
import { parseKey, signEd25519, verifies } from "../../src/Trust/Signature.ts"
import { fleetJson, manifestJson, meta, releaseKey, signed, signedAt, trustJson } from "../support/artifacts.ts"
import { nixfleet, temporaryDirectory } from "../support/operator.ts"

const utf8 = (text: string) => new TextEncoder().encode(text)

describe("keys new", () => {
  it.effect("makes a private key for its owner only and a public key that verifies what it signs", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "ci")
      assert.strictEqual((yield* nixfleet(["keys", "new", file])).code, 0)
      assert.strictEqual(statSync(file).mode & 0o777, 0o600)
      assert.strictEqual(statSync(`${file}.pub`).mode & 0o777, 0o644)
      const seed = decodePrivateKey(readFileSync(file))
      assert.isTrue(seed.ok)
      if (!seed.ok) return
      const key = parseKey({ algorithm: "ed25519", public: readFileSync(`${file}.pub`, "utf8").trim() })
      assert.isTrue(verifies(key, utf8("x"), signEd25519(seed.value, utf8("x"))))
    }))

  it.effect("makes another key each time, and overwrites none without --force", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "ci")
      yield* nixfleet(["keys", "new", file])
      const first = readFileSync(file, "utf8")
      const refused = yield* nixfleet(["keys", "new", file])
      assert.strictEqual(refused.code, 1)
      assert.include(refused.err, "--force")
      assert.strictEqual(readFileSync(file, "utf8"), first)
      assert.strictEqual((yield* nixfleet(["keys", "new", file, "--force"])).code, 0)
      assert.notStrictEqual(readFileSync(file, "utf8"), first)
    }))

  it.effect("spares a public key whose private half is elsewhere", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "ci")
      writeFileSync(`${file}.pub`, "precious\n")
      assert.strictEqual((yield* nixfleet(["keys", "new", file])).code, 1)
      assert.isFalse(existsSync(file))
    }))

  it.effect("does not write through a link that lies where its temporary file goes", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      writeFileSync(join(directory, "victim"), "untouched")
      symlinkSync(join(directory, "victim"), join(directory, ".tmp-ci"))
      assert.strictEqual((yield* nixfleet(["keys", "new", join(directory, "ci")])).code, 0)
      assert.strictEqual(readFileSync(join(directory, "victim"), "utf8"), "untouched")
    }))
})

describe("keys show", () => {
  it.effect("prints the same slot from either file of a pair, and a trust file that reads", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "ci")
      yield* nixfleet(["keys", "new", file])
      const [one, two] = [yield* nixfleet(["keys", "show", file]), yield* nixfleet(["keys", "show", `${file}.pub`])]
      assert.strictEqual(one.out, two.out)
      assert.deepStrictEqual(JSON.parse(one.out), {
        current: { algorithm: "ed25519", public: readFileSync(`${file}.pub`, "utf8").trim() },
        previous: null,
        successor: null,
        retireAt: null,
        rejectBefore: null
      })
      const trust = yield* nixfleet(["keys", "show", "--trust", file])
      const roots = readTrustRoots(utf8(trust.out))
      assert.isTrue(roots.ok)
      assert.deepStrictEqual(JSON.parse(trust.out).ciReleaseKey, JSON.parse(one.out))
    }))

  it.effect("reads the keys of OpenSSL", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "openssl")
      const pair = generateKeyPairSync("ed25519")
      writeFileSync(file, pair.privateKey.export({ type: "pkcs8", format: "pem" }))
      const shown = yield* nixfleet(["keys", "show", file])
      const x = Buffer.from(pair.publicKey.export({ format: "jwk" }).x!, "base64url").toString("base64")
      assert.strictEqual(JSON.parse(shown.out).current.public, x)
    }))

  it.effect.each<[string, string]>([
    ["an empty file", ""],
    [
      "an RSA key",
      generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey.export({ type: "pkcs8", format: "pem" })
        .toString()
    ],
    ["a public key of 31 bytes", `${Buffer.alloc(31).toString("base64")}\n`],
    ["a point of small order", `${Buffer.alloc(32).toString("base64")}\n`]
  ])("refuses %s, exit 78, without repeating it", ([, content]) =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "key")
      writeFileSync(file, content)
      const refused = yield* nixfleet(["keys", "show", file])
      assert.strictEqual(refused.code, 78)
      assert.isTrue(content.trim() === "" || !refused.err.includes(content.trim().slice(30, 60)))
    }))

  it.effect("names a file that is not there, exit 78", () =>
    Effect.gen(function*() {
      const refused = yield* nixfleet(["keys", "show", "/nowhere/key"])
      assert.strictEqual(refused.code, 78)
      assert.include(refused.err, "/nowhere/key: there is no such file")
    }))
})

describe("canonicalize", () => {
  it.effect("writes the canonical bytes and nothing else", () =>
    Effect.gen(function*() {
      const outcome = yield* nixfleet(["canonicalize"], { stdin: utf8("{\"b\":1E30,\n \"a\":\"\\u20ac\"}\n") })
      assert.strictEqual(outcome.code, 0)
      assert.strictEqual(outcome.bytes.toString("utf8"), "{\"a\":\"€\",\"b\":1e+30}")
      assert.strictEqual(outcome.out, "")
    }))
  it.effect.each<[string, Uint8Array, string]>([
    ["nothing", utf8(""), "Parse"],
    ["duplicate keys", utf8("{\"a\":1,\"a\":2}"), "Canonicalize"],
    ["broken UTF-8", Uint8Array.of(0xff), "Parse"],
    ["too much", new Uint8Array(16 * 1_048_576 + 1), "larger than"]
  ])("refuses %s, exit 1, and writes nothing", ([, stdin, message]) =>
    Effect.gen(function*() {
      const outcome = yield* nixfleet(["canonicalize"], { stdin })
      assert.strictEqual(outcome.code, 1)
      assert.include(outcome.err, message)
      assert.strictEqual(outcome.bytes.length, 0)
    }))
})

/** Files of one signed artifact and a trust file; verifies them with the clock an hour after the signature. */
const verifying = Effect.fnUntraced(function*(value: Parameters<typeof signed>[0], trust: unknown = trustJson()) {
  const directory = yield* temporaryDirectory
  const at = (name: string) => join(directory, name)
  const artifact = signed(value)
  writeFileSync(at("a.json"), artifact.bytes)
  writeFileSync(at("a.sig"), artifact.signature)
  writeFileSync(at("trust.json"), JSON.stringify(trust))
  yield* TestClock.setTime(signedAt + 3_600_000)
  const run = (...more: ReadonlyArray<string>) =>
    nixfleet(["verify", "--artifact", at("a.json"), "--signature", at("a.sig"), "--trust", at("trust.json"), ...more])
  return { at, run }
})

describe("verify", () => {
  it.effect.each<[string, Parameters<typeof signed>[0], string]>([
    ["a fleet", fleetJson(), "fleet of 4 hosts"],
    ["a manifest", manifestJson(), "manifest stable@def4567abc123def4567abc123def4567abc123d for 3 hosts"],
    ["revocations", { schemaVersion: 1, revocations: [], meta: meta() }, "0 revocations"],
    ["nonces", { schemaVersion: 1, bootstrapNonces: [], meta: meta() }, "0 bootstrap nonces"]
  ])("accepts %s, told by its shape, exit 0", ([, value, what]) =>
    Effect.gen(function*() {
      const { run } = yield* verifying(value)
      const outcome = yield* run()
      assert.strictEqual(outcome.code, 0, outcome.out + outcome.err)
      assert.include(outcome.out, `ok: ${what}`)
    }))

  it.effect.each<[string, ReadonlyArray<string>, string]>([
    ["too long after", ["--at", "2026-04-24T12:01:01Z"], "Stale"],
    ["at the end of its window", ["--at", "2026-04-24T12:01:00Z"], "ok"],
    ["before it was signed", ["--at", "2026-04-24T09:58:59Z"], "FutureDated"],
    ["within a wider window", ["--at", "2026-04-25T10:00:00Z", "--window-minutes", "1440"], "ok"],
    ["within a narrower window", ["--window-minutes", "58"], "Stale"]
  ])("judges a fleet by the smallest window of its channels: %s", ([, args, verdict]) =>
    Effect.gen(function*() {
      const { run } = yield* verifying(fleetJson())
      const outcome = yield* run(...args)
      assert.isTrue(outcome.out.startsWith(`${verdict}:`), outcome.out)
      assert.strictEqual(outcome.code, verdict === "ok" ? 0 : 1)
      assert.strictEqual(outcome.err === "" || verdict !== "ok", true)
    }))

  it.effect.each<[string, Parameters<typeof signed>[0], unknown, string]>([
    ["NoTrustRoots", manifestJson(), trustJson({}), "no key"],
    ["BadSignature", manifestJson(), trustJson({ current: { ...releaseKey, public: "AAAA" } }), "malformed"],
    ["UnsupportedAlgorithm", manifestJson(), trustJson({ current: { algorithm: "rsa", public: "" } }), "rsa"],
    ["Parse", { schemaVersion: 1, meta: meta() }, trustJson(), "none of the four"],
    ["Parse", [], trustJson(), "none of the four"],
    ["SchemaVersionUnsupported", manifestJson({ schemaVersion: 2 }), trustJson(), "2"],
    ["NotSigned", manifestJson({ meta: meta({ signedAt: null }) }), trustJson(), "signedAt"],
    [
      "RejectedBeforeTimestamp",
      manifestJson(),
      trustJson({ current: releaseKey, rejectBefore: "2026-04-24T10:00:01Z" }),
      "10:00:01"
    ]
  ])("names %s, exit 1, on standard output", ([verdict, value, trust, detail]) =>
    Effect.gen(function*() {
      const { run } = yield* verifying(value, trust)
      const outcome = yield* run()
      assert.strictEqual(outcome.code, 1)
      assert.isTrue(outcome.out.startsWith(`${verdict}: `), outcome.out)
      assert.include(outcome.out, detail)
      const asJson = yield* run("--json")
      assert.strictEqual(JSON.parse(asJson.out).verdict, verdict)
      assert.strictEqual(asJson.code, 1)
    }))

  it.effect("names Parse for bytes that are no JSON, and Canonicalize for duplicate keys", () =>
    Effect.gen(function*() {
      const { at, run } = yield* verifying(manifestJson())
      writeFileSync(at("a.json"), "{")
      assert.isTrue((yield* run()).out.startsWith("Parse: "))
      writeFileSync(at("a.json"), "{\"hostSet\":1,\"hostSet\":1}")
      assert.isTrue((yield* run()).out.startsWith("Canonicalize: "))
    }))

  it.effect("exits 78 for a trust file that is wrong and 64 for a time or window that is none", () =>
    Effect.gen(function*() {
      const { run } = yield* verifying(manifestJson(), { ...trustJson(), schemaVersion: 2 })
      assert.strictEqual((yield* run()).code, 78)
      const good = yield* verifying(manifestJson())
      assert.strictEqual((yield* good.run("--at", "yesterday")).code, 64)
      assert.strictEqual((yield* good.run("--window-minutes", "soon")).code, 64)
      assert.strictEqual((yield* good.run("--window-minutes", "-1")).code, 64)
    }))
})

describe("closure pack", () => {
  it.effect("prints the closure's name and writes its archive", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      mkdirSync(join(directory, "system/bin"), { recursive: true })
      writeFileSync(join(directory, "system/bin/switch-to-configuration"), "#!/bin/sh\n", { mode: 0o755 })
      const out = join(directory, "out")
      const packed = yield* nixfleet(["closure", "pack", join(directory, "system"), "--name", "web", "--out", out])
      assert.strictEqual(packed.code, 0, packed.err)
      assert.match(packed.out, /^[0-9a-f]{40}-web$/)
      assert.deepStrictEqual(readdirSync(out), [`${packed.out}.tar`])
    }))
  it.effect.each<[string, string, string]>([
    ["a directory without a switch", "web", "switch-to-configuration"],
    ["a name that is a path", "../web", "not a name"]
  ])("refuses %s, exit 1", ([, name, message]) =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      mkdirSync(join(directory, "system"))
      const args = ["closure", "pack", join(directory, "system"), "--name", name, "--out", join(directory, "out")]
      const refused = yield* nixfleet(args)
      assert.strictEqual(refused.code, 1)
      assert.include(refused.err, message)
    }))
})
