import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { generateKeyPairSync, X509Certificate } from "node:crypto"
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { decodeBootstrapToken } from "../../src/Schema/Enrollment.ts"
import { verifyToken } from "../../src/Trust/BootstrapToken.ts"
import { activeKeys, readTrustRoots } from "../../src/Trust/Keys.ts"
import { type ArtifactKind, bootstrapNoncesKind, revocationsKind, type Signed, verify } from "../../src/Trust/Verify.ts"
import { openSshPrivateKey } from "../support/openssh.ts"
import { nixfleet, temporaryDirectory } from "../support/operator.ts"

const start = Date.UTC(2026, 10, 20, 12)
const hour = 3_600_000
const day = 24 * hour

/** A directory, an authority `ca`, a release key `ci`, a root key `org`, and the trust file that believes both. */
const makeFleet = Effect.gen(function*() {
  yield* TestClock.setTime(start)
  const directory = yield* temporaryDirectory
  const at = (name: string) => join(directory, name)
  assert.strictEqual((yield* nixfleet(["ca", "init", "--out", at("ca"), "--name", "Fleet CA"])).code, 0)
  yield* nixfleet(["keys", "new", at("ci")])
  yield* nixfleet(["keys", "new", at("org")])
  const trust = yield* nixfleet(["keys", "show", "--trust", at("ci"), "--org-root", at("org")])
  writeFileSync(at("trust.json"), trust.out)
  const authority = ["--ca-cert", at("ca.pem"), "--ca-key", at("ca-key.pem")]
  return { at, authority }
})

const trustOf = (file: string) => {
  const roots = readTrustRoots(readFileSync(file))
  return roots.ok ? roots.value : assert.fail(roots.problem)
}
const certificate = (file: string) => new X509Certificate(readFileSync(file))
const mode = (file: string) => statSync(file).mode & 0o777

describe("ca init", () => {
  it.effect("makes an authority of ten years, whose key only its owner reads", () =>
    Effect.gen(function*() {
      const { at } = yield* makeFleet
      const ca = certificate(at("ca.pem"))
      assert.isTrue(ca.ca && ca.verify(ca.publicKey))
      assert.strictEqual(ca.subject, "CN=Fleet CA")
      assert.strictEqual(Date.parse(ca.validFrom), start - 300_000)
      assert.strictEqual(Date.parse(ca.validTo), start + 3650 * day)
      assert.deepStrictEqual([mode(at("ca.pem")), mode(at("ca-key.pem"))], [0o644, 0o600])
    }))

  it.effect("spares what is there without --force, also when it is only one of the two files", () =>
    Effect.gen(function*() {
      const { at } = yield* makeFleet
      const before = readFileSync(at("ca-key.pem"), "utf8")
      const refused = yield* nixfleet(["ca", "init", "--out", at("ca")])
      assert.strictEqual(refused.code, 1)
      assert.include(refused.err, "--force")
      assert.strictEqual(readFileSync(at("ca-key.pem"), "utf8"), before)
      writeFileSync(at("half-key.pem"), "precious")
      assert.strictEqual((yield* nixfleet(["ca", "init", "--out", at("half")])).code, 1)
      assert.isFalse(existsSync(at("half.pem")))
      assert.strictEqual((yield* nixfleet(["ca", "init", "--out", at("ca"), "--force"])).code, 0)
      assert.notStrictEqual(readFileSync(at("ca-key.pem"), "utf8"), before)
    }))

  it.effect("refuses a validity of no day", () =>
    Effect.gen(function*() {
      const { at } = yield* makeFleet
      assert.strictEqual((yield* nixfleet(["ca", "init", "--out", at("x"), "--days", "0"])).code, 64)
      assert.isFalse(existsSync(at("x.pem")))
    }))
})

