/** What a start reads back: the state as it was published last, but for what need not survive a restart (house rule 2). */
import { HashMap } from "effect"
import type { Row, Sql } from "../../Layers/Disk/Database.ts"
import type { Quarantine } from "../../Schema/ControlPlaneJournal.ts"
import { shortHash } from "../fold/Events.ts"
import { quarantineKey } from "../fold/Quarantine.ts"
import { indexHosts, waits } from "../fold/Records.ts"
import { type Identities, noncesInForce, revocationsInForce } from "../Identities.ts"
import type { Limits } from "../Limits.ts"
import { emptyState, type HostInRollout, ledgerWindow, type Received, type RolloutEntry, type State } from "../State.ts"
import * as Codec from "./Codec.ts"
import { meta } from "./Tables.ts"

/** What a running journal and a snapshot of one have in common. */
type Reads = Pick<Sql, "all" | "get">

export function load(sql: Reads, databaseId: string, limits: Limits): State {
  const rollouts = loadRollouts(sql)
  const base: State = {
    ...emptyState(databaseId, limits),
    nextDelivery: Number(meta(sql, "next_delivery") ?? "1"),
    rollouts,
    identities: loadIdentities(sql),
    channels: table(sql, "channels", "SELECT name AS key, current, recovery FROM channels ORDER BY name", (row) => ({
      ...(row["current"] === null ? {} : { current: String(row["current"]) }),
      ...(row["recovery"] === null ? {} : { recovery: Codec.decodeRecovery(row["recovery"]) })
    })),
    hosts: table(
      sql,
      "hosts",
      "SELECT n.name AS key, h.seen FROM hosts h JOIN names n ON n.id = h.id ORDER BY n.name",
      (row) => {
        const seen = Codec.decodeSeen(row["seen"])
        return { rollouts: [], seen, seenStoredAt: seen.receivedAt }
      }
    ),
    queue: table(
      sql,
      "dispatch_queue",
      "SELECT n.name AS key, d.row FROM dispatch_queue d JOIN names n ON n.id = d.id ORDER BY n.name",
      (row) => withoutWaiter(Codec.decodeDispatch(row["row"]))
    ),
    quarantine: loadQuarantine(sql, 0),
    lifted: HashMap.fromIterable(loadQuarantine(sql, 1).map((one) => [quarantineKey(one), one] as const)),
    interventions: table(
      sql,
      "interventions",
      "SELECT subject AS key, intervention FROM interventions ORDER BY subject",
      (row) => Codec.decodeIntervention(row["intervention"])
    )
  }
  return withIndexes(base)
}

/** Adds what can be told from the rest: which rollouts list a host, or did, and who waits in a channel. */
export function withIndexes(base: State): State {
  return [...HashMap.entries(base.rollouts)]
    .toSorted(([, a], [, b]) =>
      a.record.openedAt - b.record.openedAt || (a.record.rolloutId < b.record.rolloutId ? -1 : 1)
    )
    .reduce(
      (state, [id, { hosts, plan }]) =>
        indexHosts(state, id, new Set([...Object.keys(plan.hosts), ...HashMap.keys(hosts)])),
      [...HashMap.values(base.queue)].reduce((state, { host, rolloutId }) => waits(state, rolloutId, host), base)
    )
}

/** In the order of their recording. */
function loadQuarantine(sql: Reads, lifted: 0 | 1): ReadonlyArray<Quarantine> {
  const rows = sql.all(
    "SELECT channel, ref, closure, at, host FROM quarantined_closures WHERE lifted = ? ORDER BY id",
    lifted
  )
  return rows.map((row) => ({
    channel: String(row["channel"]),
    ref: String(row["ref"]),
    closure: String(row["closure"]),
    at: Number(row["at"]),
    host: String(row["host"])
  }))
}

/** Waiters of the process that ended are gone; 0 is no waiter's id. */
function withoutWaiter(row: ReturnType<typeof Codec.decodeDispatch>): ReturnType<typeof Codec.decodeDispatch> {
  return row.lease === undefined ? row : { ...row, lease: { ...row.lease, waiterId: 0 } }
}

