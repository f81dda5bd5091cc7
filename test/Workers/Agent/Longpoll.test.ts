import { assert, describe, it } from "@effect/vitest"
import { Effect, Random } from "effect"
import { Handshake } from "../../../src/Agent/Handshake.ts"
import { takenHeader } from "../../../src/Schema/Wire.ts"
import { longpoll } from "../../../src/Workers/Agent/Longpoll.ts"
import { closureOf, dispatched, otherRelease, release, releaseHost, rolloutId } from "../../support/agentReleases.ts"
import { elapse, entryOf, kindsOf, minute, oldSystem, Rig, second, settled, stateNow } from "../../support/agentRig.ts"
import {
  capable,
  dispatchPath,
  type Edges,
  idle,
  noContent,
  ok,
  type Parts,
  Peer,
  publishing,
  type Script
} from "../../support/scriptedPeer.ts"

/** Signed artifacts of one release, and polls as scripted. */
const polling = (poll: Script, artifacts = release()): Script =>
  publishing(artifacts, (request, nth) => request.path === dispatchPath ? poll(request, nth) : idle(request, nth))

const held: Script = () => ({ ...noContent, afterMs: minute })

/** The worker behind an open gate, on the host that the releases name. */
const waiting = <A, E>(
  peer: Peer,
  body: Effect.Effect<A, E, Parts | Edges>,
  rig = new Rig({ hostname: releaseHost })
) =>
  rig.still(
    Effect.gen(function*() {
      yield* (yield* Handshake).complete
      yield* Effect.forkScoped(longpoll)
      yield* settled
      return yield* body
    }).pipe(Effect.provide(peer.layer), Effect.scoped, Random.withSeed(1))
  )

/** Answers one dispatch to the n-th poll, and holds the others. */
const once = (body: unknown, nth = 0): Script => (request, n) => n === nth ? ok(body) : held(request, n)

describe("waiting", () => {
  it.effect("polls again as soon as a held poll ends", () => {
    const peer = new Peer(polling(held))
    return waiting(
      peer,
      Effect.gen(function*() {
        yield* elapse(3 * minute)
        assert.deepStrictEqual(peer.times(dispatchPath), [0, 60_000, 120_000, 180_000])
      })
    )
  })

  it.effect("waits for the handshake", () => {
    const peer = new Peer(polling(held))
    return new Rig({ hostname: releaseHost }).still(
      Effect.gen(function*() {
        yield* Effect.forkScoped(longpoll)
        yield* elapse(minute)
        assert.deepStrictEqual(peer.asked, [])
      }).pipe(Effect.provide(peer.layer), Effect.scoped)
    )
  })

  for (
    const [title, body] of [["200 with an empty body", ""], ["200 with null", "null"], [
      "200 with spaces",
      " \n"
    ]] as const
  ) {
    it.effect(`${title} is no work and no trouble`, () => {
      const peer = new Peer(polling(() => ({ status: 200, headers: capable, body, afterMs: minute })))
      return waiting(
        peer,
        Effect.gen(function*() {
          yield* elapse(2 * minute)
          assert.deepStrictEqual(peer.times(dispatchPath), [0, 60_000, 120_000])
        })
      )
    })
  }

  it.effect("waits a second after a poll that came back early", () => {
    const peer = new Peer(polling(() => ({ ...noContent, afterMs: 10 * second })))
    return waiting(
      peer,
      Effect.gen(function*() {
        yield* elapse(minute)
        assert.deepStrictEqual(peer.times(dispatchPath), [0, 11_000, 22_000, 33_000, 44_000, 55_000])
      })
    )
  })

  it.effect("does not hammer a control plane that always answers at once", () => {
    const peer = new Peer(polling(() => noContent))
    return waiting(
      peer,
      Effect.gen(function*() {
        yield* elapse(60 * minute)
        assert.isAtMost(peer.at(dispatchPath).length, 180)
        assert.isAtLeast(peer.at(dispatchPath).length, 60)
      })
    )
  })

  for (
    const [title, answer] of [
      ["a time-out", { error: "timeout" }],
      ["401", { status: 401 }],
      ["503 without a word about when", { status: 503 }],
      ["a body that is no dispatch", { status: 200, body: "{\"hostname\":1}" }],
      ["a body that is no JSON", { status: 200, body: "<html>" }]
    ] as const
  ) {
    it.effect(`backs off after ${title}`, () => {
      const peer = new Peer(polling(() => answer))
      return waiting(
        peer,
        Effect.gen(function*() {
          yield* elapse(10 * minute)
          const times = peer.times(dispatchPath)
          for (const [index, at] of times.entries()) {
            if (index === 0) continue
            const waited = at - times[index - 1]!
            assert.isAtLeast(waited, 1000)
            assert.isAtMost(waited, Math.min(60_000, 1000 * 2 ** index) + 1000)
          }
          assert.isAbove(times.length, 10)
        })
      )
    })
  }

  it.effect("obeys Retry-After of a control plane that stops", () => {
    const peer = new Peer(
      polling((request, nth) => nth === 0 ? { status: 503, headers: { "retry-after": "5" } } : held(request, nth))
    )
    return waiting(
      peer,
      Effect.gen(function*() {
        yield* elapse(10 * second)
        assert.deepStrictEqual(peer.times(dispatchPath), [0, 5000])
      })
    )
  })
})

