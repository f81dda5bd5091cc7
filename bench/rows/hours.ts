/**
 * A day of one agent in 12 minutes: every cadence of the agent and of the control plane is 120 times as short, and a release is
 * published every simulated hour, of which some fail and are rolled back. An agent never beats or asks twice within a second
 * (D9): there are half of a day's heartbeats and a quarter of its polls, and all of its events and probe runs. What must stay flat is memory and descriptors; databases grow, because events are kept.
 *
 * Two hosts: one runs the executable, of which the kernel says the memory; the other runs the sources, and says itself what
 * its heap holds after a collection, as the control plane does.
 */
import { Effect } from "effect"
import { globSync, statSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { Certificates } from "../../test/support/certificates.ts"
import { type LogLine, messageOf, type Running } from "../../test/support/controlPlaneProcess.ts"
import { buildExecutable } from "../../test/support/executable.ts"
import { eventually, type Fleet, makeFleet } from "../../test/support/fleet.ts"
import { median, type Row, shown } from "../support/figures.ts"
import { type Footprint, footprintOf } from "../support/processes.ts"
import { keep } from "../support/results.ts"

const programs = join(import.meta.dirname, "../programs")

const speedUp = 120
const hours = 24
/** Wall time of a simulated hour, ms. */
const hourMs = 3_600_000 / speedUp
const samplesAnHour = 4
/** Left out: code is compiled and caches are filled. */
const warmUpHours = 2
/** Every so many releases one fails. */
const failEvery = 6
/** A run every 5 s each, the shortest interval: as many runs in a soak as of one probe of 30 s in 30 minutes. */
const probes = 20
const soakSeconds = 1800 / speedUp

const executableHost = "web-1"
const sourcesHost = "web-2"
const hosts = [executableHost, sourcesHost]

const agentCadences = {
  heartbeatSecs: 60 / speedUp,
  // Whole seconds, and one would be taken for an answer that came early.
  pollWaitSecs: 2,
  pollTimeoutSecs: 10,
  manifestPollSecs: 30 / speedUp,
  advanceSecs: 0.05,
  drainSecs: 15 / speedUp,
  probeResultSecs: 300 / speedUp,
  switchPollSecs: 0.1
}
const controlPlaneCadences = {
  artifactPollSecs: 30 / speedUp,
  planSecs: 15 / speedUp,
  sweepSecs: 0.05,
  heartbeatSecs: 60 / speedUp,
  recoveryGraceSecs: 150 / speedUp,
  leaseSecs: 5
}

/** What a collected process says of itself. */
interface Heap {
  /** MB. */
  readonly heapUsed: number
}

interface Sample {
  /** Simulated hours since the start. */
  readonly hour: number
  readonly agent: Footprint & Heap & { readonly databaseKb: number }
  readonly controlPlane: Footprint & Heap & { readonly databaseKb: number }
}

const kilobytes = (pattern: string) => globSync(pattern).reduce((sum, file) => sum + statSync(file).size, 0) / 1024

/** The newest line of the log with this message. */
const newest = ({ log }: Running, message: string): LogLine | undefined =>
  log.findLast((line) => messageOf(line) === message)

const heapOf = (running: Running): Heap => ({
  heapUsed: Number(newest(running, "collected")?.["heapUsed"]) / 1_048_576
})

/** An answering service, and how often it was asked. */
const service = Effect.acquireRelease(
  Effect.promise(() =>
    new Promise<{ readonly port: number; readonly asked: () => number; readonly close: () => void }>((resolve) => {
      let asked = 0
      const server = createServer((_, response) => {
        asked += 1
        response.end("ok")
      })
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        resolve({ port, asked: () => asked, close: () => server.close() })
      })
    })
  ),
  ({ close }) => Effect.sync(close)
)

const declare = (fleet: Fleet, port: number) => {
  const probe = { kind: "http", url: `http://127.0.0.1:${port}/`, mode: "enforce", intervalSeconds: 5 }
  const checks = Object.fromEntries(Array.from({ length: probes }, (_, index) => [`service-${index}`, probe]))
  for (const host of hosts) writeFileSync(fleet.at(`${host}.health.json`), JSON.stringify(checks))
}

const failsIn = (hour: number) => hour % failEvery === failEvery - 1
/** A release that fails is for one host alone, in turns: it halts the channel, and the other host might not get it. */
const hostsIn = (hour: number) => failsIn(hour) ? hosts.slice((hour >> 1) % 2).slice(0, 1) : hosts

const release = Effect.fnUntraced(function*(fleet: Fleet, hour: number) {
  const closure = yield* fleet.pack(`release-${hour}`, failsIn(hour) ? "exit 1" : "exit 0")
  const closures = Object.fromEntries(hostsIn(hour).map((host) => [host, closure]))
  return fleet.publish(hour.toString(16).padStart(8, "a"), closures)
})

