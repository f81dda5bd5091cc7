/** Each row of the classifier's table (`Classify.test.ts`), made to happen by a cache or a host that is broken in that way. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { ToySystem } from "../../../../examples/nix/Builder.ts"
import type { RealiseOutcome } from "../../../../src/Layers/Host/Activator.ts"
import { processesWith } from "../../../../src/Layers/Host/Processes.ts"
import { noMounts, smallDisk, temporaryDirectory } from "../../../support/directories.ts"
import { edited, type Fault, flipped, halved, type Misbehaviour, serveCache } from "../../../support/nixCache.ts"
import { makeNixHost, type NixHostOptions, realiseOnNix } from "../../../support/nixHost.ts"
import { lab, noNix, publishToy } from "../../../support/nixLab.ts"

const system = (more: Partial<ToySystem> = {}) => publishToy("system", "good", more)
const hashOf = (closure: string): string => closure.slice(0, 32)

/** What a closure's description says, by its file in the cache. */
const describedIn = (file: string): string => readFileSync(join(lab().cache, file), "utf8")
const narOf = (closure: string): RegExp =>
  new RegExp(/^URL: (.*)$/m.exec(describedIn(`${hashOf(closure)}.narinfo`))![1]!)
/** Hash of what the closure refers to. */
const referenceOf = (closure: string): string =>
  /^References: ([0-9a-z]{32})-/m.exec(describedIn(`${hashOf(closure)}.narinfo`))![1]!

/** Realises the closure on a new host whose only cache has these faults. */
const realiseWith = (closure: string, faults: ReadonlyArray<Fault>, options: Partial<NixHostOptions> = {}) =>
  Effect.gen(function*() {
    const cache = yield* serveCache(lab().cache)
    cache.faults = faults
    const host = yield* makeNixHost({ substituters: [cache.url], ...options })
    return yield* realiseOnNix(host, closure)
  })

const detailOf = (outcome: RealiseOutcome): string => outcome._tag === "Ok" ? "" : outcome.detail

