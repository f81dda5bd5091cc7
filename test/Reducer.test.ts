import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import { CommitHeld } from "../src/Layers/Disk/CommitHeld.ts"
import * as Reducer from "../src/Reducer.ts"

/** A counter: `add n` journals n, `refuse` is refused, `look` changes memory only, `boom` is a defect of the decider. */
type Input = number | "refuse" | "look" | "boom"

interface State {
  readonly sum: number
  readonly looks: number
}

/** What the loop did, in order; `failures` are thrown by the next commits, first one first. */
const recorder = () => {
  const trace: Array<string> = []
  const failures: Array<Error> = []
  const durable: Array<number> = []
  const decided: Array<Reducer.Now> = []
  const program: Reducer.Program<State, Input, number, string, string> = {
    initial: { sum: 0, looks: 0 },
    decide: (state, input, now) => {
      decided.push(now)
      if (input === "boom") throw new Error("boom")
      if (input === "refuse") return { state, writes: [], actions: [], answer: `refused at ${state.sum}` }
      if (input === "look") {
        return { state: { ...state, looks: state.looks + 1 }, writes: [], actions: ["looked"], answer: "looked" }
      }
      const sum = state.sum + input
      return { state: { ...state, sum }, writes: [input], actions: [`act ${input}`], answer: `sum ${sum}` }
    },
    commit: (writes) => {
      const failure = failures.shift()
      if (failure !== undefined) {
        trace.push(`failed [${writes.join(" ")}]`)
        throw failure
      }
      durable.push(...writes)
      trace.push(`commit [${writes.join(" ")}]`)
    },
    publish: (state) => {
      trace.push(`publish ${state.sum}/${state.looks}`)
    },
    apply: (action) => {
      trace.push(action)
    }
  }
  return { trace, failures, durable, decided, program }
}

const full = () => new CommitHeld({ reason: "disk-full", message: "journal.db: database or disk is full" })

const make = Effect.fnUntraced(function*(program: ReturnType<typeof recorder>["program"], capacity: number) {
  const inbox = yield* Reducer.makeInbox<Input, string>(capacity)
  return { ...inbox, ended: yield* Reducer.run(program, inbox) }
})

/** Lets the loop and the asking fibers run until nobody can. */
const settle = TestClock.adjust(0)

describe("one turn of the loop", () => {
  it.effect("what waits is one commit, in order, then published, answered and applied", () =>
    Effect.gen(function*() {
      const { program, trace } = recorder()
      const inbox = yield* make(program, 8)
      const answers = yield* Effect.forkChild(Effect.forEach(
        [1, "refuse", 2, "look"] satisfies ReadonlyArray<Input>,
        (input) => Effect.tap(inbox.ask(input), (answer) => Effect.sync(() => trace.push(`told ${answer}`))),
        { concurrency: "unbounded" }
      ))
      assert.deepStrictEqual(yield* Fiber.join(answers), ["sum 1", "refused at 1", "sum 3", "looked"])
      yield* settle
      assert.deepStrictEqual(trace.slice(0, 2), ["commit [1 2]", "publish 3/1"])
      assert.sameMembers(trace.slice(2, 6), ["told sum 1", "told refused at 1", "told sum 3", "told looked"])
      assert.deepStrictEqual(trace.slice(6), ["act 1", "act 2", "looked"])
    }))

  it.effect("a batch without writes commits nothing and still publishes and applies", () =>
    Effect.gen(function*() {
      const { program, trace } = recorder()
      const inbox = yield* make(program, 8)
      assert.strictEqual(yield* inbox.ask("look"), "looked")
      yield* settle
      assert.deepStrictEqual(trace, ["publish 0/1", "looked"])
    }))

  it.effect("settle sees the whole batch and is part of its commit", () =>
    Effect.gen(function*() {
      const { program, trace } = recorder()
      const inbox = yield* make({
        ...program,
        settle: (state) =>
          state.sum === 0 ? undefined : { state: { ...state, sum: 0 }, writes: [-state.sum], actions: ["settled"] }
      }, 8)
      yield* inbox.offer(1)
      yield* inbox.offer(2)
      yield* settle
      assert.deepStrictEqual(trace, ["commit [1 2 -3]", "publish 0/0", "act 1", "act 2", "settled"])
    }))

  it.effect("every input of a batch is decided at one reading of both clocks, in whole milliseconds", () =>
    Effect.gen(function*() {
      const { decided, program } = recorder()
      const inbox = yield* make(program, 8)
      yield* TestClock.adjust("1500.75 millis")
      yield* inbox.offer(1)
      yield* inbox.offer(2)
      yield* settle
      assert.deepStrictEqual(decided, [{ wall: 1500, monotonic: 1500 }, { wall: 1500, monotonic: 1500 }])
    }))
})

describe("bounds", () => {
  it.effect("no commit is larger than the capacity, and a waiting offer comes in later", () =>
    Effect.gen(function*() {
      const { program, trace } = recorder()
      const inbox = yield* make(program, 3)
      yield* Effect.forEach([1, 2, 3, 4, 5], inbox.offer, { concurrency: "unbounded" })
      yield* settle
      assert.deepStrictEqual(trace.filter((line) => line.startsWith("commit")), ["commit [1 2 3]", "commit [4 5]"])
    }))

  it.effect("a full queue refuses at once who must not wait", () =>
    Effect.gen(function*() {
      const { durable, failures, program } = recorder()
      const inbox = yield* make(program, 2)
      failures.push(full())
      yield* inbox.offer(1)
      yield* settle
      assert.isTrue(inbox.tryOffer(2))
      assert.isTrue(inbox.tryOffer(3))
      assert.isFalse(inbox.tryOffer(4))
      assert.strictEqual((yield* Effect.flip(inbox.tryAsk(5)))._tag, "InboxFull")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(durable, [1, 2, 3])
      assert.strictEqual(yield* inbox.tryAsk(6), "sum 12")
    }))
})

