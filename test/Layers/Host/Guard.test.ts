/** The guard as a process of its own, over real files: who is first, what keeps it quiet, and what is found after a crash. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Guard } from "../../../src/Layers/Host/Guard.ts"
import { launchGuardInSession } from "../../../src/Layers/Host/GuardLaunch.ts"
import type { GuardOrder } from "../../../src/Schema/GuardOrder.ts"
import { temporaryDirectory } from "../../support/directories.ts"
import { eventually } from "../../support/fleet.ts"

const order: GuardOrder = {
  rolloutId: "stable@01",
  attempt: 1,
  forwardRun: 1,
  rollbackRun: 1,
  closure: "old",
  expected: ["new", "old"]
}

/** A directory of guards, and what its recovery does: it notes that it ran. */
const setUp = Effect.map(temporaryDirectory, (root) => {
  const directory = join(root, "guard")
  const notes = join(root, "notes")
  return {
    directory,
    notes: () => existsSync(notes) ? readFileSync(notes, "utf8") : "",
    recovery: `echo back >>${notes}\n`,
    layer: Guard.layer(directory, launchGuardInSession),
    place: () => join(directory, readdirSync(directory)[0] ?? ""),
    pid: () => Number(readFileSync(join(directory, readdirSync(directory)[0] ?? "", "pid"), "utf8"))
  }
})

/** A zombie is not alive. */
const alive = (pid: number): boolean => {
  try {
    return readFileSync(`/proc/${pid}/environ`).length > 0
  } catch {
    return false
  }
}

