import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { createPrivateKey, generateKeyPairSync } from "node:crypto"
import { isOpenSshKey, openSshKeyToPkcs8 } from "../../../src/Layers/Net/OpenSshKey.ts"
import { openSshPrivateKey } from "../../support/openssh.ts"

const { privateKey } = generateKeyPairSync("ed25519")
const text = openSshPrivateKey(privateKey)

describe("OpenSSH private keys", () => {
  it("an unencrypted ed25519 key keeps its seed", () => {
    const converted = Result.getOrThrow(openSshKeyToPkcs8(text))
    assert.isTrue(isOpenSshKey(text))
    assert.isFalse(isOpenSshKey(converted))
    assert.isTrue(createPrivateKey(converted).equals(privateKey))
  })

  const base64 = text.split("\n").slice(1, -2).join("")
  const armour = (content: string) =>
    `-----BEGIN OPENSSH PRIVATE KEY-----\n${content}\n-----END OPENSSH PRIVATE KEY-----\n`
  const bad: ReadonlyArray<readonly [string, string, RegExp]> = [
    ["encrypted", openSshPrivateKey(privateKey, { cipher: "aes256-ctr" }), /encrypted \(aes256-ctr\)/],
    ["another type", openSshPrivateKey(privateKey, { type: "ssh-rsa" }), /type ssh-rsa/],
    ["damaged check numbers", openSshPrivateKey(privateKey, { brokenCheck: true }), /damaged/],
    ["no footer", text.slice(0, -20), /truncated/],
    ["not base64", armour("***"), /truncated/],
    ["another magic", armour(Buffer.from("openssh-key-v2\0rest").toString("base64")), /truncated/],
    [
      "a length beyond the end",
      armour(`${Buffer.from("openssh-key-v1\0").toString("base64")}/////w==`),
      /truncated|damaged/
    ],
    ["empty", armour(""), /truncated/]
  ]
  for (const [name, input, expected] of bad) {
    it(`${name}: refused with the reason`, () => {
      const result = openSshKeyToPkcs8(input)
      assert.isTrue(Result.isFailure(result))
      if (Result.isFailure(result)) assert.match(result.failure, expected)
    })
  }

  it("every truncation is refused, none throws", () => {
    for (let length = 0; length < base64.length; length += 4) {
      assert.isTrue(Result.isFailure(openSshKeyToPkcs8(armour(base64.slice(0, length)))))
    }
  })
})
