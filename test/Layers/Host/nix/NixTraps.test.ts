/** What Nix does to those who trust its exit codes (nix.md §3 and §4): each trap, sprung with a real Nix. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync
} from "node:fs"
import { join } from "node:path"
import { Activator } from "../../../../src/Layers/Host/Activator.ts"
import { nixHost } from "../../../../src/Layers/Host/nix/NixActivator.ts"
import { processesWith } from "../../../../src/Layers/Host/Processes.ts"
import { activate, awaitSwitch, switchId } from "../../../support/activatorContract.ts"
import { linesOf } from "../../../support/archiveHost.ts"
import { temporaryDirectory } from "../../../support/directories.ts"
import { type NixCache, serveCache } from "../../../support/nixCache.ts"
import { makeNixHost, type NixHost, type NixHostOptions, placeOf } from "../../../support/nixHost.ts"
import { lab, noNix, publishToy } from "../../../support/nixLab.ts"
import { until } from "../../../support/until.ts"

/** Of no store path. */
const unknown = `${"1".repeat(32)}-unknown`

interface Rig {
  readonly cache: NixCache
  readonly host: NixHost
}

const onHost = (
  name: string,
  body: (rig: Rig) => Effect.Effect<void, unknown, Activator>,
  options: Partial<NixHostOptions> = {}
) =>
  it.live(name, () =>
    Effect.gen(function*() {
      const cache = yield* serveCache(lab().cache)
      const host = yield* makeNixHost({ substituters: [cache.url], ...options })
      yield* Effect.provide(body({ cache, host }), host.layer)
    }))

const collect = (host: NixHost) => host.nix("nix-store", "--gc")
const referenceOn = (host: NixHost, closure: string) =>
  Effect.map(
    host.nix("nix-store", "--query", "--references", `/nix/store/${closure}`),
    ({ stdout }) => stdout.slice("/nix/store/".length)
  )
const isValidOn = (host: NixHost, closure: string) =>
  Effect.map(host.nix("nix-store", "--check-validity", `/nix/store/${closure}`), ({ ok }) => ok)

/** Changes a file of the store as a failing disk would. */
function damage(host: NixHost, closure: string, file: string): void {
  const path = join(placeOf(host, closure), file)
  chmodSync(path, 0o644)
  writeFileSync(path, "")
  chmodSync(path, 0o444)
}

