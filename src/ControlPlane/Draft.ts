/**
 * One decision while it is being made: every change of durable state goes through a row (`record`) and is folded at once, so
 * that what is decided next sees it; `finish` adds the stored rows that the folds touched. Lives for one call of the decider.
 */
import { HashMap, HashSet } from "effect"
import type { Change } from "../Reducer.ts"
import { optional } from "../Rollout/host/Model.ts"
import type { HostSeen, LogEntry, LogRow } from "../Schema/ControlPlaneJournal.ts"
import type { LogFields, LogLevel, LogTarget, ReasonedFields } from "../Schema/Logs.ts"
import { splitRolloutId } from "../Schema/Primitives.ts"
import { type Taken, takenText } from "../Schema/Wire.ts"
import { heartbeatsOfProof, wasDeaf } from "./decide/InFlight.ts"
import { foldRow } from "./Fold.ts"
import { quarantineKey } from "./fold/Quarantine.ts"
import { waits } from "./fold/Records.ts"
import { Touched } from "./fold/Touched.ts"
import type { Action, VerifiedArtifacts } from "./Input.ts"
import { at, hostIn, type HostVerdict, type PlannedManifest, type State, type Waiter } from "./State.ts"
import type { Write } from "./Write.ts"

const auditHourMs = 3_600_000

const wordOf = (taken: Taken | undefined) => taken === undefined ? undefined : takenText(taken)

/** Whom a row is about. */
export interface About {
  readonly host?: string
  readonly rolloutId?: string
}

export class Draft {
  state: State
  /** Epoch milliseconds. */
  readonly now: number
  readonly #before: State
  readonly #rows: Array<LogRow> = []
  readonly #actions: Array<Action> = []
  readonly #seen = new Map<string, HostSeen>()
  readonly #touched = new Touched()

  constructor(state: State, now: number) {
    this.state = state
    this.now = now
    this.#before = state
  }

  /** Writes a row of the event log and folds it. */
  record(about: About, entry: LogEntry): void {
    const row: LogRow = { now: this.now, ...about, entry }
    this.#rows.push(row)
    this.state = foldRow(this.state, row, this.#touched)
  }

  act(action: Action): void {
    this.#actions.push(action)
  }

  log(target: LogTarget, level: "info", message: string, fields: LogFields): void
  log(target: LogTarget, level: "warn", message: string, fields: ReasonedFields): void
  log(target: LogTarget, level: LogLevel, message: string, fields: LogFields): void {
    this.act({ _tag: "Log", target, entry: { level, message, fields } })
  }

  /** What was last heard of a host; `durable` when it says something that a restart must not forget. */
  hear(seen: HostSeen, durable: boolean): void {
    if (durable) this.#seen.set(seen.host, seen)
    const entry = at(this.state.hosts, seen.host) ?? { rollouts: [] }
    const stored = durable ? { seenStoredAt: seen.receivedAt } : {}
    this.state = { ...this.state, hosts: HashMap.set(this.state.hosts, seen.host, { ...entry, seen, ...stored }) }
  }

  /** Puts a verified unit in force. */
  enforce(artifacts: VerifiedArtifacts, manifests: ReadonlyMap<string, PlannedManifest>): void {
    this.state = { ...this.state, artifacts, manifests }
  }

  park(host: string, waiter: Waiter): void {
    this.state = { ...this.state, parked: HashMap.set(this.state.parked, host, waiter) }
  }

  unpark(host: string): void {
    this.state = { ...this.state, parked: HashMap.remove(this.state.parked, host) }
  }

  /** `taken`: what the host said that it took last. Whether that is news. */
  polls(host: string, taken: Taken | undefined): boolean {
    const { polled } = this.state
    const known = at(polled, host)
    if (known !== undefined && wordOf(known.taken) === wordOf(taken)) return false
    const news = { heartbeats: 0, ...optional("taken", taken) }
    this.state = { ...this.state, polled: HashMap.set(polled, host, news) }
    return true
  }

