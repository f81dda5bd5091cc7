/**
 * Closure archives, through the whole of `realise` on a real disk: taken only when every rule holds, and otherwise nothing
 * of them is left, in the store or beside it.
 */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { lstatSync, readdirSync, readlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { makeHost, realiseOn, tracesIn } from "../../support/archiveHost.ts"
import { minimalEntries, nameOf, tarOf } from "../../support/tar.ts"
import { mutated, oneOf, type Source } from "../Samples.ts"
import type { Target } from "../Target.ts"

const archives = [
  tarOf(minimalEntries),
  tarOf([
    ...minimalEntries,
    { path: "etc/", type: "Directory" },
    { path: "etc/hosts", content: "127.0.0.1 localhost\n" },
    { path: "etc/link", type: "SymbolicLink", target: "hosts" },
    { path: "etc/a-long-name", content: "x", extended: true }
  ]),
  tarOf([...minimalEntries, { path: "../escape", content: "x" }]),
  tarOf([...minimalEntries, {
    path: "out",
    type: "SymbolicLink",
    target: "bin/switch-to-configuration",
    extended: true
  }])
]

const blockBytes = 512

/** Writes the checksum of each header anew: otherwise that is all that is ever looked at. */
function repaired(tar: Uint8Array): Uint8Array {
  const out = Buffer.from(tar)
  for (let at = 0; at + blockBytes <= out.length; at += blockBytes) {
    const block = out.subarray(at, at + blockBytes)
    if (block.toString("latin1", 257, 262) !== "ustar") continue
    block.fill(" ", 148, 156)
    const sum = block.reduce((total, byte) => total + byte, 0)
    block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1")
  }
  return out
}

const source: Source = (dice) =>
  Effect.map(mutated(oneOf(archives))(dice), (tar) => dice.chance(0.6) ? repaired(tar) : tar)

/** Every entry below a directory: files, directories and relative links that stay inside. */
function walk(root: string, relative = ""): void {
  for (const name of readdirSync(join(root, relative))) {
    const path = join(relative, name)
    const stat = lstatSync(join(root, path))
    assert.isTrue(stat.isFile() || stat.isDirectory() || stat.isSymbolicLink(), path)
    assert.strictEqual(stat.isSymbolicLink() ? 0 : stat.mode & 0o7022, 0, `${path} is writable by others, or more`)
    if (stat.isSymbolicLink()) assert.notMatch(readlinkSync(join(root, path)), /^\//)
    if (stat.isDirectory()) walk(root, path)
  }
}

const limits = { maxBytes: 65_536, maxEntries: 32, maxPathBytes: 256 }

export const archive: Target = {
  name: "archive",
  weight: 3,
  source,
  check: Effect.fnUntraced(function*(input) {
    const host = yield* makeHost({ limits })
    const closure = nameOf(input)
    writeFileSync(join(host.source, `${closure}.tar`), input)
    const outcome = yield* realiseOn(host, closure)
    assert.include(["Ok", "Untrusted"], outcome._tag, "the bytes are those that the name promises")
    assert.deepStrictEqual(readdirSync(host.root).toSorted(), ["source", "system"])
    if (outcome._tag === "Ok") walk(join(host.config.storeDir, closure))
    else assert.deepStrictEqual(tracesIn(host.config.storeDir), [])
  })
}
