/**
 * The agent's journal: its one commit, and what a start reads back (D1, D2, house rules 1, 2). Programs start
 * from the stored records; that the rows fold to them is checked by `rows` with `Fold.ts`.
 *
 * Two databases: the journal, and the trust memory, which survives a reset of the journal (D14). Trust is written first: a
 * memory that is ahead of the journal only ever refuses more.
 *
 * Failures: `CommitHeld` when the disk cannot take a commit now; any other error of a commit ends the process. At start a
 * journal that cannot be read, or that another host wrote, is refused.
 */
import { Context, Effect, Layer, Random, Schema } from "effect"
import { CommitHeld } from "../Layers/Disk/CommitHeld.ts"
import { Database, DatabaseError } from "../Layers/Disk/Database.ts"
import type { Row } from "../Schema/AgentJournal.ts"
import type { AgentEvent } from "../Schema/Wire.ts"
import { carryOut, putTrust } from "./Journal/Commit.ts"
import { allRows, eventOf, load } from "./Journal/Load.ts"
import { meta, putMeta } from "./Journal/Tables.ts"
import type { State } from "./State.ts"
import type { Write } from "./Write.ts"

export { journalMigrations, trustMigrations } from "./Journal/Tables.ts"

/** The journal cannot be used. A configuration error (exit 78): the message says what to do. */
export class JournalUnusable extends Schema.TaggedError<JournalUnusable>()("JournalUnusable", {
  reason: Schema.Literals(["journal-of-other-host", "journal-unreadable"]),
  message: Schema.String
}) {}

export class Journal extends Context.Service<Journal, {
  /** What was stored when the program started. */
  readonly initial: State
  /** One durable transaction; throws `CommitHeld` when it may be tried again. For the reducer only. */
  readonly commit: (writes: ReadonlyArray<Write>) => void
  /** The event of a row; `undefined` when the row is not kept any more. A row that cannot be read ends the process. */
  readonly event: (rolloutId: string, seq: number) => Effect.Effect<AgentEvent | undefined>
  /** All rows in the order in which they were written. For tests and the deep check. */
  readonly rows: Effect.Effect<ReadonlyArray<Row>, DatabaseError | JournalUnusable>
}>()("nixfleet/Agent/Journal") {
  /** `journal` with `journalMigrations`, `trust` with `trustMigrations`: two files, or two disks of the simulator. */
  static readonly layer = <E>(
    hostname: string,
    databases: { readonly journal: Layer.Layer<Database, E>; readonly trust: Layer.Layer<Database, E> }
  ): Layer.Layer<Journal, E | DatabaseError | JournalUnusable> =>
    Layer.effect(
      Journal,
      Effect.gen(function*() {
        const journal = Context.get(yield* Layer.build(databases.journal), Database)
        const trust = Context.get(yield* Layer.build(databases.trust), Database)
        yield* adopt(journal, hostname, yield* newJournalId)
        const initial = yield* readable(journal, () => load(journal.sql, trust.sql, hostname))
        const commit = (writes: ReadonlyArray<Write>) => {
          const marks = writes.filter((write) => write._tag === "PutTrust")
          if (marks.length > 0) trust.transaction((sql) => marks.forEach(({ mark }) => putTrust(sql, mark)))
          if (marks.length < writes.length) {
            journal.transaction((sql) => writes.forEach((write) => carryOut(sql, write)))
          }
        }
        return Journal.of({
          initial,
          commit,
          event: (rolloutId, seq) => Effect.orDie(readable(journal, () => eventOf(journal.sql, rolloutId, seq))),
          rows: readable(journal, () => allRows(journal.sql))
        })
      })
    )
}

/** 128 random bits: two journals of one host never meet (D2). */
const newJournalId = Effect.map(
  Effect.all(Array.from({ length: 4 }, () => Random.nextIntBetween(0, 0xffff_ffff))),
  (words) => words.map((word) => word.toString(16).padStart(8, "0")).join("")
)

/** A new journal takes the host's name and its id; an old one must have been written under the same name. */
const adopt = Effect.fnUntraced(function*(journal: Database["Service"], hostname: string, journalId: string) {
  const owner = yield* readable(journal, () => {
    const found = meta(journal.sql, "hostname")
    if (found === undefined) {
      journal.transaction((sql) => {
        putMeta(sql, "hostname", hostname)
        putMeta(sql, "journal_id", journalId)
      })
    }
    return found ?? hostname
  })
  if (owner !== hostname) return yield* ofOtherHost(journal.file, owner, hostname)
})

export const ofOtherHost = (file: string, owner: string, hostname: string): JournalUnusable =>
  new JournalUnusable({
    reason: "journal-of-other-host",
    message: `${file} was written by ${owner}, and this host is ${hostname}: a copied disk? Move the file away`
  })

/** What the disk says is the disk's error, and may pass; what it holds is the journal's, and does not. */
export const readable = <A>(
  journal: Pick<Database["Service"], "file">,
  read: () => A
): Effect.Effect<A, DatabaseError | JournalUnusable> =>
  Effect.try({
    try: read,
    catch: (cause) => {
      if (cause instanceof DatabaseError) return cause
      const message = `${journal.file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`
      return cause instanceof CommitHeld
        ? new DatabaseError({ reason: "database-failed", file: journal.file, message })
        : new JournalUnusable({ reason: "journal-unreadable", message })
    }
  })
