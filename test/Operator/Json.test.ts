/** Every command says with `--json` what it did; `keys show` and `canonicalize` print nothing but JSON anyway. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { sha256Hex } from "../../src/Trust/CanonicalJson.ts"
import { closure, signedAt, signedAtText } from "../support/artifacts.ts"
import { writeTree } from "../support/closures.ts"
import { nixfleet, temporaryDirectory } from "../support/operator.ts"

const declaration = {
  ref: "aa11",
  channels: { stable: { rolloutPolicy: "careful", freshnessWindow: 120 } },
  rolloutPolicies: {
    careful: {
      waves: [{ selector: { hosts: ["web-1"] }, soakSeconds: 5 }, { selector: { all: true }, soakMinutes: 1 }]
    }
  },
  hosts: Object.fromEntries(["web-1", "web-2", "web-3"].map((host) => [
    host,
    { channel: "stable", platform: "x86_64-linux", closure: closure("1", "web") }
  ]))
}

/** Runs a command that must succeed, in a directory of its own, and reads all of its output as JSON. */
const workspace = Effect.gen(function*() {
  const directory = yield* temporaryDirectory
  yield* TestClock.setTime(signedAt)
  const at = (name: string) => join(directory, name)
  const json = (...args: ReadonlyArray<string>) =>
    Effect.map(nixfleet([...args, "--json"]), (outcome): unknown => {
      assert.strictEqual(outcome.code, 0, outcome.err)
      return JSON.parse(outcome.out)
    })
  return { at, json }
})

describe("--json", () => {
  it.effect("of release build, keys new and release sign names what was written", () =>
    Effect.gen(function*() {
      const { at, json } = yield* workspace
      writeFileSync(at("fleet.json"), JSON.stringify(declaration))
      const built = yield* json("release", "build", "--declaration", at("fleet.json"), "--out", at("rel"))
      const release = (fleetSignedAt: string | null) => ({
        directory: at("rel"),
        ref: "aa11",
        signedAt: fleetSignedAt,
        fleetHash: sha256Hex(readFileSync(at("rel/fleet.resolved.json"))),
        rollouts: [{ rolloutId: "stable@aa11", hosts: 3, waves: 2 }]
      })
      assert.deepStrictEqual(built, release(null))
      assert.deepStrictEqual(yield* json("keys", "new", at("key")), {
        privateKey: at("key"),
        publicKey: at("key.pub")
      })
      const signed = yield* json("release", "sign", "--dir", at("rel"), "--key", at("key"))
      assert.deepStrictEqual(signed, release(signedAtText))
      assert.isTrue(existsSync(at("rel/fleet.resolved.json.sig")))
    }))

  it.effect("of closure pack names the closure and its archive", () =>
    Effect.gen(function*() {
      const { at, json } = yield* workspace
      yield* Effect.promise(() => writeTree(at("system"), { "bin/switch-to-configuration": "#!/bin/sh\n" }))
      const packed = (yield* json("closure", "pack", at("system"), "--name", "web", "--out", at("out"))) as {
        readonly closure: string
        readonly archive: string
      }
      assert.match(packed.closure, /^[0-9a-f]{40}-web$/)
      assert.strictEqual(packed.archive, at(`out/${packed.closure}.tar`))
      assert.isTrue(sha256Hex(readFileSync(packed.archive)).startsWith(packed.closure.slice(0, 40)))
    }))

  it.effect("leaves standard output empty when the command fails", () =>
    Effect.gen(function*() {
      const { at } = yield* workspace
      for (
        const [args, code] of [
          [["release", "build", "--declaration", at("absent"), "--out", at("rel")], 78],
          [["release", "sign", "--dir", at("absent"), "--key", at("absent")], 78],
          [["closure", "pack", at("absent"), "--name", "web", "--out", at("out")], 1],
          [["keys", "new", at("absent/\0")], 1]
        ] as const
      ) {
        const failed = yield* nixfleet([...args, "--json"])
        assert.deepStrictEqual([failed.code, failed.out], [code, ""], failed.err)
        assert.notStrictEqual(failed.err, "")
      }
    }))
})
