/** Every request of the agent has its time-out, its limit and its connection (agent.md §2.3, D20). */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Random } from "effect"
import type { SendOptions } from "../../../src/Layers/Net/Exchange.ts"
import { heartbeat } from "../../../src/Workers/Agent/Heartbeat.ts"
import { longpoll } from "../../../src/Workers/Agent/Longpoll.ts"
import { outbound } from "../../../src/Workers/Agent/Outbound.ts"
import { dispatched, fleetPath, manifestPath, release, releaseHost } from "../../support/agentReleases.ts"
import { elapse, Rig, second, settled } from "../../support/agentRig.ts"
import { dispatchPath, eventsPath, heartbeatPath, idle, ok, Peer, publishing } from "../../support/scriptedPeer.ts"

describe("a request of the agent", () => {
  it.effect("has a time-out, a limit and a connection of its kind", () => {
    const peer = new Peer((request, nth) =>
      request.path === dispatchPath && nth === 0 ? ok(dispatched()) : publishing(release(), idle)(request, nth)
    )
    const MiB = 1_048_576
    const report = (timeoutMs: number, maxBodyBytes: number): SendOptions => ({
      timeoutMs,
      maxBodyBytes,
      lane: "report"
    })
    const expected: Readonly<Record<string, SendOptions>> = {
      [dispatchPath]: { timeoutMs: 65_000, maxBodyBytes: MiB, lane: "poll" },
      [heartbeatPath]: report(10_000, MiB),
      [eventsPath]: report(10_000, MiB),
      [fleetPath]: report(30_000, 16 * MiB),
      [`${fleetPath}/sig`]: report(30_000, 16 * MiB),
      [manifestPath()]: report(30_000, 16 * MiB),
      [`${manifestPath()}/sig`]: report(30_000, 16 * MiB)
    }
    return new Rig({ hostname: releaseHost }).still(
      Effect.gen(function*() {
        for (const worker of [heartbeat, longpoll, outbound]) yield* Effect.forkScoped(worker)
        yield* settled
        yield* elapse(2 * second)
        assert.sameMembers([...new Set(peer.asked.map(({ path }) => path))], Object.keys(expected))
        for (const { options, path } of peer.asked) assert.deepStrictEqual(options, expected[path], path)
      }).pipe(Effect.provide(peer.layer), Effect.scoped, Random.withSeed(1))
    )
  })
})
