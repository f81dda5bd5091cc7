/**
 * The floor of a control plane: bare `node:https` with mutual TLS 1.3 and the same settings of the server. A poll is parked, a
 * heartbeat is parsed and answered, an event is parsed and stored: all that arrive in one turn of the loop in one transaction,
 * durable before their 204, in a table as the control plane's own. Nothing is checked and nothing is decided.
 *
 * Arguments: certificate, key, CA, database file. Says `listening on :PORT`.
 */
import "./collectable.ts"
import { readFileSync } from "node:fs"
import type { ServerResponse } from "node:http"
import { createServer } from "node:https"
import { DatabaseSync } from "node:sqlite"

const [certFile, keyFile, caFile, databaseFile] = process.argv.slice(2)
const db = new DatabaseSync(databaseFile ?? ":memory:")
db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
  CREATE TABLE events (
    id INTEGER PRIMARY KEY, host INTEGER NOT NULL, rollout INTEGER NOT NULL, seq INTEGER NOT NULL, payload TEXT NOT NULL,
    UNIQUE (host, rollout, seq)
  ) STRICT;
  CREATE TABLE hosts (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, status TEXT NOT NULL) STRICT;`)
const insert = db.prepare("INSERT INTO events (host, rollout, seq, payload) VALUES (?, 1, ?, ?) ON CONFLICT DO NOTHING")
const upsert = db.prepare(
  "INSERT INTO hosts (id, name, status) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET status = excluded.status"
)

interface Envelope {
  readonly hostname: string
  readonly event: { readonly seq: number; readonly kind: string }
}

const ids = new Map<string, number>()
function idOf(name: string): number {
  const known = ids.get(name) ?? ids.size + 1
  ids.set(name, known)
  return known
}

let waiting: Array<{ readonly envelope: Envelope; readonly response: ServerResponse }> = []
function commit(): void {
  const batch = waiting
  waiting = []
  db.exec("BEGIN IMMEDIATE")
  for (const { envelope: { event, hostname } } of batch) {
    insert.run(idOf(hostname), event.seq, JSON.stringify(event))
    upsert.run(idOf(hostname), hostname, event.kind)
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
