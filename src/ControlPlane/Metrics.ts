/**
 * What the loop of this process has done, counted where it happens and read by `GET /metrics`: `observed` puts itself around
 * the reducer's program, `timed` around its queue. Counts begin at 0 with each process, as Prometheus expects; what is
 * true of the fleet now is read from the published state at the scrape (`MetricsOfState.ts`).
 *
 * Costs a batch some additions and each input two readings of the clock; never suspends, never fails. Of the original's
 * names those are kept that can be true here: there are no compliance controls and no runtime gates in this protocol, so
 * `nixfleet_compliance_failure_events_total` and `nixfleet_runtime_gate_error_events_total` are left out rather than 0.
 */
import { type Clock, Context, Effect } from "effect"
import { CommitHeld } from "../Layers/Disk/CommitHeld.ts"
import type * as Reducer from "../Reducer.ts"
import type { LogRow } from "../Schema/ControlPlaneJournal.ts"
import type { Action, Answer, EventAnswer, EventReceived, Input } from "./Input.ts"
import { Registry } from "./MetricsRegistry.ts"
import { at, type State } from "./State.ts"
import type { Write } from "./Write.ts"

export class Metrics extends Context.Service<Metrics, {
  /** Everything that was counted since the process began, as text of Prometheus. */
  readonly counted: () => string
  /** Inputs that wait to be decided. */
  readonly inboxDepth: () => number
}>()("nixfleet/ControlPlane/Metrics") {}

type Program = Reducer.Program<State, Input, Write, Action, Answer>

/** Seconds. A commit is an fsync: well below a millisecond on good disks, seconds on a bad day. */
const commitSeconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]
/** Seconds, up to the 5 s after which a route gives up waiting. */
const answerSeconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
/** Inputs; the last is the capacity of the queue. */
const batchInputs = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
/** Seconds, up to the end of a lease (D8). An agent fetches and verifies two artifacts before it acknowledges. */
const ackSeconds = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 90]

const verdicts = {
  Applied: "accepted",
  Duplicate: "duplicate",
  Refused: "refused",
  Gap: "gap",
  NotReady: "not-ready"
} as const

const isEventAnswer = (answer: Answer): answer is EventAnswer => Object.hasOwn(verdicts, answer._tag)

export function makeMetrics(clock: Clock.Clock) {
  const registry = new Registry()
  const decided = registry.counters<Input["_tag"]>(
    "nixfleet_inputs_total",
    "Inputs that were decided, by kind.",
    "input",
    []
  )
  const events = registry.counters(
    "nixfleet_events_total",
    "Events of agents by what became of them; gap and not-ready are sent again by the agent.",
    "verdict",
    Object.values(verdicts)
  )
  const refusals = registry.counters<string>(
    "nixfleet_events_refused_total",
    "Events refused for good, by reason.",
    "reason",
    []
  )
  const gates = registry.counters<string>(
    "nixfleet_gate_block_total",
    "Times that a gate began to hold a host back, by gate.",
    "gate",
    []
  )
  const artifacts = registry.counters(
    "nixfleet_artifacts_total",
    "Signed artifacts that came into force or were refused.",
    "outcome",
    ["accepted", "refused"]
  )
  const certificates = registry.counters(
    "nixfleet_certificates_total",
    "Certificates issued to hosts, by what was asked for.",
    "request",
    ["enroll", "renew"]
  )
  const actions = registry.counters<string>(
    "nixfleet_operator_actions_total",
    "What operators did, and what ended by itself, by action.",
    "action",
    []
  )
  const leases = registry.counters(
    "nixfleet_dispatches_total",
    "Dispatches handed to a poll, and those that came back without an acknowledgement.",
    "outcome",
    ["leased", "expired", "aborted"]
  )
  const batches = registry.histogram("nixfleet_batch_inputs", "Inputs that were decided together.", batchInputs)
  const commits = registry.histogram(
    "nixfleet_commit_duration_seconds",
    "Duration of one durable commit; batches that write nothing have none.",
    commitSeconds
  )
  const held = registry.counter(
    "nixfleet_commits_held_total",
    "Tries of a commit that the disk did not take; everything waits meanwhile."
  )
  const answered = registry.histogram(
    "nixfleet_answer_duration_seconds",
    "From the arrival of an event or heartbeat at the queue to its durable answer: the lag of the loop.",
    answerSeconds
  )
  const turnedAway = registry.counter(
    "nixfleet_inbox_turned_away_total",
    "Inputs of routes that found the queue full, or closed at the end, or were not answered in time."
  )
  const acknowledged = registry.histogram(
    "nixfleet_dispatch_ack_seconds",
    "From the dispatch handed to a poll to the durable acknowledgement of its host.",
    ackSeconds
  )

  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e9

  const countRow = ({ entry }: LogRow): void => {
    if (entry.kind === "gate_decision") gates(entry.payload.gate)
    else if (entry.kind === "operator_action") actions(entry.payload.action.action)
    else if (entry.kind === "verify_outcome") artifacts(entry.payload.outcome)
    else if (entry.kind === "identity") {
      if (entry.payload.fact === "CertificateIssued") certificates(entry.payload.issued.by.request)
      else if (entry.payload.fact !== "NonceUsed") artifacts("accepted")
    } else if (entry.kind === "plan_action") {
      if (entry.payload.action === "LeaseDispatch") leases("leased")
      else if (entry.payload.action === "ReleaseLease") leases(entry.payload.because)
    }
  }

  /** `state`: before the decision, when the lease that the event settles is still there. */
  const countEvent = (state: State, { envelope }: EventReceived, answer: Answer, wall: number) => {
    if (!isEventAnswer(answer)) return
    events(verdicts[answer._tag])
    if (answer._tag === "Refused") refusals(answer.reason)
    if (answer._tag !== "Applied" || envelope.event.kind !== "DispatchAck") return
    const row = at(state.queue, envelope.hostname)
    if (row?.lease !== undefined && row.rolloutId === envelope.rolloutId) {
      acknowledged(Math.max(0, wall - row.lease.leasedAt) / 1000)
    }
  }

  /** The same program, counted. */
  const observed = (program: Program): Program => {
    let taken = 0
    return {
      ...program,
      decide: (state, input, time) => {
        const decision = program.decide(state, input, time)
        taken += 1
        decided(input._tag)
        if (input._tag === "EventReceived") countEvent(state, input, decision.answer, time.wall)
        return decision
      },
      commit: (writes, time) => {
        const began = now()
        try {
          program.commit(writes, time)
        } catch (error) {
          if (error instanceof CommitHeld) held()
          throw error
        }
        commits(now() - began)
        for (const write of writes) if (write._tag === "AppendLog") countRow(write.row)
      },
      publish: (state) => {
        batches(taken)
        taken = 0
        program.publish(state)
      }
    }
  }

  /** The same queue; what routes wait for is timed, and what they are refused is counted. */
  const timed = (inbox: Reducer.Inbox<Input, Answer>): Reducer.Inbox<Input, Answer> => ({
    ...inbox,
    tryOffer: (input) => {
      const entered = inbox.tryOffer(input)
      if (!entered) turnedAway()
      return entered
    },
    tryAsk: (input, reply) =>
      Effect.suspend(() => {
        const began = now()
        return inbox.tryAsk(input, reply).pipe(
          Effect.map((answer) => {
            answered(now() - began)
            return answer
          }),
          Effect.tapError(() => Effect.sync(turnedAway))
        )
      })
  })

  return { observed, timed, text: () => registry.text }
}
