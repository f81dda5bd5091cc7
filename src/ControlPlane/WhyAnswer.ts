/**
 * The one answer about a host (D17): it is at its target; or something here holds it back (a gate, a budget, something of this
 * host); or it is the host's turn; or its rollout has ended on it; or no release in force means it. `WhyHost.ts` has the words
 * for what a host does.
 */
import { isLive } from "../Rollout/Rollout.ts"
import type { DispatchRow } from "../Schema/ControlPlaneJournal.ts"
import type { HostRecord } from "../Schema/HostRecord.ts"
import type { Reason } from "../Schema/Reasons.ts"
import { type Hold, isLeftToPlanner } from "./decide/Holds.ts"
import { silenceOf } from "./decide/InFlight.ts"
import { effectiveRecord } from "./Effective.ts"
import { revocationOf } from "./Identities.ts"
import type { Outlook } from "./Outlook.ts"
import {
  at,
  currentRolloutOf,
  declaredHost,
  type HostInRollout,
  plannedHost,
  type RolloutEntry,
  type State
} from "./State.ts"
import { type Answer, hostHeld, lookThere, revoked, type Sight, silence, whatItIsAt, written } from "./WhyHost.ts"

/** Heartbeats that may be missing before a host counts as silent: a restart of its agent, or a busy network, costs one or two. */
const quietHeartbeats = 3

/** A host in the rollout that it is explained by. */
export interface Membership {
  readonly rolloutId: string
  readonly rollout: RolloutEntry
  readonly entry: HostInRollout
  /** The effective one. */
  readonly record: HostRecord
}

/** The rollout in force on the host's channel; where that does not list it, the newest that does. */
export function membershipOf(state: State, host: string): Membership | undefined {
  const declared = declaredHost(state, host)
  const inForce = declared === undefined ? undefined : state.manifests.get(declared.channel)?.rolloutId
  return memberOf(state, inForce, host) ?? memberOf(state, currentRolloutOf(state, host), host)
}

/** A host in this rollout. */
export function memberOf(state: State, rolloutId: string | undefined, host: string): Membership | undefined {
  const rollout = rolloutId === undefined ? undefined : at(state.rollouts, rolloutId)
  const entry = rollout === undefined ? undefined : at(rollout.hosts, host)
  return rolloutId === undefined || rollout === undefined || entry === undefined
    ? undefined
    : { rolloutId, rollout, entry, record: effectiveRecord(entry, rollout.plan) }
}

/** The answer alone; `undefined` when nothing is known of the host. */
export function answerOf(outlook: Outlook, host: string): Answer | undefined {
  const { state } = outlook
  const declared = declaredHost(state, host)
  const membership = membershipOf(state, host)
  if (state.artifacts === undefined) {
    return notRolledOut(
      "not-ready",
      "this control plane has not verified any release since it started, so that it dispatches nothing",
      "the control plane, when it has read the published release; its log says what it refused"
    )
  }
  if (declared === undefined) {
    return membership === undefined && at(state.hosts, host)?.seen === undefined ? undefined : undeclared(membership)
  }
  const { channel, closureHash } = declared
  if (closureHash === null) {
    return notRolledOut("nothing-to-run", "the fleet declares no closure for it", publish("declares one"))
  }
  const manifest = state.manifests.get(channel)
  if (manifest === undefined) return withoutManifest(outlook, host, channel, closureHash, membership)
  const { plan, rolloutId } = manifest
  if (plannedHost(plan, host) === undefined) {
    return notRolledOut(
      "manifest-host-missing",
      `the manifest of ${rolloutId}, which is in force on channel ${channel}, does not list it: it is in no wave`,
      publish("has it in a wave")
    )
  }
  if (membership?.rolloutId !== rolloutId || outlook.isOpening(rolloutId)) {
    const verdict = outlook.verdictOf({ host, rolloutId })
    return verdict === undefined ? free(`${rolloutId} is in force and is about to be opened`, outlook) : held(verdict)
  }
  return inRollout(outlook, host, membership)
}

const publish = (what: string): string => `an operator: publish a release that ${what}`

const notRolledOut = (reason: Reason, because: string, clearedBy: string): Answer => ({
  standing: "not-rolled-out",
  reason,
  because,
  clearedBy
})

function undeclared(membership: Membership | undefined): Answer {
  const last = membership === undefined
    ? "it was in no rollout that is known here"
    : `it is ${membership.record.state} in ${membership.rolloutId}, its last rollout, and is sent nothing more`
  return notRolledOut("host-not-declared", `the fleet in force does not declare it; ${last}`, publish("declares it"))
}

/** A host that runs what the fleet declares is where it should be, whatever became of the manifest. */
function withoutManifest(
  outlook: Outlook,
  host: string,
  channel: string,
  closure: string,
  membership: Membership | undefined
): Answer {
  const { state } = outlook
  if (membership?.record.state === "Converged" && membership.record.targetClosure === closure) {
    return whatItIsAt(membership.record, sightOf(outlook, host))
  }
  const known = [...state.artifacts?.manifests ?? []].find(([, { value }]) => value.channel === channel)
  return known === undefined
    ? notRolledOut(
      "manifest-absent",
      `no verified manifest of channel ${channel} is in force, so that nothing is rolled out there`,
      `an operator: publish a manifest of channel ${channel} that verifies; the control plane's log says what it refused`
    )
    : notRolledOut(
      "policy-missing",
      `the fleet has no rollout policy for channel ${channel}, so that ${known[0]} is not rolled out`,
      "an operator: publish a fleet that has the policy"
    )
}