  /** What it did before says nothing about the dispatch that leaves now. */
  offers(host: string): void {
    const { polled } = this.state
    if (HashMap.has(polled, host)) this.state = { ...this.state, polled: HashMap.remove(polled, host) }
  }

  /** One more heartbeat; two are enough. */
  beats(host: string): void {
    const { polled } = this.state
    const known = at(polled, host)
    if (known === undefined || known.heartbeats >= heartbeatsOfProof) return
    this.state = { ...this.state, polled: HashMap.set(polled, host, { ...known, heartbeats: known.heartbeats + 1 }) }
  }

  /** Why a host waits, or that it no longer does. Not durable: the log has each change. */
  judge(host: string, verdict: HostVerdict | undefined): void {
    const { verdicts } = this.state
    if (verdict !== undefined) {
      this.state = waits({ ...this.state, verdicts: HashMap.set(verdicts, host, verdict) }, verdict.rolloutId, host)
    } else if (HashMap.has(verdicts, host)) this.state = { ...this.state, verdicts: HashMap.remove(verdicts, host) }
  }

  /** `waiting` forgets those of the hosts to which nothing of the channel is left. */
  forgetIdle(channel: string, hosts: ReadonlyArray<string>): void {
    const { queue, verdicts, waiting } = this.state
    const isOfChannel = (of: { readonly rolloutId: string } | undefined) =>
      of !== undefined && splitRolloutId(of.rolloutId).channel === channel
    const idle = hosts.filter((host) => !isOfChannel(at(queue, host)) && !isOfChannel(at(verdicts, host)))
    const known = at(waiting, channel)
    if (idle.length === 0 || known === undefined) return
    const left = idle.reduce((some, host) => HashSet.remove(some, host), known)
    const next = HashSet.size(left) === 0 ? HashMap.remove(waiting, channel) : HashMap.set(waiting, channel, left)
    this.state = { ...this.state, waiting: next }
  }

  /** How often this event was now sent back for those before it. */
  askedAgain(rolloutId: string, host: string, seq: number): number {
    const lane = `${rolloutId} ${host}`
    const known = at(this.state.gaps, lane)
    const times = known?.seq === seq ? known.times + 1 : 1
    this.state = { ...this.state, gaps: HashMap.set(this.state.gaps, lane, { seq, times }) }
    return times
  }

  /** How many refused events of this host came in the present hour, this one included. */
  audited(host: string): number {
    const known = at(this.state.audits, host)
    const audits = known === undefined || this.now - known.since >= auditHourMs
      ? { since: this.now, count: 1 }
      : { ...known, count: known.count + 1 }
    this.state = { ...this.state, audits: HashMap.set(this.state.audits, host, audits) }
    return audits.count
  }

  /** Whom a channel in recovery waits for, by the plan that was just made. */
  awaits(channel: string, hosts: ReadonlyArray<string>): void {
    this.state = { ...this.state, missing: HashMap.set(this.state.missing, channel, HashSet.fromIterable(hosts)) }
  }

  /**
   * Nothing is missing of this host any more. Ten thousand hosts that are heard one after the other plan their channel once:
   * when the last of them is (D20).
   */
  arrived(channel: string, host: string): void {
    if (at(this.state.channels, channel)?.recovery === undefined) {
      if (HashMap.has(this.state.queue, host)) this.mark(channel)
      return
    }
    const before = at(this.state.missing, channel)
    const left = before === undefined ? HashSet.empty<string>() : HashSet.remove(before, host)
    this.state = { ...this.state, missing: HashMap.set(this.state.missing, channel, left) }
    if (HashSet.size(left) === 0) this.mark(channel)
  }

  /** These channels are planned again before the commit. */
  mark(...channels: ReadonlyArray<string>): void {
    if (channels.every((channel) => this.state.dirty.has(channel))) return
    this.state = { ...this.state, dirty: new Set([...this.state.dirty, ...channels]) }
  }

