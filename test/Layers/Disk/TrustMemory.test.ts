import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"
import { CommitHeld } from "../../../src/Layers/Disk/CommitHeld.ts"
import { TrustMemory } from "../../../src/Layers/Disk/TrustMemory.ts"
import { noMounts, smallDisk, temporaryDirectory } from "../../support/directories.ts"

const bytes = (text: string) => new TextEncoder().encode(text)
const life = <A, E>(file: string, use: (memory: typeof TrustMemory.Service) => Effect.Effect<A, E>) =>
  Effect.flatMap(TrustMemory, use).pipe(Effect.provide(TrustMemory.layerFile(file)))

describe("the file of what was accepted last", () => {
  it.live("is absent at first, then holds what was saved last, privately and without leavings", () =>
    Effect.gen(function*() {
      const directory = join(yield* temporaryDirectory, "state")
      const file = join(directory, "trust-memory.json")
      yield* life(file, (memory) =>
        Effect.gen(function*() {
          assert.isUndefined(yield* memory.load)
          memory.save(bytes("one"))
          memory.save(bytes("two"))
        }))
      assert.deepStrictEqual(new Uint8Array((yield* life(file, (memory) => memory.load)) ?? []), bytes("two"))
      assert.deepStrictEqual(readdirSync(directory), ["trust-memory.json"])
      assert.strictEqual(statSync(file).mode & 0o777, 0o600)
    }))

  it.live("that cannot be read stops the start by name", () =>
    Effect.gen(function*() {
      const file = join(yield* temporaryDirectory, "trust-memory.json")
      mkdirSync(file)
      const error = yield* Effect.flip(life(file, (memory) => memory.load))
      assert.strictEqual(error.reason, "trust-memory-unreadable")
      assert.include(error.message, file)
    }))

  it.live.skipIf(noMounts !== undefined)(
    "a full disk holds, and leaves the old content whole",
    () =>
      Effect.gen(function*() {
        const directory = yield* smallDisk(64 * 1024)
        const file = join(directory, "trust-memory.json")
        yield* life(file, (memory) =>
          Effect.gen(function*() {
            memory.save(bytes("old"))
            let held: unknown
            try {
              memory.save(new Uint8Array(100_000))
            } catch (error) {
              held = error
            }
            assert.isTrue(held instanceof CommitHeld && held.reason === "disk-full", String(held))
            assert.deepStrictEqual(new Uint8Array((yield* memory.load) ?? []), bytes("old"))
            assert.deepStrictEqual(readdirSync(directory), ["trust-memory.json"])
          }))
        rmSync(file)
      })
  )
})
