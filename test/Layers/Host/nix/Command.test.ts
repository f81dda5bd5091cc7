import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { type CommandEnd, runCommand } from "../../../../src/Layers/Host/nix/Command.ts"
import { processesWith } from "../../../../src/Layers/Host/Processes.ts"
import { linesOf } from "../../../support/archiveHost.ts"
import { temporaryDirectory } from "../../../support/directories.ts"
import { until } from "../../../support/until.ts"

const environment = { PATH: "/usr/bin:/bin" }
const sh = (text: string, more: { readonly limitMs?: number; readonly onLine?: (line: string) => void } = {}) =>
  runCommand({ program: "/bin/sh", args: ["-c", text], environment, limitMs: 20_000, ...more })

describe("a command", () => {
  const ends: ReadonlyArray<readonly [string, string, CommandEnd]> = [
    ["ends", "echo out; echo err >&2; exit 3", { _tag: "Exited", code: 3, stdout: "out\n", stderr: "err\n" }],
    ["ends by a signal", "echo err >&2; kill -KILL $$", { _tag: "Signalled", signal: "SIGKILL", stderr: "err\n" }]
  ]
  it.live.each(ends)("%s", ([, text, end]) => Effect.map(sh(text), (found) => assert.deepStrictEqual(found, end)))

  it.live("that is not there", () =>
    Effect.gen(function*() {
      const end = yield* runCommand({ program: "/nowhere/nix", args: [], environment, limitMs: 1000 })
      assert.strictEqual(end._tag, "NotStarted")
    }))

  it.live("that the system refuses to start at once", () =>
    Effect.gen(function*() {
      // Longer than one argument may be.
      const args = ["x".repeat(1_000_000)]
      const end = yield* runCommand({ program: "/bin/echo", args, environment, limitMs: 1000 })
      assert.strictEqual(end._tag, "NotStarted")
    }))

  it.live("may have a limit that no timer of the platform holds", () =>
    Effect.gen(function*() {
      const end = yield* sh("sleep 0.3", { limitMs: 30 * 86_400_000 })
      assert.strictEqual(end._tag, "Exited")
    }))

  it.live("has the given environment and no other", () =>
    Effect.gen(function*() {
      const end = yield* sh("env")
      const names = end._tag === "Exited" ? end.stdout.trim().split("\n").map((line) => line.split("=")[0]!) : []
      assert.deepStrictEqual(names.filter((name) => name !== "_").toSorted(), ["PATH", "PWD"])
    }))

  it.live("may write without end; the first of stdout and the last of stderr are kept", () =>
    Effect.gen(function*() {
      const end = yield* sh("yes | head -c 20000000; yes n | head -c 1000000 >&2; echo last >&2")
      assert.strictEqual(end._tag, "Exited")
      if (end._tag !== "Exited") return
      assert.strictEqual(end.stdout.length, 8_388_608)
      assert.isAtMost(end.stderr.length, 4096)
      assert.match(end.stderr, /last\n$/)
    }))

  it.live("says its lines as they come: whole characters, the last one without its end, too long ones in pieces", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const text =
        `printf 'a\\nb\\303' >&2; sleep 0.1; printf '\\244\\n' >&2; yes | tr -d '\\n' | head -c 200000 >&2; printf '\\nend' >&2`
      yield* sh(text, { onLine: (line) => lines.push(line) })
      assert.deepStrictEqual(lines.slice(0, 2), ["a", "bä"])
      assert.strictEqual(lines.at(-1), "end")
      assert.strictEqual(lines.slice(2, -1).join(""), "y".repeat(200_000))
    }))

  it.live("is ended at its limit, also where nothing can be interrupted", () =>
    Effect.gen(function*() {
      const end = yield* Effect.uninterruptible(sh("echo late >&2; sleep 60", { limitMs: 300 }))
      assert.deepStrictEqual(end, { _tag: "Deadline", limitMs: 300, stderr: "late\n" })
    }))

  it.live("that is interrupted is gone before the interruption is complete, with all that it started, whether it listens or not", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const mark = `MARK=${directory}`
      const file = join(directory, "said")
      const stubborn =
        `trap 'echo told >>${file}' TERM; (trap '' TERM; while :; do sleep 0.1; done) & echo ready >>${file}; while :; do sleep 0.1; done`
      const running = yield* Effect.forkChild(
        runCommand({
          program: "/bin/sh",
          args: ["-c", stubborn],
          environment: { ...environment, MARK: directory },
          limitMs: 60_000
        })
      )
      yield* until(() => linesOf(file).includes("ready"))
      yield* Fiber.interrupt(running)
      assert.deepStrictEqual(yield* Effect.promise(() => processesWith(mark)), [])
      assert.match(readFileSync(file, "utf8"), /told/)
    }))
})
