import { assert, describe, it } from "@effect/vitest"
import {
  type ArchiveEntry,
  ArchiveTree,
  closureOf,
  defaultArchiveLimits,
  digestOf,
  isArchiveName
} from "../../../src/Layers/Host/Archive.ts"

const directory = (path: string): ArchiveEntry => ({ kind: "directory", path })
const file = (path: string, executable = false): ArchiveEntry => ({ kind: "file", path, executable })
const link = (path: string, target: string): ArchiveEntry => ({ kind: "symlink", path, target })

/** The first problem of a list of entries, or `undefined`. */
const problemOf = (entries: ReadonlyArray<ArchiveEntry>, limits = defaultArchiveLimits): string | undefined => {
  const tree = new ArchiveTree(limits)
  for (const entry of entries) {
    const problem = tree.add(entry)
    if (problem !== undefined) return problem
  }
  return tree.complete()
}

const base = [directory("bin"), file("bin/switch-to-configuration", true), directory("a"), directory("a/b")]

describe("names of closures", () => {
  it("are 40 digits of the hash and a name that Nix would take", () => {
    const closure = closureOf("0123456789abcdef".repeat(4), "web-1.2")
    assert.strictEqual(closure, "0123456789abcdef0123456789abcdef01234567-web-1.2")
    assert.strictEqual(digestOf(closure), "0123456789abcdef0123456789abcdef01234567")
  })

  it.each([
    ["", "no name"],
    ["../../etc", "a path"],
    [`${"0".repeat(40)}-`, "nothing after the digest"],
    [`${"0".repeat(40)}-a/b`, "a slash"],
    [`${"0".repeat(39)}-a`, "a short digest"],
    [`${"G".repeat(40)}-a`, "a digest that is not hex"],
    [`${"0".repeat(40)}-a\n`, "a line break"],
    [`${"0".repeat(40)}-${"a".repeat(212)}`, "a long name"]
  ])("%j is none: %s", (closure) => {
    assert.isUndefined(digestOf(closure))
  })

  it("a name for packing is not empty and has no slash", () => {
    assert.isTrue(isArchiveName("web-1.2+a_b?c=d"))
    assert.isFalse(isArchiveName(""))
    assert.isFalse(isArchiveName("a/b"))
    assert.isFalse(isArchiveName("a b"))
  })
})

describe("entries of an archive", () => {
  it.each<[string, ReadonlyArray<ArchiveEntry>]>([
    ["files, directories and links", [...base, file("a/b/c"), link("a/b/d", "c")]],
    ["a link up to the root of the archive", [...base, link("a/b/up", "../..")]],
    ["a link through another one", [...base, link("a/x", "b"), link("y", "a/x/z")]],
    ["a dangling link inside", [...base, link("a/b/l", "../nothing/here")]],
    ["a link with a plain dot", [...base, link("a/l", "./b")]],
    ["a name that only looks like one that goes up", [...base, file("..a"), file("a/...")]],
    ["a switch that is a link", [directory("bin"), file("real", true), link("bin/switch-to-configuration", "../real")]]
  ])("are taken: %s", (_, entries) => {
    assert.isUndefined(problemOf(entries))
  })

  it.each<[string, ReadonlyArray<ArchiveEntry>, RegExp]>([
    ["a path that goes up", [file("../x")], /leaves the archive/],
    ["a path that goes up in the middle", [...base, file("a/../../x")], /leaves the archive/],
    ["an absolute path", [file("/etc/passwd")], /absolute path/],
    ["an empty path", [file("")], /without a path/],
    ["a path with a dot", [file("./a")], /plain form/],
    ["a path with two slashes", [...base, file("a//x")], /plain form/],
    ["a path with a line break", [file("a\nb")], /control characters/],
    ["a path that was not UTF-8", [file("a\ufffdb")], /broken UTF-8/],
    ["a long path", [file("a/".repeat(600) + "b")], /longer than 1024 bytes/],
    ["a long name", [file("a".repeat(256))], /name longer than 255/],
    ["a name that is long in bytes", [file("ä".repeat(128))], /name longer than 255/],
    ["the same path twice", [...base, file("a/x"), file("a/x")], /duplicate/],
    ["a directory twice", [...base, directory("a")], /duplicate/],
    ["a link in the place of a directory", [...base, link("a", "b")], /duplicate/],
    ["a file through a link", [...base, link("l", "a"), file("l/x")], /through the symbolic link "l"/],
    ["a file deep through a link", [...base, link("l", "a"), file("l/b/x")], /through the symbolic link "l"/],
    ["a file in a file", [file("f"), file("f/x")], /which is a file/],
    ["a file before its directory", [file("z/x")], /before its directory/],
    ["an absolute target", [link("l", "/etc/passwd")], /absolute target/],
    ["a target outside", [link("l", "../x")], /can leave/],
    ["a target outside from below", [...base, link("a/b/l", "../../../x")], /can leave/],
    ["a target that goes up behind a name", [...base, link("a/l", "b/../../..")], /can leave/],
    // `a/s` is the archive's root, so that `a/s/..` would be above it although the text stays inside.
    ["a target that goes up behind a link", [...base, link("a/s", ".."), link("a/e", "s/../x")], /can leave/],
    ["an empty target", [link("l", "")], /without a target/],
    ["a long target", [link("l", "a/".repeat(600))], /target longer/],
    ["no switch", [file("x")], /no executable bin\/switch-to-configuration/],
    ["a switch that cannot be run", [directory("bin"), file("bin/switch-to-configuration")], /no executable/],
    ["a switch that is a directory", [directory("bin"), directory("bin/switch-to-configuration")], /no executable/]
  ])("are refused: %s", (_, entries, problem) => {
    assert.match(problemOf(entries) ?? "taken", problem)
  })

  it("are at most as many as the limit", () => {
    const limits = { ...defaultArchiveLimits, maxEntries: base.length }
    assert.isUndefined(problemOf(base, limits))
    assert.match(problemOf([...base, file("x")], limits) ?? "taken", /more than 4 entries/)
  })
})
