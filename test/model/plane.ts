/**
 * The control plane as the models see it: the production decision (`ControlPlane/Decide.ts`), a batch at a time, and what its
 * routes make of the answers.
 *
 * Its clock moves only when a rule says so, by more than a lease and a grace last, and what is noted then is moved back with
 * it: a time is past or to come, and states which differ by a shift of time alone are one state.
 */
import { HashMap } from "effect"
import { decide, settle } from "../../src/ControlPlane/Decide.ts"
import type { Action, Answer, EventAnswer, Input, VerifiedArtifacts } from "../../src/ControlPlane/Input.ts"
import { withIndexes } from "../../src/ControlPlane/journal/Load.ts"
import { defaultLimits } from "../../src/ControlPlane/Limits.ts"
import {
  at,
  emptyState,
  type HostEntry,
  type HostInRollout,
  type HostVerdict,
  type State
} from "../../src/ControlPlane/State.ts"
import type { Write } from "../../src/ControlPlane/Write.ts"
import { omit } from "../../src/Rollout/host/Model.ts"
import type { DispatchRow } from "../../src/Schema/ControlPlaneJournal.ts"
import type { OperatorAction } from "../../src/Schema/Interventions.ts"
import {
  type DispatchResponse,
  type HeartbeatRequest,
  type HeartbeatResponse,
  type RolloutDigest,
  type Taken,
  takenText
} from "../../src/Schema/Wire.ts"
import { eventInput } from "../support/controlPlane.ts"
import { capabilities, present, type Row } from "./hosts.ts"
import { Once } from "./once.ts"
import { changing, same } from "./values.ts"

export const firstDatabase = "db"

/** What a lease and a grace last. */
const unitMs = 1_000
/** The control plane's present: later than all that agents have noted. */
const now = present + unitMs
/** When all is over that had not ended before. */
const later = now + 2 * unitMs
/** Of what an operator holds back. */
export const heldUntil = now + unitMs
const limits = { ...defaultLimits, leaseMs: unitMs, recoveryGraceMs: unitMs, silentMs: Number.MAX_SAFE_INTEGER }

/** What is in force is the number of a release; the state is without it, since it is large and the same for all. */
export interface Plane {
  /** Index of the release that was read; -1 before one was. */
  readonly release: number
  readonly state: Omit<State, "artifacts" | "identities" | "limits" | "manifests">
}

/** Everything that a batch led to. */
export interface Batch {
  readonly plane: Plane
  readonly answers: ReadonlyArray<Answer>
  readonly actions: ReadonlyArray<Action>
  readonly writes: ReadonlyArray<Write>
}

interface Posted {
  readonly answer: EventAnswer
  readonly plane: Plane
}

interface Heard {
  readonly response: HeartbeatResponse
  readonly plane: Plane
}

interface Polled {
  readonly dispatch: DispatchResponse | undefined
  /** Knows of a lease that it gave. */
  readonly plane: Plane
}

/** The control plane over these releases: what it does is asked once of each state. */
export class Planes {
  readonly #releases: ReadonlyArray<VerifiedArtifacts>
  /** What each release puts in force, prepared by the program itself. */
  readonly #inForce: ReadonlyArray<Pick<State, "artifacts" | "manifests">>
  readonly #planes = new Once<Plane, Plane>()
  readonly #acts = new Once<Plane, Plane | undefined>()
  /** Of each host: its rows name no host. */
  readonly #posts = new Map<string, Once<Plane, Posted>>()
  readonly #heartbeats = new Once<Plane, Heard>()
  readonly #polls = new Once<Plane, Polled>()

