/**
 * Rollback without the agent (D10, D11), with real processes and without systemd: whatever becomes of the agent, the host is
 * back on its last good closure by the deadline, after exactly one switch back, and the control plane learns why as soon as it
 * can be reached.
 */
import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { HostRecord } from "../../src/Schema/HostRecord.ts"
import { Certificates } from "../support/certificates.ts"
import type { Running } from "../support/controlPlaneProcess.ts"
import { fillDisk, freeDisk, noMounts, smallDisk } from "../support/directories.ts"
import { eventually, eventuallyIs, type Fleet, makeFleet, runs } from "../support/fleet.ts"

vi.setConfig({ testTimeout: 120_000 })

/** Seconds. While a switch may run, its time-out comes on top. */
const windowSecs = 3
const switchTimeoutSecs = 3
/** From the last sign of life to the end of the switch back, with what a loaded machine adds. */
const deadlineSecs = windowSecs + switchTimeoutSecs + 15

const options = { guardWindowSecs: windowSecs, switchTimeoutSecs }

/** Notes which closure is switched to; then `body`, in which `$AGENT` is the pid of the host's agent. */
const switchOf = (fleet: Fleet, host: string, name: string, body: string) =>
  fleet.pack(
    `${name}-${host}`,
    `echo "$NIXFLEET_CLOSURE" >>${fleet.at(`${host}.runs`)}\nread -r AGENT <${fleet.at(`${host}.pid`)}\n${body}`
  )

const start = Effect.fnUntraced(function*(fleet: Fleet, host: string) {
  const agent = yield* fleet.agent(host, options)
  writeFileSync(fleet.at(`${host}.pid`), `${agent.process.pid}\n`)
  return agent
})

const soaking = (soakSeconds: number) => ({
  waves: [{ selector: { tags: [], tagsAny: [], hosts: [], channel: null, all: true }, soakSeconds }]
})

const names = (file: string): ReadonlyArray<string> => runs(file).map((path) => path.split("/").at(-1) ?? "")

type Failure = Extract<HostRecord, { state: "Failed" | "Reverted" }>

const reverted = (record: HostRecord | undefined): Failure => {
  if (record?.state === "Reverted") return record
  return assert.fail(`the record is ${JSON.stringify(record)}`)
}

/** As a service manager would: a program that ends is started anew, for as long as this goes on. */
const crashLoop = (fleet: Fleet, host: string) =>
  Effect.gen(function*() {
    const agent = yield* fleet.agent(host, options)
    yield* agent.line(() => true)
    yield* Effect.sleep(200)
    yield* fleet.end(agent, "SIGKILL")
  }).pipe(Effect.scoped, Effect.forever)

/** What the host does to its agent during or after the switch to the second release. */
const casualties = {
  /** The new system has no agent. */
  missing: { second: `kill -KILL "$AGENT"`, first: "" },
  /** It crashes soon after each start, and is started again and again. */
  crashing: { second: `kill -KILL "$AGENT"`, first: "" },
  /** It is killed while the switch runs, which goes on. */
  killedInSwitch: { second: `kill -KILL "$AGENT"; sleep 1`, first: "" },
  /** It hangs, and wakes up when all is over. */
  hanging: { second: `kill -STOP "$AGENT"`, first: "" },
  /** The switch fails and takes the agent with it. */
  failing: { second: `kill -KILL "$AGENT"; exit 1`, first: "" },
  /** The agent rolls back by itself, and is killed by the old system's switch. */
  killedInRollback: { second: "exit 1", first: `[ ! -e "$0.ran" ] || kill -KILL "$AGENT"; : >"$0.ran"` }
} as const
const hosts = Object.keys(casualties) as ReadonlyArray<keyof typeof casualties>

