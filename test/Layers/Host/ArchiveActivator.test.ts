import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { join } from "node:path"
import { Activator, type RealiseOutcome } from "../../../src/Layers/Host/Activator.ts"
import { defaultArchiveLimits } from "../../../src/Layers/Host/Archive.ts"
import * as ArchiveActivator from "../../../src/Layers/Host/ArchiveActivator.ts"
import { activate, activatorContract, type ActivatorHarness, switchId } from "../../support/activatorContract.ts"
import { detailOf, linesOf, makeHost, realiseOn, tracesIn } from "../../support/archiveHost.ts"
import { publishClosure, switches } from "../../support/closures.ts"
import { temporaryDirectory } from "../../support/directories.ts"
import { recoveryContract } from "../../support/recoveryContract.ts"
import { endOfTar, minimalEntries, nameOf, type TarEntry, tarEntry, tarOf } from "../../support/tar.ts"

const harness = Effect.map(makeHost(), ({ layer, runsFile, source }): ActivatorHarness => ({
  layer: Layer.orDie(layer),
  absent: `${"0".repeat(40)}-absent`,
  publish: (name, behaviour) => Effect.orDie(publishClosure(source, name, switches[behaviour])),
  runs: (closure) => Effect.sync(() => linesOf(runsFile).filter((line) => line.endsWith(`/${closure} switch`)).length)
}))
activatorContract("the archive driver", harness)
recoveryContract("the archive driver", harness)

describe("a refused archive leaves no trace:", () => {
  const bad = (entry: TarEntry): Buffer => tarOf([...minimalEntries, entry])
  const evil: ReadonlyArray<[string, Buffer, RealiseOutcome["_tag"], RegExp]> = [
    ["path escape", bad({ path: "../escaped", content: "x" }), "Untrusted", /leaves the archive/],
    [
      "path escape in an extended header",
      bad({ path: "../escaped", content: "x", extended: true }),
      "Untrusted",
      /leaves/
    ],
    ["absolute path", bad({ path: "/tmp/nixfleet-escaped", content: "x" }), "Untrusted", /absolute path/],
    [
      "entry through a link",
      tarOf([
        ...minimalEntries,
        { path: "l", type: "SymbolicLink", target: "bin" },
        { path: "l/x", content: "x" }
      ]),
      "Untrusted",
      /through the symbolic link/
    ],
    [
      "entry through a link that leaves",
      tarOf([...minimalEntries, { path: "l", type: "SymbolicLink", target: "../.." }, { path: "l/x", content: "x" }]),
      "Untrusted",
      /can leave/
    ],
    ["absolute link", bad({ path: "l", type: "SymbolicLink", target: "/etc" }), "Untrusted", /absolute target/],
    ["hard link", bad({ path: "l", type: "Link", target: "bin/switch-to-configuration" }), "Untrusted", /hard link/],
    ["character device", bad({ path: "null", type: "CharacterDevice" }), "Untrusted", /device node/],
    ["block device", bad({ path: "sda", type: "BlockDevice" }), "Untrusted", /device node/],
    ["fifo", bad({ path: "pipe", type: "FIFO" }), "Untrusted", /fifo/],
    ["contiguous file", bad({ path: "c", type: "ContiguousFile", content: "x" }), "Untrusted", /ContiguousFile/],
    ["duplicate file", bad({ path: "bin/switch-to-configuration", content: "x" }), "Untrusted", /duplicate/],
    ["no switch", tarOf([{ path: "a", content: "x" }]), "Untrusted", /no executable/],
    ["nothing at all", Buffer.alloc(0), "Untrusted", /shorter than one block/],
    ["an empty archive", endOfTar, "Untrusted", /not an uncompressed tar/],
    [
      "compressed",
      Buffer.concat([Buffer.from([0x1f, 0x8b]), Buffer.alloc(600)]),
      "Untrusted",
      /not an uncompressed tar/
    ],
    ["text", Buffer.from("<html>not found</html>".repeat(100)), "Untrusted", /not an uncompressed tar/],
    ["without its end", Buffer.concat(minimalEntries.map(tarEntry)), "Untrusted", /truncated/],
    [
      "cut inside a file",
      tarOf([...minimalEntries, { path: "f", content: "x".repeat(5000) }]).subarray(0, 3000),
      "Untrusted",
      /Truncated/
    ],
    [
      "a header with a wrong checksum",
      Buffer.concat([tarEntry(minimalEntries[0]!).fill(0x41, 0, 10), endOfTar]),
      "Untrusted",
      /checksum/
    ]
  ]

  it.live.each(evil)("%s", ([, bytes, tag, detail]) =>
    Effect.gen(function*() {
      const host = yield* makeHost()
      const closure = nameOf(bytes)
      writeFileSync(join(host.source, `${closure}.tar`), bytes)
      const outcome = yield* realiseOn(host, closure)
      assert.strictEqual(outcome._tag, tag)
      assert.match(detailOf(outcome), detail)
      assert.deepStrictEqual(tracesIn(host.config.storeDir), [])
      assert.deepStrictEqual(readdirSync(host.root).toSorted(), ["source", "system"])
      assert.isFalse(existsSync("/tmp/nixfleet-escaped"))
    }))

  it.live("bytes that are not those of the name, well-formed or not", () =>
    Effect.gen(function*() {
      const host = yield* makeHost()
      const good = tarOf(minimalEntries)
      const flipped = Buffer.from(good)
      flipped[600] = 0x21
      for (const bytes of [flipped, good.subarray(0, 700), bad({ path: "../x" }), Buffer.concat([good, endOfTar])]) {
        writeFileSync(join(host.source, `${nameOf(good)}.tar`), bytes)
        const outcome = yield* realiseOn(host, nameOf(good))
        assert.strictEqual(outcome._tag, "Corrupt")
        assert.match(detailOf(outcome), /the SHA-256 of its \d+ bytes starts with/)
        assert.deepStrictEqual(tracesIn(host.config.storeDir), [])
      }
      writeFileSync(join(host.source, `${nameOf(good)}.tar`), good)
      assert.deepStrictEqual(yield* realiseOn(host, nameOf(good)), { _tag: "Ok" })
    }))

  it.live("more bytes or more entries than the limit", () =>
    Effect.gen(function*() {
      const bytes = tarOf([...minimalEntries, { path: "big", content: "x".repeat(20_000) }])
      for (
        const [limits, detail] of [
          [{ ...defaultArchiveLimits, maxBytes: 10_000 }, /larger than 10000 bytes/],
          [{ ...defaultArchiveLimits, maxEntries: 2 }, /more than 2 entries/]
        ] as const
      ) {
        const host = yield* makeHost({ limits })
        writeFileSync(join(host.source, `${nameOf(bytes)}.tar`), bytes)
        const outcome = yield* realiseOn(host, nameOf(bytes))
        assert.strictEqual(outcome._tag, "Untrusted")
        assert.match(detailOf(outcome), detail)
        assert.deepStrictEqual(tracesIn(host.config.storeDir), [])
      }
    }))
})

