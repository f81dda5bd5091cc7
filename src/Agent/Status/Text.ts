/** The same document for people: what matters first comes first. Pure. */
import type {
  AgentStatus,
  ContactStatus,
  GuardStatus,
  JournalStatus,
  RolloutStatus,
  Wait
} from "../../Schema/AgentStatus.ts"
import { formatTimestamp, type Millis } from "../../Schema/Primitives.ts"
import { describeReason } from "../../Schema/Reasons.ts"
import { describeAge, describeLeft, printable } from "../../Schema/Words.ts"

/** Lines without control characters: much of this came from other machines. */
export function renderStatus(status: AgentStatus): string {
  const { agent, closures, journal } = status
  const pid = agent.pid === undefined ? "" : ` (process ${agent.pid})`
  const runs = closures.running ?? "unknown"
  const profile = closures.profile === undefined || closures.profile === closures.running
    ? ""
    : `, the next boot ${closures.profile}`
  const head = [
    ["host", `${status.host}, ${agent.running ? `an agent runs${pid}` : "no agent runs"}`],
    ["runs", `${runs}${profile}`],
    ...(status.guard === undefined ? [] : [["guard", guardText(status.guard, status.at)] as const])
  ] as const
  const body = journal === undefined
    ? [["journal", `no agent ever ran on ${status.stateDir}`] as const]
    : journalLines(status, journal)
  const rollouts = (journal?.rollouts ?? []).flatMap((one) => rolloutLines(one, status.at))
  return [...[...head, ...body].map(([name, text]) => `${name.padEnd(9)}${text}`), ...rollouts]
    .map((line) => printable(line).trimEnd()).join("\n")
}

function guardText({ closure, ended, rolloutId, state, until }: GuardStatus, now: Millis): string {
  if (state === "fired") {
    return `fired for ${rolloutId} and ${ended ? "has taken" : "is taking"} the host back to ${closure}`
  }
  if (ended || until === undefined) return `of ${rolloutId} is gone; the agent arms it again`
  return `armed for ${rolloutId}: back to ${closure} without a sign of life of the agent until ` +
    `${formatTimestamp(until)} (in ${describeLeft(until - now)})`
}

type Line = readonly [name: string, text: string]

function journalLines({ at, controlPlane }: AgentStatus, journal: JournalStatus): ReadonlyArray<Line> {
  return [
    ["control", `${controlPlane} ${contactText(journal.contact, at)}`],
    ["journal", `${journal.journalId}, ${countText(journal.rollouts)}`],
    ...journal.rejections.map((one): Line => [
      "rejected",
      `${one.rolloutId} ${ago(one.at, at)}: ${one.reason}, ${describeReason(one.reason)} (${one.detail})`
    ]),
    ...journal.refused.map((one): Line => [
      "refused",
      `${one.kind} ${one.seq} of ${one.rolloutId}, of ${ago(one.at, at)}: ${one.reason}, ${describeReason(one.reason)}`
    ]),
    ["waits", waitText(journal.waitsFor, at)]
  ]
}

function contactText(contact: ContactStatus | undefined, now: Millis): string {
  if (contact === undefined) return "has not answered yet"
  const { answered, failure } = contact
  const last = `last noted ${ago(contact.at, now)}`
  if (!answered) return `does not answer since ${point(contact.since, now)}, ${last}: ${failure?.detail ?? "unknown"}`
  const before = failure === undefined ? "" : `; failed before, ${ago(failure.at, now)}: ${failure.detail}`
  return `answers since ${point(contact.since, now)}, ${last}${before}`
}

function countText(rollouts: ReadonlyArray<RolloutStatus>): string {
  const sum = (of: (one: RolloutStatus) => number) => rollouts.reduce((total, one) => total + of(one), 0)
  return `${sum(({ pending }) => pending.count)} events to deliver, ${sum(({ parked }) => parked.count)} parked, ` +
    `${sum(({ refused }) => refused.count)} refused`
}

function rolloutLines(one: RolloutStatus, now: Millis): ReadonlyArray<string> {
  const { closedAt, current, parked, pending, reason, refused, waitsFor } = one
  const standing = current ? "current" : closedAt === undefined ? "not current" : `closed ${ago(closedAt, now)}`
  const why = reason === undefined ? "" : `: ${describeReason(reason)}`
  const rows = [["to deliver", pending], ["parked", parked], ["refused", refused]] as const
  const events = rows.filter(([, { count }]) => count > 0).map(([name, { count, oldestAt }]) =>
    `${count} ${name}${oldestAt === undefined ? "" : `, the oldest of ${ago(oldestAt, now)}`}`
  )
  const lines: ReadonlyArray<Line> = [
    ["target", `${one.targetClosure}${one.attempt === 1 ? "" : `, attempt ${one.attempt}`}`],
    ...(events.length === 0 ? [] : [["events", events.join("; ")] as const]),
    ...(one.diverged ? [["differs", "the control plane refused a change of this record's state"] as const] : []),
    ...(waitsFor === undefined ? [] : [["waits", waitText(waitsFor, now)] as const])
  ]
  return [
    "",
    `${one.rolloutId}  ${one.state} since ${point(one.since, now)}, ${standing}${why}`,
    ...lines.map(([name, text]) => `  ${name.padEnd(9)}${text}`)
  ]
}

/** A time that is over says so: the agent may be about to act on it, or may not run. */
function waitText({ reason, sentence, until }: Wait, now: Millis): string {
  const why = reason === undefined ? "" : ` (${reason})`
  if (until === undefined) return `${sentence}${why}`
  const left = until > now ? `in ${describeLeft(until - now)}` : `over for ${describeAge(now - until)}`
  return `${sentence}${why}; until ${formatTimestamp(until)} (${left})`
}

/** A time of a clock that was ahead is shown as it is. */
const ago = (at: Millis, now: Millis): string => at > now ? formatTimestamp(at) : `${describeAge(now - at)} ago`
const point = (at: Millis, now: Millis): string =>
  at > now ? formatTimestamp(at) : `${formatTimestamp(at)} (${ago(at, now)})`
