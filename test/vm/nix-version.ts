/**
 * `node test/vm/nix-version.ts`, as root on Debian: the tests of the Nix driver with the Nix of another Debian than this one,
 * and what that Nix says in each case. See README.md.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdirSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { parseArgs } from "node:util"
import { makeDebian } from "./Image.ts"
import { requireHost } from "./Needs.ts"
import { Transcript } from "./Transcript.ts"

const checkout = resolve(import.meta.dirname, "../..")
const { values: options } = parseArgs({
  options: {
    directory: { type: "string", default: "/var/tmp/nixfleet-vm" },
    suite: { type: "string", default: "trixie" },
    mirror: { type: "string", default: "http://deb.debian.org/debian" },
    transcript: { type: "string" }
  }
})
const tests = ["NixFaults", "NixTraps", "NixActivator"].map((name) => `test/Layers/Host/nix/${name}.test.ts`)

requireHost(["debootstrap", "nix-bin", "bubblewrap"])
const transcript = new Transcript(options.transcript)
const debian = join(options.directory, `${options.suite}-nix`)
mkdirSync(options.directory, { recursive: true })
makeDebian(debian, options.suite, options.mirror, ["nix-bin"])

/** Its programs run here with its own libraries. */
const programs = join(options.directory, `${options.suite}-programs`)
mkdirSync(programs, { recursive: true })
for (const name of ["nix", "nix-store", "nix-env"]) {
  const libraries = join(debian, "usr/lib/x86_64-linux-gnu")
  const loader = `${join(libraries, "ld-linux-x86-64.so.2")} --argv0 ${name} --library-path ${libraries}`
  writeFileSync(join(programs, name), `#!/bin/sh\nexec ${loader} ${join(debian, "usr/bin/nix")} "$@"\n`, {
    mode: 0o755
  })
}

/** Runs a command with its output in the transcript; its exit code. */
async function run(program: string, args: ReadonlyArray<string>): Promise<number | null> {
  const environment = { ...process.env, NIXFLEET_TEST_NIX: programs, CI: "1", NO_COLOR: "1" }
  const child = spawn(program, args, { cwd: checkout, env: environment, stdio: ["ignore", "pipe", "inherit"] })
  let rest = ""
  child.stdout.on("data", (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split("\n")
    rest = lines.pop() ?? ""
    for (const line of lines) if (line.trim() !== "") transcript.print(line.replace(/test\/Layers\/Host\/nix\//, ""))
  })
  await once(child, "close")
  return child.exitCode
}

transcript.print(`$ node test/vm/nix-version.ts ${process.argv.slice(2).join(" ")}`)
await run(join(programs, "nix-store"), ["--version"])
const vitest = ["run", "--reporter=verbose", "--no-file-parallelism", ...tests]
process.exitCode = await run(join(checkout, "node_modules/.bin/vitest"), vitest) ?? 1
