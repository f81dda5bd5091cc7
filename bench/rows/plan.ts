/**
 * A pass of the planner over a whole fleet in eight channels, at its dearest: nobody is done, the first wave of every channel is
 * under way as far as its budget allows, and all others wait for a wave, an edge, a budget or another channel. What is compared
 * is the cost of one host among 10,000 with that of one among 1,000: a pass is linear (D20). Beside it, because a host costs more
 * where the fleet does not fit into the processor's caches: the same comparison for nothing but the look-ups of a pass.
 *
 * And a forecast of the same fleet from there to its end: as many passes as there are moments in which hosts converge.
 */
import { forecast } from "../../src/ControlPlane/Forecast.ts"
import { at, hostIn } from "../../src/ControlPlane/State.ts"
import { capable, Plane, type Release } from "../../test/support/controlPlane.ts"
import { cpuMsOf } from "../support/cpu.ts"
import { inTurns, median, type Pair, type Row, rowOf, shown } from "../support/figures.ts"
import { nameOf } from "../support/servers.ts"

const rounds = 9
const few = 1000
const many = 10_000
const channels = 8
/** Hosts that one round plans, in one pass or in several. */
const planned = 80_000

/** Half of a channel goes first; every other host of it waits for its neighbour; a tenth may be in flight. */
function releaseOf(channel: number, hosts: ReadonlyArray<string>): Release {
  const half = hosts.length >> 1
  return {
    channel: `channel-${channel}`,
    ref: "a1",
    waves: [hosts.slice(0, half), hosts.slice(half)],
    budgets: [{ hosts, maxInFlightPct: 10 }],
    edges: hosts.flatMap((host, index) => index % 2 === 1 ? [[hosts[index - 1]!, host] as const] : []),
    after: channel % 4 === 3 ? ["channel-0"] : []
  }
}

const hostsOf = (channel: number, count: number): ReadonlyArray<string> =>
  Array.from({ length: count / channels }, (_, index) => nameOf(index * channels + channel))

/** A control plane in the middle of its rollouts. */
function fleetOf(count: number): Plane {
  const names = Array.from({ length: count }, (_, index) => nameOf(index))
  const releases = Array.from(
    { length: channels },
    (_, channel) => releaseOf(channel, hostsOf(channel, count))
  )
  const plane = new Plane()
  plane.publish(...releases)
  plane.batch(...names.map((hostname) => ({
    _tag: "HeartbeatReceived" as const,
    issuedAt: 0,
    heartbeat: { hostname, at: plane.now, journal_id: `journal-of-${hostname}`, digests: [] },
    capabilities: capable
  })))
  plane.batch(...names.map((host, waiterId) => ({
    _tag: "Parked" as const,
    host,
    waiterId,
    capabilities: capable,
    issuedAt: 0,
    until: plane.now + 3_600_000
  })))
  return plane
}

/** Microseconds of CPU for each host of a pass. */
async function pass(plane: Plane, count: number): Promise<number> {
  const before = plane.writes.length
  const ms = await cpuMsOf(() => {
    for (let done = 0; done < planned; done += count) plane.offer({ _tag: "PlanTick" })
  })
  if (plane.writes.length !== before) throw new Error("a pass in which nothing had changed wrote something")
  return ms * 1000 / planned
}

/** Microseconds of CPU for each host of nothing but one look-up in each map that a pass reads. */
async function lookUps({ state }: Plane): Promise<number> {
  const hosts = Object.entries(state.artifacts?.fleet.value.hosts ?? {})
  let found = 0
  const ms = await cpuMsOf(() => {
    for (let done = 0; done < planned; done += hosts.length) {
      for (const [host, { channel }] of hosts) {
        if (hostIn(state, `${channel}@a1`, host) !== undefined) found += 1
        for (const map of [state.hosts, state.queue, state.verdicts]) {
          if (at<object>(map, host) !== undefined) found += 1
        }
      }
    }
  })
  if (found === 0) throw new Error("nothing was looked up")
  return ms * 1000 / planned
}

/** Microseconds of CPU for each host of forecasts from here to the end. */
async function toTheEnd({ now, state }: Plane, count: number): Promise<number> {
  const { artifacts } = state
  if (artifacts === undefined) throw new Error("no release is in force")
  const ms = await cpuMsOf(() => {
    for (let told = 0; told < many; told += count) {
      const { rollouts } = forecast(state, artifacts, now)
      if (rollouts.some(({ completeAt }) => completeAt === undefined)) throw new Error("a rollout is never complete")
    }
  })
  return ms * 1000 / many
}

export const plan = async (): Promise<ReadonlyArray<Row>> => {
  const [large, small] = [fleetOf(many), fleetOf(few)]
  // Both sides are the same code, and the first to run would pay for its compilation.
  for (let time = 0; time < 3; time++) {
    await pass(large, many)
    await pass(small, few)
  }
  const pairs: ReadonlyArray<Pair> = await inTurns(rounds, {
    ours: () => pass(large, many),
    floor: () => pass(small, few)
  })
  const ms = median(pairs.map(({ ours }) => ours)) * many / 1000
  const bare = await inTurns(rounds, { ours: () => lookUps(large), floor: () => lookUps(small) })
  const [far, near] = [median(bare.map(({ ours }) => ours)), median(bare.map(({ floor }) => floor))]
  await toTheEnd(small, few)
  const forecasts = await inTurns(3, { ours: () => toTheEnd(large, many), floor: () => toTheEnd(small, few) })
  return [
    rowOf(
      "plan a fleet in 8 channels, each host: at 10,000 over at 1,000",
      { at: "most", ratio: 1.3 },
      "µs",
      pairs,
      [
        `a pass over 10,000 hosts takes ${shown(ms)} ms`,
        `a host's look-ups alone: ${shown(far)} µs at 10,000 and ${shown(near)} µs at 1,000, a ratio of ${
          shown(far / near)
        }`
      ]
    ),
    rowOf(
      "forecast a fleet in 8 channels, each host: at 10,000 over at 1,000",
      { at: "most", ratio: 2 },
      "µs",
      forecasts,
      [`a forecast of 10,000 hosts takes ${shown(median(forecasts.map(({ ours }) => ours)) * many / 1_000_000)} s`]
    )
  ]
}
