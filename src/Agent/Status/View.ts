/** The document of `nixfleet-agent status` from what was read. Pure. */
import type { Contact } from "../../Schema/AgentJournal.ts"
import type { AgentStatus, GuardStatus, JournalStatus, RolloutStatus, RowsOf } from "../../Schema/AgentStatus.ts"
import type { HostRecord } from "../../Schema/HostRecord.ts"
import { formatTimestamp } from "../../Schema/Primitives.ts"
import type { Details } from "../JournalReader.ts"
import { digestOf } from "../Report.ts"
import { currentEntry, entriesOf, type RolloutEntry, type State } from "../State.ts"
import { type Sight, type Waiting, waitOf } from "./Waits.ts"

/** What was read of the journal. */
export interface JournalReading {
  readonly state: State
  readonly details: Details
}

/** What is seen besides: who runs, and what the host's links say. */
export type Seen = Pick<Sight, "agentRuns" | "config" | "fetching" | "now" | "observed"> & {
  readonly pid?: number | undefined
  readonly profile?: string | undefined
}

export function statusOf(seen: Seen, journal: JournalReading | undefined): AgentStatus {
  const { config, fetching, observed: { running }, pid, profile } = seen
  const lastConverged = journal?.state.lastConverged
  return {
    schemaVersion: 1,
    at: seen.now,
    host: config.machineId,
    controlPlane: config.controlPlaneUrl,
    stateDir: config.stateDir,
    agent: { running: seen.agentRuns, ...(pid === undefined ? {} : { pid }) },
    closures: {
      ...(running === undefined ? {} : { running }),
      ...(profile === undefined ? {} : { profile }),
      ...(lastConverged === undefined ? {} : { lastConverged })
    },
    ...guardStatus(seen),
    ...(fetching === undefined ? {} : { fetching }),
    ...(journal === undefined ? {} : { journal: journalStatus(seen, journal) })
  }
}

function guardStatus({ now, observed: { guard } }: Seen): { readonly guard?: GuardStatus } {
  if (guard === undefined || guard._tag === "None") return {}
  const { closure, rolloutId } = guard.order
  return guard._tag === "Armed"
    ? { guard: { state: "armed", rolloutId, closure, until: now + guard.leftMs, ended: !guard.watched } }
    : { guard: { state: "fired", rolloutId, closure, ended: !guard.acting } }
}

function journalStatus(seen: Seen, { details, state }: JournalReading): JournalStatus {
  const entries = entriesOf(state)
  const current = currentEntry(state)
  const sight: Sight = current === undefined ? { ...seen, entries } : {
    ...seen,
    entries,
    rollbackStartedAt: details.rollbackStartedAt.get(current.record.rolloutId),
    soakedAsOf: details.learnedAt.get(current.record.rolloutId)
  }
  const wait = current === undefined ? undefined : waitOf(current.record, sight)
  const newestFirst = entries.toSorted((a, b) => rank(b, current) - rank(a, current))
  return {
    journalId: state.journalId,
    ...(state.contact === undefined ? {} : { contact: state.contact }),
    rollouts: newestFirst.map((entry) => rolloutStatus(entry, details, entry === current ? wait : undefined, current)),
    rejections: [...state.rejections.values()].toSorted((a, b) => b.at - a.at),
    refused: details.refused,
    waitsFor: hostWait(seen, state, current, wait)
  }
}

const rank = (entry: RolloutEntry, current: RolloutEntry | undefined): number =>
  entry === current ? Infinity : entry.record.signedAt

function rolloutStatus(
  { lane, record }: RolloutEntry,
  { rows }: Details,
  wait: Waiting | undefined,
  current: RolloutEntry | undefined
): RolloutStatus {
  const of = (delivery: string): RowsOf => {
    const found = rows.find((one) => one.rolloutId === record.rolloutId && one.delivery === delivery)
    return found === undefined ? { count: 0 } : { count: found.count, oldestAt: found.oldestAt }
  }
  const { reason } = digestOf(record)
  return {
    rolloutId: record.rolloutId,
    channel: record.channel,
    state: record.state,
    since: enteredAt(record),
    current: record === current?.record,
    targetClosure: record.targetClosure,
    attempt: record.attempt,
    lastEventSeq: record.lastEventSeq,
    ...(lane.ackedThrough === undefined ? {} : { ackedThrough: lane.ackedThrough }),
    ...(record.closedAt === undefined ? {} : { closedAt: record.closedAt }),
    diverged: record.diverged === true,
    ...(reason === undefined ? {} : { reason }),
    pending: of("pending"),
    parked: of("parked"),
    refused: of("refused"),
    ...(wait === undefined ? {} : { waitsFor: wait })
  }
}

/** When the record came into its state, epoch ms. */
function enteredAt(record: HostRecord): number {
  switch (record.state) {
    case "Pending":
      return record.dispatchedAt
    case "Activating":
      return record.dispatchAckedAt
    case "Deferred":
      return record.deferredAt
    case "Soaking":
      return record.activationCompletedAt
    case "Converged":
      return record.convergedAt
    case "Failed":
      return record.failedAt
    case "Reverted":
      return record.revertedAt
  }
}

/** The first thing that keeps the host from going on. */
function hostWait(
  { agentRuns, config }: Seen,
  { contact }: State,
  current: RolloutEntry | undefined,
  wait: Waiting | undefined
): Waiting {
  if (!agentRuns) return { sentence: "no agent runs here: nothing goes on until one is started" }
  const silence = silenceOf(contact, config.controlPlaneUrl)
  if (wait !== undefined && current !== undefined) {
    const besides = silence === undefined ? "" : `; besides, ${silence}`
    return { ...wait, sentence: `${current.record.rolloutId}: ${wait.sentence}${besides}` }
  }
  return {
    sentence: silence ?? `a dispatch: the control plane holds each poll for up to ${config.pollWaitSecs} s`
  }
}

/** Polls and events need a control plane that answers. */
function silenceOf(contact: Contact | undefined, url: string): string | undefined {
  if (contact === undefined) return `a first answer of ${url}`
  return contact.answered ? undefined : `${url} does not answer since ${formatTimestamp(contact.since)}`
}
