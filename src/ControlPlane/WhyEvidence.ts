/**
 * What an explanation rests on, and what else of the host an operator wants to see beside it: facts with their times, what the
 * answer looked at first. Pure. Nothing here decides.
 */
import { soakLeftHere } from "../Rollout/host/Evidence.ts"
import { deferralUntil } from "../Rollout/Owed.ts"
import type { HostRecord } from "../Schema/HostRecord.ts"
import { describeReason } from "../Schema/Reasons.ts"
import { interventionsIn } from "./decide/InForce.ts"
import { effectiveRecord } from "./Effective.ts"
import { revocationOf } from "./Identities.ts"
import type { Outlook } from "./Outlook.ts"
import { at, declaredHost, hostIn, type State } from "./State.ts"
import { answerOf, type Membership, membershipOf, times } from "./WhyAnswer.ts"
import { type Answer, written } from "./WhyHost.ts"

/** `at`: epoch ms; absent where it is not about a moment. */
export interface Fact {
  readonly fact: string
  readonly at?: number | undefined
}

/** More than a person reads; a host may declare a thousand probes. */
const mostFacts = 32

export function evidenceOf(outlook: Outlook, host: string, answer: Answer): ReadonlyArray<Fact> {
  const { now, state } = outlook
  const membership = membershipOf(state, host)
  return [
    ...whomItWaitsFor(outlook, host, answer),
    ...(membership === undefined ? [] : [
      ...quarantines(state, answer, membership),
      ...whatTheRecordSays(membership.record, now),
      ...inferences(membership),
      ...dispatches(state, host, answer, membership)
    ]),
    ...olderRollouts(state, host, membership),
    ...whatTheHostSays(state, host, answer),
    ...whatOperatorsSay(state, host, answer, membership)
  ].slice(0, mostFacts)
}

/** What they are at in turn: who waits at the end of a chain wants to know its beginning. */
function whomItWaitsFor(outlook: Outlook, host: string, { because, hosts = [] }: Answer): ReadonlyArray<Fact> {
  return hosts.flatMap((other) => {
    const answer = other === host ? undefined : answerOf(outlook, other)
    if (answer === undefined) return []
    // Held by the very same thing, which waits for a word of it.
    return [answer.because === because ? whenHeard(outlook.state, other) : told(other, answer)]
  })
}

const told = (host: string, { because, since }: Answer): Fact => ({ fact: `${host}: ${because}`, at: since })

function whenHeard({ hosts }: State, host: string): Fact {
  const receivedAt = at(hosts, host)?.seen?.receivedAt
  return receivedAt === undefined
    ? { fact: `${host}: it was never heard by this database` }
    : { fact: `${host}: it was heard last`, at: receivedAt }
}

function quarantines(
  { quarantine }: State,
  { reason }: Answer,
  { record, rolloutId }: Membership
): ReadonlyArray<Fact> {
  if (reason !== "quarantine") return []
  return quarantine
    .filter(({ channel, closure, ref }) => closure === record.targetClosure || `${channel}@${ref}` === rolloutId)
    .map(({ at: when, channel, closure, host, ref }) => ({
      fact: `${closure} failed on ${host} in ${channel}@${ref}`,
      at: when
    }))
}

function whatTheRecordSays(record: HostRecord, now: number): ReadonlyArray<Fact> {
  switch (record.state) {
    case "Deferred":
      return [{ fact: "without a reboot the activation fails", at: deferralUntil(record) }]
    case "Soaking":
      return probesOf(record)
    case "Converged": {
      const left = soakLeftHere(record, now)
      return left === 0
        ? []
        : [{ fact: "it counts for its wave when its soak is over by the clock of the control plane", at: now + left }]
    }
    case "Failed":
    case "Reverted":
      return record.failure === "activation"
        ? [{ fact: `\`nixfleet rollout events ${record.rolloutId} --json\` has what its switch wrote` }]
        : probesOf(record)
    case "Pending":
    case "Activating":
      return []
  }
}

function probesOf({ probes }: Extract<HostRecord, { readonly probes: unknown }>): ReadonlyArray<Fact> {
  return Object.entries(probes).toSorted(([a], [b]) => a < b ? -1 : 1).map(([name, probe]) => {
    const verb = probe.status === "pass" ? "passes" : "fails"
    const mode = probe.mode === "enforce" ? "" : ` (${probe.mode})`
    const why = probe.failureReason === undefined ? "" : `: ${probe.failureReason}`
    return { fact: `probe ${name} ${verb}${mode}${why}`, at: probe.lastObservedAt }
  })
}