describe("certificates of the authority", () => {
  it.effect("an operator's says so in its name and serves clients only", () =>
    Effect.gen(function*() {
      const { at, authority } = yield* makeFleet
      const minted = yield* nixfleet(["operator", "mint-cert", ...authority, "--cn", "ada", "--out", at("ada")])
      assert.strictEqual(minted.code, 0)
      const ada = certificate(at("ada.pem"))
      assert.isTrue(ada.verify(certificate(at("ca.pem")).publicKey))
      assert.strictEqual(ada.subject, "OU=nixfleet-operator\nCN=ada")
      assert.deepStrictEqual(ada.keyUsage, ["1.3.6.1.5.5.7.3.2"])
      assert.strictEqual(Date.parse(ada.validTo), start + 365 * day)
      assert.deepStrictEqual([mode(at("ada.pem")), mode(at("ada-key.pem"))], [0o644, 0o600])
    }))

  it.effect("an operator is named after the user, when nothing else is said", () =>
    Effect.gen(function*() {
      const { at, authority } = yield* makeFleet
      const args = ["operator", "mint-cert", ...authority, "--out", at("me")]
      assert.strictEqual((yield* nixfleet(args)).code, 64)
      yield* nixfleet(args, { environment: { USER: "ada" } })
      assert.strictEqual(certificate(at("me.pem")).subject, "OU=nixfleet-operator\nCN=operator-ada")
    }))

  it.effect("the server's carries every name that it was asked for", () =>
    Effect.gen(function*() {
      const { at, authority } = yield* makeFleet
      const names = ["--name", "cp.example", "--name", "192.0.2.7"]
      assert.strictEqual((yield* nixfleet(["ca", "server-cert", ...authority, ...names, "--out", at("cp")])).code, 0)
      const server = certificate(at("cp.pem"))
      assert.strictEqual(server.checkHost("cp.example"), "cp.example")
      assert.strictEqual(server.checkIP("192.0.2.7"), "192.0.2.7")
      assert.strictEqual((yield* nixfleet(["ca", "server-cert", ...authority, "--out", at("no")])).code, 64)
    }))

  it.effect("nothing is made without exactly one key, or with another authority's", () =>
    Effect.gen(function*() {
      const { at } = yield* makeFleet
      yield* nixfleet(["ca", "init", "--out", at("other")])
      const mint = (...given: ReadonlyArray<string>) =>
        nixfleet(["operator", "mint-cert", "--cn", "a", "--out", at("a"), "--ca-cert", at("ca.pem"), ...given])
      assert.strictEqual((yield* mint()).code, 64)
      assert.strictEqual((yield* mint("--ca-key", at("ca-key.pem"), "--ca-sign-command", "true")).code, 64)
      const wrong = yield* mint("--ca-key", at("other-key.pem"))
      assert.deepStrictEqual([wrong.code, existsSync(at("a.pem"))], [78, false])
      assert.include(wrong.err, "is not the key of the authority's certificate")
    }))
})

/** The SSH host key of some host, as a private key file. */
const host = openSshPrivateKey(generateKeyPairSync("ed25519").privateKey)

describe("host keys and tokens", () => {
  it.effect("a host's key is read from every form in which it lies around", () =>
    Effect.gen(function*() {
      const { at } = yield* makeFleet
      const pair = generateKeyPairSync("ed25519")
      const raw = pair.publicKey.export({ type: "spki", format: "der" }).subarray(-32)
      const blob = Buffer.concat([Buffer.from("0000000b7373682d6564323535313900000020", "hex"), raw]).toString("base64")
      const forms = [
        raw.toString("base64"),
        `ssh-ed25519 ${blob}`,
        `ssh-ed25519 ${blob} root@web-1\n`,
        pair.publicKey.export({ type: "spki", format: "pem" }).toString(),
        pair.privateKey.export({ type: "pkcs8", format: "pem" }).toString()
      ]
      for (const form of forms) {
        writeFileSync(at("key"), form)
        assert.strictEqual((yield* nixfleet(["derive-pubkey", at("key")])).out, raw.toString("base64"), form)
      }
      const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey
      const wrong = [
        "",
        "hello",
        `ssh-rsa ${blob}`,
        `ssh-ed25519 ${blob.slice(0, -8)}`,
        rsa.export({ type: "spki", format: "pem" }).toString(),
        "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"
      ]
      for (const form of wrong) {
        writeFileSync(at("key"), form)
        const refused = yield* nixfleet(["derive-pubkey", at("key")])
        assert.strictEqual(refused.code, 78, form)
        assert.notInclude(refused.err, "c2VjcmV0")
      }
    }))

  it.effect("a token names the host and its key, and the root key signed it", () =>
    Effect.gen(function*() {
      const { at } = yield* makeFleet
      writeFileSync(at("host"), host)
      const mint = ["token", "mint", "--key", at("org"), "--hostname", "web-1", "--host-key", at("host")]
      const minted = yield* nixfleet([...mint, "--out", at("token.json")])
      assert.strictEqual(minted.out, `wrote ${at("token.json")} for web-1, good until 2026-11-21T12:00:00Z`)
      assert.strictEqual(mode(at("token.json")), 0o600)
      const token = decodeBootstrapToken(JSON.parse(readFileSync(at("token.json"), "utf8")))
      const slot = trustOf(at("trust.json")).orgRootKey
      if (!token.ok || slot === null) return assert.fail("no token, or no slot")
      const verdict = verifyToken(token.value, slot, start)
      assert.isTrue(verdict.ok && verdict.claims.hostname === "web-1")
      const other = yield* nixfleet(mint)
      assert.notStrictEqual(
        JSON.parse(other.out).claims.nonce,
        JSON.parse(readFileSync(at("token.json"), "utf8")).claims.nonce
      )
      assert.strictEqual((yield* nixfleet([...mint, "--out", at("token.json")])).code, 1)
      assert.strictEqual((yield* nixfleet([...mint.slice(0, 4), "--hostname", "a/b", ...mint.slice(6)])).code, 64)
      assert.strictEqual((yield* nixfleet([...mint, "--validity-hours", "0"])).code, 64)
    }))
})

