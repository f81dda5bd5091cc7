/**
 * Why a host is where it is (`nixfleet why`, and the sentences of `nixfleet status`): exactly one answer about every host that
 * is known, from a published state and the time alone, by the code that decides (`Outlook.ts`). Pure; nothing is remembered
 * between two questions.
 *
 * Costs one look at the host's channel and those before it, linear in their hosts. Of many hosts, once for all of them.
 */
import type { Explanation, WaitsFor } from "../Schema/OperatorViews.ts"
import { lastMillis } from "../Schema/Primitives.ts"
import { Outlook } from "./Outlook.ts"
import { at, declaredHost, plannedHost, type State } from "./State.ts"
import { answerOf, type Membership, membershipOf } from "./WhyAnswer.ts"
import { evidenceOf } from "./WhyEvidence.ts"

/** The explanation of one host; `undefined` when nothing is known of it. */
export function why(state: State, now: number, host: string): Explanation | undefined {
  const outlook = new Outlook(state, now)
  const answer = answerOf(outlook, host)
  if (answer === undefined) return undefined
  const { because, clearedBy, earliestAt, reason, since, standing } = answer
  const seen = at(state.hosts, host)?.seen
  const declared = declaredHost(state, host)
  const membership = membershipOf(state, host)
  return {
    hostname: host,
    at: now,
    standing,
    reason,
    because,
    since: time(since),
    clearedBy: clearedBy ?? null,
    earliestAt: stillAhead(earliestAt, now),
    evidence: evidenceOf(outlook, host, answer).map(({ at: when, fact }) => ({ fact, at: time(when) })),
    channel: declared?.channel ?? membership?.record.channel ?? null,
    runs: seen?.currentClosure ?? null,
    lastHeardAt: seen?.receivedAt ?? null,
    rollout: membership === undefined ? null : rolloutOf(membership, host)
  }
}

/** A clock that is wrong may have noted what no calendar holds. */
const time = (when: number | undefined): number | null => when === undefined || when > lastMillis ? null : when

/** A time that is over says nothing any more. */
const stillAhead = (when: number | undefined, now: number): number | null =>
  when === undefined || when <= now ? null : time(when)

/** The same in the words of `status`, of hosts that are not at their target and whose rollout goes on there. */
export function waitOf(outlook: Outlook, host: string): WaitsFor | undefined {
  const answer = answerOf(outlook, host)
  if (answer?.standing !== "held" && answer?.standing !== "under-way") return undefined
  const { because, clearedBy = "", earliestAt, reason } = answer
  return { gate: reason, because, clearedBy, earliestAt: stillAhead(earliestAt, outlook.now) }
}

const rolloutOf = ({ record, rollout, rolloutId }: Membership, host: string): Explanation["rollout"] => ({
  rolloutId,
  state: rollout.record.state,
  wave: plannedHost(rollout.plan, host)?.wave ?? 0,
  waves: rollout.plan.soakMs.length,
  attempt: record.attempt,
  targetClosure: record.targetClosure,
  hostState: record.state
})
