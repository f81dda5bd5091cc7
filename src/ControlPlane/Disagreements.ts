/**
 * Whether the stored records are what the event log means (house rule 2), and what differs. Pure. Left out is what heartbeats
 * alone tell, and what no restart keeps: the waiter of a lease.
 */
import { Equal } from "effect"
import type { DispatchRow } from "../Schema/ControlPlaneJournal.ts"
import { sorted, type State } from "./State.ts"

/** What a row of the log can change, by a name that a person can look for. */
function durable(state: State): ReadonlyMap<string, unknown> {
  const found = new Map<string, unknown>([["the number of the next delivery", state.nextDelivery]])
  for (const [id, { hosts, plan, record }] of sorted(state.rollouts)) {
    found.set(`the rollout ${id}`, record).set(`the plan of ${id}`, plan)
    for (const [host, entry] of sorted(hosts)) found.set(`the record of ${host} in ${id}`, entry)
  }
  for (const [channel, entry] of sorted(state.channels)) found.set(`the channel ${channel}`, entry)
  for (const [host, { rollouts }] of sorted(state.hosts)) {
    if (rollouts.length > 0) found.set(`the rollouts of ${host}`, rollouts)
  }
  for (const [host, row] of sorted(state.queue)) found.set(`the dispatch for ${host}`, withoutWaiter(row))
  const { chains, nonces, revocations, used } = state.identities
  if (revocations !== undefined) found.set("the list of revocations", revocations.list)
  if (nonces !== undefined) found.set("the list of bootstrap nonces", nonces.list)
  for (const [nonce, use] of sorted(used)) found.set(`the use of nonce ${nonce}`, use)
  for (const [host, certificates] of sorted(chains)) found.set(`the certificates of ${host}`, certificates)
  for (const one of state.quarantine) found.set(`the quarantine of ${one.closure} in ${one.channel}@${one.ref}`, one)
  for (const [, one] of sorted(state.lifted)) {
    found.set(`the lifted quarantine of ${one.closure} in ${one.channel}@${one.ref}`, one)
  }
  for (const [subject, one] of sorted(state.interventions)) found.set(`what holds ${subject}`, one)
  return found
}

const withoutWaiter = (row: DispatchRow): DispatchRow =>
  row.lease === undefined ? row : { ...row, lease: { ...row.lease, waiterId: 0 } }

/** In ascending order; empty when the log means what is stored. */
export function disagreements(folded: State, stored: State): ReadonlyArray<string> {
  const [means, says] = [durable(folded), durable(stored)]
  return [...new Set([...means.keys(), ...says.keys()])].toSorted().flatMap((name) => {
    if (!says.has(name)) return [`${name} is in the event log, and not stored`]
    if (!means.has(name)) return [`${name} is stored, and not in the event log`]
    return Equal.equals(means.get(name), says.get(name)) ? [] : [`${name} is stored otherwise than the event log means`]
  })
}
