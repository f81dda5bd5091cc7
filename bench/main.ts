/**
 * `npm run bench`: measures every row, prints the table, and keeps it as `bench/results/<commit>.json`. `npm run bench -- name …`
 * measures only the rows of those files of `bench/rows` and keeps nothing. The method is in `bench/README.md`.
 */
import { execFileSync } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { cpus, loadavg } from "node:os"
import { join } from "node:path"
import { dispatch } from "./rows/dispatch.ts"
import { executable } from "./rows/executable.ts"
import { heartbeat } from "./rows/heartbeat.ts"
import { ingest } from "./rows/ingest.ts"
import { journal } from "./rows/journal.ts"
import { parked } from "./rows/parked.ts"
import { reducer } from "./rows/reducer.ts"
import { restart } from "./rows/restart.ts"
import { verifyManifest } from "./rows/verify.ts"
import { isMet, type Row, tableOf } from "./support/figures.ts"

const benches: Readonly<Record<string, () => Promise<ReadonlyArray<Row>>>> = {
  journal,
  reducer,
  ingest,
  parked,
  dispatch,
  heartbeat,
  verify: verifyManifest,
  executable,
  restart
}

const asked = process.argv.slice(2)
const unknown = asked.filter((name) => !(name in benches))
if (unknown.length > 0) {
  console.error(`no such bench: ${unknown.join(", ")}; there are ${Object.keys(benches).join(", ")}`)
  process.exit(64)
}

const root = join(import.meta.dirname, "..")
const git = (...args: ReadonlyArray<string>) => execFileSync("git", args, { cwd: root, encoding: "utf8" }).trim()

const loadBefore = loadavg()
const rows: Array<Row> = []
for (const [name, run] of Object.entries(benches)) {
  if (asked.length > 0 && !asked.includes(name)) continue
  process.stderr.write(`${name} …\n`)
  rows.push(...await run())
}
console.log(tableOf(rows))
for (const { notes, what } of rows) for (const note of notes) console.log(`- ${what}: ${note}`)

if (asked.length === 0) {
  const commit = git("rev-parse", "--short", "HEAD")
  const results = join(root, "bench", "results")
  mkdirSync(results, { recursive: true })
  const file = join(results, `${commit}.json`)
  writeFileSync(
    file,
    `${
      JSON.stringify(
        {
          commit,
          uncommittedChanges: git("status", "--porcelain", "--", "src").length > 0,
          at: new Date().toISOString(),
          node: process.version,
          machine: { cpu: cpus()[0]?.model, cores: cpus().length, loadBefore, loadAfter: loadavg() },
          note: "Ratios are medians of interleaved rounds of one run; absolute figures are this machine at this load.",
          rows,
          missed: rows.filter((row) => !isMet(row)).map(({ what }) => what)
        },
        undefined,
        2
      )
    }\n`
  )
  console.log(`kept in ${file}`)
}
