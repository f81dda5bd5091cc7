/**
 * `docs/operations.md`, word for word: its commands run against the demo fleet that it starts, and show what it says, up to
 * times, ages and hashes. `OPERATIONS_TRANSCRIPT=<file>` also writes the document as this run had it, with the outputs of now.
 */
import { assert, describe, it, vi } from "@effect/vitest"
import { Effect } from "effect"
import { spawn, spawnSync } from "node:child_process"
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { temporaryDirectory } from "../support/directories.ts"
import { runDocument } from "../support/document.ts"

vi.setConfig({ testTimeout: 400_000 })

const root = resolve(import.meta.dirname, "../..")
const markdown = readFileSync(join(root, "docs/operations.md"), "utf8")

/** The document's own way to start the fleet; and in which terminal the rest is typed. */
const start = ["--stay", "--soak", "15"]

/** `nixfleet` on the path, as a package installs it. */
function installed(directory: string): string {
  const bundled = spawnSync(process.execPath, [join(root, "scripts/bundle.mjs"), "--if-stale"], { encoding: "utf8" })
  assert.strictEqual(bundled.status, 0, bundled.stderr)
  const bin = join(directory, "bin")
  mkdirSync(bin)
  const command = join(bin, "nixfleet")
  writeFileSync(command, `#!/bin/sh\nexec ${process.execPath} ${join(root, "dist/nixfleet.mjs")} "$@"\n`)
  chmodSync(command, 0o755)
  return bin
}

/** The demo, from its start to the moment from which it stays; ends with the scope. */
const demo = (directory: string) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly told: () => string; readonly end: () => Promise<number | null> }>((resume) => {
      let told = ""
      const child = spawn(process.execPath, [join(root, "examples/demo.ts"), ...start, ".demo"], {
        cwd: directory,
        stdio: ["ignore", "pipe", "pipe"]
      })
      const ended = new Promise<number | null>((done) => child.once("close", done))
      const end = () => {
        child.kill("SIGINT")
        return ended
      }
      const hear = (text: string) => {
        told += text
        if (/^touch /m.test(told)) resume(Effect.succeed({ told: () => told, end }))
      }
      child.stdout.setEncoding("utf8").on("data", hear)
      child.stderr.setEncoding("utf8").on("data", hear)
      child.once("close", () => resume(Effect.die(new Error(`the demo ended: ${told}`))))
    }),
    ({ end }) => Effect.promise(end)
  )

describe("docs/operations.md", () => {
  it.live("does what it says", () =>
    Effect.gen(function*() {
      assert.include(markdown, `npm run demo -- ${start.join(" ")}\n`)
      const directory = yield* temporaryDirectory
      const bin = installed(directory)
      const fleet = yield* demo(directory)
      const env = {
        ...process.env,
        PATH: `${bin}:${process.env["PATH"] ?? ""}`,
        NIXFLEET_CONFIG: join(directory, ".demo/nixfleet.json"),
        TZ: "UTC"
      }
      yield* runDocument({
        markdown,
        prompts: ["$ "],
        run: (_prompt, command) =>
          Effect.callback((resume) => {
            const shell = spawn("/bin/sh", ["-c", `exec 2>&1\n${command}`], { cwd: directory, env })
            let out = ""
            shell.stdout.setEncoding("utf8").on("data", (text: string) => out += text)
            shell.once("close", (code) => resume(Effect.succeed({ code, out })))
          }),
        logs: Effect.sync(fleet.told),
        varying: [
          [/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/g, "TIME"],
          [/\b\d+(?:ms|s|m|h|d)\b(?: \d+[smh]\b)?(?: to \d+(?:ms|s|m|h|d)\b)?/g, "AGE"],
          [/127\.0\.0\.1:\d+/g, "127.0.0.1:PORT"],
          [/ {2,}/g, "  "]
        ],
        transcript: process.env["OPERATIONS_TRANSCRIPT"]
      })
    }))
})
