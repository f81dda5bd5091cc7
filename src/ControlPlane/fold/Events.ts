/**
 * What an agent's event means (control-plane.md §4.5): the host machine, then the rollout machine, then what follows for the
 * queue and the quarantine. Refused events consume their number and mark what they would have changed (D4).
 */
import { learn } from "../../Rollout/Host.ts"
import type { LogEntry, LogRow, RolloutPlan } from "../../Schema/ControlPlaneJournal.ts"
import type { HostRecord } from "../../Schema/HostRecord.ts"
import type { AgentEvent } from "../../Schema/Wire.ts"
import { at, hostIn, type HostInRollout, type Ledger, ledgerWindow, type State } from "../State.ts"
import { dropDispatchOf } from "./Dispatches.ts"
import { soakMsOf, stepRemote } from "./Policy.ts"
import { quarantine, quarantined } from "./Quarantine.ts"
import { putHost, withoutOverlay } from "./Records.ts"
import { hostChanged } from "./Rollouts.ts"
import { type Touched, UnfoldableRow } from "./Touched.ts"

type AgentEntry = Extract<LogEntry, { kind: "agent_event" }>

/** What a number's content is told apart by: 64 bits, per (host, rollout, number). */
export const shortHash = (hash: string): string => hash.slice(0, 16)

export function foldAgentEvent(state: State, row: LogRow, entry: AgentEntry, touched: Touched): State {
  const { host, rolloutId } = row
  if (!entry.numbered || host === undefined || rolloutId === undefined) return state
  const rollout = at(state.rollouts, rolloutId)
  const before = hostIn(state, rolloutId, host)
  if (rollout === undefined || before === undefined) throw new UnfoldableRow(row, "no record was opened before it")
  const ledger = received(before.ledger, entry)
  if (entry.outcome.outcome === "refused") {
    const told = entry.outcome.diverged === true ? learn(before.record, { kind: "Diverged" }) : before.record
    const record = { ...told, lastEventSeq: entry.event.seq }
    return putHost(state, rolloutId, host, { ...before, record, ledger }, touched)
  }
  const result = stepRemote(before.record, entry.event, rollout.plan, row.now)
  if (!result.ok) throw new UnfoldableRow(row, `was applied, is now refused: ${result.error._tag}`)

  let next = state
  const after = {
    ...withoutOverlay(before),
    record: acknowledged(before, result.record, entry.event, rollout.plan, row.now),
    ledger
  }
  next = putHost(next, rolloutId, host, after, touched)
  if (entry.event.kind === "DispatchAck") next = settle(next, after, entry.event.receivedAt, touched)
  for (const effect of result.effects) {
    if (effect._tag === "InsertQuarantine") {
      next = quarantine(next, quarantined(rolloutId, effect.closure, host, row.now), touched)
    }
  }
  return before.record.state === after.record.state
    ? next
    : hostChanged(next, row, { from: before.record.state, to: after.record.state }, touched)
}

function received(ledger: Ledger, entry: AgentEntry): Ledger {
  const { hash, journalId } = entry.outcome
  const seen = { seq: entry.event.seq, hash: shortHash(hash), ...(journalId === undefined ? {} : { journalId }) }
  return { lastSeq: entry.event.seq, seen: [...ledger.seen, seen].slice(-ledgerWindow) }
}

/**
 * Without a lease of ours (a wiped database) nothing fixed the soak's end: it is counted from the acknowledgement, which is
 * never earlier than the lease it answered. A host's clock that is ahead of ours does not reach beyond the present.
 */
function acknowledged(
  before: HostInRollout,
  record: HostRecord,
  event: AgentEvent,
  plan: RolloutPlan,
  now: number
): HostRecord {
  if (event.kind !== "DispatchAck" || before.leasedAt !== undefined) return record
  const dispatchedAt = Math.min(event.receivedAt, now)
  return { ...record, dispatchedAt, soakDueAt: dispatchedAt + soakMsOf(plan, record.hostname) }
}

/** The host took this rollout: its delivery is settled (D8) and its older records are closed, as the agent does (D10). */
function settle(state: State, taken: HostInRollout, receivedAt: number, touched: Touched): State {
  const { hostname, rolloutId, signedAt } = taken.record
  let next = dropDispatchOf(state, rolloutId, hostname, touched)
  for (const id of at(state.hosts, hostname)?.rollouts ?? []) {
    const other = hostIn(next, id, hostname)
    if (other === undefined || id === rolloutId || other.record.signedAt > signedAt) continue
    const record = learn(other.record, { kind: "Closed", at: receivedAt })
    if (record !== other.record) next = putHost(next, id, hostname, { ...other, record }, touched)
  }
  return next
}
