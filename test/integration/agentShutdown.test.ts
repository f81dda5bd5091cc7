import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdirSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import { Certificates } from "../support/certificates.ts"
import { eventually, type Fleet, makeFleet, noting, runs } from "../support/fleet.ts"

vi.setConfig({ testTimeout: 180_000 })

const host = "web-1"

const isState = (fleet: Fleet, rolloutId: string, state: string) => () =>
  fleet.record(host, rolloutId)?.state === state || fleet.record(host, rolloutId)?.state

type Agent = Effect.Success<ReturnType<Fleet["agent"]>>

/** D18. */
const endsInTime = Effect.fnUntraced(function*(fleet: Fleet, agent: Agent) {
  const before = performance.now()
  assert.deepStrictEqual(yield* fleet.end(agent, "SIGTERM"), { code: 0, signal: null })
  assert.isBelow(performance.now() - before, 2000)
})

/** Sends the beginning of every archive, and then nothing any more. */
const stallingServer = Effect.acquireRelease(
  Effect.callback<{ readonly url: string; asked: number; readonly close: () => void }>((resume) => {
    const server = createServer((_, response) => {
      source.asked += 1
      response.writeHead(200, { "content-length": "1000000" }).write("beginning")
    })
    const close = () => {
      server.closeAllConnections()
      server.close()
    }
    const source = { url: "", asked: 0, close }
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      source.url = `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`
      resume(Effect.succeed(source))
    })
  }),
  ({ close }) => Effect.sync(close)
)

describe("SIGTERM ends an agent within 2 s, exit 0,", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("while an archive has stalled", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        const source = yield* stallingServer
        const closure = yield* fleet.pack("r1", "exit 0")
        yield* fleet.controlPlane
        const agent = yield* fleet.agent(host, { archiveSource: source.url })
        fleet.publish("01", { [host]: closure })
        yield* eventually("the request", () => source.asked > 0)
        yield* endsInTime(fleet, agent)
      }))

    it.effect("while commands of probes run that ignore it, and leaves none of them behind", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        const started = fleet.at("probes")
        const script = `trap '' TERM; echo $$ >>${started}; sleep 300`
        const check = { kind: "exec", mode: "enforce", command: ["/bin/sh", "-c", script], timeoutSecs: 600 }
        writeFileSync(fleet.at(`${host}.health.json`), JSON.stringify({ a: check, b: check, c: check }))
        yield* fleet.controlPlane
        const agent = yield* fleet.agent(host)
        fleet.publish("01", { [host]: yield* fleet.pack("r1", "exit 0") })
        yield* eventually("three commands", () => runs(started).length === 3)
        yield* endsInTime(fleet, agent)
        for (const pid of runs(started)) assert.throws(() => process.kill(Number(pid), 0), /ESRCH/)
      }))

    it.effect("while somebody else holds the switch lock, and switches once after its start", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        const note = fleet.at("runs")
        mkdirSync(fleet.at("systems", host), { recursive: true })
        const locker = spawn("flock", [fleet.at("systems", host, "switch.lock"), "sleep", "300"], { detached: true })
        yield* Effect.addFinalizer(() =>
          Effect.sync(() => {
            if (locker.exitCode === null && locker.signalCode === null) process.kill(-locker.pid!, "SIGKILL")
          })
        )
        yield* fleet.controlPlane
        const agent = yield* fleet.agent(host)
        const id = fleet.publish("01", { [host]: yield* fleet.pack("r1", noting(note)) })
        yield* eventually("the mark", () => fleet.events(host).some(({ kind }) => kind === "ActivationStarted"))
        yield* endsInTime(fleet, agent)
        const ended = once(locker, "exit")
        process.kill(-locker.pid!, "SIGKILL")
        yield* Effect.promise(() => ended)
        yield* fleet.agent(host)
        yield* eventually("convergence", isState(fleet, id, "Converged"))
        assert.lengthOf(runs(note), 1)
      }))
  })
})
