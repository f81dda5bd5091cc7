/**
 * What a commit throws when the disk cannot take it now but may take it later (D1): the disk is full or read-only, or an
 * operator's shell holds the database. Nothing of the transaction is durable, and the same transaction may be tried
 * again. Every other error of a commit leaves it open what is durable, so it ends the process; the next start reads what
 * the disk really holds.
 */
import { Schema } from "effect"

export class CommitHeld extends Schema.TaggedError<CommitHeld>()("CommitHeld", {
  reason: Schema.Literals(["disk-full", "disk-read-only", "database-locked"]),
  /** The file, and what the operating system or SQLite said. */
  message: Schema.String
}) {}
