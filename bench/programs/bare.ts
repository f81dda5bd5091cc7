/**
 * The floor of a control plane: bare `node:https` with mutual TLS 1.3 and the same settings of the server. A poll is parked, a
 * heartbeat is parsed and answered, an event is parsed and stored: all that arrive in one turn of the loop in one transaction,
 * durable before their 204, in the same tables and as many bytes as the control plane's own. Nothing is checked and nothing is
 * decided: what is stored beside the event is ready-made text.
 *
 * Arguments: certificate, key, CA, database file. Says `listening on :PORT`.
 */
import "./collectable.ts"
import { readFileSync } from "node:fs"
import type { ServerResponse } from "node:http"
import { createServer } from "node:https"
import { DatabaseSync } from "node:sqlite"
import { journalMigrations } from "../../src/ControlPlane/journal/Tables.ts"

const [certFile, keyFile, caFile, databaseFile] = process.argv.slice(2)
const db = new DatabaseSync(databaseFile ?? ":memory:")
db.exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF")
for (const text of journalMigrations.minors) db.exec(text)
const name = db.prepare("INSERT INTO names (name) VALUES (?)")
const insert = db.prepare(
  `INSERT INTO event_log (ts, kind, host, rollout, payload, outcome, agent_journal, agent_seq)
   VALUES (?, 'agent_event', ?, ?, ?, ?, ?, ?)`
)
const upsert = db.prepare(
  `INSERT INTO host_records (rollout, host, state, last_seq, leased_at, overlay, record) VALUES (?, ?, 'Soaking', ?, ?, NULL, ?)
   ON CONFLICT (rollout, host) DO UPDATE SET state = excluded.state, last_seq = excluded.last_seq,
     leased_at = excluded.leased_at, overlay = excluded.overlay, record = excluded.record`
)
/** Lengths that the control plane's own have for the events of this bench. */
const outcome = JSON.stringify({ outcome: "applied", hash: "0".repeat(64), journalId: "journal-of-host-00000" })
const record = JSON.stringify({ record: "x".repeat(740) })

interface Envelope {
  readonly hostname: string
  readonly event: { readonly seq: number }
}

const ids = new Map<string, number>()
function idOf(text: string): number {
  const known = ids.get(text)
  if (known !== undefined) return known
  const id = Number(name.run(text).lastInsertRowid)
  ids.set(text, id)
  return id
}
const rollout = idOf("stable@def4567a")
db.exec(`INSERT INTO rollouts (id, channel, state, record) VALUES (${rollout}, 'stable', 'Active', '')`)

let waiting: Array<{ readonly envelope: Envelope; readonly response: ServerResponse }> = []
function commit(): void {
  const batch = waiting
  waiting = []
  db.exec("BEGIN IMMEDIATE")
  const now = Date.now()
  for (const { envelope: { event, hostname } } of batch) {
    const host = idOf(hostname)
    insert.run(now, host, rollout, JSON.stringify(event), outcome, idOf(`journal of ${hostname}`), event.seq)
    upsert.run(rollout, host, event.seq, now, record)
  }
  db.exec("COMMIT")
  for (const { response } of batch) response.writeHead(204).end()
}

const parked = new Set<ServerResponse>()
const server = createServer({
  cert: readFileSync(certFile ?? ""),
  key: readFileSync(keyFile ?? ""),
  ca: readFileSync(caFile ?? ""),
  minVersion: "TLSv1.3",
  requestCert: true,
  rejectUnauthorized: true,
  keepAliveTimeout: 75_000,
  noDelay: true
}, (request, response) => {
  if (request.url?.startsWith("/v1/agent/dispatch") === true) {
    parked.add(response)
    response.on("close", () => parked.delete(response))
    return
  }
  const chunks: Array<Buffer> = []
  request.on("data", (chunk: Buffer) => chunks.push(chunk))
  request.on("end", () => {
    const body = JSON.parse(Buffer.concat(chunks).toString())
    if (request.url === "/v1/agent/heartbeat") {
      response.writeHead(200, { "content-type": "application/json" }).end("{}")
      return
    }
    if (waiting.push({ envelope: body, response }) === 1) setImmediate(commit)
  })
})
server.listen(0, "127.0.0.1", () => {
  const address = server.address()
  console.log(`listening on :${typeof address === "object" && address !== null ? address.port : 0}`)
})
