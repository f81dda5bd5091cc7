import { assert, describe, it } from "@effect/vitest"
import { canonicalText, encodeUtf8, type Json } from "../../src/Trust/CanonicalJson.ts"
import { type EvidenceRequest, judgeEvidence } from "../../src/Trust/Evidence.ts"
import { publicKeyOfSeed, signEd25519 } from "../../src/Trust/Signature.ts"
import { openSshLine } from "../support/evidence.ts"
import { t0 } from "../support/records.ts"

const seed = new Uint8Array(32).fill(7)
const otherSeed = new Uint8Array(32).fill(8)
const hour = 3_600_000

const document = {
  schemaVersion: 1,
  hostname: "web-1",
  collectedAt: "2026-05-16T01:00:00Z",
  controls: [{ controlId: "c-1", passed: true, frameworkArticles: { nis2: ["art21.h"] } }]
}

const signed = (value: Json, by = seed) =>
  Buffer.from(signEd25519(by, encodeUtf8(canonicalText(value)))).toString("base64")

/** Evidence that is believed, but for what is given. `text`: the file as it lies there. */
function judge(
  given: Partial<Omit<EvidenceRequest, "bytes" | "signature" | "key">> & {
    readonly value?: Json
    readonly text?: string | Uint8Array
    readonly signature?: string
    readonly key?: string
  } = {}
) {
  const { key = openSshLine(publicKeyOfSeed(seed)), value = document, ...rest } = given
  const { signature = signed(value), text = JSON.stringify(value, undefined, 2), ...options } = rest
  const verdict = judgeEvidence({
    hostname: "web-1",
    now: t0,
    maxAgeMs: hour,
    ...options,
    bytes: Buffer.from(text),
    signature: Buffer.from(signature),
    key: Buffer.from(key)
  })
  return verdict.ok ? "believed" : verdict.problem
}

const rsaLine = `ssh-rsa ${
  Buffer.concat([Buffer.from([0, 0, 0, 7]), Buffer.from("ssh-rsa"), Buffer.alloc(32, 1)]).toString("base64")
}`

describe("evidence is believed", () => {
  it("whatever the white space and the order of its members: the signature is over the canonical form", () => {
    assert.strictEqual(judge(), "believed")
    assert.strictEqual(judge({ text: canonicalText(document) }), "believed")
  })
  it("with fields that are not known here, which are signed as well (A-W63)", () => {
    const value = { ...document, collector: { name: "lynis", score: null } }
    assert.strictEqual(judge({ value }), "believed")
    assert.match(judge({ text: JSON.stringify(value) }), /did not make this signature/)
  })
  it("up to its age and a minute, and up to a minute ahead", () => {
    assert.strictEqual(judge({ now: t0 + hour + 60_000 }), "believed")
    assert.match(judge({ now: t0 + hour + 60_001 }), /^stale: collected at 2026-05-16T01:00:00Z/)
    assert.strictEqual(judge({ now: t0 - 60_000 }), "believed")
    assert.match(judge({ now: t0 - 60_001 }), /^collected in the future/)
  })
  it("with a comment behind the key, and a line break behind key and signature", () => {
    const key = `${openSshLine(publicKeyOfSeed(seed))} root@web-1\n`
    assert.strictEqual(judge({ key, signature: `${signed(document)}\n` }), "believed")
  })
})

describe("evidence is not believed", () => {
  const text = JSON.stringify(document)
  const cases: ReadonlyArray<readonly [string, Parameters<typeof judge>[0], RegExp]> = [
    ["of another host", { hostname: "web-2" }, /^evidence of web-1, this host is web-2$/],
    ["signed with another key", { signature: signed(document, otherSeed) }, /did not make this signature/],
    ["of another version", { value: { ...document, schemaVersion: 2 } }, /^schemaVersion is 2, known is 1$/],
    ["of a version in words", { value: { ...document, schemaVersion: "1" } }, /^schemaVersion is "string"/],
    ["without a version", { value: { hostname: "web-1" } }, /^schemaVersion is missing/],
    ["that is a list", { value: [1] }, /^schemaVersion is missing/],
    ["without controls", { value: { ...document, controls: null } }, /^not evidence: /],
    ["with a verdict in words", { value: { ...document, controls: [{ controlId: "c", passed: "yes" }] } }, /"passed"/],
    [
      "with a line break in a name",
      { value: { ...document, controls: [{ controlId: "a\nb", passed: true }] } },
      /"controlId"/
    ],
    ["without a time", { value: { ...document, collectedAt: "yesterday" } }, /"collectedAt"/],
    ["that is empty", { text: "" }, /^not JSON that has one meaning/],
    ["cut short", { text: text.slice(0, -2) }, /^not JSON that has one meaning/],
    ["with a key twice", { text: text.replace("{", "{\"hostname\":\"web-1\",") }, /"hostname" twice/],
    ["that is not UTF-8", { text: new Uint8Array([0x7b, 0xff, 0x7d]) }, /not UTF-8/],
    ["nested without end", { text: "[".repeat(100_000) }, /^not JSON that has one meaning/],
    ["with an empty signature", { signature: "" }, /not base64 of 64 bytes/],
    ["with half a signature", { signature: signed(document).slice(0, 40) }, /not base64 of 64 bytes/],
    ["with words around the signature", { signature: `sig: ${signed(document)}` }, /not base64 of 64 bytes/],
    ["with a key of another type (A-W62)", { key: rsaLine }, /no ssh-ed25519 public key/],
    ["with a private key", { key: "-----BEGIN OPENSSH PRIVATE KEY-----\n" }, /no ssh-ed25519 public key/],
    ["with a key of small order", { key: openSshLine(new Uint8Array(32)) }, /malformed ed25519 key/]
  ]
  it.each(cases)("%s", (_, given, problem) => assert.match(judge(given), problem))
})
