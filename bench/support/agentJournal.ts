/** A journal of the agent with one rollout open, and the rows that a soak appends to it. */
import { Context, Effect, Layer } from "effect"
import { makeDecide } from "../../src/Agent/Decide.ts"
import { Journal, journalMigrations, trustMigrations } from "../../src/Agent/Journal.ts"
import type { Folded } from "../../src/Agent/State.ts"
import type { Write } from "../../src/Agent/Write.ts"
import { Database } from "../../src/Layers/Disk/Database.ts"

export const rolloutId = "stable@def4567a"
const hostname = "host-1"
const hash = (digit: string) => digit.repeat(40)

export const journalFile = (directory: string) => `${directory}/journal.db`

/** As `Program.ts` builds it. */
export const journalLayer = (directory: string) =>
  Journal.layer(hostname, {
    journal: Database.layerFile(journalFile(directory), journalMigrations),
    trust: Database.layerFile(`${directory}/trust-memory.db`, trustMigrations)
  })

/** Opens the journal and a rollout in it; open until the scope closes. */
export const openRollout = Effect.fnUntraced(function*(directory: string) {
  const journal = Context.get(yield* Layer.build(Layer.fresh(journalLayer(directory))), Journal)
  const decide = makeDecide({ probeResultMs: 300_000, inconclusiveMs: 600_000, retentionMs: 86_400_000 })
  const { answer, state, writes } = decide(journal.initial, {
    _tag: "Activate",
    rolloutId,
    attempt: 1,
    targetClosure: `${hash("b")}-new`,
    soakDueAt: 0,
    dispatchedAt: 0,
    receivedAt: 0,
    signedAt: 1,
    policy: { onHealthFailure: "rollback-and-halt", soakMs: 60_000, sustainedFailureMs: 120_000 },
    observed: `${hash("a")}-old`
  }, { wall: 1000, monotonic: 1000 })
  const entry = state.rollouts.get(rolloutId)
  if (answer._tag !== "Accepted" || entry === undefined) throw new Error(`not opened: ${JSON.stringify(answer)}`)
  journal.commit(writes)
  const folded: Folded = { record: entry.record, bookkeeping: entry.bookkeeping }
  return { journal, folded, nextSeq: entry.record.lastEventSeq + 1 }
})

/** One event of about 450 bytes of JSON. */
export const probeRow = (seq: number): Write => ({
  _tag: "AppendRow",
  row: {
    rolloutId,
    attempt: 1,
    at: 1_778_893_200_000 + seq,
    now: 1_778_893_200_000 + seq,
    entry: {
      _tag: "Stepped",
      event: {
        kind: "ProbeResult",
        probeName: "web",
        mode: "enforce",
        status: "fail",
        observedAt: 1_778_893_200_000 + seq,
        failureReason: "connect ECONNREFUSED 127.0.0.1:8080 ".repeat(7),
        attempt: 1,
        seq
      }
    }
  }
})
