/**
 * A host as the models see it: the agent's decision and its durable state, the hardware that outlives the agent, and what is
 * on its way to it. The programs' own functions decide (`Agent/Decide.ts`, `Rollout/Owed.ts`); what is written here is only what
 * their workers and the hardware do.
 *
 * The agent's clock stands still: what is due is a matter of when a rule is used, and `later` stands for any time that every
 * deadline has passed by. Soaks and thresholds last no time, so that a tick may end a soak as soon as evidence allows it.
 */
import { makeDecide } from "../../src/Agent/Decide.ts"
import type { Answer, DeliveryVerdict, Input } from "../../src/Agent/Input.ts"
import { heartbeatOf } from "../../src/Agent/Report.ts"
import { currentEntry, entriesOf, type RolloutEntry, type State, undelivered } from "../../src/Agent/State.ts"
import type { EventAnswer } from "../../src/ControlPlane/Input.ts"
import {
  type Observed,
  owed,
  probesDue,
  switchesToRead,
  type SwitchId,
  type SwitchState
} from "../../src/Rollout/Owed.ts"
import { wireEventOf } from "../../src/Schema/AgentJournal.ts"
import type { ResolvedPolicy } from "../../src/Schema/HostRecord.ts"
import {
  type AgentEvent,
  allCapabilities,
  type Capability,
  type DispatchResponse,
  type HeartbeatRequest,
  type HeartbeatResponse,
  type Taken
} from "../../src/Schema/Wire.ts"
import { Once } from "./once.ts"
import { changing, same, textOf } from "./values.ts"

/** The agent's present, epoch ms. */
export const present = 1_778_893_200_000
const laterMs = 8 * 24 * 60 * 60_000
/** Later than every deadline. */
export const later = present + laterMs

export const capabilities: ReadonlySet<Capability> = new Set(allCapabilities)

export interface Run {
  readonly id: SwitchId
  readonly closure: string
  readonly state: SwitchState
}

/** What no crash of the agent touches. */
export interface Machine {
  readonly running: string
  /** What the host boots into. */
  readonly profile: string
  /** Every switch that ever ran, oldest first: an id runs at most once. */
  readonly runs: ReadonlyArray<Run>
  readonly boot: string
}

export interface Row {
  readonly rolloutId: string
  readonly event: AgentEvent
}

export interface Host {
  readonly name: string
  readonly state: State
  /** Rows of the journal that travel, oldest first. */
  readonly rows: ReadonlyArray<Row>
  readonly machine: Machine
  /** The first heartbeat of this process was answered: polls and events may go. */
  readonly greeted: boolean
  /** A dispatch that a poll has brought and that is being verified. */
  readonly inHand?: DispatchResponse
  /** Leave to start this switch was granted; it has not started yet. */
  readonly starting?: Pick<Run, "id" | "closure">
  /** A heartbeat that was sent and has not arrived. */
  readonly beat?: HeartbeatRequest
}

/** What a verified manifest names for a host. */
export interface Named {
  readonly targetClosure: string
  readonly signedAt: number
  readonly policy: ResolvedPolicy
}

const decide = makeDecide({
  probeResultMs: Number.MAX_SAFE_INTEGER,
  inconclusiveMs: Number.MAX_SAFE_INTEGER,
  retentionMs: Number.MAX_SAFE_INTEGER
})

export function newHost(name: string, running: string): Host {
  const state: State = {
    hostname: name,
    journalId: `journal-of-${name}`,
    rollouts: new Map(),
    seqFloors: new Map(),
    rejections: new Map(),
    trust: new Map(),
    firstObserved: running,
    bootId: "boot-0",
    observedSince: 0
  }
  return { name, state, rows: [], machine: { running, profile: running, runs: [], boot: "boot-0" }, greeted: false }
}

/** Times of the future are the present again, and what only people read or what only paces is left out. */
function settledState(state: State): State {
  const { clock: _, contact: __, ...rest } = state
  const rollouts = new Map(
    [...rest.rollouts].map(([id, entry]) => [id, settledEntries.of(entry, "", () => settledEntry(entry))])
  )
  return { ...rest, rollouts, observedSince: 0 }
}

