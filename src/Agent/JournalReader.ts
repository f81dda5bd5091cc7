/**
 * The journal as those read it who only look: `status`, `check --deep` and `journal export`, also while the agent writes it.
 * One snapshot, read-only, without the lock of the process; what a row means is asked of the code that the agent loads with.
 */
import { Effect, Schema } from "effect"
import { type DatabaseReader, openReader } from "../Layers/Disk/DatabaseReader.ts"
import { JournalUnusable, ofOtherHost, readable } from "./Journal.ts"
import { load } from "./Journal/Load.ts"
import { journalMigrations, meta } from "./Journal/Tables.ts"

/** Where a state directory keeps the journal. */
export const journalFile = (stateDir: string): string => `${stateDir}/journal.db`

/** The journal's snapshot until the scope closes; `undefined` when no agent ever ran on this directory. */
export const openJournal = Effect.fnUntraced(function*(stateDir: string, hostname: string) {
  const reader = yield* openReader(journalFile(stateDir), journalMigrations)
  if (reader === undefined) return undefined
  const owner = yield* readable(reader, () => meta(reader.sql, "hostname"))
  // Made, but the first start has not named it yet.
  if (owner === undefined) return undefined
  return owner === hostname ? reader : yield* ofOtherHost(reader.file, owner, hostname)
})

/** The state as a start of this moment would find it. */
export const stateOf = (reader: DatabaseReader, hostname: string) =>
  readable(reader, () => load(reader.sql, undefined, hostname))

/** Rows of one rollout in one state of delivery. */
export interface Rows {
  readonly rolloutId: string
  readonly delivery: string
  readonly count: number
  /** When the first of them happened, epoch ms. */
  readonly oldestAt: number
}

export interface RefusedRow {
  readonly rolloutId: string
  readonly seq: number
  readonly kind: string
  readonly at: number
  readonly reason: string
}

/** What the rows say beyond the state. */
export interface Details {
  /** What is not delivered, or was refused. */
  readonly rows: ReadonlyArray<Rows>
  /** The latest first, at most `refusedLimit`. */
  readonly refused: ReadonlyArray<RefusedRow>
  /** By rollout: when its latest rollback began, and when its running time was journaled last. */
  readonly rollbackStartedAt: ReadonlyMap<string, number>
  readonly learnedAt: ReadonlyMap<string, number>
}

/** Refused rows that are shown one by one. */
const refusedLimit = 20

const RowsOf = Schema.Struct({
  rollout_id: Schema.String,
  delivery: Schema.String,
  count: Schema.Number,
  oldest_at: Schema.Number
})
const RefusedOf = Schema.Struct({
  rollout_id: Schema.String,
  seq: Schema.Number,
  kind: Schema.String,
  at: Schema.Number,
  detail: Schema.String
})
const LatestOf = Schema.Struct({ rollout_id: Schema.String, at: Schema.Number })

/** `now`, not `at`: the latest decision of that kind. */
const latestText = `
  SELECT r.rollout_id, max(e.now) AS at FROM events e JOIN rollouts r ON r.id = e.rollout
  WHERE e.seq IS NULL AND e.kind = ? GROUP BY r.rollout_id ORDER BY r.rollout_id`

export const detailsOf = (reader: DatabaseReader): Effect.Effect<Details, JournalUnusable | ReadError> =>
  readable(reader, () => {
    const latest = (kind: string) =>
      new Map(
        reader.sql.all(latestText, kind).map((row) => {
          const { at, rollout_id } = Schema.decodeUnknownSync(LatestOf)(row)
          return [rollout_id, at]
        })
      )
    return {
      rows: reader.sql.all(
        `SELECT r.rollout_id, e.delivery, count(*) AS count, min(e.at) AS oldest_at
         FROM events e JOIN rollouts r ON r.id = e.rollout
         WHERE e.delivery IN ('pending', 'parked', 'refused') GROUP BY e.rollout, e.delivery ORDER BY r.rollout_id, e.delivery`
      ).map((row) => {
        const { count, delivery, oldest_at, rollout_id } = Schema.decodeUnknownSync(RowsOf)(row)
        return { rolloutId: rollout_id, delivery, count, oldestAt: oldest_at }
      }),
      refused: reader.sql.all(
        `SELECT r.rollout_id, e.seq, e.kind, e.at, e.detail FROM events e JOIN rollouts r ON r.id = e.rollout
         WHERE e.delivery = 'refused' ORDER BY e.id DESC LIMIT ?`,
        refusedLimit
      ).map((row) => {
        const { at, detail, kind, rollout_id, seq } = Schema.decodeUnknownSync(RefusedOf)(row)
        return { rolloutId: rollout_id, seq, kind, at, reason: detail }
      }),
      rollbackStartedAt: latest("RollbackStarted"),
      learnedAt: latest("Learned")
    }
  })

type ReadError = Effect.Error<ReturnType<typeof readable>>
