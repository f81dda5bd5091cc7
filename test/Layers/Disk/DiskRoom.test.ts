import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { existsSync, mkdirSync } from "node:fs"
import { join } from "node:path"
import { ArtifactCache } from "../../../src/Layers/Disk/ArtifactCache.ts"
import { CommitHeld } from "../../../src/Layers/Disk/CommitHeld.ts"
import { DiskRoom } from "../../../src/Layers/Disk/DiskRoom.ts"
import { TrustMemory } from "../../../src/Layers/Disk/TrustMemory.ts"
import { fillDisk, freeDisk, noMounts, remount, smallDisk } from "../../support/directories.ts"

const MiB = 1024 * 1024

const roomOf = (directory: string) =>
  Effect.map(Layer.build(DiskRoom.layer([{ directory, reserve: true }])), (context) => Context.get(context, DiskRoom))

const unit = (size: number) => [{ name: "fleet", bytes: new Uint8Array(size), signature: new Uint8Array(64) }]

describe.skipIf(noMounts !== undefined)("room on a disk", () => {
  it.live("is enough, too little to go forward, or gone, and a reserve is left for the way back", () =>
    Effect.gen(function*() {
      const disk = yield* smallDisk(16 * MiB)
      const room = yield* roomOf(disk)
      const reserve = join(disk, "space.reserve")
      assert.isUndefined(yield* room.forward)
      assert.isTrue(existsSync(reserve))

      fillDisk(disk)
      const full = yield* room.forward
      assert.strictEqual(full?.reason, "disk-full")
      assert.include(full?.detail ?? "", disk)
      assert.deepStrictEqual(yield* room.forward, full, "since when, and nothing that changes")
      assert.isTrue(existsSync(reserve), "going forward takes nothing of it")
      assert.isUndefined(yield* room.back)
      assert.isFalse(existsSync(reserve))

      fillDisk(disk)
      assert.strictEqual((yield* room.back)?.reason, "disk-full", "nothing is left")
      freeDisk(disk)
      assert.isUndefined(yield* room.back)
      assert.isUndefined(yield* room.forward)
      assert.isTrue(existsSync(reserve))
    }))

  it.live("that is read-only, or not there at all, lets nothing go in either direction", () =>
    Effect.gen(function*() {
      const disk = yield* smallDisk(16 * MiB)
      const room = yield* roomOf(disk)
      remount(disk, "ro")
      assert.strictEqual((yield* room.forward)?.reason, "disk-read-only")
      assert.strictEqual((yield* room.back)?.reason, "disk-read-only")
      remount(disk, "rw")
      assert.isUndefined(yield* room.back)
      const nowhere = yield* roomOf(join(disk, "nowhere"))
      assert.include((yield* nowhere.forward)?.detail ?? "", "ENOENT")
    }))
})

describe.skipIf(noMounts !== undefined)("a full or read-only disk", () => {
  for (
    const [name, spoil, mend] of [
      ["full", fillDisk, freeDisk],
      ["read-only", (disk: string) => remount(disk, "ro"), (disk: string) => remount(disk, "rw")]
    ] as const
  ) {
    it.live(`that is ${name} leaves the last good artifacts and the trust memory as they were, and takes the next ones later`, () =>
      Effect.gen(function*() {
        const disk = yield* smallDisk(2 * MiB)
        mkdirSync(join(disk, "artifacts"))
        const context = yield* Layer.build(Layer.mergeAll(
          ArtifactCache.layerFile(join(disk, "artifacts")),
          TrustMemory.layerFile(join(disk, "trust-memory.json"))
        ))
        const cache = Context.get(context, ArtifactCache)
        const memory = Context.get(context, TrustMemory)
        const sizeOf = Effect.map(cache.read("r1"), (kept) => kept?.[0]?.bytes.length)
        const old = new Uint8Array(5000).fill(1)
        yield* cache.write("r1", unit(10_000))
        memory.save(old)

        spoil(disk)
        const failed = yield* Effect.flip(cache.write("r1", unit(20_000)))
        assert.strictEqual(failed.reason, "cache-write-failed")
        assert.throws(() => memory.save(new Uint8Array(9000)), CommitHeld)
        assert.strictEqual(yield* sizeOf, 10_000)
        assert.deepStrictEqual(Buffer.from((yield* memory.load) ?? ""), Buffer.from(old))

        mend(disk)
        yield* cache.write("r1", unit(20_000))
        memory.save(new Uint8Array(9000))
        assert.strictEqual(yield* sizeOf, 20_000)
      }))
  }
})
