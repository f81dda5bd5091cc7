/**
 * What must hold in a virtual world once everything that was sent has arrived. Reads what a person would read afterwards:
 * the journals on the disks and the logs of the hardware. Each finding is a sentence; no finding, no problem.
 */
import { Effect, Equal, HashMap, Option, Random } from "effect"
import { disagreements } from "../Agent/Fold.ts"
import * as Agent from "../Agent/Journal.ts"
import { type State as AgentState, undelivered } from "../Agent/State.ts"
import * as ControlPlane from "../ControlPlane/Journal.ts"
import { at, hostIn, sorted, type State as ControlPlaneState } from "../ControlPlane/State.ts"
import { parityExcluded } from "../Rollout/Host.ts"
import { type Row, wireEventOf } from "../Schema/AgentJournal.ts"
import type { LogRow } from "../Schema/ControlPlaneJournal.ts"
import type { HostRecord } from "../Schema/HostRecord.ts"
import { AgentEvent } from "../Schema/Wire.ts"
import { encodedText } from "./Encoded.ts"
import type { VirtualHost } from "./VirtualHost.ts"
import type { World } from "./World.ts"

/** A host's journal as it is on its disk. */
export interface HostBooks {
  readonly host: VirtualHost
  readonly state: AgentState
  readonly rows: ReadonlyArray<Row>
}

/** Everything that is durable in a world. */
export interface Books {
  readonly state: ControlPlaneState
  readonly log: ReadonlyArray<LogRow>
  readonly hosts: ReadonlyArray<HostBooks>
  /** The control plane's disk was lost: see `excused`. */
  readonly forgot: boolean
}

/** An empty disk gets its ids from whoever opens it first, so the reader's are from a seed too. */
const read = <A, E>(reading: Effect.Effect<A, E>): A => Effect.runSync(Random.withSeed(reading, "reader"))

/** What the control plane's disk says now; no program takes part. */
export const readMirror = ({ controlPlane }: World): ControlPlaneState =>
  read(Effect.map(ControlPlane.Journal, ({ initial }) => initial).pipe(Effect.provide(controlPlane.journal)))

const readHost = (host: VirtualHost): HostBooks =>
  read(
    Effect.gen(function*() {
      const journal = yield* Agent.Journal
      return { host, state: journal.initial, rows: yield* journal.rows }
    }).pipe(Effect.provide(host.journal))
  )

/** Reads the disks of all machines; no program takes part. */
export function openBooks({ controlPlane, forgot, hosts }: World): Books {
  return read(
    Effect.gen(function*() {
      const journal = yield* ControlPlane.Journal
      return { state: journal.initial, log: yield* journal.rows, hosts: hosts.map(readHost), forgot }
    }).pipe(Effect.provide(controlPlane.journal))
  )
}

/** Nothing is on its way any more. */
export const isDrained = ({ hosts }: Books): boolean => hosts.every(({ state }) => undelivered(state).length === 0)

export const checkAll = (books: Books): ReadonlyArray<string> => [
  ...books.hosts.flatMap((host) => eventsLost(host, books)),
  ...books.hosts.flatMap(eventsOutOfOrder),
  ...books.hosts.flatMap(activatedTwice),
  ...books.hosts.flatMap(guardsDisobeyed),
  ...books.hosts.flatMap((host) => recordsDiffer(host, books)),
  ...books.hosts.flatMap(({ host, rows, state }) =>
    disagreements(rows, state.rollouts).map((detail) =>
      `${host.name}: rows and record disagree (house rule 2): ${detail}`
    )
  )
]

/**
 * A control plane that lost its disk opens the rollouts of the release in force anew, and only audits what it is told of
 * older ones (D4).
 */
const excused = ({ forgot, state }: Books, rolloutId: string): boolean =>
  forgot && at(state.rollouts, rolloutId) === undefined

const eventText = encodedText(AgentEvent)

/** Every event that a host journaled is in the control plane's log, once, with the same content (D2, D5). */
function eventsLost({ host, rows, state }: HostBooks, books: Books): ReadonlyArray<string> {
  const received = Map.groupBy(
    books.log.flatMap(({ entry, host: sender, rolloutId }) =>
      entry.kind === "agent_event" && entry.numbered && sender === host.name &&
        entry.outcome.journalId === state.journalId
        ? [{ key: `${rolloutId} ${entry.event.seq}`, text: eventText(entry.event) }]
        : []
    ),
    ({ key }) => key
  )
  return rows.flatMap(({ entry, rolloutId }) => {
    const event = wireEventOf(entry)
    if (event === undefined || excused(books, rolloutId)) return []
    const name = `${host.name}: event ${event.seq} (${event.kind}) of ${rolloutId}`
    const found = received.get(`${rolloutId} ${event.seq}`) ?? []
    if (found.length !== 1) return [`${name} was recorded ${found.length} times by the control plane`]
    return found[0]?.text === eventText(event) ? [] : [`${name} was recorded with other content`]
  })
}

