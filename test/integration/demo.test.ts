/** The demo, interrupted and run to its end: whatever it had started is gone, the detached switch of a host included. */
import { assert, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, readlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, join, resolve } from "node:path"
import { removeStore } from "../../examples/nix/Builder.ts"
import { noNix } from "../support/nixLab.ts"
import { anyPrivateKey, filesBelow, leaksBelow, secretPem } from "../support/secrets.ts"

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

interface Watched {
  readonly folder: string
  /** Everything it has said so far. */
  readonly told: string
  readonly interrupt: () => void
}

/** Runs the demo in a folder of its own; `watch` sees whenever it said something, `after` what is there at its end. */
async function runDemo(
  args: ReadonlyArray<string>,
  { after, environment = process.env, watch = () => {} }: {
    readonly after: (end: { readonly code: number | null; readonly told: string; readonly folder: string }) => void
    readonly environment?: NodeJS.ProcessEnv
    readonly watch?: (seen: Watched) => void
  }
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "nixfleet-demo-"))
  const demo = spawn(process.execPath, [join(checkout, "examples", "demo.ts"), ...args, folder], {
    cwd: checkout,
    env: environment,
    stdio: ["ignore", "pipe", "pipe"]
  })
  try {
    let told = ""
    demo.stderr.setEncoding("utf8").on("data", (text: string) => told += text)
    demo.stdout.setEncoding("utf8")
    for await (const text of demo.stdout) {
      told += String(text)
      watch({ folder, told, interrupt: () => demo.kill("SIGINT") })
    }
    const code = demo.exitCode ?? await new Promise<number | null>((done) => demo.once("exit", done))
    after({ code, told, folder })
    assert.deepStrictEqual(processesNaming(folder), [])
  } finally {
    demo.kill("SIGKILL")
    removeStore(folder)
  }
}

const drivers = [
  // The demo, the control plane and six agents at least.
  { driver: "archive", processes: 8, impossible: undefined },
  // For each host the namespace's two, its first process, what waits for the end, and the agent.
  { driver: "nix", processes: 2 + 6 * 5, impossible: noNix }
] as const

for (const { driver, impossible, processes } of drivers) {
  describe.skipIf(impossible !== undefined)(`the demo with the ${driver} driver`, () => {
    it("ends on Ctrl-C in the middle of a switch and leaves no process behind", async () => {
      let seen = 0
      await runDemo(["--driver", driver], {
        watch: ({ folder, interrupt, told }) => {
          if (seen > 0 || !told.includes("starts the switch")) return
          seen = processesNaming(folder).length
          interrupt()
        },
        after: ({ code, told }) => {
          assert.isAtLeast(seen, processes)
          assert.strictEqual(code, 130, told)
        }
      })
    })
  })
}

describe.skipIf(noNix !== undefined)("the demo with real Nix", () => {
  it("tells its stories to the end", { timeout: 120_000 }, () =>
    runDemo(["--driver", "nix", "--soak", "1"], {
      after: ({ code, folder, told }) => {
        assert.strictEqual(code, 0, told)
        for (
          const line of [
            /r1 has converged on all six hosts/,
            /the rollout has halted, r2 is quarantined; bravo, charlie, delta, echo, foxtrot were never touched/,
            /alpha refuses it: Untrusted: .* not signed by any of the keys/,
            /control plane refuses it: bad-signature/,
            /foxtrot refuses it: bad-signature/,
            /r3 has converged on all six hosts/,
            /Summary\n(.* s  (Set-up|Story \d|In between): .*\n){6}/,
            /events delivered and durable, 0 refused; 7 processes ended with exit 0 on SIGTERM/
          ]
        ) assert.match(told, line)
        const closure = /built r3: .* closure (\S+)/.exec(told)![1]
        const running = readdirSync(join(folder, "hosts")).map((host) =>
          basename(readlinkSync(join(folder, "hosts", host, "run/current-system")))
        )
        assert.deepStrictEqual(running, running.map(() => closure))
        assert.strictEqual(running.length, 6)
        assert.deepStrictEqual(
          readdirSync(join(folder, "hosts/alpha/nix/store")).filter((name) => name.endsWith("-web-foreign")),
          []
        )
        const keys = filesBelow(folder).filter((file) => /-key\.pem$|\/release\.key$/.test(file))
        assert.strictEqual(keys.length, 9, "of the control plane, the operator, six hosts, and the releases")
        const secrets = keys.map((file) => secretPem(basename(file), readFileSync(file, "utf8")))
        assert.deepStrictEqual(leaksBelow(folder, [anyPrivateKey, ...secrets], keys), [])
      }
    }))
})

describe("the demo with Nix on a machine without Nix", () => {
  it("says in one sentence what to install, and does nothing", () =>
    runDemo(["--driver", "nix"], {
      environment: { PATH: "/nowhere" },
      after: ({ code, folder, told }) => {
        assert.strictEqual(code, 1)
        assert.match(told, /^the demo with a real Nix cannot run: .*: apt-get install nix-bin bubblewrap\n$/)
        assert.deepStrictEqual(readdirSync(folder), [])
      }
    }))
})