/** Each host of the release is where it was to bring it. */
const check = (fleet: Fleet, hour: number, rolloutId: string) =>
  Effect.forEach(hostsIn(hour), (host) =>
    eventually(
      `the end of ${rolloutId} on ${host}`,
      () => fleet.record(host, rolloutId)?.state === (failsIn(hour) ? "Reverted" : "Converged")
    ))

const day = Effect.gen(function*() {
  const fleet = yield* makeFleet({
    hosts,
    policy: { waves: [{ selector: { tags: [], tagsAny: [], hosts: [], channel: null, all: true }, soakSeconds }] },
    controlPlane: controlPlaneCadences,
    controlPlaneProgram: join(programs, "control-plane.ts")
  })
  const { asked, port } = yield* service
  declare(fleet, port)
  const controlPlane = yield* fleet.controlPlane
  const agent = yield* fleet.agent(executableHost, agentCadences, buildExecutable().file)
  const telling = yield* fleet.agent(sourcesHost, agentCadences, join(programs, "agent.ts"))

  const sample = (hour: number): Sample => ({
    hour,
    agent: {
      ...footprintOf(agent.process.pid ?? 0),
      ...heapOf(telling),
      databaseKb: kilobytes(fleet.at("state", executableHost, "*.db*"))
    },
    controlPlane: {
      ...footprintOf(controlPlane.process.pid ?? 0),
      ...heapOf(controlPlane),
      databaseKb: kilobytes(fleet.at("control-plane", "*.db*"))
    }
  })

  const samples: Array<Sample> = []
  const begin = performance.now()
  for (let hour = 0; hour < hours; hour++) {
    const rolloutId = yield* release(fleet, hour)
    for (let part = 1; part <= samplesAnHour; part++) {
      const at = hour + part / samplesAnHour
      yield* Effect.promise(() => pause(Math.max(0, begin + at * hourMs - performance.now())))
      for (const running of [controlPlane, telling]) running.process.kill("SIGUSR2")
      yield* Effect.promise(() => pause(1000))
      samples.push(sample(at))
    }
    yield* check(fleet, hour, rolloutId)
    process.stderr.write(`  hour ${hour + 1} of ${hours}\n`)
  }
  const counts = {
    requestsOfTheAgent: newest(telling, "asked")?.["asked"],
    probeRunsOfBothAgents: asked(),
    eventsOfTheAgent: fleet.events(executableHost).length,
    releases: hours,
    rolledBack: Math.floor(hours / failEvery)
  }
  return { samples, counts }
}).pipe(Effect.scoped)

interface Trend {
  /** Per simulated hour, with the half width of its 95 % confidence interval. */
  readonly slope: number
  readonly confidence: number
  readonly firstHalf: number
  readonly lastHalf: number
}

/** A straight line by least squares, and the medians of both halves. */
function trendOf(points: ReadonlyArray<readonly [hour: number, value: number]>): Trend {
  const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length
  const x = mean(points.map(([hour]) => hour))
  const y = mean(points.map(([, value]) => value))
  const squares = points.reduce((sum, [hour]) => sum + (hour - x) ** 2, 0)
  const slope = points.reduce((sum, [hour, value]) => sum + (hour - x) * (value - y), 0) / squares
  const rest = points.reduce((sum, [hour, value]) => sum + (value - y - slope * (hour - x)) ** 2, 0)
  const half = points.length >> 1
  return {
    slope,
    confidence: 1.96 * Math.sqrt(rest / (points.length - 2) / squares),
    firstHalf: median(points.slice(0, half).map(([, value]) => value)),
    lastHalf: median(points.slice(half).map(([, value]) => value))
  }
}

const measures = [["rss", "MB"], ["anonymous", "MB"], ["heapUsed", "MB"], ["descriptors", ""]] as const

export async function hoursOfOneAgent(): Promise<ReadonlyArray<Row>> {
  const { counts, samples } = await Effect.runPromise(
    day.pipe(Effect.provide(Certificates.layer))
  )
  const settled = samples.filter(({ hour }) => hour > warmUpHours)
  const rows = (["agent", "controlPlane"] as const).flatMap((side) =>
    measures.map(([measure, unit]): Row => {
      const { confidence, firstHalf, lastHalf, slope } = trendOf(
        settled.map((sample) => [sample.hour, sample[side][measure]])
      )
      const ratio = lastHalf / firstHalf
      return {
        what: `24 hours: ${measure} of the ${side === "agent" ? "agent" : "control plane"}, last half over first`,
        goal: { at: "most", ratio: 1.05 },
        ratio,
        spread: [ratio, ratio],
        ours: lastHalf,
        floor: firstHalf,
        unit,
        notes: [`${shown(slope)} ± ${shown(confidence)} ${unit} per simulated hour`]
      }
    })
  )
  console.log(`kept in ${keep((commit) => `hours-${commit}`, { speedUp, hours, warmUpHours, counts, rows, samples })}`)
  return rows
}
