import { assert, describe, it } from "@effect/vitest"
import { Effect, HashMap, HashSet } from "effect"
import { defaultLimits } from "../../src/ControlPlane/Limits.ts"
import { type State, waitingIn } from "../../src/ControlPlane/State.ts"
import { MemoryDisk } from "../../src/Layers/Disk/MemoryDisk.ts"
import { splitRolloutId } from "../../src/Schema/Primitives.ts"
import { closureOf, idOf, openJournal, Plane, type Release, soakMs, start } from "../support/controlPlane.ts"

const channels = ["edge", "stable", "testing"] as const
const hosts = ["h1", "h2", "h3", "h4", "h5"]

/** Host and channel of everything that waits: queued dispatches and verdicts. */
function heldBy({ queue, verdicts }: State): ReadonlyArray<readonly [string, string]> {
  return [...HashMap.entries(queue), ...HashMap.entries(verdicts)]
    .map(([host, { rolloutId }]) => [host, splitRolloutId(rolloutId).channel] as const)
}

function assertIndexed(state: State, after: string): void {
  for (const [host, channel] of heldBy(state)) {
    assert.include(waitingIn(state, channel), host, `${after}: what waits for ${host} in ${channel} is not found`)
  }
}

/** The hosts dealt to the channels by `turn`, so that they move from one to another. */
const releases = (turn: number): ReadonlyArray<Release> =>
  channels.map((channel, index) => ({
    channel,
    ref: `${turn + 1}${index + 1}`.padStart(4, "a"),
    signedAt: start + turn * 1000,
    waves: [hosts.filter((_, host) => (host + turn) % channels.length === index)]
  }))

describe("what waits, by channel", () => {
  it("holds every host with a dispatch or a verdict, whatever happens to them", () => {
    const plane = new Plane()
    const each = (name: string, act: (host: string) => void) => {
      for (const host of hosts) {
        act(host)
        assertIndexed(plane.state, `${name} ${host}`)
      }
    }
    for (let turn = 0; turn < 6; turn++) {
      plane.publish(...releases(turn))
      assertIndexed(plane.state, `publish ${turn}`)
      each("heartbeat", (host) => void plane.heartbeat(host))
      each("park", (host) => void plane.park(host))
      const refused = releases(turn)[turn % channels.length]!
      each("rejection", (host) =>
        void plane.heartbeat(host, {
          rejections: [{ rollout_id: idOf(refused), reason: "stale", detail: "", at: plane.now }]
        }))
      each("closure", (host) => void plane.heartbeat(host, { current_closure: closureOf(refused.ref, host) }))
      plane.pass(defaultLimits.leaseMs)
      assertIndexed(plane.state, `sweep ${turn}`)
      plane.pass(soakMs)
      assertIndexed(plane.state, `tick ${turn}`)
    }
    assert.isNotEmpty(heldBy(plane.state))
  })

  it("forgets, when the channel is planned, whom nothing is left to", () => {
    const plane = new Plane()
    for (let turn = 0; turn < 6; turn++) {
      plane.publish(...releases(turn))
      for (const host of hosts) plane.heartbeat(host)
      plane.pass(defaultLimits.leaseMs)
      const held = new Set(heldBy(plane.state).map(([host, channel]) => `${host} ${channel}`))
      for (const [channel, waiting] of HashMap.entries(plane.state.waiting)) {
        for (const host of waiting) {
          assert.isTrue(held.has(`${host} ${channel}`), `${host} waits for nothing in ${channel}`)
        }
        assert.isAbove(HashSet.size(waiting), 0)
      }
    }
  })

  it.effect("is there after a restart", () =>
    Effect.gen(function*() {
      const disk = new MemoryDisk("waiting")
      const plane = new Plane(yield* openJournal(disk))
      plane.publish(...releases(0))
      for (const host of hosts) plane.greets(host)
      const { initial } = yield* openJournal(disk)
      assert.isAbove(HashMap.size(initial.queue), 0)
      assertIndexed(initial, "a restart")
    }))
})