/** The list in a file, as a control plane would take it at `now`. */
const readSigned = <A extends Signed>(kind: ArtifactKind<A>, file: string, trust: string, now: number): A => {
  const verdict = verify({
    kind,
    bytes: readFileSync(file),
    signature: readFileSync(`${file}.sig`),
    slot: trustOf(trust).ciReleaseKey,
    now,
    windowMs: () => hour,
    highestSignedAt: () => undefined
  })
  return verdict.ok ? verdict.value : assert.fail(verdict.detail)
}

describe("the list of bootstrap nonces", () => {
  it.effect("grows with each token, and loses what has expired", () =>
    Effect.gen(function*() {
      const { at } = yield* makeFleet
      writeFileSync(at("host"), host)
      const token = (name: string, hours: number) =>
        nixfleet([
          "token",
          "mint",
          "--key",
          at("org"),
          "--hostname",
          name,
          "--host-key",
          at("host"),
          "--validity-hours",
          String(hours),
          "--out",
          at(`${name}.json`)
        ])
      const allow = (...names: ReadonlyArray<string>) =>
        nixfleet(["nonce", "mint", ...names.map((name) => at(`${name}.json`)), "--dir", at("rel"), "--key", at("ci")], {
          environment: { USER: "ada" }
        })
      const file = at("rel/bootstrap-nonces.json")
      const names = () =>
        readSigned(bootstrapNoncesKind, file, at("trust.json"), lastNow).bootstrapNonces.map((entry) => entry.hostname)
      let lastNow = start
      yield* token("web-1", 1)
      yield* token("web-2", 24)
      const first = yield* allow("web-1", "web-2")
      assert.strictEqual(first.out.split("\n")[0], `web-1 may enroll until 2026-11-20T13:00:00Z (${file})`)
      assert.deepStrictEqual(names(), ["web-1", "web-2"])
      yield* TestClock.adjust(2 * hour)
      lastNow += 2 * hour
      yield* token("web-3", 24)
      assert.strictEqual((yield* allow("web-3")).code, 0)
      assert.deepStrictEqual(names(), ["web-2", "web-3"])
      yield* TestClock.adjust(1)
      yield* allow("web-3")
      assert.deepStrictEqual(names(), ["web-2", "web-3"])
      const [entry] = readSigned(bootstrapNoncesKind, file, at("trust.json"), lastNow).bootstrapNonces
      assert.strictEqual(entry?.mintedBy, "ada")
    }))

  it.effect("what is no token changes nothing", () =>
    Effect.gen(function*() {
      const { at } = yield* makeFleet
      for (const text of ["", "{}", "[1]", `{"version":1,"claims":{},"signature":""}`]) {
        writeFileSync(at("token.json"), text)
        const refused = yield* nixfleet(["nonce", "mint", at("token.json"), "--dir", at("rel"), "--key", at("ci")])
        assert.strictEqual(refused.code, 78, text)
      }
      assert.isFalse(existsSync(at("rel")))
    }))
})