/** Sequence numbers are contiguous (D2): from 1, or above those of a journal that was lost. */
function eventsOutOfOrder({ host, rows }: HostBooks): ReadonlyArray<string> {
  const lanes = Map.groupBy(
    rows.flatMap(({ entry, rolloutId }) => {
      const event = wireEventOf(entry)
      return event === undefined ? [] : [{ rolloutId, seq: event.seq }]
    }),
    ({ rolloutId }) => rolloutId
  )
  return [...lanes].flatMap(([rolloutId, events]) =>
    events.every(({ seq }, index) => seq === (host.journalsLost === 0 ? 1 : events[0]?.seq ?? 1) + index)
      ? []
      : [`${host.name}: sequence numbers of ${rolloutId} are ${events.map(({ seq }) => seq).join(" ")}`]
  )
}

/**
 * No attempt is activated twice, save after a switch that was lost with its power (D7, D11); the scripts lose none. A host whose
 * acknowledgement was lost with its journal is offered the same attempt once more.
 */
function activatedTwice({ host }: HostBooks): ReadonlyArray<string> {
  const switches = Map.groupBy(
    host.hardware.runs,
    ({ id }) => `${id.purpose} switch of ${id.rolloutId}, attempt ${id.attempt}`
  )
  return [...switches].flatMap(([name, runs]) =>
    runs.length <= 1 + host.journalsLost ? [] : [`${host.name}: ${name} ran ${runs.length} times`]
  )
}

/** How long a guard that has fired may wait for a switch that runs, ms: its time-out. */
const guardWaitMs = 5 * 60_000

/**
 * A guard that fired has taken its host back at once, and the record says so: never one that has converged (D11). That there
 * was one switch back is `activatedTwice`'s.
 */
function guardsDisobeyed({ host, state }: HostBooks): ReadonlyArray<string> {
  return host.guard.fired.flatMap(({ at: firedAt, order: { attempt, closure, rolloutId } }) => {
    const name = `${host.name}: the guard of ${rolloutId}`
    const back = host.hardware.runs.find(({ id }) =>
      id.purpose === "rollback" && id.rolloutId === rolloutId && id.attempt === attempt
    )
    const record = state.rollouts.get(rolloutId)?.record
    const known = host.journalsLost > 0 || record?.state === "Reverted" ||
      (record?.state === "Failed" && record.attempt === attempt) ||
      // An operator has let the rollout roll again since.
      (record !== undefined && record.attempt > attempt)
    return [
      ...(back?.closure === closure && back.at <= firedAt + guardWaitMs
        ? []
        : [`${name} did not go back to ${closure}`]),
      ...(known ? [] : [`${name} has fired, and the record says ${record?.state}`])
    ]
  })
}

/** Fixed by the control plane at the first lease of an attempt (D8), and never told back: a lost disk loses it. */
const firstLease = "soakDueAt"

/** Fields in which the two differ and may not. */
function differences(record: HostRecord, mirror: HostRecord, excluded: ReadonlyArray<string>): ReadonlyArray<string> {
  const [here, there] = [new Map(Object.entries(record)), new Map(Object.entries(mirror))]
  return [...new Set([...here.keys(), ...there.keys()])].toSorted()
    .filter((field) => !excluded.includes(field))
    .filter((field) => !Equal.equals(here.get(field), there.get(field)))
    .map((field) => `${field} ${JSON.stringify(here.get(field))} there ${JSON.stringify(there.get(field))}`)
}

/** What a host that has lost its journal need not know any more. */
const hasEnded = ({ closedAt, state }: HostRecord): boolean =>
  closedAt !== undefined || state === "Converged" || state === "Failed" || state === "Reverted"

/** The mirror is the agent's record, but for the fields that only one side knows (house rule 3). */
function recordsDiffer({ host, state }: HostBooks, books: Books): ReadonlyArray<string> {
  const own = [...state.rollouts].flatMap(([rolloutId, { record }]) => {
    const mirror = hostIn(books.state, rolloutId, host.name)?.record
    if (mirror === undefined) {
      return excused(books, rolloutId) ? [] : [`${host.name}: the control plane has no record of ${rolloutId}`]
    }
    // The next attempt, which an operator has asked for and the host did not take: the one before is over here.
    if (mirror.state === "Pending" && mirror.attempt > record.attempt) return []
    const found = differences(record, mirror, books.forgot ? [...parityExcluded, firstLease] : parityExcluded)
    return found.length === 0 ? [] : [`${host.name}: ${rolloutId} differs from its mirror: ${found.join("; ")}`]
  })
  const unknown = sorted(books.state.rollouts).flatMap(([rolloutId, { hosts }]) => {
    const mirror = Option.getOrUndefined(HashMap.get(hosts, host.name))
    return mirror === undefined || mirror.record.state === "Pending" || state.rollouts.has(rolloutId) ||
        (host.journalsLost > 0 && hasEnded(mirror.record))
      ? []
      : [`${host.name}: the control plane says ${mirror.record.state} of ${rolloutId}, which the host does not know`]
  })
  return [...own, ...unknown]
}
