/**
 * The last step of a dispatch (D6, D7, D8, D10): what only concerns this one host is asked, and its poll gets the lease. Asked
 * again at each offer, and so are its budgets, whose places are taken here (D17); the other gates are the plan's.
 */
import { type Blocked, disruptionBudget, type FlightCount } from "../../Rollout/Planner.ts"
import type { DispatchRow } from "../../Schema/ControlPlaneJournal.ts"
import { lastMillis, splitRolloutId } from "../../Schema/Primitives.ts"
import type { DispatchResponse } from "../../Schema/Wire.ts"
import type { Draft } from "../Draft.ts"
import { soakMsOf } from "../fold/Policy.ts"
import type { Capabilities } from "../Input.ts"
import { at, currentRolloutOf, hostIn, type HostVerdict, type Waiter } from "../State.ts"
import { isPaused } from "./Heartbeats.ts"
import { onItsWay } from "./InFlight.ts"

/** A time that no calendar holds comes from a host whose clock is wrong: it is nobody's earliest. */
export function verdictOf(
  rolloutId: string,
  { because, clearedBy, earliestAt, gate }: Omit<Blocked, "pass">
): HostVerdict {
  const known = earliestAt === undefined || earliestAt > lastMillis ? {} : { earliestAt }
  return { rolloutId, gate, because, clearedBy, ...known }
}

/**
 * Leases a queued dispatch to its host's poll; answers why not when something is in the way. `flights` counts who is in flight
 * for all offers of one batch.
 */
export function offer(draft: Draft, row: DispatchRow, flights: FlightCount): HostVerdict | undefined {
  const { host, rolloutId } = row
  const budgets = draft.state.manifests.get(splitRolloutId(rolloutId).channel)?.order.budgets.get(host) ?? []
  const verdict = disruptionBudget({ budgets, flights, hostname: host, leased: false, now: draft.now })
  if (!verdict.pass) return verdictOf(rolloutId, verdict)
  const waiter = at(draft.state.parked, host)
  const capabilities = waiter?.capabilities ?? new Set(at(draft.state.hosts, host)?.seen?.capabilities)
  const hold = holdOf(draft, row, capabilities)
  if (hold !== undefined) return verdictOf(rolloutId, hold)
  if (waiter !== undefined) {
    lease(draft, row, waiter)
    flights.add(budgets, { hostname: host, rolloutId, ...onItsWay(draft.now + draft.state.limits.leaseMs) })
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
    lease: { deliveryId, waiterId: waiter.waiterId, leasedAt: now, expiresAt: now + state.limits.leaseMs }
  }
  draft.record({ host, rolloutId }, { kind: "plan_action", payload: { action: "LeaseDispatch", row: leased } })
  draft.unpark(host)
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

/** Why a queued dispatch is not handed to its host although it polls; `undefined` when nothing is in the way. */
interface Hold {
  readonly gate: string
  readonly because: string
  readonly clearedBy: string
  readonly earliestAt?: number
}

/** What only concerns this one host (D6, D7, D8, D10): asked at each offer, after the rollout's gates. */
function holdOf(draft: Draft, row: DispatchRow, capabilities: ReadonlySet<string>): Hold | undefined {
  const { attempt, host, rolloutId } = row
  const newest = currentRolloutOf(draft.state, host)
  if (newest !== rolloutId) {
    return {
      gate: "superseded",
      because: `${newest ?? "no rollout"} is newer for this host`,
      clearedBy: "nothing: the newer rollout is the one to follow"
    }
  }
  const inForce = draft.state.manifests.get(splitRolloutId(rolloutId).channel)
  if (inForce?.rolloutId !== rolloutId || draft.now > inForce.freshUntil) {
    return {
      gate: "stale",
      because: inForce?.rolloutId === rolloutId
        ? `${rolloutId} was signed longer ago than its window allows`
        : `no manifest of ${rolloutId} is in force`,
      clearedBy: "publishing the release signed anew"
    }
  }
  const seen = at(draft.state.hosts, host)?.seen
  const entry = hostIn(draft.state, rolloutId, host)
  const digest = seen?.digests.find((one) => one.rollout_id === rolloutId)
  if (digest !== undefined && digest.attempt >= attempt && digest.last_event_seq > (entry?.ledger.lastSeq ?? 0)) {
    return {
      gate: "awaiting-replay",
      because: `the host has events up to ${digest.last_event_seq} that are not here yet`,
      clearedBy: "their delivery"
    }
  }
  if (entry?.overlay !== undefined) {
    return {
      gate: "already-there",
      because: `the host says that it is ${entry.overlay.state} in this rollout`,
      clearedBy: "its events, or a heartbeat that says otherwise"
    }
  }
  if (attempt > 1 && !capabilities.has("attempts")) {
    return {
      gate: "attempt-not-supported",
      because: `the agent of this host cannot do attempt ${attempt} of a rollout`,
      clearedBy: "publishing a new ref on the channel"
    }
  }
  const refused = seen?.rejections.find(({ rejection }) => rejection.rollout_id === rolloutId)
  return refused === undefined || !isPaused(refused, draft.now) ? undefined : {
    gate: "rejected-by-host",
    because: `the host could not take it: ${refused.rejection.reason}`,
    clearedBy: "the end of a pause that doubles with each rejection",
    earliestAt: refused.until
  }
}