  /** Gives the channels to plan, ascending, and leaves none. */
  takeDirty(): ReadonlyArray<string> {
    const channels = [...this.state.dirty].toSorted()
    this.state = { ...this.state, dirty: new Set() }
    return channels
  }

  /** The safety net: everything is looked at. */
  ticked(): void {
    this.markAll()
    const heard = wasDeaf(this.state, this.now) ? { listeningSince: this.now } : {}
    this.state = { ...this.state, ...heard, lastPlanAt: this.now }
  }

  /** Every channel: one may wait for another (channel edges). */
  markAll(): void {
    this.mark(...HashMap.keys(this.state.channels))
  }

  finish(): Change<State, Write, Action> {
    return { state: this.state, writes: this.#writes(), actions: this.#actions }
  }

  #writes(): ReadonlyArray<Write> {
    const writes: Array<Write> = this.#rows.map((row) => ({ _tag: "AppendLog", row }))
    for (const id of this.#touched.rollouts) {
      const rollout = at(this.state.rollouts, id)
      if (rollout === undefined) continue
      writes.push({ _tag: "PutRollout", record: rollout.record })
      if (this.#touched.plans.has(id)) writes.push({ _tag: "PutPlan", rolloutId: id, plan: rollout.plan })
    }
    for (const [id, hosts] of this.#touched.records) for (const host of hosts) this.#putRecord(writes, id, host)
    for (const channel of this.#touched.channels) {
      const entry = at(this.state.channels, channel)
      writes.push({ _tag: "PutChannel", channel, current: entry?.current, recovery: entry?.recovery })
    }
    for (const host of this.#touched.dispatches) {
      const row = at(this.state.queue, host)
      writes.push(row === undefined ? { _tag: "DropDispatch", host } : { _tag: "PutDispatch", row })
    }
    for (const key of this.#touched.quarantines) {
      const lifted = at(this.state.lifted, key)
      const quarantine = lifted ?? this.state.quarantine.find((one) => quarantineKey(one) === key)
      if (quarantine !== undefined) writes.push({ _tag: "PutQuarantine", quarantine, lifted: lifted !== undefined })
    }
    for (const subject of this.#touched.interventions) {
      writes.push({ _tag: "PutIntervention", subject, intervention: at(this.state.interventions, subject) })
    }
    for (const seen of this.#seen.values()) writes.push({ _tag: "PutSeen", seen })
    if (this.state.nextDelivery !== this.#before.nextDelivery) {
      writes.push({ _tag: "PutNextDelivery", nextDelivery: this.state.nextDelivery })
    }
    this.#putIdentities(writes)
    return writes
  }

  #putIdentities(writes: Array<Write>): void {
    const { chains, nonces, revocations, used } = this.state.identities
    const { lists } = this.#touched
    if (lists.has("revocations") && revocations !== undefined) {
      writes.push({ _tag: "PutRevocations", list: revocations.list })
    }
    if (lists.has("nonces") && nonces !== undefined) writes.push({ _tag: "PutNonces", list: nonces.list })
    for (const nonce of this.#touched.nonces) {
      const use = at(used, nonce)
      if (use !== undefined) writes.push({ _tag: "PutNonceUse", use })
    }
    for (const host of this.#touched.chains) {
      writes.push({ _tag: "PutChains", host, chains: at(chains, host) ?? [] })
    }
  }

  #putRecord(writes: Array<Write>, rolloutId: string, host: string): void {
    const entry = hostIn(this.state, rolloutId, host)
    if (entry === undefined) return
    writes.push({
      _tag: "PutHostRecord",
      record: entry.record,
      lastSeq: entry.ledger.lastSeq,
      leasedAt: entry.leasedAt,
      offeredUntil: entry.offeredUntil,
      overlay: entry.overlay
    })
  }
}
