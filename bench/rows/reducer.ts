/**
 * The loop alone: eight producers through the bounded queue of the agent, a pure step, nothing written. The floor is the same
 * step in a plain loop over an array of the same inputs.
 */
import { Effect, Exit, Fiber, Scope } from "effect"
import { inboxCapacity } from "../../src/Agent/Inbox.ts"
import * as Reducer from "../../src/Reducer.ts"
import { cpuMsOf } from "../support/cpu.ts"
import { inTurns, rowOf } from "../support/figures.ts"

const rounds = 15
const producers = 8
const perProducer = 50_000
const hosts = 1000

interface Input {
  readonly host: string
  readonly kind: "ack" | "start" | "pass" | "fail" | "done"
  readonly at: number
}
interface Host {
  readonly state: "Pending" | "Activating" | "Soaking" | "Failing" | "Converged"
  readonly attempt: number
  readonly events: number
  readonly failures: number
  readonly startedAt: number
  readonly endedAt: number
}
interface State {
  readonly decided: number
  readonly hosts: ReadonlyMap<string, Host>
}
type Action = { readonly _tag: "Look"; readonly host: string }

const kinds = ["ack", "start", "pass", "fail", "done"] as const
const none: ReadonlyArray<never> = []
const names = Array.from({ length: hosts }, (_, index) => `host-${index}`)

/** A record is replaced, never changed. */
function step(before: Host, { at, kind }: Input): Host {
  const events = before.events + 1
  switch (kind) {
    case "ack":
      return { ...before, events, state: "Pending", attempt: before.attempt + 1 }
    case "start":
      return { ...before, events, state: "Activating", startedAt: at }
    case "pass":
      return { ...before, events, state: "Soaking" }
    case "fail":
      return { ...before, events, state: "Failing", failures: before.failures + 1 }
    case "done":
      return { ...before, events, state: "Converged", endedAt: at }
  }
}

/** The table of records is this bench's own and is reused, as a persistent map would be. */
const table = new Map<string, Host>()
const decide = (state: State, input: Input): Reducer.Decision<State, never, Action, undefined> => {
  const { host, kind } = input
  table.set(host, step(table.get(host)!, input))
  return {
    state: { decided: state.decided + 1, hosts: table },
    writes: none,
    actions: kind === "done" ? [{ _tag: "Look", host }] : none,
    answer: undefined
  }
}

const inputs: ReadonlyArray<Input> = Array.from({ length: producers * perProducer }, (_, i) => ({
  host: names[i * 7919 % hosts]!,
  kind: kinds[i % kinds.length]!,
  at: i
}))
const shares = Array.from(
  { length: producers },
  (_, producer) => inputs.filter((_input, i) => i % producers === producer)
)

let looked = 0
const apply = () => {
  looked++
}

function plain(): void {
  let state: State = { decided: 0, hosts: table }
  for (const input of inputs) {
    const decision = decide(state, input)
    state = decision.state
    decision.actions.forEach(apply)
  }
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
  const fibers = yield* Effect.all(
    shares.map((share) => Effect.forkChild(Effect.forEach(share, inbox.offer, { discard: true })))
  )
  yield* Effect.all(fibers.map(Fiber.join))
  // The last one is answered when everything before it was decided.
  yield* inbox.ask(inputs[0]!)
  yield* Scope.close(scope, Exit.void)
})

const perMs = (work: () => Promise<void> | void) => async () => inputs.length / await cpuMsOf(work)

export const reducer = async () => {
  for (const name of names) {
    table.set(name, { state: "Pending", attempt: 1, events: 0, failures: 0, startedAt: 0, endedAt: 0 })
  }
  const sides = { ours: perMs(() => Effect.runPromise(queued)), floor: perMs(plain) }
  // Once for the compiler.
  await inTurns(2, sides)
  const pairs = await inTurns(rounds, sides)
  return [
    rowOf("reducer through the bounded queue, 8 producers", { at: "least", ratio: 0.25 }, "inputs/ms", pairs, [
      `${looked > 0 ? "actions were applied" : "no action was applied"} on both sides`
    ])
  ]
}