describe("a dispatch", () => {
  it.effect("is verified and durable before the next poll starts", () => {
    const peer = new Peer(polling(once(dispatched({ delivery_id: "d-1" }))))
    return waiting(
      peer,
      Effect.gen(function*() {
        const { record } = yield* entryOf(rolloutId)
        assert.strictEqual(record.state, "Activating")
        assert.strictEqual(record.targetClosure, closureOf("1"))
        assert(record.state === "Activating")
        assert.deepStrictEqual(record.policy, {
          onHealthFailure: "rollback-and-halt",
          soakMs: 90_000,
          sustainedFailureMs: 120_000,
          maxFailedUnits: 0
        })
        assert.strictEqual(record.currentClosureAtDispatch, oldSystem)
        assert.deepStrictEqual(yield* kindsOf(rolloutId), ["DispatchAck"])
        assert.lengthOf(peer.at(dispatchPath), 1)
        yield* elapse(second)
        assert.deepStrictEqual(peer.at(dispatchPath).map(({ headers }) => headers[takenHeader]), [
          "nothing",
          `${rolloutId} 1`
        ])
      })
    )
  })

  it.effect("of an original control plane counts as attempt 1", () => {
    const { attempt: _, ...original } = dispatched()
    const peer = new Peer(polling(once(original)))
    return waiting(
      peer,
      Effect.gen(function*() {
        assert.strictEqual((yield* entryOf(rolloutId)).record.attempt, 1)
      })
    )
  })

  it.effect("for a known attempt resends that rollout's events and starts nothing", () => {
    const peer = new Peer(polling((request, nth) => nth < 2 ? ok(dispatched()) : held(request, nth)))
    return waiting(
      peer,
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* kindsOf(rolloutId), ["DispatchAck"])
        yield* elapse(5 * second)
        assert.deepStrictEqual(yield* kindsOf(rolloutId), ["DispatchAck"])
        assert.strictEqual((yield* entryOf(rolloutId)).lane.nextSeq, 1)
        assert.strictEqual((yield* stateNow).rejections.size, 0)
      })
    )
  })

  const refusals: ReadonlyArray<readonly [string, unknown, Script | undefined, string]> = [
    ["for another host", dispatched({ hostname: "db-1" }), undefined, "dispatch-other-host"],
    [
      "to a closure that the manifest does not name",
      dispatched({ target_closure: closureOf("9") }),
      undefined,
      "manifest-other-target"
    ],
    ["of a rollout that is no address", dispatched({ rollout_id: "../../etc@00" }), undefined, "rollout-malformed"],
    [
      "of a rollout that nobody publishes",
      dispatched({ rollout_id: "stable@00ff" }),
      undefined,
      "artifact-unavailable"
    ],
    [
      "whose manifest was made from another fleet",
      dispatched(),
      polling(once(dispatched()), otherRelease()),
      "manifest-other-fleet"
    ]
  ]
  for (const [title, body, script, reason] of refusals) {
    it.effect(`${title} is rejected by name and reported`, () => {
      const peer = new Peer(script ?? polling(once(body)))
      return waiting(
        peer,
        Effect.gen(function*() {
          const state = yield* stateNow
          assert.deepStrictEqual([...state.rejections.values()].map((one) => one.reason), [reason])
          assert.strictEqual(state.rollouts.size, 0)
        })
      )
    })
  }

  it.effect("that cannot be taken again and again is asked for less and less often", () => {
    const peer = new Peer(polling(() => ok(dispatched({ target_closure: closureOf("9") }))))
    return waiting(
      peer,
      Effect.gen(function*() {
        yield* elapse(30 * minute)
        assert.isAtMost(peer.at(dispatchPath).length, 80)
      })
    )
  })

  it.effect("that came while the manifests were not there is taken when they are", () => {
    let published = false
    const peer = new Peer((request, nth) =>
      polling((_, n) => n < 20 ? ok(dispatched()) : { ...noContent, afterMs: minute }, published ? release() : {})(
        request,
        nth
      )
    )
    return waiting(
      peer,
      Effect.gen(function*() {
        yield* elapse(10 * second)
        assert.strictEqual((yield* stateNow).rollouts.size, 0)
        published = true
        yield* elapse(2 * minute)
        assert.strictEqual((yield* entryOf(rolloutId)).record.state, "Activating")
        assert.strictEqual((yield* stateNow).rejections.size, 0)
      })
    )
  })
})