describe.skipIf(noNix !== undefined)("of a cache", () => {
  type Target = "info" | "narinfo" | "reference" | "nar"
  const table: ReadonlyArray<readonly [string, Target, Misbehaviour, RealiseOutcome["_tag"]]> = [
    ["that has no nix-cache-info", "info", { status: 404 }, "CacheConfig"],
    ["whose nix-cache-info answers 500", "info", { status: 500 }, "CacheUnreachable"],
    ["whose nix-cache-info answers 401", "info", { status: 401 }, "CacheAuth"],
    ["that resets the first connection", "info", "reset", "CacheUnreachable"],
    ["of other stores", "info", { edit: edited(/StoreDir: .*/, "StoreDir: /gnu/store") }, "CacheConfig"],
    ["that does not have the closure", "narinfo", { status: 404 }, "Absent"],
    ["that does not have what the closure refers to", "reference", { status: 404 }, "Absent"],
    ["that wants a password for descriptions", "narinfo", { status: 401 }, "CacheAuth"],
    ["that forbids a description", "narinfo", { status: 403 }, "CacheAuth"],
    ["whose descriptions answer 500", "narinfo", { status: 500 }, "CacheUnreachable"],
    ["that resets at a description", "narinfo", "reset", "CacheUnreachable"],
    ["whose description is garbled", "narinfo", { edit: () => Buffer.from("<html>no</html>") }, "Corrupt"],
    ["whose description is cut short", "narinfo", { edit: halved }, "Corrupt"],
    ["that signs nothing", "narinfo", { edit: edited(/^Sig: .*\n/m, "") }, "Untrusted"],
    ["that signs with another key", "narinfo", { edit: edited(/^Sig: trusted-1:/m, "Sig: other-1:") }, "Untrusted"],
    [
      "that signs with another key of the same name",
      "narinfo",
      { edit: edited(/^(Sig: trusted-1:)(....)/m, "$1AAAA") },
      "Untrusted"
    ],
    [
      "whose description has another hash",
      "narinfo",
      { edit: edited(/^(NarHash: sha256:)..../m, "$10000") },
      "Untrusted"
    ],
    [
      "whose description has other references",
      "narinfo",
      { edit: edited(/^References: .*/m, "References: ") },
      "Untrusted"
    ],
    ["that does not have the contents", "nar", { status: 404 }, "CacheConfig"],
    ["that wants a password for the contents", "nar", { status: 401 }, "CacheAuth"],
    ["that forbids the contents", "nar", { status: 403 }, "CacheAuth"],
    ["whose contents have a flipped bit", "nar", { edit: flipped }, "Corrupt"],
    ["whose contents have a broken frame", "nar", { edit: (body) => body.fill(0xee, 0, 200) }, "Corrupt"],
    ["whose contents are cut short", "nar", { edit: halved }, "Corrupt"],
    ["that cuts the connection", "nar", "cut", "Transient"],
    ["whose contents answer 503", "nar", { status: 503 }, "Transient"],
    ["that resets at the contents", "nar", "reset", "Transient"],
    ["that never sends the contents", "nar", "hang", "Transient"],
    ["that stops in the middle of the contents", "nar", "stall", "Transient"]
  ]

  it.live.each(table)("%s (%s)", ([, target, does, expected]) =>
    Effect.gen(function*() {
      const closure = yield* system()
      const match = {
        info: /nix-cache-info$/,
        narinfo: new RegExp(`${hashOf(closure)}\\.narinfo`),
        reference: new RegExp(`${referenceOf(closure)}\\.narinfo`),
        nar: narOf(closure)
      }[target]
      const outcome = yield* realiseWith(closure, [{ match, does }])
      assert.strictEqual(outcome._tag, expected, detailOf(outcome))
      if (target === "reference") assert.include(detailOf(outcome), referenceOf(closure))
    }))

  it.live("whose compressed contents are cut short", () =>
    Effect.gen(function*() {
      const closure = yield* publishToy("compressed", "good", { compression: "zstd" })
      const outcome = yield* realiseWith(closure, [{ match: narOf(closure), does: { edit: halved } }])
      assert.strictEqual(outcome._tag, "Corrupt", detailOf(outcome))
    }))

  it.live("that is not there, by port or by name", () =>
    Effect.gen(function*() {
      const closure = yield* system()
      for (const address of ["http://127.0.0.1:1", "http://no-such-host.invalid"]) {
        const outcome = yield* realiseWith(closure, [], { substituters: [address] })
        assert.strictEqual(outcome._tag, "CacheUnreachable", detailOf(outcome))
      }
    }))

  it.live("that nobody has named", () =>
    Effect.gen(function*() {
      const outcome = yield* realiseWith(yield* system(), [], { substituters: [] })
      assert.strictEqual(outcome._tag, "CacheConfig", detailOf(outcome))
    }))

  it.live("beside a good one it is no matter that it is down, or signs nothing", () =>
    Effect.gen(function*() {
      const closure = yield* system()
      const unsigned = yield* serveCache(lab().cache)
      unsigned.faults = [{ match: /narinfo/, does: { edit: edited(/^Sig: .*\n/m, "") } }]
      const good = yield* serveCache(lab().cache)
      for (const bad of ["http://127.0.0.1:1", unsigned.url]) {
        const host = yield* makeNixHost({ substituters: [bad, good.url] })
        assert.deepStrictEqual(yield* realiseOnNix(host, closure), { _tag: "Ok" })
      }
    }))

  it.live("that takes a password is asked with the one of the netrc file", () =>
    Effect.gen(function*() {
      const cache = yield* serveCache(lab().cache)
      cache.password = "agent:secret"
      const host = yield* makeNixHost({ substituters: [cache.url] })
      const missing = `${"0".repeat(32)}-missing`
      assert.strictEqual((yield* realiseOnNix(host, missing))._tag, "CacheAuth")
      writeFileSync(join(host.root, "etc/netrc"), "machine 127.0.0.1\n login agent\n password secret\n")
      assert.strictEqual((yield* realiseOnNix(host, missing))._tag, "Absent")
      assert.deepStrictEqual(yield* realiseOnNix(host, yield* system()), { _tag: "Ok" })
    }))

  it.live("that is slow is waited for until the deadline, and then nothing runs any more", () =>
    Effect.gen(function*() {
      const closure = yield* system()
      const cache = yield* serveCache(lab().cache)
      cache.faults = [{ match: /nar\//, does: { slow: 100 } }]
      const host = yield* makeNixHost({ substituters: [cache.url], over: { realiseTimeoutMs: 700 } })
      assert.strictEqual((yield* realiseOnNix(host, closure))._tag, "Deadline")
      assert.deepStrictEqual(yield* Effect.promise(() => processesWith(`HOME=${host.variables.HOME}`)), [])
      cache.faults = [{ match: /nar\//, does: { slow: 30_000 } }]
      const patient = yield* makeNixHost({ substituters: [cache.url] })
      assert.deepStrictEqual(yield* realiseOnNix(patient, closure), { _tag: "Ok" })
    }))
})

describe.skipIf(noNix !== undefined)("of a host", () => {
  const served = Effect.gen(function*() {
    const cache = yield* serveCache(lab().cache)
    return { cache, closure: yield* system({ payloadBytes: 3_000_000, name: "large" }) }
  })
  const faultOf = (outcome: RealiseOutcome): string =>
    outcome._tag === "HostFault" ? outcome.fault : `${outcome._tag}: ${detailOf(outcome)}`

  it.live.skipIf(noMounts !== undefined)("whose disk is full", () =>
    Effect.gen(function*() {
      const { cache, closure } = yield* served
      const disk = yield* smallDisk(2_000_000)
      const host = yield* makeNixHost({ substituters: [cache.url], environment: { NIX_REMOTE: `local?root=${disk}` } })
      assert.strictEqual(faultOf(yield* realiseOnNix(host, closure)), "disk")
    }))

  it.live.skipIf(noMounts !== undefined)("whose store is read-only, or all of its disk", () =>
    Effect.gen(function*() {
      const { cache, closure } = yield* served
      const disk = yield* smallDisk(20_000_000)
      const host = yield* makeNixHost({ substituters: [cache.url], environment: { NIX_REMOTE: `local?root=${disk}` } })
      yield* realiseOnNix(host, `${"0".repeat(32)}-absent`)
      const store = join(disk, "nix/store")
      yield* Effect.acquireRelease(
        Effect.sync(() => spawnSync("mount", ["-t", "tmpfs", "-o", "ro", "tmpfs", store])),
        () => Effect.sync(() => spawnSync("umount", [store]))
      )
      assert.strictEqual(faultOf(yield* realiseOnNix(host, closure)), "readOnly")
      spawnSync("umount", [store])
      spawnSync("mount", ["-o", "remount,ro", disk])
      assert.strictEqual(faultOf(yield* realiseOnNix(host, closure)), "readOnly")
    }))

  it.live("whose daemon is wanted and absent", () =>
    Effect.gen(function*() {
      const { cache, closure } = yield* served
      const state = yield* temporaryDirectory
      const host = yield* makeNixHost({
        substituters: [cache.url],
        environment: { NIX_REMOTE: "daemon", NIX_DAEMON_SOCKET_PATH: "/nowhere/socket", NIX_STATE_DIR: state }
      })
      assert.strictEqual(faultOf(yield* realiseOnNix(host, closure)), "daemon")
    }))

  it.live("whose database is no database", () =>
    Effect.gen(function*() {
      const { cache, closure } = yield* served
      const host = yield* makeNixHost({ substituters: [cache.url] })
      yield* realiseOnNix(host, `${"0".repeat(32)}-absent`)
      const database = join(host.config.nix.stateDir, "db")
      for (const name of readdirSync(database).filter((file) => file.startsWith("db.sqlite"))) {
        writeFileSync(join(database, name), "not a database".repeat(1000))
      }
      assert.strictEqual(faultOf(yield* realiseOnNix(host, closure)), "database")
    }))

  it.live("whose fetch somebody ended", () =>
    Effect.gen(function*() {
      const { cache, closure } = yield* served
      cache.faults = [{ match: /nar\//, does: "hang" }]
      const host = yield* makeNixHost({ substituters: [cache.url], over: { stallTimeoutSecs: 30 } })
      const ended = Effect.gen(function*() {
        for (;;) {
          if (cache.requests.some((path) => path.includes("/nar/"))) break
          yield* Effect.sleep(20)
        }
        for (const pid of yield* Effect.promise(() => processesWith(`HOME=${host.variables.HOME}`))) {
          process.kill(pid, "SIGTERM")
        }
      })
      const [outcome] = yield* Effect.all([realiseOnNix(host, closure), ended], { concurrency: 2 })
      assert.strictEqual(outcome._tag, "Cancelled", detailOf(outcome))
    }))

  it.live("that is asked for something else than a store path", () =>
    Effect.gen(function*() {
      const host = yield* makeNixHost({ substituters: [] })
      for (
        const name of ["", "bad", "../../etc/passwd", "--option", `${"0".repeat(32)}-a/b`, `${"e".repeat(32)}-letters`]
      ) {
        assert.strictEqual((yield* realiseOnNix(host, name))._tag, "Absent")
      }
    }))
})
