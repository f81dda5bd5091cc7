/** Carries out the writes of one commit, in order, inside the transaction of the caller. */
import { Schema } from "effect"
import type { Sql } from "../../Layers/Disk/Database.ts"
import { ContactJson, type Entry, FoldedJson, type Row, wireEventOf } from "../../Schema/AgentJournal.ts"
import type { TrustMark } from "../Input.ts"
import type { Folded } from "../State.ts"
import type { Delivery, Write } from "../Write.ts"
import { putMeta } from "./Tables.ts"

/** The decision found that the entry fits its schema (`Draft`), and it is stored as it is; who reads it checks it again. */
const encodeEntry = (entry: Entry): string => JSON.stringify(entry)
const encodeFolded = Schema.encodeSync(FoldedJson)
const encodeContact = Schema.encodeSync(ContactJson)

export const putTrust = (sql: Sql, mark: TrustMark): void => {
  sql.run(
    `INSERT INTO marks (artifact, signed_at) VALUES (?, ?)
     ON CONFLICT (artifact) DO UPDATE SET signed_at = max(signed_at, excluded.signed_at)`,
    mark.artifact,
    mark.signedAt
  )
}

const factKeys = { bootId: "boot_id", firstObserved: "first_observed", lastConverged: "last_converged" } as const

export function carryOut(sql: Sql, write: Write): void {
  switch (write._tag) {
    case "AppendRow":
      return appendRow(sql, write.row)
    case "PutRollout":
      return putRollout(sql, write.rolloutId, write.folded, write.ackedThrough)
    case "MarkRow":
      sql.run(
        `UPDATE events SET delivery = ?, detail = ? WHERE rollout = (SELECT id FROM rollouts WHERE rollout_id = ?) AND seq = ?`,
        write.delivery,
        write.detail,
        write.rolloutId,
        write.seq
      )
      return
    case "Rewind":
      sql.run(
        `UPDATE events SET delivery = 'pending', detail = ''
         WHERE rollout = (SELECT id FROM rollouts WHERE rollout_id = ?) AND seq >= ?`,
        write.rolloutId,
        write.fromSeq
      )
      return
    case "Summarise":
      dropRows(sql, write.row.rolloutId)
      return appendRow(sql, write.row)
    case "ForgetRollout":
      dropRows(sql, write.rolloutId)
      sql.run("DELETE FROM rollouts WHERE rollout_id = ?", write.rolloutId)
      return
    case "PutSeqFloor":
      sql.run("DELETE FROM seq_floors WHERE rollout_id = ?", write.rolloutId)
      sql.run("INSERT INTO seq_floors (rollout_id, seq) VALUES (?, ?)", write.rolloutId, write.seq)
      return
    case "DropSeqFloor":
      sql.run("DELETE FROM seq_floors WHERE rollout_id = ?", write.rolloutId)
      return
    case "PutRejection": {
      const { at, detail, reason, rolloutId } = write.rejection
      sql.run("DELETE FROM rejections WHERE rollout_id = ?", rolloutId)
      sql.run(
        "INSERT INTO rejections (rollout_id, reason, detail, at) VALUES (?, ?, ?, ?)",
        rolloutId,
        reason,
        detail,
        at
      )
      return
    }
    case "DropRejection":
      sql.run("DELETE FROM rejections WHERE rollout_id = ?", write.rolloutId)
      return
    case "PutHostFact":
      return putMeta(sql, factKeys[write.fact], write.value)
    case "PutContact":
      return putMeta(sql, "contact", encodeContact(write.contact))
    case "PutTrust":
      // Written before, in the database of its own.
      return
    case "DisarmGuard":
      // Done before, on the host.
      return
  }
}

function appendRow(sql: Sql, { at, attempt, entry, now, rolloutId }: Row): void {
  const event = wireEventOf(entry)
  const delivery: Delivery | null = event === undefined ? null : "pending"
  // The record follows in the same transaction.
  if (entry._tag === "Opened") {
    sql.run("INSERT INTO rollouts (rollout_id, folded) VALUES (?, '') ON CONFLICT (rollout_id) DO NOTHING", rolloutId)
  }
  sql.run(
    `INSERT INTO events (rollout, seq, attempt, kind, at, now, entry, delivery)
     VALUES ((SELECT id FROM rollouts WHERE rollout_id = ?), ?, ?, ?, ?, ?, ?, ?)`,
    rolloutId,
    event?.seq ?? null,
    attempt,
    event?.kind ?? entry._tag,
    at,
    now,
    encodeEntry(entry),
    delivery
  )
}

function putRollout(
  sql: Sql,
  rolloutId: string,
  folded: Folded,
  ackedThrough: number | undefined
): void {
  sql.run(
    "UPDATE rollouts SET folded = ?, acked_through = ? WHERE rollout_id = ?",
    encodeFolded(folded),
    ackedThrough ?? null,
    rolloutId
  )
}

function dropRows(sql: Sql, rolloutId: string): void {
  sql.run("DELETE FROM events WHERE rollout = (SELECT id FROM rollouts WHERE rollout_id = ?)", rolloutId)
}
