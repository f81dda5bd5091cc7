import { assert, describe, it } from "@effect/vitest"
import { Effect, Random } from "effect"
import { Handshake } from "../../../src/Agent/Handshake.ts"
import { Link } from "../../../src/Agent/Link.ts"
import { outbound } from "../../../src/Workers/Agent/Outbound.ts"
import {
  dispatch,
  elapse,
  entryOf,
  minute,
  offer,
  r1,
  r2,
  Rig,
  second,
  settled,
  stateNow,
  thirdSystem
} from "../../support/agentRig.ts"
import {
  capable,
  type Edges,
  eventsPath,
  heartbeatPath,
  idle,
  noContent,
  type Parts,
  Peer,
  type Script
} from "../../support/scriptedPeer.ts"

const answering = (answer: Script): Script => (request, nth) =>
  request.path === eventsPath ? answer(request, nth) : idle(request, nth)

/** One request, so that the link knows what the peer announced, and the gate is open. */
const greet = Effect.gen(function*() {
  yield* Effect.ignore((yield* Link).send(
    { method: "POST", path: heartbeatPath, body: "{}" },
    { timeoutMs: 1000, maxBodyBytes: 1000, lane: "report" }
  ))
  yield* (yield* Handshake).complete
})

/** The worker, over a journal that `before` filled. */
const sending = <A, E>(
  peer: Peer,
  before: Effect.Effect<unknown, never, Parts>,
  body: Effect.Effect<A, E, Parts | Edges>,
  rig = new Rig()
) =>
  rig.still(
    Effect.gen(function*() {
      yield* before
      yield* greet
      yield* Effect.forkScoped(outbound)
      yield* settled
      return yield* body
    }).pipe(Effect.provide(peer.layer), Effect.scoped, Random.withSeed(1))
  )

const started = { _tag: "ActivationStarted", rolloutId: r1, attempt: 1, switchMethod: "test", at: 0 } as const
/** Rows 1 (DispatchAck) and 2 (ActivationStarted) of `r1`. */
const twoRows = Effect.andThen(offer(dispatch()), offer(started))

const sent = (peer: Peer) =>
  peer.bodies(eventsPath).map(({ event, rolloutId }) => `${String(rolloutId)} ${(event as { seq: number }).seq}`)

const verdict = (status: number, body: unknown) => ({ status, headers: capable, body: JSON.stringify(body) })

describe("draining", () => {
  it.effect("sends the oldest row first, the next when the first is durable, and says who numbered them", () => {
    const peer = new Peer()
    return sending(
      peer,
      twoRows,
      Effect.gen(function*() {
        assert.deepStrictEqual(sent(peer), [`${r1} 1`, `${r1} 2`])
        const { lane } = yield* entryOf(r1)
        assert.strictEqual(lane.nextSeq, 3)
        const { journalId } = yield* stateNow
        for (const body of peer.bodies(eventsPath)) assert.strictEqual(body["journalId"], journalId)
      })
    )
  })

  it.effect("waits for the handshake", () => {
    const peer = new Peer()
    return new Rig().still(
      Effect.gen(function*() {
        yield* twoRows
        yield* Effect.forkScoped(outbound)
        yield* elapse(minute)
        assert.deepStrictEqual(peer.at(eventsPath), [])
        yield* (yield* Handshake).complete
        yield* settled
        assert.lengthOf(peer.at(eventsPath), 2)
      }).pipe(Effect.provide(peer.layer), Effect.scoped)
    )
  })

  it.effect("begins at once when a row is journaled", () => {
    const peer = new Peer()
    return sending(
      peer,
      Effect.void,
      Effect.gen(function*() {
        yield* elapse(7 * second)
        yield* offer(dispatch())
        assert.deepStrictEqual(peer.times(eventsPath), [7000])
      })
    )
  })

  it.effect("begins at the 15 s tick when the kick was lost", () => {
    const peer = new Peer()
    const rig = new Rig()
    return Effect.gen(function*() {
      // The first life journals and is killed: nobody rings in the second one.
      yield* rig.still(twoRows)
      yield* rig.still(
        Effect.gen(function*() {
          yield* greet
          peer.script = answering((_, nth) => nth === 0 ? { error: "cut" } : noContent)
          yield* Effect.forkScoped(outbound)
          yield* elapse(minute)
          assert.deepStrictEqual(sent(peer), [`${r1} 1`, `${r1} 1`, `${r1} 2`])
        }).pipe(Effect.provide(peer.layer), Effect.scoped)
      )
    })
  })

  it.effect("leaves the additive fields out for an original control plane", () => {
    const peer = new Peer((request, nth) => ({ ...idle(request, nth), headers: {} }))
    return sending(
      peer,
      twoRows,
      Effect.sync(() => {
        const [ack, start] = peer.bodies(eventsPath)
        assert.deepStrictEqual(Object.keys(ack!).toSorted(), ["event", "hostname", "rolloutId"])
        assert.deepStrictEqual(start!["event"], {
          kind: "ActivationStarted",
          startedAt: "1970-01-01T00:00:00Z",
          switchMethod: "test",
          seq: 2
        })
      })
    )
  })

  it.effect("resends exactly the bytes it sent", () => {
    const peer = new Peer(answering((_, nth) => nth < 3 ? { error: "timeout" } : noContent))
    return sending(
      peer,
      offer(dispatch()),
      Effect.gen(function*() {
        yield* elapse(2 * minute)
        const texts = new Set(peer.at(eventsPath).map(({ text }) => text))
        assert.strictEqual(texts.size, 1)
        assert.lengthOf(peer.at(eventsPath), 4)
      })
    )
  })
})

