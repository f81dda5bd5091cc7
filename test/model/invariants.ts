/** What must hold in every state, and over every step, of a fleet. `docs/invariants.md` says of each what it means. */
import { HashMap } from "effect"
import { currentEntry, entriesOf, undelivered } from "../../src/Agent/State.ts"
import { at, type HostInRollout, type RolloutEntry, sorted } from "../../src/ControlPlane/State.ts"
import { parityExcluded } from "../../src/Rollout/Host.ts"
import { owed, rollbackClosure } from "../../src/Rollout/Owed.ts"
import type { LogEntry } from "../../src/Schema/ControlPlaneJournal.ts"
import type { HostRecord, RolloutStateName } from "../../src/Schema/HostRecord.ts"
import { channelSubject, hostSubject, rolloutSubject } from "../../src/Schema/Interventions.ts"
import type { Fleet, HostName, World } from "./fleet.ts"
import { type Host, later, observed, probeName, type Run } from "./hosts.ts"
import { Once } from "./once.ts"
import { firstDatabase, mirrorOf, type Plane } from "./plane.ts"
import type { Invariant } from "./search.ts"
import { textOf } from "./values.ts"

/** What the decisions say, said once more: an invariant that asked the code for its own limits would find nothing. */
const maxSwitchStarts = 2
const maxRollbacks = 3
const live: ReadonlySet<RolloutStateName> = new Set(["Opening", "Active", "Converging"])

type Of<Parts extends ReadonlyArray<unknown>> = (...parts: Parts) => string | undefined

/** Of each host alone. */
const ofHost = (world: World, name: string, holds: Of<[host: Host]>): ReadonlyArray<Invariant<Fleet>> =>
  world.hosts.map((one) => ({
    name,
    on: [one],
    holds: ({ [one]: host }) => host === undefined ? undefined : holds(host)
  }))

/** Of each step of a host. */
const ofStep = (world: World, name: string, holds: Of<[before: Host, after: Host]>): ReadonlyArray<Invariant<Fleet>> =>
  world.hosts.map((one) => ({
    name,
    on: [one],
    holdsOver: ({ [one]: before }, { [one]: after }) =>
      before === undefined || after === undefined || before === after ? undefined : holds(before, after)
  }))

/** Of each host and the control plane. */
const ofBoth = (world: World, name: string, holds: Of<[host: Host, plane: Plane]>): ReadonlyArray<Invariant<Fleet>> =>
  world.hosts.map((one) => ({
    name,
    on: [one, "plane"],
    holds: ({ [one]: host, plane }) => host === undefined ? undefined : holds(host, plane)
  }))

/** Of each dispatch that leaves for a host. */
const ofDispatch = (
  world: World,
  name: string,
  holds: (host: string, plane: Plane, rolloutId: string) => string | undefined
): ReadonlyArray<Invariant<Fleet>> =>
  world.hosts.map((one) => ({
    name,
    on: [one, "plane"],
    holdsOver: ({ [one]: before, plane }, { [one]: after }) =>
      before?.inHand === undefined && after?.inHand !== undefined
        ? holds(one, plane, after.inHand.rollout_id)
        : undefined
  }))

export const invariantsOf = (world: World, budget = Infinity): ReadonlyArray<Invariant<Fleet>> => [
  ...ofHost(world, "only-what-is-named", (host) => onlyNamed(world, host)),
  ...ofHost(world, "one-activation-an-attempt", ({ machine }) => activatedTwice(machine.runs)),
  ...ofHost(world, "switches-are-bounded", ({ machine }) => unbounded(machine.runs)),
  ...ofHost(world, "newest-release-wins", goesBack),
  ...ofHost(world, "numbers-without-gaps", gapsIn),
  ...ofStep(world, "converged-is-proven", convergedUnproven),
  ...ofStep(world, "rollback-ends-where-recorded", revertedElsewhere),
  ...ofStep(world, "attempts-end-once", endedTwice),
  {
    name: "halted-dispatches-nothing",
    on: ["plane"],
    holds: ({ plane }) => dispatchesWhileHalted(plane)
  },
  {
    name: "nothing-offered-in-recovery",
    on: ["plane"],
    holds: ({ plane }) => dispatchesInRecovery(plane)
  },
  {
    name: "every-wait-is-explained",
    on: ["plane"],
    holds: ({ plane }) => unexplained(plane)
  },
  {
    name: "plan-comes-to-rest",
    on: ["plane"],
    holds: ({ plane }) => plansOn(world, plane)
  },
  {
    name: "budget-is-kept",
    on: world.hosts,
    holds: (fleet) => overBudget(world.hosts.flatMap((name) => fleet[name] ?? []), budget)
  },
  ...ofDispatch(world, "nothing-held-is-dispatched", heldBack),
  ...ofDispatch(world, "waves-in-order", outOfTurn),
  ...ofBoth(world, "acknowledged-is-kept", lostEvents),
  ...ofBoth(world, "received-is-equal", differences)
]

