/**
 * What holds the dispatch of one host, once the gates of its rollout let it go: its budgets (D17), and what only concerns this
 * host (D6, D7, D8, D10). Asked again at each offer, and by whoever explains why a host waits. Reads and records nothing.
 */
import { type Blocked, type Budget, budgetGate, disruptionBudget, type FlightCount } from "../../Rollout/Planner.ts"
import type { DispatchRow } from "../../Schema/ControlPlaneJournal.ts"
import { lastMillis, splitRolloutId } from "../../Schema/Primitives.ts"
import { describeReason } from "../../Schema/Reasons.ts"
import { at, currentRolloutOf, hostIn, type HostVerdict, type State } from "../State.ts"
import { isPaused } from "./Heartbeats.ts"

/** Why a host waits, as gates say it. */
export type Hold = Omit<Blocked, "pass">

/** A time that no calendar holds comes from a host whose clock is wrong: it is nobody's earliest. */
export function verdictOf(rolloutId: string, { because, clearedBy, earliestAt, gate }: Hold): HostVerdict {
  const known = earliestAt === undefined || earliestAt > lastMillis ? {} : { earliestAt }
  return { rolloutId, gate, because, clearedBy, ...known }
}

/** A dispatch that is queued, or would be. */
export type Dispatchable = Pick<DispatchRow, "attempt" | "host" | "rolloutId">

export const budgetsOf = ({ manifests }: State, { host, rolloutId }: Dispatchable): ReadonlyArray<Budget> =>
  manifests.get(splitRolloutId(rolloutId).channel)?.order.budgets.get(host) ?? []

/**
 * A budget held it when the planner looked last. Its polls do not ask again: whatever frees a place is looked at by the planner, and
 * ten thousand hosts that wait for one count nothing (D20).
 */
export function isLeftToPlanner({ verdicts }: State, { host, rolloutId }: Dispatchable): boolean {
  const known = at(verdicts, host)
  return known?.gate === budgetGate && known.rolloutId === rolloutId
}

/** Why a dispatch that is not leased would not be handed to its host's poll; `undefined` when nothing is in the way. */
export function holdOf(
  state: State,
  now: number,
  row: Dispatchable,
  flights: FlightCount
): Hold | undefined {
  const { host } = row
  const verdict = disruptionBudget({ budgets: budgetsOf(state, row), flights, hostname: host, leased: false, now })
  if (!verdict.pass) return verdict
  const capabilities = at(state.parked, host)?.capabilities ?? new Set(at(state.hosts, host)?.seen?.capabilities)
  return holdOfHost(state, now, row, capabilities)
}

function holdOfHost(
  state: State,
  now: number,
  { attempt, host, rolloutId }: Dispatchable,
  capabilities: ReadonlySet<string>
): Hold | undefined {
  const newest = currentRolloutOf(state, host)
  if (newest !== rolloutId) {
    return {
      gate: "superseded",
      because: `${newest ?? "no rollout"} is newer for this host`,
      clearedBy: "nothing: the newer rollout is the one to follow"
    }
  }
  const inForce = state.manifests.get(splitRolloutId(rolloutId).channel)
  if (inForce?.rolloutId !== rolloutId || now > inForce.freshUntil) {
    return {
      gate: "stale",
      because: inForce?.rolloutId === rolloutId
        ? `${rolloutId} was signed longer ago than its window allows`
        : `no manifest of ${rolloutId} is in force`,
      clearedBy: "an operator: publish the release signed anew"
    }
  }
  const seen = at(state.hosts, host)?.seen
  const entry = hostIn(state, rolloutId, host)
  const digest = seen?.digests.find((one) => one.rollout_id === rolloutId)
  if (digest !== undefined && digest.attempt >= attempt && digest.last_event_seq > (entry?.ledger.lastSeq ?? 0)) {
    return {
      gate: "awaiting-replay",
      because: `the host has events up to ${digest.last_event_seq} that are not here yet`,
      clearedBy: "the host, by delivering them: it is asked for them with each heartbeat"
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
      clearedBy: "an operator: publish the release under a new ref"
    }
  }
  const refused = seen?.rejections.find(({ rejection }) => rejection.rollout_id === rolloutId)
  return refused === undefined || !isPaused(refused, now) ? undefined : {
    gate: "rejected-by-host",
    because: `the host could not take it: ${refused.rejection.reason}, ${describeReason(refused.rejection.reason)}`,
    clearedBy: "whoever can end that reason; it is offered again after a pause that doubles with each rejection",
    earliestAt: refused.until
  }
}
