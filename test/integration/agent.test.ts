import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { createServer } from "node:http"
import { join } from "node:path"
import { Certificates } from "../support/certificates.ts"
import { eventually, eventuallyIs, type Fleet, makeFleet, noting, runs } from "../support/fleet.ts"

// Real processes with real back-off: most tests need ten seconds, an unlucky one on a busy machine needs a minute.
vi.setConfig({ testTimeout: 180_000 })

const host = "web-1"

const isState = (fleet: Fleet, rolloutId: string, state: string) => () =>
  fleet.record(host, rolloutId)?.state === state || fleet.record(host, rolloutId)?.state

/** Both sides say the same, and everything was delivered. */
const settledAs = Effect.fnUntraced(function*(fleet: Fleet, rolloutId: string, state: string) {
  yield* eventually(`${state} in the journal`, isState(fleet, rolloutId, state))
  yield* eventuallyIs(`${state} at the control plane`, fleet.states(rolloutId), (states) => states[host] === state)
  yield* eventually(
    "delivery",
    () => fleet.events(host).every(({ delivery }) => delivery === "delivered") || fleet.events(host)
  )
})

/** Serves archives over HTTP, once they are said to be available; 503 before. */
const archiveServer = (directory: string) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; available: boolean; readonly close: () => void }>((resume) => {
      const server = createServer((request, response) => {
        if (!source.available) response.writeHead(503).end()
        else response.end(readFileSync(join(directory, request.url ?? "")))
      })
      const source = { url: "", available: false, close: () => server.close() }
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        source.url = `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`
        resume(Effect.succeed(source))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

const kinds = (fleet: Fleet) => fleet.events(host).map(({ kind }) => kind)

describe("an agent at a control plane", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("brings its host to what is released, and both sides agree", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        const note = fleet.at("runs")
        const closure = yield* fleet.pack("r1", noting(note))
        yield* fleet.controlPlane
        yield* fleet.agent(host)
        const id = fleet.publish("01", { [host]: closure })
        yield* settledAs(fleet, id, "Converged")
        assert.strictEqual(fleet.current(host), closure)
        assert.lengthOf(runs(note), 1)
        assert.deepStrictEqual(kinds(fleet).filter((kind) => !kind.startsWith("Probe")), [
          "DispatchAck",
          "ActivationStarted",
          "ActivationCompleted",
          "Converged"
        ])
      }))

    it.effect("SIGTERM ends an idle agent with a parked poll within 2 s, exit 0, and the control plane likewise", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        const controlPlane = yield* fleet.controlPlane
        const agent = yield* fleet.agent(host)
        // From the end of its rollout on the agent has nothing to do but wait.
        yield* settledAs(fleet, fleet.publish("01", { [host]: yield* fleet.pack("r1", "exit 0") }), "Converged")
        for (const [program, signal] of [[agent, "SIGTERM"], [controlPlane, "SIGINT"]] as const) {
          const before = performance.now()
          const ended = yield* fleet.end(program, signal)
          assert.deepStrictEqual(ended, { code: 0, signal: null })
          assert.isBelow(performance.now() - before, 2000)
        }
      }))

    it.effect("SIGTERM ends an agent whose control plane was never there within 2 s, exit 0", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        const agent = yield* fleet.agent(host)
        yield* agent.line((line) => line["reason"] === "control-plane-unreachable")
        const before = performance.now()
        assert.deepStrictEqual(yield* fleet.end(agent, "SIGTERM"), { code: 0, signal: null })
        assert.isBelow(performance.now() - before, 2000)
      }))

    it.effect("a second agent on the same state directory is told who is there, exit 78", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        const first = yield* fleet.agent(host)
        yield* first.line((line) => line["reason"] === "control-plane-unreachable")
        const second = yield* fleet.agent(host)
        assert.deepStrictEqual(yield* second.ended, { code: 78, signal: null })
        assert.include(second.errors(), `is in use by process ${first.process.pid}`)
      }))
  })
})

