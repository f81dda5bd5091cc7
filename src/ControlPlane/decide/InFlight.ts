/**
 * Which hosts take a place in their budgets (D17): those with a dispatch on its way, and those that activate or soak, whatever
 * the rollout, unless their agent's polls name another one. Also one whose dispatch was never acknowledged: the answer may have arrived, and the host be verifying it still, or
 * only the acknowledgement be lost. An agent of ours ends that doubt with its next poll, which says what it took last; any other by
 * two heartbeats after a poll that know nothing of it.
 *
 * A host that an operator holds leaves the count, and one that is silent for `Limits.silentMs`. Silence is what a listener hears:
 * while this program was not running, or its clock jumped, nobody was silent.
 */
import { soakDue } from "../../Rollout/host/Evidence.ts"
import { Flights, type InFlight } from "../../Rollout/Planner.ts"
import type { HostSeen } from "../../Schema/ControlPlaneJournal.ts"
import type { HostRecord } from "../../Schema/HostRecord.ts"
import { effectiveRecord } from "../Effective.ts"
import { at, type HostInRollout, type State } from "../State.ts"
import { isHeld } from "./InForce.ts"

/** The planner's tick is much more frequent: a longer pause is one in which nobody could be heard. */
const deafMs = 60_000

/** After a poll: the first may have been composed before what the host took, the second not. */
export const heartbeatsOfProof = 2

/** Counted by the draft's state as it is when a budget is first asked. */
export const flightsOf = (draft: { readonly state: State; readonly now: number }): Flights =>
  new Flights((host) => inFlightOf(draft.state, draft.now, host))

export const onItsWay = (endsAt: number) => ({ doing: "has a dispatch on its way", endsAt })

export function inFlightOf(state: State, now: number, hostname: string): InFlight | undefined {
  const host = at(state.hosts, hostname)
  if (host === undefined || isHeld(state, hostname)) return undefined
  // Newest first: whatever the host took has closed what is older (D10), and is what counts.
  for (const rolloutId of host.rollouts) {
    const rollout = at(state.rollouts, rolloutId)
    const entry = rollout === undefined ? undefined : at(rollout.hosts, hostname)
    if (entry === undefined || rollout === undefined) continue
    // A lease is an offer: most hosts of a large fleet had none, and are passed over (D20).
    const lease = entry.offeredUntil === undefined ? undefined : at(state.queue, hostname)?.lease
    if (lease !== undefined) return { hostname, rolloutId, ...onItsWay(lease.expiresAt) }
    const record = effectiveRecord(entry, rollout.plan)
    const doing = record.closedAt === undefined ? doingOf(record, entry, host.seen, state, now) : undefined
    if (doing !== undefined) {
      return isSilent(state, now, host.seen, entry) ? undefined : { hostname, rolloutId, ...doing }
    }
    if (record.state !== "Pending") return undefined
  }
  return undefined
}

function doingOf(
  record: HostRecord,
  entry: HostInRollout,
  seen: HostSeen | undefined,
  state: State,
  now: number
): Pick<InFlight, "doing" | "endsAt"> | undefined {
  switch (record.state) {
    case "Activating":
      return tookAnother(record, state) ? undefined : { doing: "is activating" }
    case "Soaking":
      return tookAnother(record, state) ? undefined : { doing: "is soaking", endsAt: soakDue(record) }
    case "Pending":
      return isInDoubt(entry, seen, state, now) ? { doing: "did not acknowledge its dispatch yet" } : undefined
    case "Deferred":
    case "Converged":
    case "Failed":
    case "Reverted":
      return undefined
  }
}

/** Its polls say so: what it took since has closed this record there, also where the acknowledgement could not be taken here. */
function tookAnother({ hostname, rolloutId }: HostRecord, { polled }: State): boolean {
  const taken = at(polled, hostname)?.taken
  return taken !== undefined && (taken === "nothing" || taken.rolloutId !== rolloutId)
}

function isInDoubt(
  { offeredUntil, record }: HostInRollout,
  seen: HostSeen | undefined,
  state: State,
  now: number
): boolean {
  if (offeredUntil === undefined) return false
  if (tookAnother(record, state)) return false
  const heartbeats = at(state.polled, record.hostname)?.heartbeats ?? 0
  if (seen === undefined || heartbeats < heartbeatsOfProof) return true
  // An end that is further away than a lease lasts was noted before the clock was set back: no time can be told by it.
  if (seen.receivedAt <= offeredUntil && offeredUntil - now <= state.limits.leaseMs) return true
  // An earlier attempt is under way while the agent goes by it: that record comes first, the others are closed (D10).
  return seen.digests.some((digest, index) =>
    digest.rollout_id === record.rolloutId &&
    (digest.attempt >= record.attempt || (index === 0 && (digest.state === "Activating" || digest.state === "Soaking")))
  )
}

function isSilent(state: State, now: number, seen: HostSeen | undefined, { leasedAt, record }: HostInRollout): boolean {
  const silence = silenceOf(state, now, seen?.receivedAt ?? 0, leasedAt ?? record.dispatchedAt)
  return silence !== undefined && silence >= state.limits.silentMs
}

/** How long nothing came of a host that was heard then, ms; `undefined` while nobody listens. */
export function silenceOf(state: State, now: number, ...heardAt: ReadonlyArray<number>): number | undefined {
  const { listeningSince } = state
  if (listeningSince === undefined || wasDeaf(state, now)) return undefined
  // What lies ahead was noted before the clock was set back, and that was before anybody listened by it.
  return now - Math.max(listeningSince, ...heardAt.filter((time) => time - now <= deafMs))
}

/** Whether the tick at `now` comes so late that nobody could be heard since the one before. */
export const wasDeaf = ({ lastPlanAt }: State, now: number): boolean =>
  lastPlanAt === undefined || Math.abs(now - lastPlanAt) > deafMs
