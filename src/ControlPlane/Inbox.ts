/**
 * The control plane's one queue (house rules 1, 5): routes and workers offer inputs, the reducer takes them. Owns nothing but
 * the queue. Routes never wait for room: a full queue, or one that closes, is `Busy`, their 503. Workers may wait.
 */
import { Context, Deferred, Effect } from "effect"
import type * as Reducer from "../Reducer.ts"
import type { Deadlines, Reply } from "./Deadlines.ts"
import type {
  ActionAnswer,
  ActionAsked,
  Answer,
  CertificateIssued,
  EnrollmentAsked,
  EventAnswer,
  EventReceived,
  HeartbeatAnswer,
  HeartbeatReceived,
  Input,
  IssuanceAnswer
} from "./Input.ts"

/**
 * A burst of 256 hosts in one second, four inputs each (control-plane.md §11.1). Also the largest commit: about 15 ms of
 * SQLite (perf.md §1), so a queued heartbeat still meets the agent's 10 s.
 */
export const inboxCapacity = 1024

/** How long a route waits for the reducer before it answers 503; agents wait 10 s (control-plane.md §2.5). */
export const replyTimeoutMs = 5_000

/** No room, no answer in time, or the program is stopping: try again later. Nothing is known to be recorded. */
export interface Busy {
  readonly _tag: "Busy"
}
const busy: Busy = { _tag: "Busy" }

export class Inbox extends Context.Service<Inbox, {
  /** For routes: does not wait for room; waits for the commit, `replyTimeoutMs` at most, and gives the answer. */
  readonly event: (input: EventReceived) => Effect.Effect<EventAnswer | Busy>
  /** As `event`. */
  readonly heartbeat: (input: HeartbeatReceived) => Effect.Effect<HeartbeatAnswer | Busy>
  /** As `event`. */
  readonly issuance: (input: EnrollmentAsked | CertificateIssued) => Effect.Effect<IssuanceAnswer | Busy>
  /** As `event`. */
  readonly action: (input: ActionAsked) => Effect.Effect<ActionAnswer | Busy>
  /** Gives up at once when there is no room (`false`): parked polls, and inputs that the next one replaces. */
  readonly offer: (input: Input) => boolean
  /** For workers: waits for room, then for the commit. `false` when the program is stopping. */
  readonly submit: (input: Input) => Effect.Effect<boolean>
  /** Never succeeds while the program runs; dies with what ended the loop. For the supervisor. */
  readonly ended: Effect.Effect<void>
}>()("nixfleet/ControlPlane/Inbox") {}

/** The service over the reducer's own queue; `deadlines` end the waits of routes. */
export function overQueue(
  { ask, tryAsk, tryOffer }: Reducer.Inbox<Input, Answer>,
  deadlines: Deadlines,
  ended: Effect.Effect<void>
): Inbox["Service"] {
  const answerTo = (input: Input): Effect.Effect<Answer | Busy> =>
    Effect.suspend(() => {
      const reply: Reply = Deferred.makeUnsafe()
      deadlines.begin(reply)
      const over = <A>(answer: A): A => {
        deadlines.end(reply)
        return answer
      }
      return Effect.match(tryAsk(input, reply), { onSuccess: over, onFailure: () => over(busy) })
    })
  const event = (input: EventReceived) =>
    Effect.filterOrElse(answerTo(input), isOfEvent, (answer) => mismatch(input, answer))
  const heartbeat = (input: HeartbeatReceived) =>
    Effect.filterOrElse(answerTo(input), isOfHeartbeat, (answer) => mismatch(input, answer))
  const issuance = (input: EnrollmentAsked | CertificateIssued) =>
    Effect.filterOrElse(answerTo(input), isOfIssuance, (answer) => mismatch(input, answer))
  const action = (input: ActionAsked) =>
    Effect.filterOrElse(answerTo(input), isOfAction, (answer) => mismatch(input, answer))
  const submit = (input: Input) =>
    ask(input).pipe(Effect.as(true), Effect.catchTag("InboxClosed", () => Effect.succeed(false)))
  return { event, heartbeat, issuance, action, offer: tryOffer, submit, ended }
}

type Either = Answer | Busy
type Of<Tag extends Either["_tag"]> = Extract<Either, { readonly _tag: Tag }>

const isOfHeartbeat = (answer: Either): answer is Of<"Heartbeat" | "Busy"> =>
  answer._tag === "Heartbeat" || answer._tag === "Busy"

const isOfIssuance = (answer: Either): answer is Of<"Granted" | "Denied" | "Busy"> =>
  answer._tag === "Granted" || answer._tag === "Denied" || answer._tag === "Busy"

const isOfAction = (answer: Either): answer is Of<"Taken" | "NotTaken" | "Busy"> =>
  answer._tag === "Taken" || answer._tag === "NotTaken" || answer._tag === "Busy"

function isOfEvent(answer: Answer | Busy): answer is EventAnswer | Busy {
  switch (answer._tag) {
    case "Applied":
    case "Duplicate":
    case "Refused":
    case "Gap":
    case "NotReady":
    case "Busy":
      return true
    default:
      return false
  }
}

/** Each input has its own kind of answer: anything else is a fault of the decision, not of the peer. */
const mismatch = (input: Input, answer: Answer) =>
  Effect.die(new Error(`${input._tag} was answered with ${answer._tag}`))