describe("trouble", () => {
  for (
    const [title, answer] of [
      ["no answer", { error: "unreachable" }],
      ["500", { status: 500 }],
      ["503", { status: 503 }],
      ["408", { status: 408 }],
      ["429", { status: 429 }]
    ] as const
  ) {
    it.effect(`${title} keeps the row for as long as it lasts, then everything arrives in order`, () => {
      let healed = false
      const peer = new Peer(answering(() => healed ? noContent : answer))
      return sending(
        peer,
        twoRows,
        Effect.gen(function*() {
          yield* elapse(30 * minute)
          const before = peer.at(eventsPath).length
          assert.isAtMost(before, 120)
          assert.strictEqual((yield* entryOf(r1)).lane.nextSeq, 1)
          healed = true
          yield* elapse(minute + second)
          assert.deepStrictEqual(sent(peer).slice(before), [`${r1} 1`, `${r1} 2`])
          assert.deepStrictEqual((yield* entryOf(r1)).lane.parked, [])
        })
      )
    })
  }

  it.effect("Retry-After is obeyed, and no kick cuts it short", () => {
    const peer = new Peer(
      answering((_, nth) => nth === 0 ? { status: 503, headers: { "retry-after": "40" } } : noContent)
    )
    return sending(
      peer,
      offer(dispatch()),
      Effect.gen(function*() {
        yield* elapse(10 * second)
        yield* offer(started)
        yield* elapse(40 * second)
        assert.deepStrictEqual(peer.times(eventsPath), [0, 40_000, 40_000])
      })
    )
  })

  it.effect("a kick during a back-off earns one try", () => {
    // Late failures wait long: a kick then is worth something.
    const peer = new Peer(answering(() => ({ error: "unreachable" })))
    return sending(
      peer,
      offer(dispatch()),
      Effect.gen(function*() {
        yield* elapse(10 * minute)
        let before = peer.at(eventsPath).length
        const waited = 10 * minute - peer.times(eventsPath).at(-1)!
        if (waited < second) yield* elapse(second)
        before = peer.at(eventsPath).length
        yield* offer(started)
        yield* elapse(2 * second)
        assert.strictEqual(peer.at(eventsPath).length, before + 1)
      })
    )
  })

  it.effect("a poison event is parked after K answers without a verdict, while another rollout's events pass", () => {
    const isPoison = (text: string) => (JSON.parse(text) as { rolloutId: string }).rolloutId === r1
    const peer = new Peer(
      answering(({ text }) => isPoison(text) ? { status: 403, body: "<html>proxy</html>" } : noContent)
    )
    return sending(
      peer,
      offer(dispatch()),
      Effect.gen(function*() {
        yield* offer(dispatch({ rolloutId: r2, targetClosure: thirdSystem, signedAt: 2 }))
        yield* settled
        assert.strictEqual((yield* entryOf(r2)).lane.nextSeq, 2, "the other lane is not held up")
        assert.strictEqual((yield* entryOf(r1)).lane.nextSeq, 1)
        yield* elapse(10 * minute)
        const { lane } = yield* entryOf(r1)
        assert.deepStrictEqual(lane.parked, [1])
        assert.strictEqual(sent(peer).filter((one) => one === `${r1} 1`).length, 8)
      })
    )
  })

  it.effect("a parked row goes again when the control plane asks for it", () => {
    let poisoned = true
    const peer = new Peer(answering(() => poisoned ? { status: 404 } : noContent))
    return sending(
      peer,
      offer(dispatch()),
      Effect.gen(function*() {
        yield* elapse(10 * minute)
        assert.deepStrictEqual((yield* entryOf(r1)).lane.parked, [1])
        poisoned = false
        yield* offer({ _tag: "HeartbeatAnswered", replayFrom: { [r1]: 1 }, ackedThrough: {}, snapshots: [] })
        const { lane } = yield* entryOf(r1)
        assert.deepStrictEqual(lane.parked, [])
        assert.strictEqual(lane.nextSeq, 2)
      })
    )
  })
})

