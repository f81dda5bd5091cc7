import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import { chmodSync, linkSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, utimesSync } from "node:fs"
import { cp, readlink } from "node:fs/promises"
import { join } from "node:path"
import { defaultArchiveLimits } from "../../../src/Layers/Host/Archive.ts"
import { packClosure } from "../../../src/Layers/Host/ArchivePack.ts"
import { unpackArchive } from "../../../src/Layers/Host/ArchiveUnpack.ts"
import { switchProgram, writeTree } from "../../support/closures.ts"
import { temporaryDirectory } from "../../support/directories.ts"

const limits = defaultArchiveLimits
const longName = `${"long/".repeat(40)}file`

const sampleTree = (root: string) =>
  writeTree(root, {
    "bin/switch-to-configuration": switchProgram("exit 0"),
    "etc/b": "b",
    "etc/a": "",
    "etc/ä": "umlaut",
    "etc/big": "0123456789".repeat(20_000),
    [longName]: "deep"
  })

async function* bytesOf(file: string) {
  yield readFileSync(file)
}

describe("packing a closure", () => {
  it.live("gives the same bytes for the same files, whatever their times, modes, links and order", () =>
    Effect.gen(function*() {
      const root = yield* temporaryDirectory
      const one = yield* Effect.promise(() => sampleTree(join(root, "one")))
      yield* Effect.promise(() => cp(one, join(root, "two"), { recursive: true }))
      const two = join(root, "two")
      utimesSync(join(two, "etc/a"), 1000, 2000)
      chmodSync(join(two, "etc/a"), 0o600)
      chmodSync(join(two, "bin/switch-to-configuration"), 0o700)
      linkSync(join(two, "etc/b"), join(root, "another name of the same file"))
      const first = yield* packClosure(one, "sample", join(root, "out1"))
      const second = yield* packClosure(two, "sample", join(root, "out2"))
      assert.strictEqual(first, second)
      const listed = execFileSync("tar", ["-tf", join(root, "out1", `${first}.tar`)], { encoding: "utf8" }).trim()
        .split("\n")
      assert.deepStrictEqual(listed.slice(0, 5), ["bin/", "bin/switch-to-configuration", "etc/", "etc/a", "etc/b"])
      assert.isTrue(
        readFileSync(join(root, "out1", `${first}.tar`)).equals(readFileSync(join(root, "out2", `${second}.tar`)))
      )
    }))

  it.live("names the archive by its hash and leaves nothing else behind", () =>
    Effect.gen(function*() {
      const root = yield* temporaryDirectory
      const closure = yield* packClosure(
        yield* Effect.promise(() => sampleTree(join(root, "in"))),
        "n",
        join(root, "out")
      )
      const sha256 = createHash("sha256").update(readFileSync(join(root, "out", `${closure}.tar`))).digest("hex")
      assert.strictEqual(closure, `${sha256.slice(0, 40)}-n`)
      assert.deepStrictEqual(readdirSync(join(root, "out")), [`${closure}.tar`])
    }))

  it.live("writes what the unpacker and an ordinary tar read back as the same tree", () =>
    Effect.gen(function*() {
      const root = yield* temporaryDirectory
      const source = yield* Effect.promise(() => sampleTree(join(root, "in")))
      linkSync(join(source, "etc/big"), join(source, "etc/same"))
      symlinkSync("../etc/b", join(source, "bin/link"))
      symlinkSync(longName, join(source, "far"))
      const closure = yield* packClosure(source, "n", join(root, "out"))
      const file = join(root, "out", `${closure}.tar`)
      const target = join(root, "target")
      mkdirSync(target)
      const result = yield* Effect.promise(() =>
        unpackArchive(bytesOf(file), target, closure.slice(0, 40), limits, new AbortController().signal)
      )
      assert.strictEqual(result._tag, "Ok")
      mkdirSync(join(root, "plain"))
      execFileSync("tar", ["-xf", file, "-C", join(root, "plain")])
      for (const unpacked of [target, join(root, "plain")]) {
        for (
          const path of ["etc/a", "etc/b", "etc/ä", "etc/big", "etc/same", longName, "bin/switch-to-configuration"]
        ) {
          assert.isTrue(readFileSync(join(source, path)).equals(readFileSync(join(unpacked, path))), path)
        }
        assert.strictEqual(yield* Effect.promise(() => readlink(join(unpacked, "bin/link"))), "../etc/b")
        assert.strictEqual(yield* Effect.promise(() => readlink(join(unpacked, "far"))), longName)
      }
      assert.strictEqual(lstatSync(join(target, "etc/b")).mode & 0o777, 0o444)
      assert.strictEqual(lstatSync(join(target, "bin/switch-to-configuration")).mode & 0o777, 0o555)
      assert.strictEqual(lstatSync(join(target, "etc")).mode & 0o777, 0o755)
    }))

  const refused = (name: string, change: (tree: string) => void, problem: RegExp, given = limits) =>
    it.live(`refuses ${name}, and writes nothing`, () =>
      Effect.gen(function*() {
        const root = yield* temporaryDirectory
        const tree = yield* Effect.promise(() => sampleTree(join(root, "in")))
        change(tree)
        const error = yield* Effect.flip(packClosure(tree, "n", join(root, "out"), given))
        assert.match(error.message, problem)
        assert.deepStrictEqual(readdirSync(join(root, "out")), [])
      }))

  refused("a link out of the tree", (tree) => symlinkSync("../../etc", join(tree, "etc/out")), /can leave the archive/)
  refused("an absolute link", (tree) => symlinkSync("/nix/store", join(tree, "abs")), /absolute target/)
  refused("a fifo", (tree) => execFileSync("mkfifo", [join(tree, "pipe")]), /neither a file/)
  refused(
    "a tree without a switch",
    (tree) => execFileSync("rm", [join(tree, "bin/switch-to-configuration")]),
    /no executable/
  )
  refused("more entries than the limit", () => undefined, /more than 3 entries/, { ...limits, maxEntries: 3 })
  refused("more bytes than the limit", () => undefined, /larger than 9000 bytes/, { ...limits, maxBytes: 9000 })

  it.live("refuses a name that is none, a directory that is not there, and an output inside the input", () =>
    Effect.gen(function*() {
      const root = yield* temporaryDirectory
      const tree = yield* Effect.promise(() => sampleTree(join(root, "in")))
      const problem = (directory: string, name: string, out: string) =>
        Effect.map(Effect.flip(packClosure(directory, name, out)), (error) => error.message)
      assert.match(yield* problem(tree, "a/b", join(root, "out")), /is not a name/)
      assert.match(yield* problem(join(root, "nothing"), "n", join(root, "out")), /ENOENT/)
      assert.match(yield* problem(tree, "n", join(tree, "out")), /lies inside it/)
      assert.match(yield* problem(tree, "n", tree), /lies inside it/)
    }))
})
