import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, symlinkSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { layerProcessLock, StateDirectoryLocked } from "../../../src/Layers/Disk/ProcessLock.ts"
import { temporaryDirectory } from "../../support/directories.ts"

const module = fileURLToPath(new URL("../../../src/Layers/Disk/ProcessLock.ts", import.meta.url))

/** Another process that holds the lock of `directory` until it is killed. */
const holder = (directory: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const script = `
        import { Effect, Layer } from "effect"
        import { layerProcessLock } from ${JSON.stringify(module)}
        const held = Effect.andThen(Effect.sync(() => console.log("held")), Effect.never)
        setInterval(() => {}, 1e9)
        Effect.runPromise(Effect.provide(held, layerProcessLock(${JSON.stringify(directory)})))`
      const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
        stdio: ["ignore", "pipe", "inherit"],
        cwd: fileURLToPath(new URL("../../..", import.meta.url))
      })
      await once(child.stdout, "data")
      return child
    }),
    kill
  )

const kill = (child: ChildProcess) =>
  Effect.promise(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, "exit")
    child.kill("SIGKILL")
    await gone
  })

const tryLock = (directory: string) =>
  Effect.exit(Effect.provide(Effect.void, Layer.fresh(layerProcessLock(directory))))

describe("the lock of a state directory", () => {
  it.live("a second process is refused and told who holds it; kill -9 frees it", () =>
    Effect.gen(function*() {
      const directory = join(yield* temporaryDirectory, "state")
      const child = yield* holder(directory)
      const second = yield* tryLock(directory)
      const error = Exit.isFailure(second) ? Cause.squash(second.cause) : "it got the lock too"
      assert.isTrue(error instanceof StateDirectoryLocked && error.holder === child.pid, String(error))
      assert.include(String(error), `process ${child.pid}`)
      // By another name of the same directory as well.
      const link = `${directory}.link`
      symlinkSync(directory, link)
      const third = yield* tryLock(link)
      assert.include(
        Exit.isFailure(third) ? String(Cause.squash(third.cause)) : "it got the lock",
        `process ${child.pid}`
      )
      yield* kill(child)
      assert.isTrue(Exit.isSuccess(yield* tryLock(directory)))
      assert.isTrue(Exit.isSuccess(yield* tryLock(link)))
    }))

  it.live("is held for the life of its scope, and no longer", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(layerProcessLock(directory), scope)
      assert.isTrue(Exit.isFailure(yield* tryLock(directory)))
      assert.isTrue(Exit.isFailure(yield* tryLock(directory)))
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(Exit.isSuccess(yield* tryLock(directory)))
    }))

  it.live("does not pass to a process that outlives the holder", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(layerProcessLock(directory), scope)
      const survivor = spawn("sleep", ["60"], { stdio: "ignore", detached: true })
      yield* Effect.addFinalizer(() => kill(survivor))
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(Exit.isSuccess(yield* tryLock(directory)))
    }))

  it.live("a directory that cannot be made is named", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.provide(Effect.void, layerProcessLock("/proc/nixfleet")))
      assert.strictEqual(error.reason, "state-directory-unreachable")
      assert.include(error.message, "/proc/nixfleet")
      assert.isFalse(existsSync("/proc/nixfleet"))
    }))
})