describe("an agent that is killed", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    /** One host that runs `r1`, and a second release whose switch does `body`. */
    const prepared = Effect.fnUntraced(function*(body: (note: string) => string) {
      const fleet = yield* makeFleet({ hosts: [host] })
      const note = fleet.at("runs")
      yield* fleet.controlPlane
      const first = yield* fleet.pack("r1", "exit 0")
      const id1 = fleet.publish("01", { [host]: first })
      const agent = yield* fleet.agent(host)
      yield* settledAs(fleet, id1, "Converged")
      const next = yield* fleet.pack("r2", body(note))
      return { fleet, note, agent, next }
    })

    it.effect("with -9 while it fetches fetches and switches once after its start", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        const note = fleet.at("runs")
        const source = yield* archiveServer(fleet.at("archives"))
        const closure = yield* fleet.pack("r1", noting(note))
        yield* fleet.controlPlane
        const agent = yield* fleet.agent(host, { archiveSource: source.url })
        const id = fleet.publish("01", { [host]: closure })
        yield* agent.line((line) => line["reason"] === "fetch-failed")
        assert.strictEqual(fleet.record(host, id)?.state, "Activating")
        yield* fleet.end(agent, "SIGKILL")
        source.available = true
        yield* fleet.agent(host, { archiveSource: source.url })
        yield* settledAs(fleet, id, "Converged")
        assert.strictEqual(fleet.current(host), closure)
        assert.lengthOf(runs(note), 1)
      }))

    it.effect("with -9 while its switch runs picks the running switch up", () =>
      Effect.gen(function*() {
        const { agent, fleet, next, note } = yield* prepared((file) => noting(file, "sleep 2"))
        const id = fleet.publish("02", { [host]: next })
        yield* eventually("the switch", () => runs(note).length === 1)
        yield* fleet.end(agent, "SIGKILL")
        yield* fleet.agent(host)
        yield* settledAs(fleet, id, "Converged")
        assert.strictEqual(fleet.current(host), next)
        assert.lengthOf(runs(note), 1, "the switch ran once")
      }))

    it.effect("with -9 while its switch runs finds the result of one that ended meanwhile", () =>
      Effect.gen(function*() {
        const { agent, fleet, next, note } = yield* prepared((file) => noting(file, "sleep 1"))
        const id = fleet.publish("02", { [host]: next })
        yield* eventually("the switch", () => runs(note).length === 1)
        yield* fleet.end(agent, "SIGKILL")
        yield* eventually("the end of the switch", () => fleet.current(host) === next)
        yield* fleet.agent(host)
        yield* settledAs(fleet, id, "Converged")
        assert.lengthOf(runs(note), 1, "the switch ran once")
      }))

    it.effect("with -9 while it soaks soaks on and converges, without another switch", () =>
      Effect.gen(function*() {
        const { agent, fleet, next, note } = yield* prepared((file) => noting(file))
        const id = fleet.publish("02", { [host]: next }, { waves: waves(3) })
        yield* eventually("the soak", isState(fleet, id, "Soaking"))
        yield* fleet.end(agent, "SIGKILL")
        yield* fleet.agent(host)
        yield* settledAs(fleet, id, "Converged")
        assert.lengthOf(runs(note), 1)
      }))

    it.effect("with -9 while it rolls back finishes the rollback", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        const note = fleet.at("runs")
        yield* fleet.controlPlane
        // The good system is slow to come back, so that the kill finds the rollback running.
        const good = yield* fleet.pack("good", noting(note, "sleep 1"))
        const bad = yield* fleet.pack("bad", "exit 1")
        const id1 = fleet.publish("01", { [host]: good })
        const agent = yield* fleet.agent(host)
        yield* settledAs(fleet, id1, "Converged")
        const id2 = fleet.publish("02", { [host]: bad })
        yield* eventually("the rollback", () => runs(note).length === 2)
        yield* fleet.end(agent, "SIGKILL")
        yield* fleet.agent(host)
        yield* settledAs(fleet, id2, "Reverted")
        assert.strictEqual(fleet.current(host), good)
        assert.lengthOf(runs(note), 2, "the rollback ran once")
      }))

    it.effect("with SIGTERM while its switch runs leaves the switch alone and picks it up", () =>
      Effect.gen(function*() {
        const { agent, fleet, next, note } = yield* prepared((file) => noting(file, "sleep 2"))
        const id = fleet.publish("02", { [host]: next })
        yield* eventually("the switch", () => runs(note).length === 1)
        const before = performance.now()
        assert.deepStrictEqual(yield* fleet.end(agent, "SIGTERM"), { code: 0, signal: null })
        assert.isBelow(performance.now() - before, 2000)
        assert.notStrictEqual(fleet.current(host), next, "the switch still runs")
        yield* eventually("the end of the switch", () => fleet.current(host) === next)
        yield* fleet.agent(host)
        yield* settledAs(fleet, id, "Converged")
        assert.lengthOf(runs(note), 1)
      }))
  })
})

const waves = (soakSeconds: number) => [{
  selector: { tags: [], tagsAny: [], hosts: [], channel: null, all: true },
  soakSeconds
}]