function sightOf({ now, state }: Outlook, host: string): Sight {
  const seen = at(state.hosts, host)?.seen
  return {
    now,
    seen,
    revoked: revocationOf(state.identities, host, seen?.issuedAt),
    silentSince: silentSince(state, now, host),
    alwaysDeclares: seen?.capabilities.includes("journal") ?? true
  }
}

/** When the host was heard last, when that is too long ago; 0: never. One that waits at its poll is there. */
function silentSince(state: State, now: number, host: string): number | undefined {
  if (at(state.parked, host) !== undefined) return undefined
  const heardAt = at(state.hosts, host)?.seen?.receivedAt ?? 0
  const ms = silenceOf(state, now, heardAt)
  return ms !== undefined && ms >= quietHeartbeats * state.limits.heartbeatMs ? Math.min(heardAt, now - ms) : undefined
}

function inRollout(outlook: Outlook, host: string, membership: Membership): Answer {
  const { record, rolloutId } = membership
  if (record.closedAt !== undefined) {
    const newest = currentRolloutOf(outlook.state, host)
    return {
      standing: "held",
      reason: "superseded",
      because: `since ${rolloutId} came into force the host has accepted ` +
        `${newest === undefined || newest === rolloutId ? "another rollout" : newest}, which is newer for it`,
      clearedBy: "an operator: publish the release once more under a new ref",
      since: record.closedAt
    }
  }
  return record.state === "Pending"
    ? pending(outlook, host, membership)
    : whatItIsAt(record, sightOf(outlook, host))
}

/** Something here holds it; or it is dispatched, and the host has not taken it yet. */
function pending(outlook: Outlook, host: string, membership: Membership): Answer {
  const { state } = outlook
  const { record: { attempt, dispatchedAt: since }, rollout, rolloutId } = membership
  const hold = outlook.holdOf({ host, rolloutId, attempt })
  if (hold !== undefined) return held(hold, since)
  if (!isLive(rollout.record.state)) {
    return held({
      gate: "rollout-state",
      because: `${rolloutId} is ${rollout.record.state}, and this host was not part of it`,
      clearedBy: "an operator: publish the release once more under a new ref"
    }, since)
  }
  const queued = at(state.queue, host)
  const row = queued?.rolloutId === rolloutId && queued.attempt === attempt ? queued : undefined
  if (row?.lease !== undefined) return leased(row.lease, outlook)
  if (row === undefined || at(state.parked, host) !== undefined || isLeftToPlanner(state, row)) {
    return free("nothing holds it any more", outlook)
  }
  const sight = sightOf(outlook, host)
  return revoked(sight) ?? unpolled(row, sight)
}

const held = ({ because, clearedBy, earliestAt, gate, hosts }: Hold, since?: number): Answer => ({
  standing: "held",
  reason: gate,
  because,
  clearedBy,
  ...(since === undefined ? {} : { since }),
  ...(earliestAt === undefined ? {} : { earliestAt }),
  ...(hosts === undefined ? {} : { hosts })
})

/** Between two looks of the planner: nothing is in the way any more, and nothing was done about it yet. */
const free = (because: string, { state: { lastPlanAt } }: Outlook): Answer => ({
  standing: "under-way",
  reason: "next-look",
  because: `${because}: it is dispatched at the planner's next look` +
    (lastPlanAt === undefined ? "" : ` (the last was at ${written(lastPlanAt)})`),
  clearedBy: "the planner of the control plane, which looks several times a minute"
})

export const times = (count: number): string => count === 1 ? "once" : `${count} times`

function leased(
  { expiresAt, leasedAt }: NonNullable<DispatchRow["lease"]>,
  { now, state: { limits } }: Outlook
): Answer {
  // More left than a lease lasts: the clock was set back, and it is over.
  const isOver = expiresAt <= now || expiresAt - now > limits.leaseMs
  return {
    standing: "under-way",
    reason: "not-acknowledged",
    because: `its dispatch left with a poll at ${written(leasedAt)}, and the host has not acknowledged it` +
      (isOver ? " in time: it is about to be offered again" : ""),
    clearedBy: isOver
      ? "the control plane, which offers it again with the host's next poll"
      : "the host, by acknowledging it; without that it is offered again",
    since: leasedAt,
    ...(isOver ? {} : { earliestAt: expiresAt })
  }
}

function unpolled({ deliveries, enqueuedAt }: DispatchRow, { seen, silentSince: since }: Sight): Answer {
  const queued = `its dispatch is ready since ${written(enqueuedAt)}`
  if (since !== undefined) {
    return {
      standing: "under-way",
      reason: "host-silent",
      because: `${queued}, but the host does not fetch it, ${silence(since)}`,
      clearedBy: `the host, when it is heard again: see that it runs and reaches the control plane; ${lookThere}`,
      since: since === 0 ? enqueuedAt : since
    }
  }
  if (seen?.held !== undefined) return hostHeld(seen.held)
  return {
    standing: "under-way",
    reason: "not-polled",
    because: deliveries === 0
      ? `${queued}, and the host has not polled since`
      : `${queued}, was offered ${times(deliveries)} without an acknowledgement, and the host has not polled since`,
    clearedBy: `the next poll of the host, which polls all the time while its agent runs; ${lookThere}`,
    since: enqueuedAt
  }
}
