/**
 * The loop alone: eight producers through the bounded queue of the agent, a pure step, nothing written. The floor is the same
 * step in a plain loop over an array of the same inputs.
 */
import { Effect, Exit, Fiber, Scope } from "effect"
import { inboxCapacity } from "../../src/Agent/Inbox.ts"
import * as Reducer from "../../src/Reducer.ts"
import { inTurns, rowOf } from "../support/figures.ts"

const rounds = 9
const producers = 8
const perProducer = 50_000
const hosts = 1000

interface Input {
  readonly host: number
  readonly kind: "ack" | "start" | "pass" | "fail" | "done"
}
interface Host {
  readonly events: number
  readonly failures: number
  readonly state: string
}
interface State {
  readonly decided: number
  readonly hosts: ReadonlyArray<Host>
}
type Action = { readonly _tag: "Look"; readonly host: number }

const kinds = ["ack", "start", "pass", "fail", "done"] as const
const none: ReadonlyArray<never> = []

/** A record is replaced, never changed; the table of records is this bench's own and is reused, as a persistent map would be. */
const table: Array<Host> = []
const decide = (state: State, { host, kind }: Input): Reducer.Decision<State, never, Action, undefined> => {
  const before = table[host]!
  const events = before.events + 1
  table[host] = kind === "fail"
    ? { events, failures: before.failures + 1, state: "failing" }
    : { events, failures: before.failures, state: kind }
  return {
    state: { decided: state.decided + 1, hosts: table },
    writes: none,
    actions: kind === "done" ? [{ _tag: "Look", host }] : none,
    answer: undefined
  }
}

const inputs: ReadonlyArray<Input> = Array.from({ length: producers * perProducer }, (_, i) => ({
  host: i * 7919 % hosts,
  kind: kinds[i % kinds.length]!
}))

let looked = 0
const apply = () => {
  looked++
}

function plain(): number {
  const begin = performance.now()
  let state: State = { decided: 0, hosts: table }
  for (const input of inputs) {
    const decision = decide(state, input)
    state = decision.state
    decision.actions.forEach(apply)
  }
  return inputs.length / (performance.now() - begin)
}

const queued = Effect.gen(function*() {
  const inbox = yield* Reducer.makeInbox<Input, undefined>(inboxCapacity)
  const scope = Scope.makeUnsafe()
  yield* Reducer.run({
    initial: { decided: 0, hosts: table },
    decide,
    commit: () => undefined,
    publish: () => undefined,
    apply
  }, inbox).pipe(Scope.provide(scope))
  const begin = performance.now()
  const fibers = yield* Effect.all(
    Array.from({ length: producers }, (_, producer) =>
      Effect.forkChild(Effect.gen(function*() {
        for (let i = producer; i < inputs.length; i += producers) yield* inbox.offer(inputs[i]!)
      })))
  )
  yield* Effect.all(fibers.map(Fiber.join))
  // The last one is answered when everything before it was decided.
  yield* inbox.ask(inputs[0]!)
  const perMs = inputs.length / (performance.now() - begin)
  yield* Scope.close(scope, Exit.void)
  return perMs
})

export const reducer = async () => {
  for (let host = 0; host < hosts; host++) table[host] = { events: 0, failures: 0, state: "ack" }
  const pairs = await inTurns(rounds, { ours: () => Effect.runPromise(queued), floor: plain })
  return [
    rowOf("reducer through the bounded queue, 8 producers", { at: "least", ratio: 0.25 }, "inputs/ms", pairs, [
      `${looked > 0 ? "actions were applied" : "no action was applied"} on both sides`
    ])
  ]
}
