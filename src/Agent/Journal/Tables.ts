/**
 * The tables of the agent's two databases, and the key-value table that the other files of this folder share. Additive only
 * within a major version: after a rollback an older agent opens what a newer one wrote (D1).
 */
import type { Migrations, Sql } from "../../Layers/Disk/Database.ts"

export const journalMigrations: Migrations = {
  // "nfaj"
  applicationId: 0x6e66616a,
  title: "the agent's journal",
  major: 1,
  minors: [`
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE rollouts (
      id INTEGER PRIMARY KEY,
      rollout_id TEXT NOT NULL UNIQUE,
      folded TEXT NOT NULL,
      acked_through INTEGER
    ) STRICT;
    CREATE TABLE events (
      id INTEGER PRIMARY KEY,
      rollout INTEGER NOT NULL REFERENCES rollouts (id),
      seq INTEGER,
      attempt INTEGER NOT NULL,
      kind TEXT NOT NULL,
      origin TEXT NOT NULL DEFAULT 'Local',
      at INTEGER NOT NULL,
      now INTEGER NOT NULL,
      entry TEXT NOT NULL,
      delivery TEXT,
      detail TEXT NOT NULL DEFAULT '',
      UNIQUE (rollout, seq)
    ) STRICT;
    CREATE INDEX events_delivery ON events (rollout, delivery, seq);
    CREATE TABLE seq_floors (id INTEGER PRIMARY KEY, rollout_id TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL) STRICT;
    CREATE TABLE rejections (
      id INTEGER PRIMARY KEY,
      rollout_id TEXT NOT NULL UNIQUE,
      reason TEXT NOT NULL,
      detail TEXT NOT NULL,
      at INTEGER NOT NULL
    ) STRICT;
  `]
}

export const trustMigrations: Migrations = {
  // "nfat"
  applicationId: 0x6e666174,
  title: "the agent's trust memory",
  major: 1,
  minors: [
    `CREATE TABLE marks (artifact TEXT PRIMARY KEY, signed_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;`
  ]
}

export const meta = (sql: Pick<Sql, "get">, key: string): string | undefined => {
  const value = sql.get("SELECT value FROM meta WHERE key = ?", key)?.["value"]
  return typeof value === "string" ? value : undefined
}

export const putMeta = (sql: Sql, key: string, value: string): void => {
  sql.run(
    "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    key,
    value
  )
}
