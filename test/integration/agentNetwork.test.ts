import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { appendFileSync } from "node:fs"
import { Certificates } from "../support/certificates.ts"
import { cuttingProxy } from "../support/cuttingProxy.ts"
import { eventually, eventuallyIs, type Fleet, makeFleet, noting, runs } from "../support/fleet.ts"

// Real processes with real back-off: most tests need ten seconds, an unlucky one on a busy machine needs a minute.
vi.setConfig({ testTimeout: 180_000 })

const selector = { tags: [], tagsAny: [], hosts: [], channel: null, all: false }
const waveOf = (host: string, soakSeconds = 1) => ({ selector: { ...selector, hosts: [host] }, soakSeconds })
const everybody = (soakSeconds = 1) => ({ selector: { ...selector, all: true }, soakSeconds })

const stateOf = (fleet: Fleet, host: string, rolloutId: string) => fleet.record(host, rolloutId)?.state

const inState = (fleet: Fleet, host: string, rolloutId: string, state: string) =>
  eventually(`${host} ${state}`, () => stateOf(fleet, host, rolloutId) === state || stateOf(fleet, host, rolloutId))

const allIn = (fleet: Fleet, rolloutId: string, expected: Readonly<Record<string, string>>) =>
  eventuallyIs(
    JSON.stringify(expected),
    fleet.states(rolloutId),
    (states) => Object.entries(expected).every(([host, state]) => states[host] === state),
    90
  )

const delivered = (fleet: Fleet, host: string) =>
  eventually(
    "delivery",
    () => fleet.events(host).every(({ delivery }) => delivery === "delivered") || fleet.events(host)
  )

/** Sequence numbers of one rollout as the control plane's log has them. */
const logged = Effect.fnUntraced(function*(fleet: Fleet, rolloutId: string, host: string) {
  const log = (yield* fleet.asOperator(`/v1/rollouts/${rolloutId}/events`)) as {
    readonly events: ReadonlyArray<
      { readonly kind: string; readonly host: string | null; readonly payload: { readonly seq?: number } }
    >
  }
  return log.events.filter((event) => event.kind === "agent_event" && event.host === host).map(({ payload }) =>
    payload.seq
  )
})

describe("answers that are lost", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("a dispatch whose answer was lost is offered again after its lease", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: ["web-1"] })
        const proxy = yield* cuttingProxy(fleet.port)
        yield* fleet.controlPlane
        const first = fleet.publish("01", { "web-1": yield* fleet.pack("r1", "exit 0") })
        yield* fleet.agent("web-1", { controlPlaneUrl: `https://localhost:${proxy.port}` })
        yield* inState(fleet, "web-1", first, "Converged")
        yield* delivered(fleet, "web-1")

        proxy.cutting = true
        const note = fleet.at("runs")
        const id = fleet.publish("02", { "web-1": yield* fleet.pack("r2", noting(note)) })
        yield* eventuallyIs("a lease", fleet.states(id), (states) => states["web-1"] === "Pending")
        yield* eventually("a lost answer", () => proxy.lost() > 0)
        yield* Effect.sleep(500)
        proxy.cutting = false
        yield* allIn(fleet, id, { "web-1": "Converged" })
        assert.lengthOf(runs(note), 1)
      }))

    it.effect("events whose answers were lost are sent again and count once", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: ["web-1"] })
        const proxy = yield* cuttingProxy(fleet.port)
        yield* fleet.controlPlane
        const gate = fleet.at("gate")
        const closure = yield* fleet.pack("r1", `while [ ! -e ${gate} ]; do sleep 0.05; done; exit 0`)
        const id = fleet.publish("01", { "web-1": closure })
        yield* fleet.agent("web-1", { controlPlaneUrl: `https://localhost:${proxy.port}` })
        yield* inState(fleet, "web-1", id, "Activating")
        yield* delivered(fleet, "web-1")
        proxy.cutting = true
        appendFileSync(gate, "")
        yield* inState(fleet, "web-1", id, "Soaking")
        yield* eventually("a lost answer", () => proxy.lost() > 0)
        yield* Effect.sleep(1500)
        proxy.cutting = false
        yield* allIn(fleet, id, { "web-1": "Converged" })
        yield* delivered(fleet, "web-1")
        const seqs = yield* logged(fleet, id, "web-1")
        assert.deepStrictEqual(seqs, fleet.events("web-1").map(({ seq }) => seq))
      }))
  })
})