describe("a guard", () => {
  it.live("that nobody renews goes back once, and says for whom", () =>
    Effect.gen(function*() {
      const { layer, notes, recovery } = yield* setUp
      yield* Effect.gen(function*() {
        const guard = yield* Guard
        assert.deepStrictEqual(yield* guard.state, { _tag: "None" })
        assert.isUndefined(yield* guard.arm({ order, recovery, windowMs: 1000 }))
        assert.strictEqual((yield* guard.state)._tag, "Armed")
        yield* eventually("it has gone back", () => notes() !== "", 10)
        yield* Effect.sleep(1500)
        assert.strictEqual(notes(), "back\n")
        assert.deepStrictEqual(yield* guard.state, { _tag: "Fired", order, acting: false })
        assert.isFalse(guard.disarm(order))
        assert.isTrue(guard.disarm({ ...order, attempt: 2 }))
        yield* guard.clear
        assert.deepStrictEqual(yield* guard.state, { _tag: "None" })
      }).pipe(Effect.provide(layer))
    }))

  it.live("waits as long as it is renewed, needs no room on the disk for it, and fires when that ends", () =>
    Effect.gen(function*() {
      const { layer, notes, place, recovery } = yield* setUp
      yield* Effect.gen(function*() {
        const guard = yield* Guard
        yield* guard.arm({ order, recovery, windowMs: 2000 })
        const before = statSync(join(place(), "lease"))
        for (let i = 0; i < 8; i++) {
          yield* Effect.sleep(500)
          yield* guard.renew(2000)
        }
        assert.strictEqual(notes(), "")
        const after = statSync(join(place(), "lease"))
        assert.deepStrictEqual([after.ino, after.size], [before.ino, before.size])
        yield* eventually("it has gone back", () => notes() === "back\n", 10)
      }).pipe(Effect.provide(layer))
    }))

  it.live("that was disarmed never acts, and ends", () =>
    Effect.gen(function*() {
      const { layer, notes, pid, recovery } = yield* setUp
      yield* Effect.gen(function*() {
        const guard = yield* Guard
        yield* guard.arm({ order, recovery, windowMs: 1000 })
        const process = pid()
        assert.isTrue(guard.disarm(order))
        assert.deepStrictEqual(yield* guard.state, { _tag: "None" })
        yield* eventually("its process has ended", () => !alive(process), 10)
        assert.strictEqual(notes(), "")
      }).pipe(Effect.provide(layer))
    }))

  it.live("and its disarming: exactly one of the two is first, at whatever moment they meet", () =>
    Effect.gen(function*() {
      const outcomes = yield* Effect.forEach(
        Array.from({ length: 12 }, (_, index) => index),
        (index) =>
          Effect.gen(function*() {
            const { layer, notes, recovery } = yield* setUp
            return yield* Effect.gen(function*() {
              const guard = yield* Guard
              yield* guard.arm({ order, recovery, windowMs: 1000 })
              yield* Effect.sleep(960 + index * 8)
              const first = guard.disarm(order)
              if (!first) yield* eventually("it has gone back", () => notes() === "back\n", 10)
              yield* Effect.sleep(1200)
              assert.strictEqual(notes(), first ? "" : "back\n")
              return first
            }).pipe(Effect.provide(layer))
          }).pipe(Effect.scoped),
        { concurrency: 12 }
      )
      assert.strictEqual(outcomes.length, 12)
    }))

  it.live("tries again until it has gone back", () =>
    Effect.gen(function*() {
      const { directory, layer, notes } = yield* setUp
      const recovery = `[ -e ${directory}.free ] || { echo busy; exit 1; }\necho back >>${directory}/../notes\n`
      yield* Effect.gen(function*() {
        const guard = yield* Guard
        yield* guard.arm({ order, recovery, windowMs: 50 })
        yield* Effect.sleep(2500)
        assert.deepStrictEqual(yield* guard.state, { _tag: "Fired", order, acting: true })
        yield* guard.clear
        assert.strictEqual((yield* guard.state)._tag, "Fired", "one that acts is not forgotten")
        writeFileSync(`${directory}.free`, "")
        yield* eventually("it has gone back", () => notes() === "back\n", 10)
      }).pipe(Effect.provide(layer))
    }))

  it.live("whose process was killed, as by a reboot, is found, and is watched again when it is armed again", () =>
    Effect.gen(function*() {
      const { directory, layer, notes, pid, recovery } = yield* setUp
      yield* Effect.gen(function*() {
        const guard = yield* Guard
        yield* guard.arm({ order, recovery, windowMs: 60_000 })
        process.kill(pid(), "SIGKILL")
        yield* eventually("it is gone", () => !alive(pid()), 5)
        const found = yield* guard.state
        assert.deepStrictEqual([found._tag, found._tag === "Armed" && found.watched], ["Armed", false])
        assert.isUndefined(yield* guard.arm({ order, recovery, windowMs: 50 }))
        assert.strictEqual(readdirSync(directory).length, 1)
        yield* eventually("it has gone back", () => notes() === "back\n", 10)
      }).pipe(Effect.provide(layer))
    }))

  it.live("goes back also where no further file can be made: its number, and what is said, are not worth the way back", () =>
    Effect.gen(function*() {
      const { layer, notes, pid, place, recovery } = yield* setUp
      yield* Effect.gen(function*() {
        const guard = yield* Guard
        assert.isUndefined(yield* guard.arm({ order, recovery, windowMs: 2000 }))
        process.kill(pid(), "SIGKILL")
        for (const name of ["pid.new", "said"]) mkdirSync(join(place(), name))
        assert.isUndefined(yield* Effect.promise(() => launchGuardInSession(place())))
        yield* eventually("it has gone back", () => notes() === "back\n", 10)
      }).pipe(Effect.provide(layer))
    }))

  it.live("that cannot be started is told, and nothing of it stays", () =>
    Effect.gen(function*() {
      const { directory, recovery } = yield* setUp
      const refusing = Guard.layer(directory, () => Promise.resolve("no room for processes"))
      yield* Effect.gen(function*() {
        const guard = yield* Guard
        assert.strictEqual(yield* guard.arm({ order, recovery, windowMs: 1000 }), "no room for processes")
        assert.deepStrictEqual(readdirSync(directory), [])
      }).pipe(Effect.provide(refusing))
    }))

  it.live("whose files say anything else is no guard, and keeps no commit from going on", () =>
    Effect.gen(function*() {
      for (const content of ["", "{", "[]", `{"rolloutId":1}`, "x".repeat(100_000)]) {
        const { directory, layer } = yield* setUp
        const place = join(directory, "strange")
        mkdirSync(place, { recursive: true })
        for (const name of ["order", "fired", "lease", "pid"]) writeFileSync(join(place, name), content)
        yield* Effect.gen(function*() {
          const guard = yield* Guard
          assert.deepStrictEqual(yield* guard.state, { _tag: "None" })
          yield* guard.renew(1000)
          assert.isTrue(guard.disarm(order))
        }).pipe(Effect.provide(layer))
      }
    }))
})