describe("realising from a directory", () => {
  it.live("takes a link inside the archive, and files of any size around a block", () =>
    Effect.gen(function*() {
      const host = yield* makeHost()
      const sizes = [0, 1, 511, 512, 513, 65_535, 65_536, 65_537, 200_000]
      const bytes = tarOf([
        ...minimalEntries,
        { path: "l", type: "SymbolicLink", target: "bin/switch-to-configuration" },
        ...sizes.map((size) => ({ path: `f${size}`, content: "y".repeat(size) }))
      ])
      writeFileSync(join(host.source, `${nameOf(bytes)}.tar`), bytes)
      assert.deepStrictEqual(yield* realiseOn(host, nameOf(bytes)), { _tag: "Ok" })
      const closure = join(host.config.storeDir, nameOf(bytes))
      assert.deepStrictEqual(sizes.map((size) => readFileSync(join(closure, `f${size}`)).length), sizes)
      assert.isTrue(lstatSync(join(closure, "l")).isSymbolicLink())
      assert.strictEqual(readFileSync(join(closure, "l"), "utf8"), "#!/bin/sh\n")
      assert.strictEqual(lstatSync(closure).mode & 0o777, 0o755)
    }))

  it.live("answers Absent for what is not a file there", () =>
    Effect.gen(function*() {
      const host = yield* makeHost()
      const closure = nameOf(Buffer.from("x"))
      mkdirSync(join(host.source, `${closure}.tar`))
      assert.strictEqual((yield* realiseOn(host, closure))._tag, "Absent")
      assert.strictEqual((yield* realiseOn(host, "../../../etc/passwd"))._tag, "Absent")
    }))

  it.live("sweeps at the start what a kill -9 left: unfinished closures and those without their marker", () =>
    Effect.gen(function*() {
      const host = yield* makeHost()
      const closure = yield* publishClosure(host.source, "one", switches.good)
      yield* realiseOn(host, closure)
      rmSync(join(host.config.storeDir, ".valid", closure))
      mkdirSync(join(host.config.storeDir, ".tmp-left"))
      writeFileSync(join(host.config.storeDir, ".tmp-left", "half"), "x")
      mkdirSync(join(host.config.storeDir, closure, "altered"))
      yield* Effect.provide(Activator, host.layer)
      assert.deepStrictEqual(tracesIn(host.config.storeDir), [])
      assert.deepStrictEqual(yield* realiseOn(host, closure), { _tag: "Ok" })
      assert.isFalse(existsSync(join(host.config.storeDir, closure, "altered")))
    }))

  it.live("does not start on directories that it cannot use, and says which", () =>
    Effect.gen(function*() {
      const root = yield* temporaryDirectory
      writeFileSync(join(root, "file"), "")
      const config = ArchiveActivator.archiveActivatorConfig({ source: root, systemDir: join(root, "file", "system") })
      const error = yield* Effect.flip(Effect.provide(Activator, ArchiveActivator.layer(config)))
      assert.match(error.message, /cannot prepare .*\/file\/system: ENOTDIR/)
    }))
})

