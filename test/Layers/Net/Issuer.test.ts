import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { generateKeyPairSync, type KeyObject, X509Certificate } from "node:crypto"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import {
  certificateOf,
  type CertificateOrder,
  signatureAlgorithmOf,
  signWith,
  toBeSigned
} from "../../../src/Layers/Net/Certificates.ts"
import { openIssuer } from "../../../src/Layers/Net/Issuer.ts"
import { signByCommand } from "../../../src/Layers/SignCommand.ts"
import { temporaryDirectory } from "../../support/directories.ts"
import { signWrapper } from "../../support/signWrapper.ts"
import { until } from "../../support/until.ts"

const hour = 3_600_000
const now = Date.UTC(2026, 10, 20, 12)
const host = generateKeyPairSync("ed25519").publicKey

const wanted = (over: Partial<CertificateOrder> = {}): CertificateOrder => ({
  subject: { commonName: "agent-web-1.fleet.test" },
  publicKey: host,
  notBefore: now,
  notAfter: now + hour,
  usage: "client",
  names: [],
  ...over
})

/** An authority of a day, its files, and the command that signs with its key. */
const makeFiles = Effect.fnUntraced(function*(keys: { readonly publicKey: KeyObject; readonly privateKey: KeyObject }) {
  const directory = yield* temporaryDirectory
  const algorithm = signatureAlgorithmOf(keys.privateKey) ?? assert.fail("no signing key")
  const bytes = toBeSigned({
    subject: { commonName: "Fleet CA" },
    publicKey: keys.publicKey,
    notBefore: now - hour,
    notAfter: now + 24 * hour,
    usage: "authority",
    names: []
  }, { certificate: undefined, algorithm })
  const [cert, key, program] = ["ca.pem", "ca-key.pem", "sign.cjs"].map((name) => join(directory, name))
  writeFileSync(cert!, certificateOf(bytes, algorithm, signWith(keys.privateKey, bytes)))
  writeFileSync(key!, keys.privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 })
  writeFileSync(program!, signWrapper)
  return { directory, cert: cert!, key: key!, command: `'${process.execPath}' '${program}' '${key}'` }
})

const p256 = () => generateKeyPairSync("ec", { namedCurve: "P-256" })

describe("issuer", () => {
  for (const [name, keys] of [["P-256", p256()], ["ed25519", generateKeyPairSync("ed25519")]] as const) {
    it.live(`an authority with ${name} issues from a file and by a command`, () =>
      Effect.gen(function*() {
        const files = yield* makeFiles(keys)
        for (const key of [{ file: files.key }, { command: files.command }]) {
          const issuer = yield* openIssuer(files.cert, key)
          const certificate = new X509Certificate(yield* issuer.issue(wanted()))
          assert.isTrue(certificate.verify(keys.publicKey))
          assert.isTrue(certificate.checkIssued(issuer.authority))
          assert.strictEqual(Date.parse(certificate.validTo), now + hour)
        }
      }))
  }

  it.live("a certificate ends with its authority at the latest, and none is issued after it", () =>
    Effect.gen(function*() {
      const files = yield* makeFiles(p256())
      const issuer = yield* openIssuer(files.cert, { file: files.key })
      const long = new X509Certificate(yield* issuer.issue(wanted({ notAfter: now + 999 * hour })))
      assert.strictEqual(Date.parse(long.validTo), now + 24 * hour)
      const late = yield* Effect.flip(issuer.issue(wanted({ notBefore: now + 25 * hour, notAfter: now + 26 * hour })))
      assert.match(late.message, /^the authority ended at /)
    }))

  it.live("a command that signs with another key, or not at all, issues nothing", () =>
    Effect.gen(function*() {
      const files = yield* makeFiles(p256())
      const other = yield* makeFiles(p256())
      for (
        const [command, said] of [
          [other.command, /does not verify with the authority's key/],
          ["exit 3", /ended with 3/],
          ["kill -9 $$", /killed by SIGKILL/],
          ["true", /wrote no signature/],
          [": > \"$NIXFLEET_OUTPUT\"", /wrote 0 bytes/],
          ["head -c 65 /dev/zero > \"$NIXFLEET_OUTPUT\"", /wrote 65 bytes/],
          ["head -c 64 /dev/zero > \"$NIXFLEET_OUTPUT\"", /does not verify/]
        ] as const
      ) {
        const issuer = yield* openIssuer(files.cert, { command })
        assert.match((yield* Effect.flip(issuer.issue(wanted()))).message, said)
      }
    }))

  it.live("files that are no authority are refused at the start, and nothing of a key is repeated", () =>
    Effect.gen(function*() {
      const files = yield* makeFiles(p256())
      const other = yield* makeFiles(p256())
      const leaf = join(files.directory, "leaf.pem")
      writeFileSync(leaf, yield* (yield* openIssuer(files.cert, { file: files.key })).issue(wanted()))
      const secret = join(files.directory, "secret")
      writeFileSync(secret, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
      for (
        const [cert, key, said] of [
          ["/nowhere", files.key, /nowhere is not a readable PEM certificate/],
          [files.key, files.key, /is not a readable PEM certificate/],
          [leaf, files.key, /is not the certificate of an authority/],
          [files.cert, other.key, /is not the key of the authority's certificate/],
          [files.cert, "/nowhere", /is not a readable, unencrypted private key/],
          [files.cert, secret, /is not a readable, unencrypted private key/]
        ] as const
      ) {
        const { message } = yield* Effect.flip(openIssuer(cert, { file: key }))
        assert.match(message, said)
        assert.notInclude(message, "c2VjcmV0")
      }
    }))
})

describe("sign command", () => {
  it.live("reads exactly the bytes, from a file that others cannot read and that is gone afterwards", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const seen = join(directory, "seen")
      const command = `cp "$NIXFLEET_INPUT" '${seen}'; stat -c %a "$NIXFLEET_INPUT" > '${seen}.mode';
        echo "$NIXFLEET_INPUT" > '${seen}.name'; head -c 64 /dev/urandom > "$NIXFLEET_OUTPUT"`
      const signature = yield* signByCommand(command, Buffer.from([0, 255, 10]))
      assert.strictEqual(signature.length, 64)
      assert.deepStrictEqual([...readFileSync(seen)], [0, 255, 10])
      assert.strictEqual(readFileSync(`${seen}.mode`, "utf8").trim(), "600")
      assert.isFalse(existsSync(readFileSync(`${seen}.name`, "utf8").trim()))
    }))

  it.live("one that hangs is killed with its children", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const file = join(directory, "pid")
      const error = yield* Effect.flip(signByCommand(`sleep 600 & echo $! > '${file}'; wait`, Buffer.from("x"), 300))
      assert.match(error.message, /did not end within 300 ms/)
      const pid = Number(readFileSync(file, "utf8"))
      const isGone = () => !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ")
      yield* until(isGone)
    }))
})
