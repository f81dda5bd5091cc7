import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { SystemdNotify } from "../../src/Layers/SystemdNotify.ts"
import { temporaryDirectory } from "../support/directories.ts"

/** A `systemd-notify` that writes its arguments to a file, first on PATH for the test's scope. */
const recordingCommand = (first = "") =>
  Effect.gen(function*() {
    const directory = yield* temporaryDirectory
    const log = join(directory, "log")
    writeFileSync(join(directory, "systemd-notify"), `#!/bin/sh\n${first}\necho "$@" >> ${log}\n`)
    chmodSync(join(directory, "systemd-notify"), 0o755)
    const before = process.env["PATH"]
    yield* Effect.acquireRelease(
      Effect.sync(() => process.env["PATH"] = `${directory}:${before}`),
      () => Effect.sync(() => process.env["PATH"] = before)
    )
    return () =>
      existsSync(log) ? readFileSync(log, "utf8").trim().split("\n").map((line) => line.split(" ").at(-1)) : []
  })

const waitFor = (fact: () => boolean) =>
  Effect.gen(function*() {
    while (!fact()) yield* Effect.sleep("5 millis")
  }).pipe(Effect.timeout("10 seconds"))

describe("the service manager", () => {
  it.live("is told of ready and, when the scope closes, of stopping", () =>
    Effect.gen(function*() {
      const sent = yield* recordingCommand()
      yield* Effect.flatMap(SystemdNotify, ({ ready }) => ready).pipe(
        Effect.provide(SystemdNotify.layer({ NOTIFY_SOCKET: "/run/none" }))
      )
      assert.deepStrictEqual(sent(), ["READY=1", "STOPPING=1"])
    }))

  it.live("that does not listen delays the end of the program by a second at most", () =>
    Effect.gen(function*() {
      yield* recordingCommand("exec sleep 10")
      const before = performance.now()
      yield* Effect.provide(SystemdNotify, SystemdNotify.layer({ NOTIFY_SOCKET: "/run/none" }))
      assert.isBelow(performance.now() - before, 1500)
    }))

  it.live("gets at most one pulse in half of its limit, however often the program turns", () =>
    Effect.gen(function*() {
      const sent = yield* recordingCommand()
      yield* Effect.gen(function*() {
        const { alive } = yield* SystemdNotify
        for (let i = 0; i < 1000; i++) alive()
        yield* waitFor(() => sent().length > 0)
        assert.deepStrictEqual(sent(), ["WATCHDOG=1"])
        yield* Effect.sleep("510 millis")
        alive()
        yield* waitFor(() => sent().length > 1)
        assert.deepStrictEqual(sent(), ["WATCHDOG=1", "WATCHDOG=1"])
      }).pipe(Effect.provide(SystemdNotify.layer({ NOTIFY_SOCKET: "/run/none", WATCHDOG_USEC: "1000000" })))
    }))

  it.live("is told again soon of a pulse that it was not told", () =>
    Effect.gen(function*() {
      const failed = join(yield* temporaryDirectory, "failed")
      const sent = yield* recordingCommand(`[ -e ${failed} ] || { : >${failed}; exit 1; }`)
      yield* Effect.gen(function*() {
        const { alive } = yield* SystemdNotify
        const before = performance.now()
        yield* waitFor(() => {
          alive()
          return sent().length > 0
        })
        // An eighth of the limit and not half of it.
        assert.isBelow(performance.now() - before, 3000)
      }).pipe(Effect.provide(SystemdNotify.layer({ NOTIFY_SOCKET: "/run/none", WATCHDOG_USEC: "8000000" })))
    }))

  it.live("is told again that the program is ready when it was not told: whoever starts it waits for that", () =>
    Effect.gen(function*() {
      const failed = join(yield* temporaryDirectory, "failed")
      const sent = yield* recordingCommand(`[ -e ${failed} ] || { : >${failed}; exit 1; }`)
      yield* Effect.gen(function*() {
        const before = performance.now()
        yield* (yield* SystemdNotify).ready
        assert.isBelow(performance.now() - before, 500, "the program does not wait")
        yield* waitFor(() => sent().includes("READY=1"))
        yield* Effect.sleep("1500 millis")
        assert.deepStrictEqual(sent(), ["READY=1"])
      }).pipe(Effect.provide(SystemdNotify.layer({ NOTIFY_SOCKET: "/run/none" })))
    }))

  it.live("is told again of a pulse for which the system started no process at all", () =>
    Effect.gen(function*() {
      const sent = yield* recordingCommand()
      yield* Effect.gen(function*() {
        const { alive } = yield* SystemdNotify
        // Longer than one string of an environment may be.
        process.env["NIXFLEET_TEST_TOO_LONG"] = "x".repeat(1_000_000)
        alive()
        yield* Effect.sleep("50 millis")
        delete process.env["NIXFLEET_TEST_TOO_LONG"]
        yield* waitFor(() => {
          alive()
          return sent().length > 0
        })
      }).pipe(Effect.provide(SystemdNotify.layer({ NOTIFY_SOCKET: "/run/none", WATCHDOG_USEC: "1000000" })))
    }))

  it.live("that is not there is not told, and a command that fails harms nobody", () =>
    Effect.gen(function*() {
      const sent = yield* recordingCommand()
      const all = Effect.flatMap(SystemdNotify, ({ alive, ready }) => Effect.andThen(ready, Effect.sync(alive)))
      yield* Effect.provide(all, SystemdNotify.layer({ WATCHDOG_USEC: "1000000" }))
      assert.deepStrictEqual(sent(), [])
      process.env["PATH"] = "/nowhere"
      yield* Effect.provide(all, SystemdNotify.layer({ NOTIFY_SOCKET: "/run/none" }))
    }))
})