describe("the list of revocations", () => {
  const revoke = (at: (name: string) => string, ...args: ReadonlyArray<string>) =>
    nixfleet(["revocation", "mint", "--dir", at("rel"), "--key", at("ci"), ...args], { environment: { USER: "ada" } })
  const lift = (at: (name: string) => string, name: string) =>
    nixfleet(["revocation", "lift", "--dir", at("rel"), "--key", at("ci"), "--hostname", name])

  it.effect("one entry a host, from now or from when it is said, until it is lifted", () =>
    Effect.gen(function*() {
      const { at } = yield* makeFleet
      const entries = () =>
        readSigned(revocationsKind, at("rel/revocations.json"), at("trust.json"), start + hour).revocations
      yield* revoke(at, "--hostname", "web-1", "--reason", "stolen")
      yield* TestClock.adjust(1000)
      yield* revoke(at, "--hostname", "web-2")
      yield* TestClock.adjust(1000)
      yield* revoke(at, "--hostname", "web-1", "--not-before", "2026-11-01T00:00:00Z")
      assert.deepStrictEqual(entries(), [
        { hostname: "web-2", notBefore: start + 1000, reason: null, revokedBy: "ada" },
        { hostname: "web-1", notBefore: Date.UTC(2026, 10, 1), reason: null, revokedBy: "ada" }
      ])
      yield* TestClock.adjust(1000)
      assert.strictEqual((yield* lift(at, "web-1")).code, 0)
      assert.deepStrictEqual(entries().map(({ hostname }) => hostname), ["web-2"])
      assert.strictEqual((yield* lift(at, "web-1")).code, 1)
      assert.strictEqual((yield* revoke(at, "--hostname", "a", "--not-before", "yesterday")).code, 64)
    }))

  it.effect("never goes back in time, and a damaged list is not replaced", () =>
    Effect.gen(function*() {
      const { at } = yield* makeFleet
      yield* revoke(at, "--hostname", "web-1")
      yield* TestClock.setTime(start - hour)
      const refused = yield* revoke(at, "--hostname", "web-2")
      assert.strictEqual(refused.code, 1)
      assert.include(refused.err, "rolled back")
      writeFileSync(at("rel/revocations.json"), "{")
      assert.strictEqual((yield* revoke(at, "--hostname", "web-2")).code, 78)
      assert.strictEqual(readFileSync(at("rel/revocations.json"), "utf8"), "{")
    }))
})

describe("signing by a command", () => {
  /** Signs with the key file that its first argument names, as a TPM's wrapper would. */
  const wrapper = `
const { createPrivateKey, sign } = require("node:crypto"), fs = require("node:fs")
const key = createPrivateKey(fs.readFileSync(process.argv[2]))
const digest = key.asymmetricKeyType === "ed25519" ? null : "sha256"
const signature = sign(digest, fs.readFileSync(process.env.NIXFLEET_INPUT), { key, dsaEncoding: "ieee-p1363" })
fs.writeFileSync(process.env.NIXFLEET_OUTPUT, signature)
`
  const command = (at: (name: string) => string, key: string) => {
    writeFileSync(at("sign.cjs"), wrapper)
    return `'${process.execPath}' '${at("sign.cjs")}' '${at(key)}'`
  }

  it.live("does what a key file does, and another key than the one named is found", () =>
    Effect.gen(function*() {
      const { at } = yield* Effect.provide(makeFleet, TestClock.layer())
      const byCommand = (key: string) => ["--sign-command", command(at, key), "--public-key", at("ci.pub")]
      const revoke = (...signer: ReadonlyArray<string>) =>
        nixfleet(["revocation", "mint", "--hostname", "web-1", "--dir", at("rel"), ...signer])
      assert.strictEqual((yield* revoke(...byCommand("ci"))).code, 0)
      assert.lengthOf(
        readSigned(revocationsKind, at("rel/revocations.json"), at("trust.json"), Date.now()).revocations,
        1
      )
      const wrong = yield* revoke(...byCommand("org"))
      assert.deepStrictEqual([wrong.code, wrong.err.includes("another key than --public-key")], [1, true])
      assert.strictEqual((yield* revoke()).code, 64)
      assert.strictEqual((yield* revoke("--key", at("ci"), ...byCommand("ci"))).code, 64)
    }))

  it.live("a certificate of an authority whose key is behind a command", () =>
    Effect.gen(function*() {
      const { at } = yield* Effect.provide(makeFleet, TestClock.layer())
      const mint = ["operator", "mint-cert", "--cn", "ada", "--out", at("ada"), "--ca-cert", at("ca.pem")]
      const minted = yield* nixfleet([...mint, "--ca-sign-command", command(at, "ca-key.pem")])
      assert.strictEqual(minted.code, 0, minted.err)
      assert.isTrue(certificate(at("ada.pem")).verify(certificate(at("ca.pem")).publicKey))
    }))
})

