import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { credentialsOf, lookForFile, lookForPaths } from "../../../../src/Layers/Host/nix/Cache.ts"
import { refusal } from "../../../../src/Layers/Host/nix/Settings.ts"

describe("a netrc file", () => {
  const table: ReadonlyArray<readonly [string, string, string | undefined]> = [
    ["one line", "machine cache login a password b", "a:b"],
    ["several lines", "machine cache\n\tlogin a\n\tpassword b\n", "a:b"],
    ["another host", "machine other login a password b", undefined],
    ["another host before", "machine other login x password y machine cache login a password b", "a:b"],
    ["the first of two", "machine cache login a password b machine cache login c password d", "a:b"],
    ["the default", "machine other login x password y default login a password b", "a:b"],
    ["no login", "machine cache password b", ":b"],
    ["no password", "machine cache login a", undefined],
    ["a host whose name is a word", "machine password login a password b", undefined],
    ["cut after a word", "machine cache login a password", ":".padStart(2, "a")],
    ["nothing", "", undefined],
    ["a host alone", "machine", undefined]
  ]
  it.each(table)("with %s", (_case, text, expected) => assert.strictEqual(credentialsOf(text, "cache"), expected))
})

describe("settings of Nix that do not check signatures are refused:", () => {
  const checked = { substituters: ["http://cache"], requireSignatures: true, netrcFile: "/etc/nix/netrc" }
  it("and no others", () => {
    assert.isUndefined(refusal(checked))
    assert.isUndefined(
      refusal({ ...checked, substituters: ["http://cache?trusted=0", "s3://b?untrusted=1", "x?priority=1"] })
    )
  })
  it.each(["http://cache?trusted=1", "http://cache?priority=3&trusted=true", "file:///c?trusted=yes"])(
    "%s",
    (address) => {
      assert.include(refusal({ ...checked, substituters: ["http://good", address] }), "trusted=1")
    }
  )
  it("require-sigs = false", () => assert.include(refusal({ ...checked, requireSignatures: false }), "require-sigs"))
})

describe("a substituter whose address is none", () => {
  const access = { storeDir: "/nix/store", authorities: undefined, timeoutMs: 1000 }
  const addresses = ["http://[cache", "https://user:secret@cache:port/x"]
  const settings = { substituters: addresses, requireSignatures: true, netrcFile: "/nonexistent" }
  it.effect("cannot be asked, and nothing of what stands in it is told", () =>
    Effect.gen(function*() {
      const findings = [
        ...yield* lookForPaths([`/nix/store/${"0".repeat(32)}-x`], settings, access),
        yield* lookForFile("http://[cache/nar/x.nar", settings, access)
      ]
      assert.deepStrictEqual(findings.map(({ answer }) => answer), ["Unreachable", "Unreachable", "Unreachable"])
      assert.notInclude(JSON.stringify(findings), "secret")
    }))
})