function onlyNamed(world: World, { machine, name }: Host): string | undefined {
  const strange = machine.runs.find(({ closure, id }) =>
    id.purpose === "forward" && world.named(name, id.rolloutId)?.targetClosure !== closure
  )
  return strange === undefined
    ? undefined
    : `${name} was switched to ${strange.closure}, which no manifest names for it`
}

/** The forward switches of each attempt. */
const attempts = (runs: ReadonlyArray<Run>, purpose: Run["id"]["purpose"]) =>
  Map.groupBy(runs.filter(({ id }) => id.purpose === purpose), ({ id }) => `${id.rolloutId}, attempt ${id.attempt}`)

function activatedTwice(runs: ReadonlyArray<Run>): string | undefined {
  for (const [attempt, of] of attempts(runs, "forward")) {
    // A switch that left no result ended with the power of its host.
    if (of.filter(({ state }) => state._tag !== "Lost").length > 1) return `${attempt} was activated twice`
  }
  return undefined
}

function unbounded(runs: ReadonlyArray<Run>): string | undefined {
  for (const [attempt, of] of attempts(runs, "forward")) {
    if (of.length > maxSwitchStarts) return `${of.length} switches of ${attempt} were started`
  }
  for (const [attempt, of] of attempts(runs, "rollback")) {
    if (of.length > maxRollbacks) return `${of.length} rollbacks of ${attempt} were started`
  }
  return undefined
}

function goesBack({ state }: Host): string | undefined {
  const current = currentEntry(state)?.record
  const newer = entriesOf(state).find(({ record }) => record.signedAt > (current?.signedAt ?? Infinity))
  return newer === undefined || current === undefined
    ? undefined
    : `${current.rolloutId} acts, and ${newer.record.rolloutId} is newer`
}

function gapsIn({ rows, state }: Host): string | undefined {
  for (const { record: { lastEventSeq, rolloutId } } of entriesOf(state)) {
    const seqs = rows.filter((row) => row.rolloutId === rolloutId).map(({ event }) => event.seq)
    const first = seqs[0] ?? lastEventSeq + 1
    if (seqs.some((seq, index) => seq !== first + index) || first + seqs.length !== lastEventSeq + 1) {
      return `the numbers of ${rolloutId} are ${seqs.join(", ")}, and the record says ${lastEventSeq}`
    }
  }
  return undefined
}

const recordOf = ({ state }: Host, rolloutId: string): HostRecord | undefined => state.rollouts.get(rolloutId)?.record

function convergedUnproven(before: Host, after: Host): string | undefined {
  for (const { record } of entriesOf(after.state)) {
    const { rolloutId, targetClosure } = record
    if (record.state !== "Converged" || recordOf(before, rolloutId)?.state === "Converged") continue
    if (before.machine.running !== targetClosure) return `${rolloutId} converged, and ${before.machine.running} runs`
    if (record.topology === undefined) return `${rolloutId} converged before it was said which probes there are`
    const probe = record.probes[probeName]
    if (probe?.status !== "pass" || (probe.lastPassAt ?? 0) < record.activationCompletedAt) {
      return `${rolloutId} converged, and its probe says ${probe?.status ?? "nothing"}`
    }
  }
  return undefined
}

function revertedElsewhere(before: Host, after: Host): string | undefined {
  for (const { record } of entriesOf(after.state)) {
    if (record.state !== "Reverted" || recordOf(before, record.rolloutId)?.state === "Reverted") continue
    const { activationStarts, rolloutId } = record
    const { running } = before.machine
    if (record.revertedTo !== running) return `${rolloutId} says ${record.revertedTo}, and ${running} runs`
    // Where no switch began, nothing was touched, and what ran before runs on.
    if (activationStarts > 0 && running !== rollbackClosure(record)) {
      return `${rolloutId} went back to ${running}, not to ${rollbackClosure(record)}`
    }
  }
  return undefined
}

