/**
 * The tables of the control plane's journal and the statements of its one commit (D1, D20). Names of hosts, rollouts and
 * agent journals are interned: every other table refers to them by an integer.
 */
import type { Migrations, Sql } from "../../Layers/Disk/Database.ts"
import type { LogRow } from "../../Schema/ControlPlaneJournal.ts"
import { quarantineKey } from "../fold/Quarantine.ts"
import type { Write } from "../Write.ts"
import * as Codec from "./Codec.ts"

export const journalMigrations: Migrations = {
  // "nfcj"
  applicationId: 0x6e66636a,
  title: "the control plane's journal",
  major: 1,
  minors: [
    `
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE rollouts (
      id INTEGER PRIMARY KEY REFERENCES names (id),
      channel TEXT NOT NULL,
      state TEXT NOT NULL,
      record TEXT NOT NULL,
      plan TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE TABLE host_records (
      id INTEGER PRIMARY KEY,
      rollout INTEGER NOT NULL REFERENCES rollouts (id),
      host INTEGER NOT NULL REFERENCES names (id),
      state TEXT NOT NULL,
      last_seq INTEGER NOT NULL,
      leased_at INTEGER,
      overlay TEXT,
      record TEXT NOT NULL,
      UNIQUE (rollout, host)
    ) STRICT;
    CREATE TABLE channels (
      id INTEGER PRIMARY KEY,
      name TEXT NOT NULL UNIQUE,
      current TEXT,
      recovery TEXT
    ) STRICT;
    CREATE TABLE hosts (id INTEGER PRIMARY KEY REFERENCES names (id), seen TEXT NOT NULL) STRICT;
    CREATE TABLE dispatch_queue (id INTEGER PRIMARY KEY REFERENCES names (id), row TEXT NOT NULL) STRICT;
    CREATE TABLE quarantined_closures (
      id INTEGER PRIMARY KEY,
      channel TEXT NOT NULL,
      ref TEXT NOT NULL,
      closure TEXT NOT NULL,
      at INTEGER NOT NULL,
      host TEXT NOT NULL,
      UNIQUE (channel, ref, closure)
    ) STRICT;
    CREATE TABLE event_log (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      ts INTEGER NOT NULL,
      kind TEXT NOT NULL,
      host INTEGER REFERENCES names (id),
      rollout INTEGER REFERENCES names (id),
      payload TEXT NOT NULL,
      outcome TEXT,
      agent_journal INTEGER NOT NULL DEFAULT 0,
      agent_seq INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX event_log_key ON event_log (rollout, host, agent_seq, agent_journal) WHERE agent_seq IS NOT NULL;
    CREATE INDEX event_log_rollout ON event_log (rollout, seq);
    CREATE INDEX event_log_host ON event_log (host, seq);
  `,
    `
    CREATE TABLE signed_lists (name TEXT PRIMARY KEY, list TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE nonce_uses (nonce TEXT PRIMARY KEY, use TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE renewal_chains (id INTEGER PRIMARY KEY REFERENCES names (id), chains TEXT NOT NULL) STRICT;
  `,
    `
    ALTER TABLE host_records ADD COLUMN offered_until INTEGER;
  `,
    `
    ALTER TABLE quarantined_closures ADD COLUMN lifted INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE interventions (subject TEXT PRIMARY KEY, intervention TEXT NOT NULL) STRICT;
    CREATE INDEX event_log_actions ON event_log (seq) WHERE kind = 'operator_action';
  `
  ]
}

/** The journal of an agent of the original, which has none. */
const noJournal = 0

/** Hosts and agent journals of the largest fleet that was measured, several times over. */
const rememberedNames = 100_000

/** Name → integer. What a transaction added counts only once it is durable. */
export class Names {
  readonly #known = new Map<string, number>()
  readonly #added = new Map<string, number>()