function loadIdentities(sql: Reads): Identities {
  const list = (name: "revocations" | "nonces"): unknown =>
    sql.get("SELECT list FROM signed_lists WHERE name = ?", name)?.["list"]
  const [revocations, nonces] = [list("revocations"), list("nonces")]
  return {
    ...(revocations === undefined ? {} : {
      revocations: named("signed_lists of revocations", () => revocationsInForce(Codec.decodeRevocations(revocations)))
    }),
    ...(nonces === undefined ? {} : {
      nonces: named("signed_lists of nonces", () => noncesInForce(Codec.decodeNonces(nonces)))
    }),
    used: table(
      sql,
      "nonce_uses",
      "SELECT nonce AS key, use FROM nonce_uses ORDER BY nonce",
      (row) => Codec.decodeNonceUse(row["use"])
    ),
    chains: table(
      sql,
      "renewal_chains",
      "SELECT n.name AS key, c.chains FROM renewal_chains c JOIN names n ON n.id = c.id ORDER BY n.name",
      (row) => Codec.decodeChains(row["chains"])
    )
  }
}

function table<V>(sql: Reads, name: string, text: string, value: (row: Row) => V): HashMap.HashMap<string, V> {
  return HashMap.fromIterable(
    sql.all(text).map((row) => {
      const key = String(row["key"])
      return [key, named(`${name} of ${key}`, () => value(row))] as const
    })
  )
}

/** Says which row does not decode: an operator must know what is lost with it. */
function named<A>(row: string, decode: () => A): A {
  try {
    return decode()
  } catch (error) {
    throw new Error(`${row}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
}

function loadRollouts(sql: Reads): HashMap.HashMap<string, RolloutEntry> {
  const received = loadReceived(sql)
  const hosts = new Map<string, Array<readonly [string, HostInRollout]>>()
  const records = sql.all(
    `SELECT r.name AS rollout, h.name AS host, last_seq, leased_at, offered_until, overlay, record
     FROM host_records x JOIN names r ON r.id = x.rollout JOIN names h ON h.id = x.host ORDER BY r.name, h.name`
  )
  for (const row of records) {
    const rollout = String(row["rollout"])
    const host = String(row["host"])
    const entry: HostInRollout = {
      record: named(`host_records of ${host} in ${rollout}`, () => Codec.decodeRecord(row["record"])),
      ledger: { lastSeq: Number(row["last_seq"]), seen: received.get(`${rollout} ${host}`) ?? [] },
      ...(row["leased_at"] === null ? {} : { leasedAt: Number(row["leased_at"]) }),
      ...(row["offered_until"] === null ? {} : { offeredUntil: Number(row["offered_until"]) }),
      ...(row["overlay"] === null ? {} : { overlay: Codec.decodeOverlay(row["overlay"]) })
    }
    const known = hosts.get(rollout)
    if (known === undefined) hosts.set(rollout, [[host, entry]])
    else known.push([host, entry])
  }
  return table(
    sql,
    "rollouts",
    "SELECT n.name AS key, x.record, x.plan FROM rollouts x JOIN names n ON n.id = x.id ORDER BY n.name",
    (row) => ({
      record: Codec.decodeRollout(row["record"]),
      plan: Codec.decodePlan(row["plan"]),
      hosts: HashMap.fromIterable(hosts.get(String(row["key"])) ?? [])
    })
  )
}

/** The content of the latest numbers of each (rollout, host): what tells a duplicate from a forgery (D2). */
function loadReceived(sql: Reads): ReadonlyMap<string, ReadonlyArray<Received>> {
  const rows = sql.all(
    `SELECT r.name AS rollout, h.name AS host, e.agent_seq, e.outcome
     FROM (
       SELECT seq, rollout, host, agent_seq, outcome,
         ROW_NUMBER() OVER (PARTITION BY rollout, host ORDER BY agent_seq DESC) AS age
       FROM event_log WHERE agent_seq IS NOT NULL
     ) e JOIN names r ON r.id = e.rollout JOIN names h ON h.id = e.host
     WHERE e.age <= ? ORDER BY r.name, h.name, e.agent_seq, e.seq`,
    ledgerWindow
  )
  const received = new Map<string, Array<Received>>()
  for (const row of rows) {
    const key = `${String(row["rollout"])} ${String(row["host"])}`
    const { hash, journalId } = Codec.decodeOutcome(row["outcome"])
    const one = {
      seq: Number(row["agent_seq"]),
      hash: shortHash(hash),
      ...(journalId === undefined ? {} : { journalId })
    }
    const known = received.get(key)
    if (known === undefined) received.set(key, [one])
    else known.push(one)
  }
  return received
}