const settledEntries = new Once<RolloutEntry, RolloutEntry>()

function settledEntry({ bookkeeping, lane, record, transient }: RolloutEntry): RolloutEntry {
  const { ackedThrough: _, suggested: __, ...kept } = lane
  return {
    record: atPresent(record),
    bookkeeping: atPresent(bookkeeping),
    lane: kept,
    transient: { ...transient, ...(transient.soakedSince === undefined ? {} : { soakedSince: 0 }) }
  }
}

const atPresent = changing({ number: (time) => Math.min(time, present) })

/** One input, decided and journaled. */
export function offer(host: Host, input: Input, isLater = false): { readonly host: Host; readonly answer: Answer } {
  const ms = isLater ? laterMs : 0
  const { answer, state, writes } = decide(host.state, input, { wall: present + ms, monotonic: ms })
  if (answer._tag === "Refused") return { host, answer }
  const rows = writes.flatMap((write): ReadonlyArray<Row> => {
    const event = write._tag === "AppendRow" ? wireEventOf(write.row.entry) : undefined
    return write._tag !== "AppendRow" || event === undefined
      ? []
      : [same({ rolloutId: write.row.rolloutId, event: atPresent(event) })]
  })
  return {
    host: same({ ...host, state: settledState(state), rows: rows.length === 0 ? host.rows : [...host.rows, ...rows] }),
    answer
  }
}

const accepts = (host: Host, input: Input, isLater = false): Host => offer(host, input, isLater).host

/** The process ends anywhere and starts again: what is not durable is gone. */
export function restarted(host: Host, boot = host.machine.boot): Host {
  const { inHand: _, starting: __, ...kept } = host
  const { observed: ___, ...state } = kept.state
  const rollouts = new Map(
    [...state.rollouts].map(([id, entry]) => [id, { ...entry, transient: { probes: new Map() } }])
  )
  const anew = { ...kept, state: { ...state, rollouts }, greeted: false, machine: { ...kept.machine, boot } }
  return accepts(anew, { _tag: "Booted", bootId: boot })
}

/** What runs is cut off, and the host starts what its profile says. */
export function powerCut(host: Host): Host {
  const { machine } = host
  const runs = machine.runs.map((run): Run => run.state._tag === "Running" ? { ...run, state: { _tag: "Lost" } } : run)
  const boot = machine.boot === "boot-0" ? "boot-1" : "boot-0"
  return restarted({ ...host, machine: { ...machine, runs, running: machine.profile } }, boot)
}

/** A poll brought this. What it says of the numbers is for a journal that does not know the rollout. */
export function given(host: Host, dispatch: DispatchResponse): Host {
  const { last_event_seq: _, ...known } = dispatch
  return { ...host, inHand: host.state.rollouts.has(dispatch.rollout_id) ? known : dispatch }
}

/** What its polls say. */
export function taken({ state }: Host): Taken {
  const record = currentEntry(state)?.record
  return record === undefined ? "nothing" : { rolloutId: record.rolloutId, attempt: record.attempt }
}

/** The dispatch in hand, after its manifest was looked for (`Workers/Agent/Longpoll.ts`). */
export function take(host: Host, named: (rolloutId: string) => Named | undefined): Host {
  const { inHand: dispatch, ...rest } = host
  if (dispatch === undefined) return host
  const { attempt = 1, rollout_id: rolloutId, target_closure: targetClosure } = dispatch
  const known = host.state.rollouts.get(rolloutId)?.record
  const manifest = named(rolloutId)
  const repeated = known !== undefined && attempt <= known.attempt && known.targetClosure === targetClosure
  const reject = (reason: "manifest-other-target" | "superseded") =>
    accepts(rest, { _tag: "RejectedDispatch", rolloutId, reason, detail: "", at: present })
  if (!repeated && manifest?.targetClosure !== targetClosure) return reject("manifest-other-target")
  const { answer, host: next } = offer(
    rest,
    repeated || manifest === undefined ? { _tag: "DispatchRepeated", rolloutId, attempt } : {
      _tag: "Activate",
      rolloutId,
      attempt,
      targetClosure,
      soakDueAt: present,
      dispatchedAt: present,
      receivedAt: present,
      signedAt: manifest.signedAt,
      policy: manifest.policy,
      observed: host.machine.running,
      ...(dispatch.delivery_id === undefined ? {} : { deliveryId: dispatch.delivery_id }),
      ...(dispatch.last_event_seq === undefined ? {} : { lastEventSeq: dispatch.last_event_seq })
    }
  )
  return answer._tag === "Accepted" ? next : reject("superseded")
}

