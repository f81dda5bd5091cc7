/**
 * The control plane's one queue (house rules 1, 5): routes and workers offer inputs, the reducer takes them. Owns nothing but
 * the queue. Routes never wait for room: a full queue, or one that closes, is `Busy`, their 503. Workers may wait.
 */
import { Context, Effect } from "effect"
import type * as Reducer from "../Reducer.ts"
import type { Answer, EventAnswer, EventReceived, HeartbeatAnswer, HeartbeatReceived, Input } from "./Input.ts"

/**
 * A burst of 256 hosts in one second, four inputs each (control-plane.md §11.1). Also the largest commit: about 15 ms of
 * SQLite (perf.md §1), so a queued heartbeat still meets the agent's 10 s.
 */
export const inboxCapacity = 1024

/** No room, or the program is stopping: try again later. Nothing is known to be recorded. */
export interface Busy {
  readonly _tag: "Busy"
}
const busy: Busy = { _tag: "Busy" }

export class Inbox extends Context.Service<Inbox, {
  /** For routes: does not wait for room; waits for the commit, and gives the answer. */
  readonly event: (input: EventReceived) => Effect.Effect<EventAnswer | Busy>
  /** For routes: does not wait for room; waits for the commit, and gives the answer. */
  readonly heartbeat: (input: HeartbeatReceived) => Effect.Effect<HeartbeatAnswer | Busy>
  /** Gives up at once when there is no room (`false`): parked polls, and inputs that the next one replaces. */
  readonly offer: (input: Input) => boolean
  /** For workers: waits for room, then for the commit. `false` when the program is stopping. */
  readonly submit: (input: Input) => Effect.Effect<boolean>
  /** Never succeeds while the program runs; dies with what ended the loop. For the supervisor. */
  readonly ended: Effect.Effect<void>
}>()("nixfleet/ControlPlane/Inbox") {}

/** The service over the reducer's own queue. */
export function overQueue(queue: Reducer.Inbox<Input, Answer>, ended: Effect.Effect<void>): Inbox["Service"] {
  const { ask, tryAsk, tryOffer } = queue
  const event = Effect.fnUntraced(function*(input: EventReceived) {
    const answer = yield* Effect.orElseSucceed(tryAsk(input), () => busy)
    return answer._tag === "Heartbeat" || answer._tag === "Done" ? yield* mismatch(input, answer) : answer
  })
  const heartbeat = Effect.fnUntraced(function*(input: HeartbeatReceived) {
    const answer = yield* Effect.orElseSucceed(tryAsk(input), () => busy)
    return answer._tag === "Heartbeat" || answer._tag === "Busy" ? answer : yield* mismatch(input, answer)
  })
  const submit = (input: Input) =>
    ask(input).pipe(Effect.as(true), Effect.catchTag("InboxClosed", () => Effect.succeed(false)))
  return { event, heartbeat, offer: tryOffer, submit, ended }
}

/** Each input has its own kind of answer: anything else is a fault of the decision, not of the peer. */
const mismatch = (input: Input, answer: Answer) =>
  Effect.die(new Error(`${input._tag} was answered with ${answer._tag}`))