/** What ended stays as it is until its next attempt; Failed alone goes on, to Reverted. */
function endedTwice(before: Host, after: Host): string | undefined {
  for (const { record } of entriesOf(before.state)) {
    const next = recordOf(after, record.rolloutId)
    if (next === undefined) return `the record of ${record.rolloutId} is gone`
    if (next.attempt < record.attempt) return `${record.rolloutId} went back to attempt ${next.attempt}`
    if (next.attempt > record.attempt || next.state === record.state) continue
    const over = record.state === "Converged" || record.state === "Reverted" ||
      (record.state === "Failed" && next.state !== "Reverted")
    if (over) return `${record.rolloutId} was ${record.state} and became ${next.state} in one attempt`
  }
  return undefined
}

function dispatchesWhileHalted({ state }: Plane): string | undefined {
  for (const [host, { rolloutId }] of sorted(state.queue)) {
    const rollout = at(state.rollouts, rolloutId)?.record
    if (rollout === undefined || !live.has(rollout.state)) {
      return `${host} has a dispatch of ${rolloutId}, which is ${rollout?.state ?? "unknown"}`
    }
  }
  return undefined
}

function dispatchesInRecovery({ state }: Plane): string | undefined {
  for (const [channel, { recovery }] of sorted(state.channels)) {
    const queued = sorted(state.queue).find(([, { rolloutId }]) => rolloutId.startsWith(`${channel}@`))
    if (recovery !== undefined && queued !== undefined) return `${queued[0]} has a dispatch while ${channel} recovers`
  }
  return undefined
}

function heldBack(host: string, { state }: Plane, rolloutId: string): string | undefined {
  const subjects = [hostSubject(host), rolloutSubject(rolloutId), channelSubject(null)]
  const found = subjects.find((subject) => HashMap.has(state.interventions, subject))
  return found === undefined ? undefined : `${host} was dispatched, and an operator holds back: ${found}`
}

const stateIn = ({ overlay, record }: HostInRollout) => overlay?.state ?? record.state

/** By what the control plane knew when the dispatch left: what it does not know yet, no gate can ask. */
function outOfTurn(host: string, { state }: Plane, rolloutId: string): string | undefined {
  const rollout = at(state.rollouts, rolloutId)
  const wave = rollout?.plan.hosts[host]?.wave ?? 0
  const early = rollout === undefined ?
    undefined :
    sorted(rollout.hosts).find(([other, entry]) =>
      (rollout.plan.hosts[other]?.wave ?? Infinity) < wave && stateIn(entry) !== "Converged" &&
      !HashMap.has(state.interventions, hostSubject(other))
    )
  return early === undefined
    ? undefined
    : `${host} of wave ${wave + 1} was dispatched, and ${early[0]} of an earlier one is ${stateIn(early[1])}`
}

/** Why a host waits, and that what an operator held has ended, is written down when it is next looked at. */
const notes: ReadonlySet<LogEntry["kind"]> = new Set(["gate_decision", "operator_action"])

function plansOn({ planes }: World, plane: Plane): string | undefined {
  const { writes } = planes.batch(plane, [{ _tag: "PlanTick" }])
  const rows = writes.flatMap((write) =>
    write._tag === "AppendLog" && !notes.has(write.row.entry.kind) ? [write.row] : []
  )
  return rows.length === 0 || plane.release === -1
    ? undefined
    : `planning once more at the same moment does something: ${textOf(rows)}`
}

function unexplained({ release, state }: Plane): string | undefined {
  if (release === -1) return undefined
  for (const [rolloutId, { hosts, record }] of sorted(state.rollouts)) {
    if (at(state.channels, record.channel)?.current !== rolloutId) continue
    for (const [host, entry] of sorted(hosts)) {
      if (entry.record.state !== "Pending" || entry.record.closedAt !== undefined) continue
      const isExplained = HashMap.has(state.queue, host) || at(state.verdicts, host)?.rolloutId === rolloutId
      if (!isExplained) return `${host} waits in ${rolloutId}, and nobody can say for what`
    }
  }
  return undefined
}

function overBudget(hosts: ReadonlyArray<Host>, budget: number): string | undefined {
  const flying = hosts.filter(({ state }) => {
    const record = currentEntry(state)?.record
    return record?.state === "Activating" || record?.state === "Soaking"
  })
  return flying.length <= budget
    ? undefined
    : `${flying.map(({ name }) => name).join(" and ")} are in flight, and the budget is ${budget}`
}