describe("verdicts", () => {
  it.effect("refused by our verdict: marked, and the lane goes on", () => {
    const peer = new Peer(
      answering((_, nth) => nth === 0 ? verdict(409, { verdict: "refused", reason: "invariant" }) : noContent)
    )
    return sending(
      peer,
      twoRows,
      Effect.gen(function*() {
        const { lane, record } = yield* entryOf(r1)
        assert.strictEqual(lane.nextSeq, 3)
        assert.isTrue(record.diverged)
      })
    )
  })

  for (
    const [title, answer] of [
      ["409 of a proxy", { status: 409, body: "conflict" }],
      ["422 of a framework", { status: 422, body: "{\"error\":\"shape\"}" }],
      ["403 that carries our words", verdict(403, { verdict: "refused", reason: "invariant" })]
    ] as const
  ) {
    it.effect(`${title} is no verdict`, () => {
      const peer = new Peer(answering(() => answer))
      return sending(
        peer,
        twoRows,
        Effect.gen(function*() {
          const { lane } = yield* entryOf(r1)
          assert.strictEqual(lane.nextSeq, 1)
        })
      )
    })
  }

  it.effect("a gap goes back to where the control plane asks", () => {
    const peer = new Peer(
      answering((_, nth) => nth === 1 ? verdict(425, { verdict: "gap", reason: "seq-gap", replay_from: 1 }) : noContent)
    )
    return sending(
      peer,
      twoRows,
      Effect.gen(function*() {
        yield* elapse(5 * second)
        assert.deepStrictEqual(sent(peer), [`${r1} 1`, `${r1} 2`, `${r1} 1`, `${r1} 2`])
        assert.strictEqual((yield* entryOf(r1)).lane.nextSeq, 3)
      })
    )
  })

  for (
    const [title, replayFrom] of [["the very row that was sent", 2], ["a later one", 3]] as const
  ) {
    it.effect(`a gap that asks for ${title} cannot be closed, and the row is set aside`, () => {
      const peer = new Peer(
        answering(({ text }) =>
          text.includes("\"seq\":2")
            ? verdict(425, { verdict: "gap", reason: "seq-gap", replay_from: replayFrom })
            : noContent
        )
      )
      return sending(
        peer,
        twoRows,
        Effect.gen(function*() {
          yield* elapse(10 * minute)
          assert.deepStrictEqual((yield* entryOf(r1)).lane.parked, [2])
        })
      )
    })
  }

  it.effect("a gap that going back cannot close does not make a busy loop", () => {
    const peer = new Peer(
      answering(({ text }) =>
        text.includes("\"seq\":2") ? verdict(425, { verdict: "gap", reason: "seq-gap", replay_from: 1 }) : noContent
      )
    )
    return sending(
      peer,
      twoRows,
      Effect.gen(function*() {
        yield* elapse(10 * minute)
        assert.isAtMost(peer.at(eventsPath).length, 120)
      })
    )
  })
})
