import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { execFileSync, spawnSync } from "node:child_process"
import { createPrivateKey, generateKeyPairSync, type KeyObject, X509Certificate } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import {
  certificateOf,
  type CertificateOrder,
  makeRequest,
  rawEd25519,
  readRequest,
  signatureAlgorithmOf,
  signWith,
  type Subject,
  toBeSigned
} from "../../../src/Layers/Net/Certificates.ts"

const hour = 3_600_000
const now = Date.UTC(2026, 10, 20, 12)
const ed25519 = () => generateKeyPairSync("ed25519")
const p256 = () => generateKeyPairSync("ec", { namedCurve: "P-256" })

const order = (publicKey: KeyObject, over: Partial<CertificateOrder> = {}): CertificateOrder => ({
  subject: { commonName: "agent-web-1.fleet.test" },
  publicKey,
  notBefore: now - hour,
  notAfter: now + hour,
  usage: "client",
  names: ["agent-web-1.fleet.test"],
  ...over
})

/** Signs what is ordered with an authority's key, as a key file would. */
function issued(ordered: CertificateOrder, key: KeyObject, certificate?: X509Certificate): X509Certificate {
  const algorithm = signatureAlgorithmOf(key) ?? assert.fail("no signing key")
  const bytes = toBeSigned(ordered, { certificate, algorithm })
  return new X509Certificate(certificateOf(bytes, algorithm, signWith(key, bytes)))
}

const authority = (keys: { readonly publicKey: KeyObject; readonly privateKey: KeyObject }) =>
  issued(
    order(keys.publicKey, { subject: { commonName: "Fleet CA" }, usage: "authority", names: [] }),
    keys.privateKey
  )

/** Continuous integration must have it: there the test fails instead. */
const withoutOpenSsl = process.env["CI"] !== "true" && spawnSync("openssl", ["version"]).status !== 0

/** A request that OpenSSL made. */
function requestOf(key: KeyObject, subject: string): string {
  const directory = mkdtempSync(join(tmpdir(), "nixfleet-request-"))
  const file = join(directory, "key.pem")
  writeFileSync(file, key.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 })
  const text = execFileSync("openssl", ["req", "-new", "-key", file, "-subj", subject], { encoding: "utf8" })
  rmSync(directory, { recursive: true })
  return text
}

const reason = (text: string): string => {
  const read = readRequest(text)
  return Result.isFailure(read) ? read.failure : assert.fail("the request was read")
}

describe("certificates", () => {
  for (const [name, root, host] of [["P-256", p256(), ed25519()], ["ed25519", ed25519(), p256()]] as const) {
    it(`an authority with ${name} certifies a host, and OpenSSL believes the chain`, () => {
      const ca = authority(root)
      assert.isTrue(ca.ca)
      assert.isTrue(ca.checkIssued(ca))
      assert.isTrue(ca.verify(root.publicKey))
      const certificate = issued(order(host.publicKey), root.privateKey, ca)
      assert.isTrue(certificate.verify(root.publicKey))
      assert.isTrue(certificate.checkIssued(ca))
      assert.isTrue(certificate.checkPrivateKey(host.privateKey))
      assert.isFalse(certificate.ca)
      assert.strictEqual(certificate.subject, "CN=agent-web-1.fleet.test")
      assert.strictEqual(certificate.issuer, "CN=Fleet CA")
      assert.strictEqual(certificate.subjectAltName, "DNS:agent-web-1.fleet.test")
      assert.deepStrictEqual(certificate.keyUsage, ["1.3.6.1.5.5.7.3.2"])
      assert.strictEqual(Date.parse(certificate.validFrom), now - hour)
      assert.strictEqual(Date.parse(certificate.validTo), now + hour)
    })
  }

  it("a server's certificate names hosts and addresses", () => {
    const [root, server] = [p256(), p256()]
    const names = ["localhost", "127.0.0.1", "::1"]
    const certificate = issued(order(server.publicKey, { usage: "server", names }), root.privateKey, authority(root))
    assert.strictEqual(certificate.checkHost("localhost"), "localhost")
    assert.strictEqual(certificate.checkIP("127.0.0.1"), "127.0.0.1")
    assert.strictEqual(certificate.checkIP("::1"), "::1")
    assert.isUndefined(certificate.checkIP("127.0.0.2"))
    assert.deepStrictEqual(certificate.keyUsage, ["1.3.6.1.5.5.7.3.1"])
  })

  it("an organizational unit is part of the name", () => {
    const root = p256()
    const subject = { commonName: "operator-ada", organizationalUnit: "nixfleet-operator" }
    const certificate = issued(order(root.publicKey, { subject, names: [] }), root.privateKey, authority(root))
    assert.strictEqual(certificate.subject, "OU=nixfleet-operator\nCN=operator-ada")
  })

  it("dates after 2049 are told as such", () => {
    const root = p256()
    const notAfter = Date.UTC(2051, 0, 1)
    assert.strictEqual(Date.parse(issued(order(root.publicKey, { notAfter }), root.privateKey).validTo), notAfter)
  })

  it("serial numbers are positive, long and never the same", () => {
    const root = p256()
    const serials = Array.from({ length: 64 }, () => issued(order(root.publicKey), root.privateKey).serialNumber)
    assert.strictEqual(new Set(serials).size, 64)
    for (const serial of serials) assert.match(serial, /^[4-7][0-9A-F]{31}$/)
  })
})