/**
 * What the agent was told is durable there, is; of a database that was lost this is asked once everything is at rest. What was
 * received is what was sent, without a hole.
 */
function lostEvents({ name, rows, state }: Host, plane: Plane): string | undefined {
  for (const { lane, record: { rolloutId } } of entriesOf(state)) {
    const mirror = mirrorOf(plane, rolloutId, name)
    const known = mirror?.ledger.lastSeq ?? 0
    if (plane.state.databaseId === firstDatabase && lane.nextSeq - 1 > known) {
      return `${name} was told that event ${lane.nextSeq - 1} of ${rolloutId} is durable, and ${known} are known`
    }
    const hole = mirror?.ledger.seen.findIndex(({ seq }, index) => seq !== index + 1) ?? -1
    if (hole !== -1) return `event ${hole + 1} of ${rolloutId} of ${name} was never received, and later ones were`
    const sent = rows.filter((row) => row.rolloutId === rolloutId).length
    if (known > sent) return `${known} events of ${rolloutId} were received, and ${name} has sent ${sent}`
  }
  return undefined
}

const ignored: ReadonlySet<string> = new Set([
  ...parityExcluded,
  // Times of the control plane, which a model has only as past or to come, and the agent's own threshold.
  "soakDueAt",
  "policy",
  // The host may have read the same release signed anew.
  "signedAt"
])

/** Once every event was received, both sides have the same record. */
function differences({ name, state }: Host, plane: Plane): string | undefined {
  for (const { record } of entriesOf(state)) {
    const mirror = mirrorOf(plane, record.rolloutId, name)
    if (mirror === undefined || mirror.ledger.lastSeq !== record.lastEventSeq) continue
    // Its next attempt has not reached the host.
    if (mirror.record.attempt > record.attempt) continue
    const difference = compared.of(record, mirror.record, () => differenceOf(record, mirror.record))
    if (difference !== same) return difference
  }
  return undefined
}

const same = ""
const compared = new Once<HostRecord, string>()

function differenceOf(record: HostRecord, mirror: HostRecord): string {
  const { rolloutId } = record
  if (record.diverged === true || mirror.diverged === true) return `${rolloutId} diverged`
  const [here, there] = [new Map(Object.entries(record)), new Map(Object.entries(mirror))]
  const field = [...new Set([...here.keys(), ...there.keys()])].toSorted()
    .find((one) => !ignored.has(one) && textOf(here.get(one)) !== textOf(there.get(one)))
  return field === undefined
    ? same
    : `${field} of ${rolloutId} is ${textOf(here.get(field))}, on the mirror ${textOf(there.get(field))}`
}

/** What failed under one release is held in the next one too, until a person clears it. */
const isQuarantined = ({ state }: Plane, rolloutId: string, host: string): boolean => {
  const verdict = at(state.verdicts, host)
  return verdict?.gate === "quarantine" && verdict.rolloutId === rolloutId
}

/**
 * Nothing is under way or owed on a host, the control plane knows all of it, and every rollout has come to an end, or waits for
 * a person.
 */
export function isAtRest(fleet: Fleet, hosts: ReadonlyArray<HostName>): boolean {
  const { plane, published } = fleet
  const rollouts = [...HashMap.values(plane.state.rollouts)]
  if (plane.release !== published.release || rollouts.length === 0) return false
  const isOver = ({ hosts: of, record: { rolloutId, state } }: RolloutEntry) =>
    !live.has(state) ||
    sorted(of).every(([host, { record: known }]) =>
      known.state === "Converged" || isQuarantined(plane, rolloutId, host)
    )
  return rollouts.every(isOver) && hosts.every((name) => {
    const host = fleet[name]
    return host !== undefined && hostRests(host) && differences(host, plane) === undefined &&
      entriesOf(host.state).every(({ record: { lastEventSeq, rolloutId } }) => {
        const mirror = mirrorOf(plane, rolloutId, name)
        return mirror === undefined || mirror.ledger.lastSeq === lastEventSeq
      })
  })
}

function hostRests(host: Host): boolean {
  const { greeted, inHand, starting, state } = host
  if (!greeted || inHand !== undefined || starting !== undefined || undelivered(state).length > 0) return false
  const duty = owed(entriesOf(state), observed(host), later)
  const current = currentEntry(state)?.record.state
  return (duty._tag === "Idle" || (duty._tag === "Hold" && duty.until === undefined)) &&
    current !== "Activating" && current !== "Soaking" && current !== "Deferred"
}
