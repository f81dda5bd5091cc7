import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { readConfigFile } from "../../../src/Layers/ConfigFile.ts"
import { maxSmallFileBytes, readSmallFile } from "../../../src/Layers/Disk/SmallFile.ts"
import { TrustFile } from "../../../src/Layers/Disk/TrustFile.ts"
import { openTlsIdentity } from "../../../src/Layers/Net/TlsIdentity.ts"
import { temporaryDirectory } from "../../support/directories.ts"

const making = (make: (file: string) => void) =>
  Effect.map(temporaryDirectory, (directory) => {
    const file = join(directory, "file")
    make(file)
    return file
  })

const refused: ReadonlyArray<readonly [string, (file: string) => void, RegExp]> = [
  ["a fifo, without waiting for its writer", (file) => void spawnSync("mkfifo", [file]), /not a regular file/],
  ["an endless device", (file) => symlinkSync("/dev/zero", file), /not a regular file/],
  ["a directory", (file) => mkdirSync(file), /not a regular file/],
  ["a file beyond the limit", (file) => {
    writeFileSync(file, "")
    truncateSync(file, maxSmallFileBytes + 1)
  }, /1048577 bytes, more than the 1048576/],
  ["a file that is not there", () => {}, /ENOENT/]
]

describe("a small file", () => {
  it.live("is read whole up to the limit, and through a link", () =>
    Effect.gen(function*() {
      const bytes = Buffer.alloc(maxSmallFileBytes, "x")
      const file = yield* making((path) => writeFileSync(path, bytes))
      symlinkSync(file, `${file}.link`)
      assert.isTrue(readSmallFile(`${file}.link`).equals(bytes))
    }))

  for (const [what, make, problem] of refused) {
    it.live(`is not ${what}`, () =>
      Effect.gen(function*() {
        const file = yield* making(make)
        assert.throws(() => readSmallFile(file), problem)
        // Whoever reads one refuses it by name.
        const config = yield* readConfigFile(file)
        assert.match(config._tag === "Unreadable" ? config.message : "", problem)
        const trust = yield* Effect.flip(Effect.flatMap(TrustFile, ({ read }) => read)).pipe(
          Effect.provide(TrustFile.layerFile(file))
        )
        assert.strictEqual(trust.reason, "trust-file-unreadable")
        assert.match(trust.message, problem)
        const identity = yield* Effect.flip(openTlsIdentity({ ca: file }))
        assert.strictEqual(identity.reason, "tls-file-unreadable")
        assert.match(identity.message, problem)
      }))
  }
})