describe("commits that fail", () => {
  it.effect("a full disk holds the batch: no answer, no state, tried again with back-off, then all of it once", () =>
    Effect.gen(function*() {
      const { durable, failures, program, trace } = recorder()
      const inbox = yield* make(program, 8)
      failures.push(full(), full(), full())
      const asked = yield* Effect.forkChild(inbox.ask(7))
      yield* settle
      yield* inbox.offer(8)
      yield* TestClock.adjust("299 millis")
      assert.deepStrictEqual(trace, ["failed [7]", "failed [7]"])
      assert.isUndefined(asked.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(trace, ["failed [7]", "failed [7]", "failed [7]"])
      yield* TestClock.adjust("400 millis")
      assert.strictEqual(yield* Fiber.join(asked), "sum 7")
      assert.deepStrictEqual(durable, [7, 8])
      assert.deepStrictEqual(trace.slice(3), [
        "commit [7]",
        "publish 7/0",
        "act 7",
        "commit [8]",
        "publish 15/0",
        "act 8"
      ])
    }))

  it.effect("a held commit is tried at least every ten seconds, and pulses at each try", () =>
    Effect.gen(function*() {
      const { durable, failures, program } = recorder()
      let pulses = 0
      const inbox = yield* make({ ...program, pulse: () => pulses += 1 }, 8)
      for (let i = 0; i < 30; i++) failures.push(full())
      yield* inbox.offer(1)
      yield* TestClock.adjust("2 minutes")
      const before = pulses
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(pulses - before, 6)
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(durable, [1])
    }))

  it.effect("any other error ends the loop; nobody is told, nothing is published, nobody waits for ever", () =>
    Effect.gen(function*() {
      const { durable, failures, program, trace } = recorder()
      const inbox = yield* make(program, 2)
      failures.push(new Error("disk I/O error"))
      const asked = yield* Effect.forEach([1, 2, 3, 4], (input) => Effect.forkChild(Effect.exit(inbox.ask(input))))
      yield* settle
      const ended = yield* Effect.exit(inbox.ended)
      assert.isTrue(Exit.isFailure(ended) && String(Cause.squash(ended.cause)).includes("disk I/O error"))
      for (const fiber of asked) {
        assert.deepStrictEqual(yield* Fiber.join(fiber), Exit.fail(new Reducer.InboxClosed()))
      }
      assert.deepStrictEqual(durable, [])
      assert.deepStrictEqual(trace, ["failed [1 2]"])
      assert.isFalse(yield* inbox.offer(5))
      assert.isFalse(inbox.tryOffer(5))
    }))

  it.effect("a defect of the decider ends the loop before anything of its batch is durable", () =>
    Effect.gen(function*() {
      const { durable, program } = recorder()
      const inbox = yield* make(program, 8)
      const asked = yield* Effect.forkChild(Effect.exit(inbox.ask(1)))
      yield* inbox.offer("boom")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(inbox.ended)))
      assert.deepStrictEqual(yield* Fiber.join(asked), Exit.fail(new Reducer.InboxClosed()))
      assert.deepStrictEqual(durable, [])
    }))
})

describe("shutdown", () => {
  it.effect("what is buffered is decided, committed and answered, but not applied", () =>
    Effect.gen(function*() {
      const { durable, failures, program, trace } = recorder()
      const scope = yield* Scope.make()
      const inbox = yield* Scope.provide(scope)(make(program, 2))
      failures.push(full())
      yield* inbox.offer(1)
      yield* settle
      const asked = yield* Effect.forEach([2, 3, 4], (input) => Effect.forkChild(inbox.ask(input)))
      yield* settle
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* Effect.forEach(asked, Fiber.join), ["sum 3", "sum 6", "sum 10"])
      assert.deepStrictEqual(durable, [1, 2, 3, 4])
      assert.isEmpty(trace.filter((line) => line.startsWith("act")))
    }))

  it.effect("after shutdown an offer is refused", () =>
    Effect.gen(function*() {
      const { durable, program } = recorder()
      const scope = yield* Scope.make()
      const inbox = yield* Scope.provide(scope)(make(program, 2))
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(yield* inbox.offer(1))
      assert.isFalse(inbox.tryOffer(1))
      assert.strictEqual((yield* Effect.flip(inbox.ask(1)))._tag, "InboxClosed")
      assert.strictEqual((yield* Effect.flip(inbox.tryAsk(1)))._tag, "InboxClosed")
      assert.deepStrictEqual(durable, [])
    }))

  it.effect("a disk that stays full does not keep the process: one second, then the waiting are refused", () =>
    Effect.gen(function*() {
      const { durable, failures, program } = recorder()
      const scope = yield* Scope.make()
      const inbox = yield* Scope.provide(scope)(make(program, 2))
      for (let i = 0; i < 100; i++) failures.push(full())
      const asked = yield* Effect.forkChild(Effect.flip(inbox.ask(1)))
      yield* settle
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("999 millis")
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      assert.strictEqual((yield* Fiber.join(asked))._tag, "InboxClosed")
      assert.deepStrictEqual(durable, [])
    }))
})