describe("a host that lost its agent", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("is brought back by its guard, once, however the agent was lost, also without a network", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [...hosts] })
        const controlPlane = yield* fleet.controlPlane
        const release = Effect.fnUntraced(function*(ref: string, name: string, part: "first" | "second") {
          const closures: Record<string, string> = {}
          for (const host of hosts) closures[host] = yield* switchOf(fleet, host, name, casualties[host][part])
          return { id: fleet.publish(ref, closures), closures }
        })
        const agents: Record<string, Running> = {}
        for (const host of hosts) agents[host] = yield* start(fleet, host)
        const first = yield* release("0f3c9a01", "one", "first")
        for (const host of hosts) {
          yield* eventually(`${host} converges`, () => fleet.record(host, first.id)?.state === "Converged")
        }

        const second = yield* release("0f3c9a02", "two", "second")
        const to = (host: string) => second.closures[host]!
        const back = (host: string) => first.closures[host]!
        for (const host of hosts) {
          yield* eventually(`${host} switches`, () => names(fleet.at(`${host}.runs`)).includes(to(host)))
        }
        // From here on nobody but the guards can help.
        yield* fleet.end(controlPlane, "SIGKILL")
        const crashing = yield* Effect.forkChild(crashLoop(fleet, "crashing"))
        for (const host of hosts) {
          yield* eventually(`${host} is back`, () => {
            const switched = names(fleet.at(`${host}.runs`))
            return (fleet.current(host) === back(host) && switched.length === 3) || switched
          }, deadlineSecs)
        }
        yield* Fiber.interrupt(crashing)
        yield* Effect.sleep(2000)
        for (const host of hosts) {
          assert.deepStrictEqual(names(fleet.at(`${host}.runs`)), [back(host), to(host), back(host)], host)
        }

        agents["hanging"]?.process.kill("SIGCONT")
        for (const host of hosts) if (host !== "hanging") agents[host] = yield* start(fleet, host)
        yield* fleet.controlPlane
        yield* eventuallyIs(
          "the control plane knows that all are back",
          fleet.states(second.id),
          (states) => hosts.every((host) => states[host] === "Reverted"),
          30
        )
        for (const host of hosts) {
          const record = reverted(fleet.record(host, second.id))
          // A rollback that the agent had begun is its own: the guard only saw to it that it ended.
          assert.strictEqual(record.cause, host === "killedInRollback" ? undefined : "guard-fired", host)
          assert.strictEqual(record.closureAtFault, true, host)
          assert.deepStrictEqual(names(fleet.at(`${host}.runs`)), [back(host), to(host), back(host)], host)
          yield* eventually("no guard is left", () => {
            const left = readdirSync(fleet.at("state", host, "guard"))
            return left.length === 0 || left
          }, 20)
        }
      }))
  })
})

describe.skipIf(noMounts !== undefined)("a host that lost its agent, with a full disk", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("is brought back as well, with the space that is kept for it", () =>
      Effect.gen(function*() {
        const host = "full"
        const disk = yield* smallDisk(32 * 1024 * 1024)
        const fleet = yield* makeFleet({ hosts: [host] })
        mkdirSync(fleet.at("systems"))
        for (const name of ["state", "systems"]) {
          mkdirSync(join(disk, name), { mode: 0o700 })
          symlinkSync(join(disk, name), fleet.at(name, host))
        }
        yield* fleet.controlPlane
        yield* start(fleet, host)
        const one = yield* switchOf(fleet, host, "one", "exit 0")
        const first = fleet.publish("0f3c9a01", { [host]: one })
        yield* eventually("r1 converges", () => fleet.record(host, first)?.state === "Converged")
        const two = yield* switchOf(fleet, host, "two", `kill -KILL "$AGENT"`)
        const second = fleet.publish("0f3c9a02", { [host]: two })
        yield* eventually("r2 runs", () => fleet.current(host) === two)
        fillDisk(disk)
        yield* eventually("it is back", () => fleet.current(host) === one || fleet.current(host), deadlineSecs)
        freeDisk(disk)
        yield* start(fleet, host)
        yield* eventuallyIs(
          "the control plane knows",
          fleet.states(second),
          (states) => states[host] === "Reverted",
          30
        )
        assert.deepStrictEqual(names(fleet.at(`${host}.runs`)), [one, two, one])
      }))
  })
})

describe("an agent that lives", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("keeps its guard quiet through a soak that is longer than the window, and leaves none behind", () =>
      Effect.gen(function*() {
        const host = "alive"
        const fleet = yield* makeFleet({ hosts: [host], policy: soaking(6) })
        yield* fleet.controlPlane
        yield* start(fleet, host)
        const guards = () =>
          existsSync(fleet.at("state", host, "guard")) ? readdirSync(fleet.at("state", host, "guard")) : []
        const one = yield* switchOf(fleet, host, "one", "exit 0")
        const two = yield* switchOf(fleet, host, "two", "exit 0")
        const first = fleet.publish("0f3c9a01", { [host]: one }, soaking(1))
        yield* eventually("r1 converges", () => fleet.record(host, first)?.state === "Converged")
        assert.deepStrictEqual(guards(), [])
        const second = fleet.publish("0f3c9a02", { [host]: two })
        yield* eventually("r2 soaks", () => fleet.record(host, second)?.state === "Soaking")
        assert.strictEqual(guards().length, 1)
        const pid = Number(readFileSync(fleet.at("state", host, "guard", guards()[0] ?? "", "pid"), "utf8"))
        yield* eventually("r2 converges", () => fleet.record(host, second)?.state === "Converged")
        yield* eventually("the guard has ended", () => !existsSync(`/proc/${pid}`), 10)
        yield* eventually("nothing of it is left", () => guards().length === 0, 10)
        assert.deepStrictEqual(names(fleet.at(`${host}.runs`)), [one, two])
      }))
  })
})
