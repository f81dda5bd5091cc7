import { assert, describe, it } from "@effect/vitest"
import { Effect, Random } from "effect"
import { Handshake } from "../../../src/Agent/Handshake.ts"
import { manifestPoll } from "../../../src/Workers/Agent/ManifestPoll.ts"
import { fleetPath, release, releaseHost } from "../../support/agentReleases.ts"
import { elapse, minute, Rig, second, settled, stateNow } from "../../support/agentRig.ts"
import { type Edges, type Parts, Peer, publishing } from "../../support/scriptedPeer.ts"

const looking = <A, E>(peer: Peer, body: Effect.Effect<A, E, Parts | Edges>) =>
  new Rig({ hostname: releaseHost }).still(
    Effect.gen(function*() {
      yield* Effect.forkScoped(manifestPoll)
      yield* settled
      yield* (yield* Handshake).complete
      yield* settled
      return yield* body
    }).pipe(Effect.provide(peer.layer), Effect.scoped, Random.withSeed(1))
  )

describe("looking for new artifacts", () => {
  it.effect("happens after the handshake and every 30 s", () => {
    const peer = new Peer(publishing(release()))
    return looking(
      peer,
      Effect.gen(function*() {
        yield* elapse(2 * minute)
        assert.deepStrictEqual(peer.times(fleetPath), [0, 30_000, 60_000, 90_000, 120_000])
        assert.deepStrictEqual([...(yield* stateNow).trust.keys()], ["fleet", "manifest:stable"])
      })
    )
  })

  it.effect("skips the looks that a slow answer missed", () => {
    const peer = new Peer((request, nth) => ({
      ...publishing(release())(request, nth),
      afterMs: request.path === fleetPath && nth === 0 ? 70 * second : 0
    }))
    return looking(
      peer,
      Effect.gen(function*() {
        yield* elapse(2 * minute)
        assert.deepStrictEqual(peer.times(fleetPath), [0, 90_000, 120_000])
      })
    )
  })

  it.effect("obeys a control plane that is not ready yet", () => {
    const peer = new Peer((request, nth) =>
      request.path === fleetPath && nth === 0
        ? { status: 503, headers: { "retry-after": "45" } }
        : publishing(release())(request, nth)
    )
    return looking(
      peer,
      Effect.gen(function*() {
        yield* elapse(minute)
        assert.deepStrictEqual(peer.times(fleetPath), [0, 45_000, 60_000])
      })
    )
  })

  it.effect("backs off while nothing verifies", () => {
    const peer = new Peer(publishing({}))
    return looking(
      peer,
      Effect.gen(function*() {
        yield* elapse(20 * minute)
        const times = peer.times(fleetPath)
        assert.isAbove(times.length, 15)
        for (const [index, at] of times.entries()) {
          if (index > 0) assert.isAtLeast(at - times[index - 1]!, 1000)
        }
      })
    )
  })
})