describe("certificate requests", () => {
  for (const [name, keys] of [["ed25519", ed25519()], ["P-256", p256()]] as const) {
    it(`a request of a ${name} key tells its name and its key`, () => {
      const read = Result.getOrThrow(readRequest(makeRequest({ commonName: "web-1" }, keys.privateKey)))
      assert.strictEqual(read.commonName, "web-1")
      assert.isTrue(read.publicKey.equals(keys.publicKey))
    })
    it.skipIf(withoutOpenSsl)(`OpenSSL reads a request of a ${name} key, and its own is read`, () => {
      const ours = makeRequest({ commonName: "web-1" }, keys.privateKey)
      const read = spawnSync("openssl", ["req", "-verify", "-noout", "-subject"], { input: ours, encoding: "utf8" })
      assert.match(`${read.stdout}${read.stderr}`, /verify OK/)
      assert.match(read.stdout, /CN ?= ?web-1/)
      const theirs = requestOf(keys.privateKey, "/O=Example/CN=web-2")
      assert.strictEqual(Result.getOrThrow(readRequest(theirs)).commonName, "web-2")
    })
  }

  it("raw key bytes are those of ed25519 alone", () => {
    assert.strictEqual(rawEd25519(ed25519().publicKey)?.length, 32)
    assert.isUndefined(rawEd25519(p256().publicKey))
  })

  const request = (subject: Subject = { commonName: "web-1" }) => makeRequest(subject, ed25519().privateKey)
  const rearmoured = (der: Buffer) =>
    `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`
  const derOf = (text: string) => Buffer.from(text.replaceAll(/-----[^-]+-----|\s/g, ""), "base64")

  it("a request with any byte changed is refused: it is signed as a whole", () => {
    const der = derOf(request())
    for (let at = 0; at < der.length; at++) {
      const changed = Buffer.from(der)
      changed.writeUInt8(changed.readUInt8(at) ^ 1, at)
      assert.isTrue(Result.isFailure(readRequest(rearmoured(changed))), `byte ${at}`)
    }
  })

  it("a request cut anywhere, or with a tail, is refused", () => {
    const der = derOf(request())
    for (let length = 0; length < der.length; length++) {
      assert.isTrue(Result.isFailure(readRequest(rearmoured(der.subarray(0, length)))), `${length} bytes`)
    }
    assert.strictEqual(reason(rearmoured(Buffer.concat([der, der]))), "not a certificate request in DER")
  })

  it("what is not a request says so", () => {
    const ofCertificate = issued(order(p256().publicKey), p256().privateKey).toString()
    for (
      const [text, said] of [
        ["", "not one PEM CERTIFICATE REQUEST"],
        ["hello", "not one PEM CERTIFICATE REQUEST"],
        [ofCertificate, "not one PEM CERTIFICATE REQUEST"],
        [request() + request(), "not one PEM CERTIFICATE REQUEST"],
        [request().padEnd(9000, "\n"), "the request is longer than 8192 characters"],
        [rearmoured(Buffer.from("hello")), "not a certificate request"],
        [request({ commonName: "" }), "the request does not have one common name"]
      ] as const
    ) assert.strictEqual(reason(text), said)
  })

  it.skipIf(withoutOpenSsl)("a request of another kind of key is refused", () => {
    const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey
    assert.strictEqual(
      reason(requestOf(rsa, "/CN=web-1")),
      "the key of the request is neither ed25519 nor P-256"
    )
  })

  it("a key that cannot ask is a defect of the caller", () => {
    const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey
    assert.throws(() => makeRequest({ commonName: "web-1" }, rsa), /only ed25519 and P-256/)
    assert.isUndefined(signatureAlgorithmOf(createPrivateKey(rsa.export({ type: "pkcs8", format: "pem" }))))
  })
})
