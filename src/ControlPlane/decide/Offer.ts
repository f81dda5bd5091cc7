/**
 * The last step of a dispatch (D8): what holds this one host is asked (`Holds.ts`), and its poll gets the lease, and with it
 * its place in its budgets (D17).
 */
import { optional } from "../../Rollout/host/Model.ts"
import type { FlightCount } from "../../Rollout/Planner.ts"
import type { DispatchRow } from "../../Schema/ControlPlaneJournal.ts"
import type { DispatchResponse } from "../../Schema/Wire.ts"
import type { Draft } from "../Draft.ts"
import { soakMsOf } from "../fold/Policy.ts"
import type { Capabilities } from "../Input.ts"
import { at, hostIn, type HostVerdict, type Waiter } from "../State.ts"
import { budgetsOf, holdOf, verdictOf } from "./Holds.ts"
import { onItsWay } from "./InFlight.ts"

/**
 * Leases a queued dispatch to its host's poll; answers why not when something is in the way. `flights` counts who is in flight
 * for all offers of one batch.
 */
export function offer(draft: Draft, row: DispatchRow, flights: FlightCount): HostVerdict | undefined {
  const { host, rolloutId } = row
  const hold = holdOf(draft.state, draft.now, row, flights)
  if (hold !== undefined) return verdictOf(rolloutId, hold)
  const waiter = at(draft.state.parked, host)
  if (waiter !== undefined) {
    lease(draft, row, waiter)
    flights.add(budgetsOf(draft.state, row), {
      hostname: host,
      rolloutId,
      ...onItsWay(draft.now + draft.state.limits.leaseMs)
    })
  }
  return undefined
}

function lease(draft: Draft, row: DispatchRow, waiter: Waiter): void {
  const { now, state } = draft
  const { host, rolloutId } = row
  const entry = hostIn(state, rolloutId, host)
  const rollout = at(state.rollouts, rolloutId)
  if (entry === undefined || rollout === undefined) return
  const deliveryId = `${state.databaseId}-${state.nextDelivery}`
  const soakDueAt = entry.leasedAt === undefined ? now + soakMsOf(rollout.plan, host) : entry.record.soakDueAt
  const leased = {
    ...row,
    soakDueAt,
    deliveries: row.deliveries + 1,
    lease: {
      deliveryId,
      waiterId: waiter.waiterId,
      leasedAt: now,
      expiresAt: now + state.limits.leaseMs,
      ...optional("inDoubtUntil", entry.offeredUntil)
    }
  }
  draft.record({ host, rolloutId }, { kind: "plan_action", payload: { action: "LeaseDispatch", row: leased } })
  draft.unpark(host)
  draft.offers(host)
  draft.act({
    _tag: "CompleteWaiter",
    host,
    waiterId: waiter.waiterId,
    answer: {
      _tag: "Dispatch",
      dispatch: responseOf({ ...leased, soakDueAt }, deliveryId, entry.ledger.lastSeq, waiter.capabilities)
    }
  })
  draft.log("dispatch", "info", "dispatched", {
    hostname: host,
    rollout: rolloutId,
    attempt: row.attempt,
    delivery: deliveryId
  })
}

/** Additive fields go only to a peer that announced them (D3). */
function responseOf(
  row: DispatchRow & { readonly soakDueAt: number },
  deliveryId: string,
  lastSeq: number,
  capabilities: Capabilities
): DispatchResponse {
  return {
    hostname: row.host,
    rollout_id: row.rolloutId,
    target_closure: row.targetClosure,
    soak_due_at: row.soakDueAt,
    enqueued_at: row.enqueuedAt,
    ...(capabilities.has("attempts") ? { attempt: row.attempt } : {}),
    ...(capabilities.has("journal") ? { delivery_id: deliveryId, last_event_seq: lastSeq } : {})
  }
}