describe("a control plane that is lost", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    const hosts = ["web-1", "web-2"]
    const twoWaves = { waves: [waveOf("web-1", 2), everybody(1)] }

    it.effect("by kill -9 in mid-rollout goes on where it was", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts, policy: twoWaves })
        const note = fleet.at("runs")
        const closure = yield* fleet.pack("r1", noting(note))
        const first = yield* fleet.controlPlane
        for (const host of hosts) yield* fleet.agent(host)
        const id = fleet.publish("01", { "web-1": closure, "web-2": closure })
        yield* inState(fleet, "web-1", id, "Soaking")
        yield* fleet.end(first, "SIGKILL")
        yield* inState(fleet, "web-1", id, "Converged")
        yield* fleet.controlPlane
        yield* allIn(fleet, id, { "web-1": "Converged", "web-2": "Converged" })
        assert.lengthOf(runs(note), 2)
      }))

    it.effect("with its database in mid-rollout learns it again and dispatches nothing too early", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts, policy: { waves: [waveOf("web-1", 6), everybody(1)] } })
        const note = fleet.at("runs")
        const closure = yield* fleet.pack("r1", noting(note))
        const first = yield* fleet.controlPlane
        for (const host of hosts) yield* fleet.agent(host)
        const id = fleet.publish("01", { "web-1": closure, "web-2": closure })
        yield* inState(fleet, "web-1", id, "Soaking")
        yield* delivered(fleet, "web-1")
        yield* fleet.end(first, "SIGKILL")
        yield* fleet.wipeControlPlane
        yield* fleet.controlPlane
        yield* eventuallyIs("the rebuilt record", fleet.states(id), (states) => states["web-1"] === "Soaking")
        assert.isUndefined(stateOf(fleet, "web-2", id), "the second wave waits for the first")
        yield* allIn(fleet, id, { "web-1": "Converged", "web-2": "Converged" })
        assert.lengthOf(runs(note), 2, "each host switched once")
        for (const host of hosts) {
          yield* delivered(fleet, host)
          const { lastEventSeq } = fleet.record(host, id)!
          assert.deepStrictEqual(
            yield* logged(fleet, id, host),
            Array.from({ length: lastEventSeq }, (_, index) => index + 1)
          )
        }
        const [one, two] = hosts.map((host) => fleet.record(host, id)!)
        assert(one?.state === "Converged" && two?.state === "Converged")
        assert.isAtLeast(two.dispatchAckedAt, one.convergedAt)
      }))
  })
})

describe("newer releases and halts", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("a superseded rollout never pulls a host back, whatever becomes of it", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: ["web-1"] })
        yield* fleet.controlPlane
        yield* fleet.agent("web-1")
        const base = yield* fleet.pack("base", "exit 0")
        const id0 = fleet.publish("00", { "web-1": base })
        yield* allIn(fleet, id0, { "web-1": "Converged" })
        // The first switch is slow and then fails: alone, it would be rolled back.
        const note = fleet.at("runs")
        const bad = yield* fleet.pack("bad", noting(note, "sleep 2; exit 1"))
        const good = yield* fleet.pack("good", "exit 0")
        const id1 = fleet.publish("01", { "web-1": bad })
        yield* eventually("the first switch", () => runs(note).length === 1)
        const id2 = fleet.publish("02", { "web-1": good })
        yield* allIn(fleet, id2, { "web-1": "Converged" })
        yield* Effect.sleep(1000)
        assert.strictEqual(fleet.current("web-1"), good)
        assert.strictEqual(stateOf(fleet, "web-1", id2), "Converged")
        assert.notInclude(["Reverted", "Converged"], stateOf(fleet, "web-1", id1))
      }))

    it.effect("a halt takes back what is queued for a host that was away", () =>
      Effect.gen(function*() {
        const hosts = ["web-1", "web-2"]
        const fleet = yield* makeFleet({ hosts, policy: { waves: [everybody(1)] } })
        yield* fleet.controlPlane
        const agents = new Map<string, Effect.Success<ReturnType<Fleet["agent"]>>>()
        for (const host of hosts) agents.set(host, yield* fleet.agent(host))
        const good = yield* fleet.pack("good", "exit 0")
        const id1 = fleet.publish("01", { "web-1": good, "web-2": good })
        yield* allIn(fleet, id1, { "web-1": "Converged", "web-2": "Converged" })
        yield* fleet.end(agents.get("web-2")!, "SIGKILL")
        const note = fleet.at("runs")
        const bad = yield* fleet.pack("bad", noting(note, "exit 1"))
        const id2 = fleet.publish("02", { "web-1": bad, "web-2": bad })
        yield* allIn(fleet, id2, { "web-1": "Reverted" })
        const returned = yield* fleet.agent("web-2")
        yield* eventuallyIs(
          "the return",
          fleet.hosts,
          (all) => all.some(({ hostname, lastCheckinAt }) => hostname === "web-2" && lastCheckinAt !== null)
        )
        // Two heartbeats and several plans later nothing has come.
        yield* Effect.sleep(3000)
        assert.isNull(returned.process.exitCode)
        assert.lengthOf(runs(note), 1)
        assert.strictEqual(fleet.current("web-2"), good)
        assert.isUndefined(stateOf(fleet, "web-2", id2))
      }))
  })
})