/** What the agent reads of its host. */
export const observed = (host: Host): Observed => ({ running: host.machine.running, switches: readRuns(host) })

const readRuns = ({ machine, state }: Host) =>
  switchesToRead(entriesOf(state)).map((id) => ({
    id,
    state: machine.runs.find((run) => isSame(run.id, id))?.state ?? { _tag: "Lost" as const }
  }))

const isSame = (a: SwitchId, b: SwitchId): boolean =>
  a.rolloutId === b.rolloutId && a.attempt === b.attempt && a.purpose === b.purpose && a.run === b.run

/** What the agent makes of an answer to an event; `undefined`: nothing was decided, it posts again (`Agent/Envelope.ts`). */
function verdictOf(answer: EventAnswer, seq: number): DeliveryVerdict | undefined {
  switch (answer._tag) {
    case "Applied":
    case "Duplicate":
      return { _tag: "Applied" }
    case "Refused":
      return { _tag: "Refused", reason: answer.reason }
    case "Gap":
      return answer.replayFrom < seq ? answer : undefined
    case "NotReady":
      return undefined
  }
}

/** What became of a row that was posted. */
export function delivered(host: Host, { event: { kind, seq }, rolloutId }: Row, answer: EventAnswer): Host {
  const verdict = verdictOf(answer, seq)
  return verdict === undefined ?
    host :
    hostsAfter.of(
      host,
      `${rolloutId} ${textOf(answer)}`,
      () => accepts(host, { _tag: "Delivered", rolloutId, seq, kind, verdict })
    )
}

const hostsAfter = new Once<Host, Host>()

/** The answer to a heartbeat comes home; the first one opens the way for polls and events. */
export function answered(host: Host, { replay_from: replayFrom = {} }: HeartbeatResponse): Host {
  return hostsAfter.of(host, textOf(replayFrom), () =>
    accepts({ ...host, greeted: true }, {
      _tag: "HeartbeatAnswered",
      replayFrom,
      ackedThrough: {},
      snapshots: []
    }))
}

/** What is due, and what follows when the worker does it (`Workers/Agent/Activation.ts`). */
export function look(host: Host, isLater: boolean): Host | undefined {
  const { starting, state } = host
  if (starting !== undefined) return undefined
  const now = isLater ? later : present
  const duty = owed(entriesOf(state), observed(host), now)
  switch (duty._tag) {
    case "Idle":
    case "Hold":
    case "AwaitSwitch":
      return undefined
    case "Settle":
      return accepts(host, { _tag: "Settled", rolloutId: duty.rolloutId, event: duty.event, at: now })
    case "Switch":
    case "Rollback": {
      const { closure, id } = duty
      const { attempt, rolloutId } = id
      const about = { rolloutId, attempt, at: present }
      const { answer, host: next } = offer(
        host,
        duty._tag === "Switch"
          ? { _tag: "ActivationStarted", switchMethod: "model", ...about }
          : { _tag: "RollbackStarted", ...about }
      )
      return answer._tag === "Accepted" ? { ...next, starting: { id, closure } } : undefined
    }
  }
}

/** The closure that a forward switch needs cannot be had. */
export function cannotFetch(host: Host): Host | undefined {
  if (host.starting !== undefined) return undefined
  const duty = owed(entriesOf(host.state), observed(host), present)
  if (duty._tag !== "Switch") return undefined
  return unrealised(host, duty.id)
}

function unrealised(host: Host, { attempt, rolloutId }: SwitchId): Host {
  const failed = { kind: "ActivationFailed", exitCode: -1, stderrTail: "", failedAt: present } as const
  const event = { ...failed, closureAtFault: false, attempt }
  return accepts(host, { _tag: "Settled", rolloutId, event, at: present })
}

