/** Keeps what was measured as `bench/results/<name>.json`, with what there is to know about the machine and the sources. */
import { execFileSync } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { cpus, loadavg } from "node:os"
import { join } from "node:path"

const root = join(import.meta.dirname, "../..")
const git = (...args: ReadonlyArray<string>) => execFileSync("git", args, { cwd: root, encoding: "utf8" }).trim()

const loadBefore = loadavg()

/** The name of the file is made from the commit; answers its path. */
export function keep(nameOf: (commit: string) => string, content: Readonly<Record<string, unknown>>): string {
  const commit = git("rev-parse", "--short", "HEAD")
  const results = join(root, "bench", "results")
  mkdirSync(results, { recursive: true })
  const file = join(results, `${nameOf(commit)}.json`)
  const about = {
    commit,
    uncommittedChanges: git("status", "--porcelain", "--", "src").length > 0,
    at: new Date().toISOString(),
    node: process.version,
    machine: { cpu: cpus()[0]?.model, cores: cpus().length, loadBefore, loadAfter: loadavg() }
  }
  writeFileSync(file, `${JSON.stringify({ ...about, ...content }, undefined, 2)}\n`)
  return file
}