describe.skipIf(noNix !== undefined)("realising", () => {
  onHost("finds a closure that was pushed after it was asked for", ({ cache }) =>
    Effect.gen(function*() {
      const closure = yield* publishToy("late", "good")
      const activator = yield* Activator
      cache.faults = [{ match: new RegExp(closure.slice(0, 32)), does: { status: 404 } }]
      assert.strictEqual((yield* activator.realise(closure))._tag, "Absent")
      cache.faults = []
      assert.deepStrictEqual(yield* activator.realise(closure), { _tag: "Ok" })
    }))

  it.live("takes a closure from a cache in a directory, when it is new and when it is there", () =>
    Effect.gen(function*() {
      const host = yield* makeNixHost({ substituters: [`file://${lab().cache}`] })
      const closure = yield* publishToy("local", "good")
      yield* Effect.gen(function*() {
        const activator = yield* Activator
        for (const _ of ["new", "there"]) {
          assert.deepStrictEqual(yield* activator.realise(closure), { _tag: "Ok" })
          assert.isTrue(yield* isValidOn(host, closure))
        }
      }).pipe(Effect.provide(host.layer))
    }))

  onHost("tells how many bytes of how many are there", ({ cache }) =>
    Effect.gen(function*() {
      const closure = yield* publishToy("large", "good", { payloadBytes: 3_000_000 })
      const activator = yield* Activator
      assert.isUndefined(yield* activator.progress)
      cache.faults = [{ match: /nar\//, does: { slow: 200_000 } }]
      const realising = yield* Effect.forkChild(activator.realise(closure))
      const seen: Array<number> = []
      for (;;) {
        const progress = yield* activator.progress
        if (progress?.expectedBytes !== undefined && progress.doneBytes > 0) {
          assert.strictEqual(progress.closure, closure)
          assert.isAbove(progress.expectedBytes, 3_000_000)
          if (seen.at(-1) !== progress.doneBytes) seen.push(progress.doneBytes)
        }
        if (seen.length >= 3) break
        yield* Effect.sleep(10)
      }
      assert.deepStrictEqual(seen, seen.toSorted((a, b) => a - b))
      assert.deepStrictEqual(yield* Fiber.join(realising), { _tag: "Ok" })
      assert.isUndefined(yield* activator.progress)
    }))

  onHost(
    "leaves nothing running when it is interrupted, and what it left half there is not the closure",
    ({ cache, host }) =>
      Effect.gen(function*() {
        const closure = yield* publishToy("large", "good", { payloadBytes: 3_000_000 })
        const activator = yield* Activator
        cache.faults = [{ match: /nar\//, does: { slow: 100_000 } }]
        const realising = yield* Effect.forkChild(activator.realise(closure))
        yield* until(() => existsSync(join(placeOf(host, closure), "bin")))
        yield* Fiber.interrupt(realising)
        assert.deepStrictEqual(yield* Effect.promise(() => processesWith(`HOME=${host.variables.HOME}`)), [])
        assert.isTrue(existsSync(placeOf(host, closure)))
        assert.strictEqual((yield* activator.setProfile(closure))._tag, "Failed")
        assert.strictEqual((yield* activator.startSwitch(closure, switchId()))._tag, "Failed")
        cache.faults = []
        assert.deepStrictEqual(yield* activator.realise(closure), { _tag: "Ok" })
        assert.isTrue(yield* isValidOn(host, closure))
      })
  )

  onHost("repairs a damaged closure, and refuses it when nobody can", ({ cache, host }) =>
    Effect.gen(function*() {
      const closure = yield* publishToy("one", "good")
      const activator = yield* Activator
      yield* activator.realise(closure)
      damage(host, closure, "bin/switch-to-configuration")
      assert.isTrue(yield* isValidOn(host, closure))
      cache.faults = [{ match: /./, does: "reset" }]
      assert.strictEqual((yield* activator.realise(closure))._tag, "Transient")
      // Nix remembers for a minute what a cache said that it has.
      rmSync(join(host.root, "home/.cache"), { recursive: true })
      cache.faults = [{ match: /narinfo$/, does: { status: 404 } }]
      const refused = yield* activator.realise(closure)
      assert.strictEqual(refused._tag, "Corrupt")
      assert.match(refused._tag === "Ok" ? "" : refused.detail, /is damaged, and could not be repaired/)
      cache.faults = []
      assert.deepStrictEqual(yield* activator.realise(closure), { _tag: "Ok" })
      assert.isAbove(readFileSync(join(placeOf(host, closure), "bin/switch-to-configuration")).length, 0)
    }))

  onHost(
    "looks at every path of a closure whose fetch was cut off, as after a loss of power",
    ({ cache, host }) =>
      Effect.gen(function*() {
        const closure = yield* publishToy("one", "good")
        const activator = yield* Activator
        cache.faults = [{ match: /nar\//, does: "cut" }]
        assert.strictEqual((yield* activator.realise(closure))._tag, "Transient")
        cache.faults = []
        yield* host.nix("nix-store", "--realise", `/nix/store/${closure}`)
        const base = yield* referenceOn(host, closure)
        damage(host, base, "base")
        assert.deepStrictEqual(yield* activator.realise(closure), { _tag: "Ok" })
        assert.strictEqual(readFileSync(join(placeOf(host, base), "base"), "utf8"), "base\n")
      })
  )

  onHost("is refused while Nix would take what nobody signed", ({ cache, host }) =>
    Effect.gen(function*() {
      const closure = yield* publishToy("one", "good")
      const activator = yield* Activator
      const refused = ["require-sigs = false", `substituters = ${cache.url}?trusted=1`]
      for (const line of refused) {
        host.writeConf([line])
        const outcome = yield* activator.realise(closure)
        assert.strictEqual(outcome._tag, "CacheConfig", JSON.stringify(outcome))
      }
      host.writeConf([])
      const outcome = yield* activator.realise(closure)
      assert.strictEqual(outcome._tag, "Ok", JSON.stringify(outcome))
    }))
})

describe.skipIf(noNix !== undefined)("the agent does not start", () => {
  const refusals: ReadonlyArray<readonly [string, Partial<NixHostOptions>, RegExp]> = [
    ["when signatures are not checked", { conf: ["require-sigs = false"] }, /require-sigs = false/],
    ["when a cache is taken on trust", { substituters: ["http://cache?trusted=1"] }, /trusted=1/],
    ["when the configuration of Nix is broken", { conf: ["require-sigs = perhaps"] }, /cannot be used/]
  ]
  it.live.each(refusals)("%s", ([, options, message]) =>
    Effect.gen(function*() {
      const host = yield* makeNixHost({ substituters: [], ...options })
      const problem = yield* Effect.flip(Effect.provide(Activator, host.layer))
      assert.strictEqual(problem._tag, "NixUnusable")
      assert.match(problem.message, message)
    }))
})

describe.skipIf(noNix !== undefined)("the garbage collector", () => {
  onHost(
    "takes nothing that is needed, while a closure is fetched, after it, and after the switch",
    ({ cache, host }) =>
      Effect.gen(function*() {
        const old = yield* publishToy("old", "good")
        const next = yield* publishToy("next", "good", { payloadBytes: 2_000_000 })
        const activator = yield* Activator
        yield* activate(old, switchId(1))
        cache.faults = [{ match: /nar\//, does: { slow: 200_000 } }]
        const realising = yield* Effect.forkChild(activator.realise(next))
        const collecting = yield* Effect.forkChild(Effect.forever(collect(host)))
        assert.deepStrictEqual(yield* Fiber.join(realising), { _tag: "Ok" })
        yield* collect(host)
        assert.isTrue(yield* isValidOn(host, next))
        yield* activator.setProfile(next)
        yield* activator.startSwitch(next, switchId(2))
        yield* awaitSwitch(switchId(2))
        yield* Fiber.interrupt(collecting)
        // As `nix-collect-garbage --delete-old` does.
        const root = join(host.config.nix.stateDir, "gcroots/nixfleet", old)
        rmSync(root)
        mkdirSync(root)
        assert.isFalse(yield* activator.retain([old, unknown]), "what stands in the way of a root is told")
        rmSync(root, { recursive: true })
        assert.isTrue(yield* activator.retain([old, unknown]), "what is not there cannot be held")
        yield* host.nix(
          "nix-env",
          "--profile",
          join(host.config.nix.stateDir, "profiles/system"),
          "--delete-generations",
          "old"
        )
        yield* collect(host)
        assert.isTrue(yield* isValidOn(host, old))
        assert.isTrue(yield* isValidOn(host, next))
        yield* activator.retain([])
        yield* collect(host)
        assert.isFalse(yield* isValidOn(host, old))
        assert.isTrue(yield* isValidOn(host, next))
        // What is gone is known to be gone.
        assert.strictEqual((yield* activator.setProfile(old))._tag, "Failed")
      })
  )
})

describe.skipIf(noNix !== undefined)("the profile", () => {
  onHost("has a lock for its owner only: whoever may read it may hold it", ({ host }) =>
    Effect.gen(function*() {
      const closure = yield* publishToy("a", "good")
      const activator = yield* Activator
      yield* activator.realise(closure)
      assert.strictEqual((yield* activator.setProfile(closure))._tag, "Ok")
      const lock = join(host.config.nix.stateDir, "profiles/.nixfleet.lock")
      assert.strictEqual(statSync(lock).mode & 0o077, 0)
    }))

  onHost("of two agents at once: who is told Ok has a generation", ({ host }) =>
    Effect.gen(function*() {
      const closures = [yield* publishToy("a", "good"), yield* publishToy("b", "good")]
      const activator = yield* Activator
      for (const closure of closures) yield* activator.realise(closure)
      const profiles = join(host.config.nix.stateDir, "profiles")
      const set = (closure: string) =>
        Effect.provide(Effect.flatMap(Activator, (other) => other.setProfile(closure)), host.layer, { local: true })
      for (let round = 0; round < 6; round++) {
        const outcomes = yield* Effect.forEach(closures, set, { concurrency: 2 })
        assert.isTrue(outcomes.some(({ _tag }) => _tag === "Ok"))
        for (const [index, outcome] of outcomes.entries()) {
          if (outcome._tag === "Failed") {
            assert.include(outcome.detail, "the profile names")
            continue
          }
          const link = readlinkSync(join(profiles, `system-${outcome.generation}-link`))
          assert.strictEqual(link, `/nix/store/${closures[index]}`)
        }
      }
    }))

  it.live("is set under a lock, then flushed with the store, and only then reported", () =>
    Effect.gen(function*() {
      const bin = yield* temporaryDirectory
      const calls = join(bin, "calls")
      const wrap = (name: string, then: string) => {
        writeFileSync(join(bin, name), `#!/bin/sh\necho "${name} $*" >>${calls}\n${then}\n`)
        chmodSync(join(bin, name), 0o755)
      }
      wrap("flock", `PATH=/usr/bin:/bin exec flock "$@"`)
      wrap("sync", "exit 0")
      const cache = yield* serveCache(lab().cache)
      const host = yield* makeNixHost({ substituters: [cache.url], environment: { PATH: `${bin}:/usr/bin:/bin` } })
      const closure = yield* publishToy("one", "good")
      yield* Effect.gen(function*() {
        const activator = yield* Activator
        yield* activator.realise(closure)
        writeFileSync(calls, "")
        assert.deepStrictEqual(yield* activator.setProfile(closure), { _tag: "Ok", generation: 1 })
        const [first, second] = linesOf(calls)
        assert.match(first!, /^flock --exclusive .*nix-env --profile .*--set /)
        assert.strictEqual(second, `sync -f ${host.config.nix.stateDir}/profiles ${host.config.nix.realStoreDir}`)
        wrap("sync", "exit 1")
        assert.strictEqual((yield* activator.setProfile(closure))._tag, "Failed")
      }).pipe(Effect.provide(host.layer))
    }))

  onHost(
    "goes back by name, to what ran before, however the generations are numbered",
    ({ host }) =>
      Effect.gen(function*() {
        const [a, b, c] = [
          yield* publishToy("a", "good"),
          yield* publishToy("b", "good"),
          yield* publishToy("c", "good")
        ]
        const activator = yield* Activator
        for (const closure of [a, b, a, c]) {
          yield* activator.realise(closure)
          yield* activator.setProfile(closure)
        }
        assert.deepStrictEqual(yield* activator.setProfile(b), { _tag: "Ok", generation: 5 })
        assert.strictEqual(readlinkSync(join(host.config.nix.stateDir, "profiles/system")), "system-5-link")
      })
  )
})

describe.skipIf(noNix !== undefined)("the switch", () => {
  onHost("that ends with 0 and moves nothing is seen to have moved nothing", () =>
    Effect.gen(function*() {
      const closure = yield* publishToy("idle", "good", { program: "#!/bin/sh\nexit 0\n" })
      const result = yield* activate(closure, switchId())
      assert.deepStrictEqual(result, { _tag: "Exited", code: 0, stderrTail: "" })
      assert.deepStrictEqual(yield* (yield* Activator).current, { running: undefined, profile: closure })
    }))

  onHost("waits for another tool that switches this host", ({ host }) =>
    Effect.gen(function*() {
      const closure = yield* publishToy("one", "good")
      const activator = yield* Activator
      yield* activator.realise(closure)
      const lock = join(host.config.runDir, "nixos/switch-to-configuration.lock")
      mkdirSync(join(host.config.runDir, "nixos"))
      writeFileSync(lock, "")
      const holder = spawn("flock", [lock, "sh", "-c", "echo held; read line"], { stdio: ["pipe", "pipe", "ignore"] })
      yield* Effect.promise(() => once(holder.stdout, "data"))
      const busy = yield* activator.startSwitch(closure, switchId())
      assert.strictEqual(busy._tag, "Busy")
      assert.deepStrictEqual(yield* activator.switchResult(switchId()), { _tag: "Lost" })
      holder.stdin.end()
      yield* Effect.promise(() => once(holder, "exit"))
      assert.deepStrictEqual(yield* activator.startSwitch(closure, switchId()), { _tag: "Started" })
      assert.strictEqual((yield* awaitSwitch(switchId()))._tag, "Exited")
    }))

  onHost(
    "forward over a changed inhibitor only prepares the next boot; back it is made in any case",
    ({ host }) =>
      Effect.gen(function*() {
        const system = (name: string, inhibitors: object) =>
          publishToy(name, "good", { extra: `echo '${JSON.stringify(inhibitors)}' >$out/switch-inhibitors` })
        const one = yield* system("one", { dbus: "dbus", systemd: "252" })
        const same = yield* system("same", { systemd: "252", kexec: "new" })
        const other = yield* system("other", { dbus: "broker", systemd: "252" })
        yield* activate(one, switchId(1))
        assert.deepStrictEqual(yield* activate(same, switchId(2)), { _tag: "Exited", code: 0, stderrTail: "" })
        yield* activate(one, switchId(3))
        const prepared = yield* activate(other, switchId(4))
        assert.strictEqual(prepared._tag === "Exited" && prepared.code, 100)
        yield* activate(other, switchId(4, { purpose: "rollback" }))
        assert.deepStrictEqual(linesOf(host.runsFile).map((line) => line.split("/").at(-1)!.slice(33)), [
          "one switch",
          "same switch",
          "one switch",
          "other boot",
          "other switch"
        ])
      })
  )

  onHost(
    "of nix-darwin runs `activate-user`, whose failure is ignored, and then `activate`",
    ({ host }) =>
      Effect.gen(function*() {
        const program = (name: string, end: string) =>
          `printf '#!/bin/sh\\necho ${name} >>"$RUNS"\\n${end}\\n' >$out/${name}; chmod +x $out/${name}`
        const closure = yield* publishToy("mac", "good", {
          extra: `${program("activate-user", "exit 7")}; ${program("activate", "exit 0")}`
        })
        assert.strictEqual((yield* activate(closure, switchId()))._tag, "Exited")
        assert.strictEqual((yield* Activator).method, "darwin")
        assert.deepStrictEqual(linesOf(host.runsFile), ["activate-user", "activate"])
      }),
    { over: { system: "darwin" } }
  )
})

describe.skipIf(noNix !== undefined)("whoever only looks", () => {
  onHost("sees the same as the agent, and no closure that is not whole", ({ host }) =>
    Effect.gen(function*() {
      const closure = yield* publishToy("one", "good")
      yield* activate(closure, switchId())
      const reader = nixHost(host.config)
      assert.deepStrictEqual(yield* reader.current, { running: closure, profile: closure })
      assert.strictEqual((yield* reader.switchResult(switchId()))._tag, "Exited")
      assert.isTrue(yield* reader.has(closure))
      assert.isFalse(yield* reader.has(`${"0".repeat(32)}-absent`))
      assert.deepStrictEqual(readdirSync(join(host.config.nix.stateDir, "gcroots/nixfleet")), [closure])
    }))
})