  constructor(releases: ReadonlyArray<VerifiedArtifacts>) {
    this.#releases = releases
    this.#inForce = releases.map((artifacts) => {
      const { state } = decide(
        emptyState("db", limits),
        { _tag: "ArtifactsVerified", artifacts },
        { wall: present, monotonic: 0 }
      )
      return { artifacts, manifests: state.manifests }
    })
  }

  get initial(): Plane {
    return reduced(emptyState(firstDatabase, limits), now, -1)
  }

  /** The whole state, as the program has it. */
  stateOf({ release, state }: Plane): State {
    return { ...emptyState(state.databaseId, limits), ...state, ...this.#inForce[release] }
  }

  batch(plane: Plane, inputs: ReadonlyArray<Input>, { moment = now, release = plane.release } = {}): Batch {
    const clocks = { wall: moment, monotonic: 0 }
    let state = this.stateOf(plane)
    const answers: Array<Answer> = []
    const actions: Array<Action> = []
    const writes: Array<Write> = []
    for (const input of inputs) {
      const decision = decide(state, input, clocks)
      state = decision.state
      answers.push(decision.answer)
      actions.push(...decision.actions)
      writes.push(...decision.writes)
    }
    const settled = settle(state, clocks)
    if (settled !== undefined) {
      state = settled.state
      actions.push(...settled.actions)
      writes.push(...settled.writes)
    }
    return { plane: reduced(state, moment, release), answers, actions, writes }
  }

  /** The release is read from disk and verified. */
  reads(plane: Plane, release: number): Plane {
    const artifacts = this.#releases[release]
    if (artifacts === undefined) return plane
    const input = { _tag: "ArtifactsVerified", artifacts } as const
    return this.#planes.of(plane, release, () => this.batch(plane, [input], { release }).plane)
  }

  /** What is due by now is done: leases end, every channel is planned. */
  passes(plane: Plane): Plane {
    return this.#planes.of(
      plane,
      "passes",
      () => this.batch(plane, [{ _tag: "LeaseSweep" }, { _tag: "PlanTick" }], { moment: later }).plane
    )
  }

  /** An operator does something; `undefined` when it is refused. */
  acted(plane: Plane, action: OperatorAction): Plane | undefined {
    return this.#acts.of(plane, action, () => {
      const { answers: [answer], plane: next } = this.batch(plane, [{ _tag: "ActionAsked", action, actor: "operator" }])
      return answer?._tag === "Taken" ? next : undefined
    })
  }

  posted(plane: Plane, host: string, row: Row): Posted {
    const posts = this.#posts.get(host) ?? new Once<Plane, Posted>()
    this.#posts.set(host, posts)
    return posts.of(plane, row, () => {
      const { answers: [answer], plane: next } = this.batch(plane, [eventInput(host, row.rolloutId, row.event)])
      if (answer === undefined || !isVerdict(answer)) throw new Error(`an event was answered with ${answer?._tag}`)
      return { answer, plane: next }
    })
  }

  heard(plane: Plane, heartbeat: HeartbeatRequest): Heard {
    return this.#heartbeats.of(plane, heartbeat, () => {
      const input = { _tag: "HeartbeatReceived", heartbeat, capabilities, issuedAt: 0 } as const
      const { answers: [answer], plane: next } = this.batch(plane, [input])
      if (answer?._tag !== "Heartbeat") throw new Error(`a heartbeat was answered with ${answer?._tag}`)
      return { response: answer.response, plane: next }
    })
  }

  /** A poll that does not wait: one that is not answered at once is over. */
  polled(plane: Plane, host: string, taken: Taken): Polled {
    return this.#polls.of(plane, `${host} ${takenText(taken)}`, () => {
      const { actions, plane: next } = this.batch(plane, [parked(host, taken)])
      const answer = actions.find((action) => action._tag === "CompleteWaiter" && action.host === host)
      return answer?._tag === "CompleteWaiter" && answer.answer._tag === "Dispatch"
        ? {
          plane: written(next, host),
          dispatch: { ...answer.answer.dispatch, soak_due_at: present, enqueued_at: present }
        }
        : { plane: this.#unparked(next, host), dispatch: undefined }
    })
  }

  /** A poll whose answer could not be written, and that is known: it gives its lease back. */
  aborted(plane: Plane, host: string, taken: Taken): Plane {
    return this.#planes.of(
      plane,
      `${host} ${takenText(taken)} aborts`,
      () => this.#unparked(this.batch(plane, [parked(host, taken)]).plane, host)
    )
  }

  #unparked(plane: Plane, host: string): Plane {
    return this.batch(plane, [{ _tag: "Unparked", host, waiterId }]).plane
  }

  /** What a start reads back from the journal. */
  restarted({ state }: Plane): Plane {
    const { channels, databaseId, hosts, interventions, lifted, quarantine, queue, rollouts } = state
    const seen = HashMap.map(hosts, (entry) => ({ ...entry, rollouts: [] }))
    const empty = emptyState(databaseId, limits)
    const stored: State = { ...empty, channels, hosts: seen, interventions, lifted, quarantine, queue, rollouts }
    return reduced(withIndexes(stored), now, -1)
  }

  /** Another database: nothing is known. */
  get wiped(): Plane {
    return reduced(emptyState("another", limits), now, -1)
  }
}

const verdicts: ReadonlySet<string> = new Set(["Applied", "Duplicate", "Refused", "Gap", "NotReady"])
const isVerdict = (answer: Answer): answer is EventAnswer => verdicts.has(answer._tag)

/** Only one poll of a host waits at a time. */
const waiterId = 1

const parked = (host: string, taken: Taken): Input => ({
  _tag: "Parked",
  host,
  waiterId,
  capabilities,
  issuedAt: 0,
  until: now + unitMs,
  taken
})

/** The answer is written: no later poll gives this lease back. */
function written({ release, state }: Plane, host: string): Plane {
  const row = at(state.queue, host)
  if (row?.lease === undefined) return { release, state }
  const queue = HashMap.set(state.queue, host, { ...row, lease: { ...row.lease, waiterId: 0 } })
  return same({ release, state: { ...state, queue } })
}

/**
 * What tells states apart that decide differently: no counters of what was, no words for people, and times as what they are to
 * the present: past, or to come.
 */