describe("generations", () => {
  it.live("beyond the kept ones are deleted with their closures, never the profile's or the running one", () =>
    Effect.gen(function*() {
      const host = yield* makeHost({ keepGenerations: 2 })
      yield* Effect.gen(function*() {
        const activator = yield* Activator
        const first = yield* publishClosure(host.source, "c0", switches.good)
        assert.strictEqual((yield* activate(first, switchId(1)))._tag, "Exited")
        const closures: Array<string> = []
        for (const name of ["c1", "c2", "c3", "c4", "c5"]) {
          const closure = yield* publishClosure(host.source, name, switches.good)
          yield* activator.realise(closure)
          assert.strictEqual((yield* activator.setProfile(closure))._tag, "Ok")
          closures.push(closure)
        }
        const links = readdirSync(host.config.profilesDir).toSorted()
        assert.deepStrictEqual(links, ["system", "system-5-link", "system-6-link"])
        // Two named, two without a generation, and the one that runs.
        assert.deepStrictEqual(
          readdirSync(join(host.config.storeDir, ".valid")).toSorted(),
          [first, ...closures.slice(1)].toSorted()
        )
        assert.deepStrictEqual(yield* activator.current, { running: first, profile: closures.at(-1) })
        // A number is not used again although its link is gone.
        yield* activator.realise(first)
        assert.deepStrictEqual(yield* activator.setProfile(first), { _tag: "Ok", generation: 7 })
      }).pipe(Effect.provide(host.layer))
    }))

  it.live("are not made anew for a profile that somebody set back by hand", () =>
    Effect.gen(function*() {
      const host = yield* makeHost()
      yield* Effect.gen(function*() {
        const activator = yield* Activator
        const closures = yield* Effect.forEach(["a", "b"], (name) => publishClosure(host.source, name, switches.good))
        for (const closure of closures) {
          yield* activator.realise(closure)
          yield* activator.setProfile(closure)
        }
        rmSync(join(host.config.profilesDir, "system"))
        symlinkSync("system-1-link", join(host.config.profilesDir, "system"))
        assert.deepStrictEqual(yield* activator.setProfile(closures[0]!), { _tag: "Ok", generation: 1 })
        assert.deepStrictEqual(yield* activator.setProfile(closures[1]!), { _tag: "Ok", generation: 2 })
      }).pipe(Effect.provide(host.layer))
    }))

  it.live("take no number twice when links are foreign or dangling", () =>
    Effect.gen(function*() {
      const host = yield* makeHost()
      const closure = yield* publishClosure(host.source, "one", switches.good)
      yield* Effect.gen(function*() {
        const activator = yield* Activator
        yield* activator.realise(closure)
        writeFileSync(join(host.config.profilesDir, "system-7-link"), "not a link")
        assert.deepStrictEqual(yield* activator.setProfile(closure), { _tag: "Ok", generation: 8 })
        rmSync(join(host.config.profilesDir, "system"))
        mkdirSync(join(host.config.profilesDir, "system"))
        const failed = yield* activator.setProfile(closure)
        assert.strictEqual(failed._tag, "Failed")
        assert.deepStrictEqual(
          readdirSync(host.config.profilesDir).toSorted(),
          ["system", "system-7-link", "system-8-link"]
        )
      }).pipe(Effect.provide(host.layer))
    }))
})