describe("trust show and rotate", () => {
  it.effect("a key is replaced step by step, and the old one is believed until the last", () =>
    Effect.gen(function*() {
      const { at } = yield* makeFleet
      yield* nixfleet(["keys", "new", at("next")])
      const [old, next] = [at("ci.pub"), at("next.pub")].map((file) => readFileSync(file, "utf8").trim())
      const rotate = (...args: ReadonlyArray<string>) => nixfleet(["trust", "rotate", at("trust.json"), ...args])
      const believed = () => activeKeys(trustOf(at("trust.json")).ciReleaseKey, start + day).map(({ place }) => place)

      const announced = yield* rotate("--announce", at("next.pub"))
      assert.include(announced.out, "promote it before 2026-12-20T12:00:00Z")
      assert.deepStrictEqual(believed(), ["current", "successor"])
      const shown = JSON.parse((yield* nixfleet(["trust", "show", "--json", at("trust.json")])).out)
      assert.deepStrictEqual(
        shown.keys.map((
          key: { place: string; public: string; standing: string }
        ) => [key.place, key.public, key.standing]),
        [
          ["current", old, "believed"],
          ["successor", next, "believed until 2026-12-20T12:00:00Z"],
          ["current", readFileSync(at("org.pub"), "utf8").trim(), "believed"]
        ]
      )
      assert.strictEqual((yield* rotate("--announce", at("next.pub"))).code, 1)

      yield* rotate("--promote")
      assert.deepStrictEqual(believed(), ["current", "previous"])
      assert.strictEqual(trustOf(at("trust.json")).ciReleaseKey.current?.public, next)
      assert.strictEqual((yield* rotate("--promote")).code, 1)

      yield* rotate("--finish", "--reject-before", "2026-11-20T12:00:00Z")
      assert.deepStrictEqual(believed(), ["current"])
      assert.strictEqual(trustOf(at("trust.json")).ciReleaseKey.rejectBefore, start)
      assert.strictEqual((yield* rotate("--finish")).code, 1)
    }))

  it.effect("a rotation that was left lying is told", () =>
    Effect.gen(function*() {
      const { at } = yield* makeFleet
      yield* nixfleet(["keys", "new", at("next")])
      yield* nixfleet([
        "trust",
        "rotate",
        at("trust.json"),
        "--slot",
        "orgRootKey",
        "--announce",
        at("next"),
        "--days",
        "1"
      ])
      yield* TestClock.adjust(2 * day)
      const { out } = yield* nixfleet(["trust", "show", at("trust.json")])
      assert.include(out, "not believed since 2026-11-21T12:00:00Z: finish the rotation")
      assert.include(out, "orgRootKey: the time of the successor has come")
    }))

  it.effect("refuses what makes no sense", () =>
    Effect.gen(function*() {
      const { at } = yield* makeFleet
      const before = readFileSync(at("trust.json"), "utf8")
      const rotate = (...args: ReadonlyArray<string>) => nixfleet(["trust", "rotate", at("trust.json"), ...args])
      for (
        const [args, code] of [
          [[], 64],
          [["--promote", "--finish"], 64],
          [["--promote", "--reject-before", "2026-11-20T12:00:00Z"], 64],
          [["--finish", "--reject-before", "soon"], 64],
          [["--announce", at("ci.pub"), "--days", "0"], 64],
          [["--announce", at("trust.json")], 78],
          [["--slot", "nobody", "--promote"], 64],
          [["--promote"], 1],
          [["--finish"], 1]
        ] as const
      ) assert.strictEqual((yield* rotate(...args)).code, code, args.join(" "))
      assert.strictEqual(readFileSync(at("trust.json"), "utf8"), before)
      writeFileSync(at("broken.json"), "{")
      assert.strictEqual((yield* nixfleet(["trust", "show", at("broken.json")])).code, 78)
    }))
})

describe("a span that no date can hold, or none at all,", () => {
  for (
    const [span, count] of [["days", "0"], ["days", "9999999"], ["days", "99999999999"], [
      "hours",
      "99999999999"
    ]] as const
  ) {
    it.effect(`${count} ${span}, is a wrong command line, and nothing is written`, () =>
      Effect.gen(function*() {
        const { at, authority } = yield* makeFleet
        writeFileSync(at("host"), host)
        const commands = span === "hours"
          ? [["token", "mint", "--key", at("org"), "--hostname", "web-1", "--host-key", at("host"), "--validity-hours"]]
          : [
            ["ca", "init", "--out", at("new"), "--days"],
            ["operator", "mint-cert", ...authority, "--cn", "ada", "--out", at("new"), "--days"],
            ["trust", "rotate", at("trust.json"), "--announce", at("org.pub"), "--days"]
          ]
        const before = readFileSync(at("trust.json"), "utf8")
        for (const command of commands) {
          const { code, err } = yield* nixfleet([...command, count])
          assert.strictEqual(code, 64, command.join(" "))
          assert.match(err, /must be from 1 to \d+/)
        }
        assert.isFalse(existsSync(at("new.pem")))
        assert.strictEqual(readFileSync(at("trust.json"), "utf8"), before)
      }))
  }
})
