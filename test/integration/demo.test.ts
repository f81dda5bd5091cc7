/** The demo, interrupted: whatever it had started is gone, the detached switch of a host included. */
import { assert, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"

const checkout = resolve(import.meta.dirname, "..", "..")

/** Command lines of processes that name a folder; this test's own is not among them. */
function processesNaming(folder: string): ReadonlyArray<string> {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")
      return line.includes(folder) ? [line] : []
    } catch {
      return []
    }
  })
}

describe("the demo", () => {
  it("ends on Ctrl-C in the middle of a switch and leaves no process behind", async () => {
    const folder = mkdtempSync(join(tmpdir(), "nixfleet-demo-"))
    const demo = spawn(process.execPath, [join(checkout, "examples", "demo.ts"), folder], {
      cwd: checkout,
      stdio: ["ignore", "pipe", "inherit"]
    })
    try {
      let told = ""
      let seen = 0
      demo.stdout.setEncoding("utf8")
      for await (const text of demo.stdout) {
        told += String(text)
        if (seen === 0 && told.includes("starts the switch")) {
          seen = processesNaming(folder).length
          demo.kill("SIGINT")
        }
      }
      const code = demo.exitCode ?? await new Promise((done) => demo.once("exit", done))
      // The demo, the control plane and six agents at least.
      assert.isAtLeast(seen, 8)
      assert.strictEqual(code, 130, told)
      assert.deepStrictEqual(processesNaming(folder), [])
    } finally {
      demo.kill("SIGKILL")
      rmSync(folder, { recursive: true, force: true })
    }
  })
})
