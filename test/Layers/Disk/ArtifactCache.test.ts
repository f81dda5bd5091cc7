import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Layer, Logger } from "effect"
import { readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { ArtifactCache, type CacheLimits, type SignedArtifact } from "../../../src/Layers/Disk/ArtifactCache.ts"
import { decodeUnit, encodeUnit } from "../../../src/Layers/Disk/ArtifactUnit.ts"
import { temporaryDirectory } from "../../support/directories.ts"

const limits: CacheLimits = { maxUnits: 3, maxUnitBytes: 10_000 }
const artifact = (name: string, text: string): SignedArtifact => ({
  name,
  bytes: new TextEncoder().encode(text),
  signature: new Uint8Array(64).fill(7)
})
const plain = (unit: ReadonlyArray<SignedArtifact> | undefined) =>
  unit?.map(({ bytes, name, signature }) => ({
    name,
    text: new TextDecoder().decode(bytes),
    signature: signature.length
  }))

const inDirectory = Layer.unwrap(
  Effect.map(temporaryDirectory, (directory) => ArtifactCache.layerFile(directory, limits))
)

for (
  const [where, cacheLayer] of [
    ["files", inDirectory],
    ["memory", Layer.suspend(() => ArtifactCache.layerMemory(new Map(), limits))]
  ] as const
) {
  layer(cacheLayer)(`a cache in ${where}`, (test) => {
    test.effect("gives back a unit as it was written, and replaces it whole", () =>
      Effect.gen(function*() {
        const cache = yield* ArtifactCache
        assert.isUndefined(yield* cache.read("fleet"))
        yield* cache.write("fleet", [artifact("fleet.resolved", "{}"), artifact("stable@00", "m")])
        yield* cache.write("fleet", [artifact("fleet.resolved", "{\"a\":1}\n\0ü")])
        assert.deepStrictEqual(plain(yield* cache.read("fleet")), [
          { name: "fleet.resolved", text: "{\"a\":1}\n\0ü", signature: 64 }
        ])
      }))

    test.effect("takes only names that are names of files, and says why not", () =>
      Effect.gen(function*() {
        const cache = yield* ArtifactCache
        for (const name of ["", ".", "..", "../x", "a/b", ".hidden", "a\0b", "ü", "x".repeat(201), "a\nb"]) {
          assert.strictEqual(
            (yield* Effect.flip(cache.write(name, []))).reason,
            "cache-name-unsafe",
            JSON.stringify(name)
          )
          assert.isUndefined(yield* cache.read(name))
        }
        const longest = `${"c".repeat(64)}@${"f".repeat(128)}`
        yield* cache.write(longest, [artifact("m", "x")])
        assert.isDefined(yield* cache.read(longest))
      }))

    test.effect("refuses a unit that is too large and keeps the last good one", () =>
      Effect.gen(function*() {
        const cache = yield* ArtifactCache
        yield* cache.write("fleet", [artifact("fleet.resolved", "good")])
        const error = yield* Effect.flip(cache.write("fleet", [artifact("fleet.resolved", "x".repeat(10_001))]))
        assert.strictEqual(error.reason, "cache-unit-too-large")
        assert.strictEqual(plain(yield* cache.read("fleet"))?.[0]?.text, "good")
      }))
  })
}

describe("the bound", () => {
  const fill = Effect.gen(function*() {
    const cache = yield* ArtifactCache
    for (const name of ["a", "b", "c", "a", "d"]) yield* cache.write(name, [artifact("m", name)])
    return yield* Effect.filter(
      ["a", "b", "c", "d"],
      (name) => Effect.map(cache.read(name), (unit) => unit !== undefined)
    )
  })
  it.effect("the unit written longest ago goes first (memory)", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* Effect.provide(fill, ArtifactCache.layerMemory(new Map(), limits)), ["a", "c", "d"])
    }))
  it.live("the unit written longest ago goes first (files)", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const kept = yield* Effect.gen(function*() {
        const cache = yield* ArtifactCache
        for (const [index, name] of ["b", "c", "a"].entries()) {
          yield* cache.write(name, [artifact("m", name)])
          utimesSync(join(directory, name), 1000 + index, 1000 + index)
        }
        writeFileSync(join(directory, ".tmp-left-by-a-crash"), "half")
        yield* cache.write("d", [artifact("m", "d")])
        return readdirSync(directory).toSorted()
      }).pipe(Effect.provide(ArtifactCache.layerFile(directory, limits)))
      assert.deepStrictEqual(kept, ["a", "c", "d"])
    }))
})

describe("a damaged file", () => {
  const good = encodeUnit([artifact("m", "content"), artifact("n", "more")])
  const header = (change: Record<string, unknown>) => {
    const end = good.indexOf(0x0a)
    const fields: Record<string, unknown> = JSON.parse(new TextDecoder().decode(good.subarray(0, end)))
    return Buffer.concat([Buffer.from(`${JSON.stringify({ ...fields, ...change })}\n`), good.subarray(end + 1)])
  }
  const damages: ReadonlyArray<readonly [string, Uint8Array]> = [
    ["empty", new Uint8Array()],
    ["cut in the header", good.subarray(0, 20)],
    ["cut in the body", good.subarray(0, -1)],
    ["longer", Buffer.concat([good, Buffer.from("x")])],
    ["flipped", good.with(good.length - 1, good.at(-1)! ^ 1)],
    ["of another format", header({ format: "nixfleet-artifacts-2" })],
    ["with a length too many", header({ entries: [{ name: "m", bytes: 1e9, signature: 64 }] })],
    ["with a negative length", header({ entries: [{ name: "m", bytes: -1, signature: 64 }] })],
    ["with entries of a wrong type", header({ entries: "m" })],
    ["of anything else", Buffer.from("<html>\n</html>\n")]
  ]
  for (const [what, bytes] of damages) {
    it.live(`${what} counts as absent, is named, and is replaced by the next write`, () =>
      Effect.gen(function*() {
        assert.isUndefined(decodeUnit(bytes))
        const directory = yield* temporaryDirectory
        writeFileSync(join(directory, "fleet"), bytes)
        const lines: Array<string> = []
        const capture = Logger.layer([Logger.map(Logger.formatJson, (line) => void lines.push(line))])
        yield* Effect.gen(function*() {
          const cache = yield* ArtifactCache
          assert.isUndefined(yield* cache.read("absent"))
          assert.deepStrictEqual(lines, [])
          assert.isUndefined(yield* cache.read("fleet"))
          assert.lengthOf(lines, 1)
          assert.include(lines[0], "\"reason\":\"cache-unreadable\"")
          assert.include(lines[0], join(directory, "fleet"))
          yield* cache.write("fleet", [artifact("m", "new")])
        }).pipe(Effect.provide(Layer.merge(ArtifactCache.layerFile(directory, limits), capture)))
        assert.isDefined(decodeUnit(readFileSync(join(directory, "fleet"))))
      }))
  }
})