/** What is shown is not what the host's events say. */
function inferences({ entry: { overlay, record } }: Membership): ReadonlyArray<Fact> {
  if (overlay === undefined || overlay.state === record.state) return []
  return [{
    fact: overlay.origin === "heartbeat"
      ? `its heartbeats show it ${overlay.state}; by its events it is ${record.state}`
      : `its own journal says that it is ${overlay.state}; by its events it is ${record.state}`,
    at: overlay.since
  }]
}

function dispatches(
  { queue }: State,
  host: string,
  { standing }: Answer,
  { rolloutId }: Membership
): ReadonlyArray<Fact> {
  const row = at(queue, host)
  if (row === undefined) return []
  if (row.rolloutId !== rolloutId) return [{ fact: `a dispatch of ${row.rolloutId} is queued`, at: row.enqueuedAt }]
  return standing === "held" && row.deliveries > 0
    ? [{ fact: `its dispatch was offered ${times(row.deliveries)} without an acknowledgement`, at: row.enqueuedAt }]
    : []
}

/** A host that is still busy with what came before. */
function olderRollouts(state: State, host: string, membership: Membership | undefined): ReadonlyArray<Fact> {
  return (at(state.hosts, host)?.rollouts ?? []).flatMap((rolloutId) => {
    const entry = hostIn(state, rolloutId, host)
    const rollout = at(state.rollouts, rolloutId)
    if (entry === undefined || rollout === undefined || rolloutId === membership?.rolloutId) return []
    const record = effectiveRecord(entry, rollout.plan)
    const busy = record.state === "Activating" || record.state === "Soaking" || record.state === "Deferred"
    return busy && record.closedAt === undefined
      ? [{ fact: `it is still ${record.state} in ${rolloutId}`, at: record.dispatchAckedAt }]
      : []
  })
}

function whatTheHostSays(state: State, host: string, answer: Answer): ReadonlyArray<Fact> {
  const seen = at(state.hosts, host)?.seen
  const revoked = revocationOf(state.identities, host, seen?.issuedAt)
  const rejections = seen?.rejections ?? []
  return [
    ...(revoked === undefined || answer.reason === "certificate-revoked" ? [] : [{
      fact: `its certificates from before ${written(revoked.notBefore)} are revoked` +
        (revoked.reason === undefined ? "" : `: ${revoked.reason}`),
      at: revoked.notBefore
    }]),
    ...rejections.map(({ rejection: { at: when, detail, reason, rollout_id: rolloutId } }) => ({
      fact: `it could not take ${rolloutId}: ${reason}, ${describeReason(reason)} (${detail})`,
      at: when
    })),
    ...(seen?.pendingEvents === undefined || seen.pendingEvents === 0
      ? []
      : [{ fact: `${seen.pendingEvents} events of it were not delivered yet`, at: seen.receivedAt }]),
    ...(seen?.parkedEvents === undefined || seen.parkedEvents === 0
      ? []
      : [{ fact: `${seen.parkedEvents} events of it are set aside, because they were not taken`, at: seen.receivedAt }])
  ]
}

/** What operators hold although it is not what holds the host now, and what the fleet pins. */
function whatOperatorsSay(
  state: State,
  host: string,
  { reason }: Answer,
  membership: Membership | undefined
): ReadonlyArray<Fact> {
  const interventions = interventionsIn(state)
  const declared = declaredHost(state, host)
  const found = [
    ["held", "the host is held", interventions.holdOf(host)],
    [
      "paused",
      "its rollout is paused",
      membership === undefined ? undefined : interventions.pauseOf(membership.rolloutId)
    ],
    ["frozen", "its channel is frozen", declared === undefined ? undefined : interventions.freezeOf(declared.channel)]
  ] as const
  const pin = declared?.pin
  return [
    ...found.flatMap(([gate, words, hold]) =>
      hold === undefined || gate === reason ? [] : [{ fact: `${words} ${hold.by}` }]
    ),
    ...(pin === undefined ? [] : [{
      fact: `the fleet pins it to ${pin.commit} (${pin.reason})${
        pin.expiresAt === undefined ? "" : "; end of the pin"
      }`,
      at: pin.expiresAt
    }])
  ]
}