/** The switch that leave was granted for; an id runs once, and never two at a time (`Layers/Host/Activator.ts`). */
export function start({ starting, ...host }: Host): Host | undefined {
  if (starting === undefined) return undefined
  const { machine } = host
  const isBusy = machine.runs.some((run) => run.state._tag === "Running" || isSame(run.id, starting.id))
  if (isBusy) return unrealised(host, starting.id)
  const run: Run = { ...starting, state: { _tag: "Running" } }
  return { ...host, machine: { ...machine, profile: starting.closure, runs: [...machine.runs, run] } }
}

/** How the switch that runs ends; `moves`: the target runs then. */
export function ends(host: Host, state: SwitchState, moves: boolean): Host | undefined {
  const { machine } = host
  const run = machine.runs.find((one) => one.state._tag === "Running")
  if (run === undefined) return undefined
  const runs = machine.runs.map((one) => one === run ? { ...one, state } : one)
  return { ...host, machine: { ...machine, runs, running: moves ? run.closure : machine.running } }
}

export const exited = (code: number): SwitchState => ({ _tag: "Exited", code, stderrTail: "" })

/** Whether a rollback runs: the old system is known to work. */
export const isRollingBack = ({ machine }: Host): boolean =>
  machine.runs.some(({ id, state }) => state._tag === "Running" && id.purpose === "rollback")

/** Time passes, and the running system is read anew. */
export const tick = (host: Host, isLater: boolean): Host =>
  accepts(host, { _tag: "Tick", observed: host.machine.running }, isLater)

/** One probe is declared, and it counts. */
export const probeName = "web"

export function declareProbes(host: Host): Host | undefined {
  const soak = probesDue(entriesOf(host.state))
  if (soak === undefined || soak.topology !== undefined) return undefined
  const { attempt, rolloutId } = soak
  const probes = [{ probeName, kind: "http", mode: "enforce" as const }]
  return accepts(host, { _tag: "TopologyDeclared", rolloutId, attempt, probes, at: present })
}

/** A probe that passed fails once in an attempt at most, else it could go to and fro for ever without a tick in between. */
export function probe(host: Host, status: "pass" | "fail"): Host | undefined {
  const soak = probesDue(entriesOf(host.state))
  if (soak?.topology === undefined) return undefined
  if (status === "fail" ? soak.probeFailureFirstAt !== undefined : soak.probes[probeName]?.status === "pass") {
    return undefined
  }
  const { attempt, rolloutId } = soak
  return accepts(host, {
    _tag: "ProbeSample",
    rolloutId,
    attempt,
    probeName,
    mode: "enforce",
    status,
    at: present,
    ...(status === "fail" ? { failureReason: "down" } : {})
  })
}

/** The host's person reboots it. */
export function reboot(host: Host): Host | undefined {
  return currentEntry(host.state)?.record.state === "Deferred" ? powerCut(host) : undefined
}

const rowsDue = new Once<Host, ReadonlyArray<Row>>()

/** The oldest undelivered row of each lane. */
export const dueRows = (host: Host): ReadonlyArray<Row> =>
  rowsDue.of(
    host,
    "due",
    () =>
      undelivered(host.state).flatMap(({ rolloutId, seq }) =>
        host.rows.filter((row) => row.rolloutId === rolloutId && row.event.seq === seq).slice(0, 1)
      )
  )

/** Rows that were sent at least once. */
export const sentRows = ({ rows, state }: Host): ReadonlyArray<Row> =>
  rows.filter(({ event, rolloutId }) => event.seq <= (state.rollouts.get(rolloutId)?.lane.nextSeq ?? 0))

const heartbeatsOf = new Once<Host, HeartbeatRequest>()

/** Equal ones are one object. */
export const heartbeat = (host: Host): HeartbeatRequest =>
  heartbeatsOf.of(host, "now", () => {
    const facts = { at: present, uptimeSecs: 0, version: "model", boot: false, peer: capabilities }
    return same(heartbeatOf(host.state, facts))
  })
