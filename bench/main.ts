/**
 * `npm run bench`: measures every row, prints the table, and keeps it as `bench/results/<commit>.json`. `npm run bench -- name …`
 * measures only the rows of those files of `bench/rows` and keeps nothing. `hours` runs for 12 minutes, only when it is named, and
 * keeps its own file. The method is in `bench/README.md`.
 */
import { dispatch } from "./rows/dispatch.ts"
import { enroll } from "./rows/enroll.ts"
import { executable } from "./rows/executable.ts"
import { handshake } from "./rows/handshake.ts"
import { heartbeat } from "./rows/heartbeat.ts"
import { hoursOfOneAgent } from "./rows/hours.ts"
import { ingest } from "./rows/ingest.ts"
import { journal } from "./rows/journal.ts"
import { nix } from "./rows/nix.ts"
import { parked } from "./rows/parked.ts"
import { plan } from "./rows/plan.ts"
import { reducer } from "./rows/reducer.ts"
import { restart } from "./rows/restart.ts"
import { verifyManifest } from "./rows/verify.ts"
import { isMet, type Row, tableOf } from "./support/figures.ts"
import { keep } from "./support/results.ts"

type Benches = Readonly<Record<string, () => Promise<ReadonlyArray<Row>>>>

const usual: Benches = {
  journal,
  reducer,
  ingest,
  parked,
  dispatch,
  plan,
  heartbeat,
  handshake,
  enroll,
  verify: verifyManifest,
  executable,
  restart,
  nix
}
const benches: Benches = { ...usual, hours: hoursOfOneAgent }

const asked = process.argv.slice(2)
const unknown = asked.filter((name) => !(name in benches))
if (unknown.length > 0) {
  console.error(`no such bench: ${unknown.join(", ")}; there are ${Object.keys(benches).join(", ")}`)
  process.exit(64)
}

const rows: Array<Row> = []
for (const name of asked.length === 0 ? Object.keys(usual) : asked) {
  process.stderr.write(`${name} …\n`)
  rows.push(...await benches[name]!())
}
console.log(tableOf(rows))
for (const { notes, what } of rows) for (const note of notes) console.log(`- ${what}: ${note}`)

if (asked.length === 0) {
  const file = keep((commit) => commit, {
    note: "Ratios are medians of interleaved rounds of one run; absolute figures are this machine at this load.",
    rows,
    missed: rows.filter((row) => !isMet(row)).map(({ what }) => what)
  })
  console.log(`kept in ${file}`)
}