  idOf(sql: Sql, name: string): number {
    const known = this.#known.get(name) ?? this.#added.get(name)
    if (known !== undefined) return known
    const found = sql.get("SELECT id FROM names WHERE name = ?", name)?.["id"]
    const id = typeof found === "number" ? found : sql.run("INSERT INTO names (name) VALUES (?)", name).lastInsertRowid
    this.#added.set(name, id)
    return id
  }

  committed(): void {
    // Rollout ids and journal ids come from hosts: what is remembered here must not grow with what they invent.
    if (this.#known.size > rememberedNames) this.#known.clear()
    for (const [name, id] of this.#added) this.#known.set(name, id)
    this.#added.clear()
  }

  rolledBack(): void {
    this.#added.clear()
  }
}

/** Carries out the writes of one batch; of several that replace the same row only the last is written. */
export function carryOutAll(sql: Sql, names: Names, writes: ReadonlyArray<Write>): void {
  const last = new Map<string, number>()
  for (const [index, write] of writes.entries()) last.set(keyOf(write, index), index)
  for (const [index, write] of writes.entries()) {
    if (last.get(keyOf(write, index)) === index) carryOut(sql, names, write)
  }
}

/** Two writes with one key replace the same row. Rows of the log are never replaced. */
function keyOf(write: Write, index: number): string {
  switch (write._tag) {
    case "PutRollout":
    case "PutHostRecord": {
      const { rolloutId } = write.record
      return write._tag === "PutRollout" ? `rollout ${rolloutId}` : `record ${rolloutId} ${write.record.hostname}`
    }
    case "PutPlan":
      return `plan ${write.rolloutId}`
    case "PutChannel":
      return `channel ${write.channel}`
    case "PutDispatch":
      return `dispatch ${write.row.host}`
    case "DropDispatch":
      return `dispatch ${write.host}`
    case "PutSeen":
      return `seen ${write.seen.host}`
    case "PutNextDelivery":
      return "next delivery"
    case "PutRevocations":
      return "revocations"
    case "PutNonces":
      return "nonces"
    case "PutNonceUse":
      return `nonce ${write.use.nonce}`
    case "PutChains":
      return `chains ${write.host}`
    case "PutQuarantine":
      return `quarantine ${quarantineKey(write.quarantine)}`
    case "PutIntervention":
      return `intervention ${write.subject}`
    case "AppendLog":
      return `${index}`
  }
}

function carryOut(sql: Sql, names: Names, write: Write): void {
  switch (write._tag) {
    case "AppendLog":
      return append(sql, names, write.row)
    case "PutRollout": {
      const { channel, rolloutId, state } = write.record
      sql.run(
        `INSERT INTO rollouts (id, channel, state, record) VALUES (?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, record = excluded.record`,
        names.idOf(sql, rolloutId),
        channel,
        state,
        Codec.encodeRollout(write.record)
      )
      return
    }
    case "PutPlan":
      sql.run(
        "UPDATE rollouts SET plan = ? WHERE id = ?",
        Codec.encodePlan(write.plan),
        names.idOf(sql, write.rolloutId)
      )
      return
    case "PutHostRecord":
      sql.run(
        `INSERT INTO host_records (rollout, host, state, last_seq, leased_at, offered_until, overlay, record)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (rollout, host) DO UPDATE SET state = excluded.state, last_seq = excluded.last_seq,
           leased_at = excluded.leased_at, offered_until = excluded.offered_until, overlay = excluded.overlay, record = excluded.record`,
        names.idOf(sql, write.record.rolloutId),
        names.idOf(sql, write.record.hostname),
        write.record.state,
        write.lastSeq,
        write.leasedAt ?? null,
        write.offeredUntil ?? null,
        write.overlay === undefined ? null : Codec.encodeOverlay(write.overlay),
        Codec.encodeRecord(write.record)
      )
      return
    case "PutChannel":
      sql.run(
        `INSERT INTO channels (name, current, recovery) VALUES (?, ?, ?)
         ON CONFLICT (name) DO UPDATE SET current = excluded.current, recovery = excluded.recovery`,
        write.channel,
        write.current ?? null,
        write.recovery === undefined ? null : Codec.encodeRecovery(write.recovery)
      )
      return
    case "PutDispatch":
      sql.run(
        "INSERT INTO dispatch_queue (id, row) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET row = excluded.row",
        names.idOf(sql, write.row.host),
        Codec.encodeDispatch(write.row)
      )
      return
    case "DropDispatch":
      sql.run("DELETE FROM dispatch_queue WHERE id = ?", names.idOf(sql, write.host))
      return
    case "PutQuarantine": {
      const { at, channel, closure, host, ref } = write.quarantine
      // Replaced, not updated: what failed again is the latest of all.
      sql.run(
        `INSERT OR REPLACE INTO quarantined_closures (channel, ref, closure, at, host, lifted)
         VALUES (?, ?, ?, ?, ?, ?)`,
        channel,
        ref,
        closure,
        at,
        host,
        write.lifted ? 1 : 0
      )
      return
    }
    case "PutSeen":
      sql.run(
        "INSERT INTO hosts (id, seen) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET seen = excluded.seen",
        names.idOf(sql, write.seen.host),
        Codec.encodeSeen(write.seen)
      )
      return
    case "PutNextDelivery":
      return putMeta(sql, "next_delivery", String(write.nextDelivery))
    case "PutRevocations":
      return putList(sql, "revocations", Codec.encodeRevocations(write.list))
    case "PutNonces":
      return putList(sql, "nonces", Codec.encodeNonces(write.list))
    case "PutNonceUse":
      sql.run(
        "INSERT INTO nonce_uses (nonce, use) VALUES (?, ?) ON CONFLICT (nonce) DO UPDATE SET use = excluded.use",
        write.use.nonce,
        Codec.encodeNonceUse(write.use)
      )
      return
    case "PutIntervention":
      if (write.intervention === undefined) {
        sql.run("DELETE FROM interventions WHERE subject = ?", write.subject)
        return
      }
      sql.run(
        `INSERT INTO interventions (subject, intervention) VALUES (?, ?)
         ON CONFLICT (subject) DO UPDATE SET intervention = excluded.intervention`,
        write.subject,
        Codec.encodeIntervention(write.intervention)
      )
      return
    case "PutChains":
      sql.run(
        "INSERT INTO renewal_chains (id, chains) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET chains = excluded.chains",
        names.idOf(sql, write.host),
        Codec.encodeChains(write.chains)
      )
      return
  }
}

/** Insert-only; a number of an agent's journal can be stored once (D2). */
function append(sql: Sql, names: Names, { entry, host, now, rolloutId }: LogRow): void {
  const numbered = entry.kind === "agent_event" && entry.numbered
  const journalId = numbered ? entry.outcome.journalId : undefined
  sql.run(
    `INSERT INTO event_log (ts, kind, host, rollout, payload, outcome, agent_journal, agent_seq)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    now,
    entry.kind,
    host === undefined ? null : names.idOf(sql, host),
    rolloutId === undefined ? null : names.idOf(sql, rolloutId),
    Codec.encodePayload(entry),
    entry.kind === "agent_event" ? Codec.encodeOutcome(entry.outcome) : null,
    journalId === undefined ? noJournal : names.idOf(sql, journalId),
    numbered ? entry.event.seq : null
  )
}

function putList(sql: Sql, name: "revocations" | "nonces", list: string): void {
  sql.run(
    "INSERT INTO signed_lists (name, list) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET list = excluded.list",
    name,
    list
  )
}

export function meta(sql: Pick<Sql, "get">, key: string): string | undefined {
  const value = sql.get("SELECT value FROM meta WHERE key = ?", key)?.["value"]
  return typeof value === "string" ? value : undefined
}

export function putMeta(sql: Sql, key: string, value: string): void {
  sql.run(
    "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    key,
    value
  )
}
