/** Wall clocks of real processes that step by an hour or a year, both ways, and are put right again (D12, D14, house rule 8). */
import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { Certificates } from "../support/certificates.ts"
import { reasonOf, type Running } from "../support/controlPlaneProcess.ts"
import { temporaryDirectory } from "../support/directories.ts"
import { eventually, eventuallyIs, type Fleet, makeFleet } from "../support/fleet.ts"
import { hour, setAhead, steppable, year } from "../support/wallClock.ts"

vi.setConfig({ testTimeout: 120_000 })

const steps = { plus1h: hour, minus1h: -hour, plus1y: year, minus1y: -year } as const
const hosts = Object.keys(steps)
const soakMs = 4_000

const nobody = { tags: [], tagsAny: [], hosts: [], channel: null, all: false }
const soaking = { waves: [{ selector: { ...nobody, all: true }, soakSeconds: soakMs / 1000 }] }

const stateOf = (fleet: Fleet, host: string, id: string) => fleet.record(host, id)?.state

const is = (fleet: Fleet, host: string, id: string, state: string) => () =>
  stateOf(fleet, host, id) === state || (stateOf(fleet, host, id) ?? "none")

const reasonsOf = (program: Running): ReadonlyArray<unknown> => program.log.map(reasonOf)

/** Performance clock, ms: what no step moves. */
const since = (begun: number) => performance.now() - begun

describe("the wall clock of an agent", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("that steps neither shortens nor prolongs a soak, refuses by name what it cannot date, and heals", () =>
      Effect.gen(function*() {
        const clocks = yield* temporaryDirectory
        const clockOf = (host: string) => join(clocks, host)
        const fleet = yield* makeFleet({ hosts, agentEnvironment: (host) => steppable(clockOf(host)) })
        for (const host of hosts) {
          setAhead(clockOf(host), 0)
          writeFileSync(
            fleet.at(`${host}.health.json`),
            JSON.stringify({ up: { kind: "exec", mode: "enforce", command: ["/bin/true"], intervalSeconds: 1 } })
          )
        }
        yield* fleet.controlPlane
        const agents = new Map<string, Running>()
        for (const host of hosts) agents.set(host, yield* fleet.agent(host))
        const closure = yield* fleet.pack("r1", "exit 0")
        const first = fleet.publish("01", Object.fromEntries(hosts.map((host) => [host, closure])), soaking)

        const soaks = yield* Effect.forEach(Object.entries(steps), ([host, aheadMs]) =>
          Effect.gen(function*() {
            yield* eventually(`the soak of ${host}`, is(fleet, host, first, "Soaking"))
            const begun = performance.now()
            yield* Effect.sleep(1_000)
            setAhead(clockOf(host), aheadMs)
            yield* eventually(`the end of the soak of ${host}`, is(fleet, host, first, "Converged"), 25)
            return [host, since(begun)] as const
          }), { concurrency: "unbounded" })
        for (const [host, lasted] of soaks) assert.isAtLeast(lasted, soakMs - 1_500, host)

        // An hour ahead is within the freshness of the release (3 h); the others cannot be dated.
        const refusals = { minus1h: "future-dated", plus1y: "stale", minus1y: "future-dated" } as const
        for (const [host, reason] of Object.entries(refusals)) {
          const agent = agents.get(host)
          yield* eventually(`${host}: ${reason}`, () => agent !== undefined && reasonsOf(agent).includes(reason))
        }

        // The clocks are put right: with them everything else, and trust memory holds nobody back. One of them steps in its soak.
        for (const host of ["minus1h", "plus1y", "minus1y"]) setAhead(clockOf(host), 0)
        const better = yield* fleet.pack("r2", "exit 0")
        const second = fleet.publish("02", Object.fromEntries(hosts.map((host) => [host, better])), soaking)
        yield* eventually("the soak that began an hour ahead", is(fleet, "plus1h", second, "Soaking"))
        setAhead(clockOf("plus1h"), 0)
        yield* Effect.forEach(hosts, (host) =>
          Effect.andThen(
            eventually(`${host} again`, is(fleet, host, second, "Converged")),
            eventuallyIs(`${host} at the control plane`, fleet.states(second), (states) => states[host] === "Converged")
          ), { concurrency: "unbounded" })
        for (const host of hosts) assert.strictEqual(fleet.current(host), better)
      }))
  })
})

describe("the wall clock of a control plane", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("that steps holds up no wave and no lease, refuses by name what it cannot date, and heals", () =>
      Effect.gen(function*() {
        const clock = join(yield* temporaryDirectory, "control-plane")
        setAhead(clock, 0)
        const pair = ["a", "b"]
        const fleet = yield* makeFleet({ hosts: pair, controlPlaneEnvironment: steppable(clock) })
        const waves = pair.map((host) => ({ selector: { ...nobody, hosts: [host] }, soakSeconds: 2 }))
        const controlPlane = yield* fleet.controlPlane
        for (const host of pair) yield* fleet.agent(host)
        const release = Effect.fnUntraced(function*(ref: string) {
          const closure = yield* fleet.pack(`r${ref}`, "exit 0")
          return fleet.publish(ref, { a: closure, b: closure }, { waves })
        })
        const bothConverge = (id: string) =>
          Effect.forEach(pair, (host) => eventually(`${id} on ${host}`, is(fleet, host, id, "Converged"), 30))

        // Forward in the first wave's soak, so that the second one is leased by a clock that is ahead; back in the second's.
        const first = yield* release("01")
        yield* eventually("the first wave", is(fleet, "a", first, "Soaking"))
        setAhead(clock, hour)
        yield* eventually("the second wave", is(fleet, "b", first, "Soaking"), 30)
        setAhead(clock, 0)
        yield* bothConverge(first)

        for (const [aheadMs, reason] of [[year, "stale"], [-year, "future-dated"]] as const) {
          setAhead(clock, aheadMs)
          yield* eventually(reason, () => reasonsOf(controlPlane).includes(reason), 20)
        }
        setAhead(clock, 0)
        yield* bothConverge(yield* release("02"))
      }))
  })
})