function reduced(whole: State, moment: number, release: number): Plane {
  const kept = omit(whole, ["artifacts", "identities", "lastPlanAt", "limits", "listeningSince", "manifests"])
  const state = (moment === now ? byNow : byLater)(kept)
  return same({
    release,
    state: {
      ...state,
      nextDelivery: 1,
      audits: HashMap.empty(),
      polled: HashMap.filter(
        kept.polled,
        ({ taken }, host) => isOffered(whole, host) || isRecovering(whole) || isAtAnother(whole, host, taken)
      ),
      hosts: changed(kept.hosts, (entry) => quiet(whole, entry)),
      queue: changed(state.queue, (row) => rows.of(row, "uncounted", () => ({ ...row, deliveries: 0 }))),
      verdicts: changed(state.verdicts, (verdict) =>
        wordless.of(verdict, "wordless", () => {
          const { gate, rolloutId } = verdict
          return { gate, rolloutId, because: "", clearedBy: "" }
        }))
    }
  })
}

const timesAt = (moment: number) =>
  changing({ number: (number) => number > moment ? now + unitMs : Math.min(number, present) })
const byNow = timesAt(now)
const byLater = timesAt(later)

const changed = <A>(
  map: HashMap.HashMap<string, A>,
  change: (value: A, key: string) => A
): HashMap.HashMap<string, A> => HashMap.isEmpty(map) ? map : HashMap.map(map, change)

const rows = new Once<DispatchRow, DispatchRow>()
const wordless = new Once<HostVerdict, HostVerdict>()

/**
 * Without what only people read of it, and of its digests only what a decision can still ask: what is to be delivered yet, what
 * was taken of a dispatch that was not acknowledged, and that the host has converged on what it runs.
 */
function quiet(state: State, entry: HostEntry): HostEntry {
  const { rollouts, seen } = entry
  if (seen === undefined) return quieted.of(entry, "unheard", () => ({ rollouts }))
  const isDoubted = isOffered(state, seen.host)
  const receivedAt = isDoubted ? heardAt(state, seen.host, seen.receivedAt) : now
  const known = seen.digests.map(({ rollout_id: id }) => {
    const rollout = at(state.rollouts, id)
    return (rollout === undefined ? undefined : at(rollout.hosts, seen.host))?.ledger.lastSeq ?? 0
  })
  return quieted.of(entry, `${isDoubted} ${receivedAt} ${known.join()}`, () => {
    const { currentClosure, ...kept } = omit(seen, ["parkedEvents", "pendingEvents"])
    const isConfirmed = (digest: RolloutDigest) =>
      digest.state === "Converged" && digest.target_closure === currentClosure
    const digests = seen.digests.flatMap((digest, index) => {
      if (digest.last_event_seq > (known[index] ?? 0)) return [digest]
      const isAsked = isConfirmed(digest) || (isDoubted && receivedAt === now)
      return isAsked ? [{ ...digest, last_event_seq: 0, state: asked[digest.state] }] : []
    })
    const running = currentClosure !== undefined && digests.some(isConfirmed) ? { currentClosure } : {}
    return { rollouts, seen: { ...kept, receivedAt, digests, ...running } }
  })
}

const quieted = new Once<HostEntry, HostEntry>()

/** States that no decision tells apart. */
const asked = {
  Pending: "Failed",
  Activating: "Soaking",
  Deferred: "Failed",
  Soaking: "Soaking",
  Converged: "Converged",
  Failed: "Failed",
  Reverted: "Failed"
} as const

/** All that counts of when a host was heard: whether its last offer was over by then. */
function heardAt(state: State, host: string, receivedAt: number): number {
  const offered = [...HashMap.values(state.rollouts)].map(({ hosts }) => at(hosts, host)?.offeredUntil ?? 0)
  return receivedAt > Math.max(0, ...offered) ? now : present
}

/** A dispatch has left for the host, and it is not known to have taken it: what it does since then counts. */
const isOffered = (state: State, host: string): boolean =>
  [...HashMap.values(state.rollouts)].some(({ hosts }) => {
    const entry = at(hosts, host)
    return entry?.offeredUntil !== undefined && entry.record.state === "Pending"
  })

/** Whether a channel waits for its hosts, or no release was read yet. */
export const isRecovering = ({ channels }: Pick<State, "channels">): boolean =>
  HashMap.isEmpty(channels) || HashMap.some(channels, ({ recovery }) => recovery !== undefined)

/** Here the host is under way in a rollout that it has left for another one. */
const isAtAnother = (state: State, host: string, taken: Taken = "nothing"): boolean =>
  [...HashMap.entries(state.rollouts)].some(([rolloutId, { hosts }]) => {
    const record = at(hosts, host)?.record
    return (record?.state === "Activating" || record?.state === "Soaking") && record.closedAt === undefined &&
      (taken === "nothing" || taken.rolloutId !== rolloutId)
  })

export const leaseOf = ({ state }: Plane, host: string) => at(state.queue, host)?.lease

/** What the control plane knows of a host in a rollout. */
export const mirrorOf = ({ state }: Plane, rolloutId: string, host: string): HostInRollout | undefined => {
  const rollout = at(state.rollouts, rolloutId)
  return rollout === undefined ? undefined : at(rollout.hosts, host)
}
