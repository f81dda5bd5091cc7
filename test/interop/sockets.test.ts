/** The same peers over mutual TLS and real processes: once each, for what virtual worlds leave out. */
import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { basename } from "node:path"
import * as ActivatorMemory from "../../src/Layers/Host/ActivatorMemory.ts"
import * as TlsClient from "../../src/Layers/Net/TlsClient.ts"
import { closure, trustJson } from "../support/artifacts.ts"
import { Certificates } from "../support/certificates.ts"
import { eventually, eventuallyIs, type Fleet, makeFleet, noting, runs } from "../support/fleet.ts"
import { referenceAgent } from "../support/referenceAgent.ts"
import { ReferenceControlPlane } from "../support/referenceControlPlane.ts"
import { ReferenceDatabase } from "../support/referenceDatabase.ts"
import { referenceCadences, ReferenceHost } from "../support/referenceHost.ts"
import { serve, utf8 } from "../support/tls.ts"

vi.setConfig({ testTimeout: 180_000 })

const host = "web-1"
const before = closure("a", "before")
const good = closure("b", "good")
const bad = closure("c", "bad")

const everybody = { tags: [], tagsAny: [], hosts: [], channel: null, all: true }

/** Runs an agent of the original until the scope ends. */
const startReferenceAgent = Effect.fnUntraced(function*(fleet: Fleet, peer: ReferenceHost) {
  const { authority, caFile, write } = yield* Certificates
  const files = write(peer.name, authority.agent(peer.name))
  const exchange = TlsClient.layer({
    baseUrl: `https://localhost:${fleet.port}`,
    caFile,
    certFile: files.cert,
    keyFile: files.key,
    insecure: false
  })
  const cadences = {
    ...referenceCadences,
    heartbeat: 500,
    drain: 500,
    advance: 200,
    manifestPoll: 500,
    errorPause: 200,
    linkPoll: 100,
    sustainedFailure: 1_000
  }
  return yield* Effect.forkScoped(Effect.provide(referenceAgent(peer, cadences), exchange))
})

/** What was published, as a control plane of the original reads it at each look. */
const published = (fleet: Fleet, rolloutIds: ReadonlyArray<string>) =>
  new Map(["fleet.resolved.json", ...rolloutIds.map((id) => `rollouts/${id}.json`)].map((name) => [
    name,
    {
      bytes: new Uint8Array(readFileSync(fleet.at("releases", name))),
      signature: new Uint8Array(readFileSync(fleet.at("releases", `${name}.sig`)))
    }
  ]))

describe("over mutual TLS", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("an agent of the original takes a release, and rolls back from a bad one, across a restart of our process", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        const hardware = new ActivatorMemory.MemoryHost({ initial: before })
        const peer = new ReferenceHost(host, hardware, utf8(JSON.stringify(trustJson())))
        peer.checks = { web: { kind: "http", mode: "enforce", intervalMs: 200 } }
        peer.probe = (running) => running === bad ? "fail" : "pass"
        const isNow = (id: string, state: string) =>
          eventuallyIs(`${state} at the control plane`, fleet.states(id), (states) => states[host] === state)

        const first = yield* fleet.controlPlane
        yield* startReferenceAgent(fleet, peer)
        const r1 = fleet.publish("01", { [host]: good })
        yield* isNow(r1, "Activating")
        yield* fleet.end(first, "SIGKILL")
        yield* fleet.controlPlane
        yield* isNow(r1, "Converged")
        const r2 = fleet.publish("02", { [host]: bad }, { waves: [{ selector: everybody, soakSeconds: 30 }] })
        yield* isNow(r2, "Reverted")
        assert.deepStrictEqual(hardware.runs.map((run) => run.closure), [good, bad, good])
      }))

    it.effect("our agent takes a release, and rolls back from a bad one, across a restart of the original", () =>
      Effect.gen(function*() {
        const policy = { waves: [{ selector: everybody, soakMinutes: 0, soakSeconds: 1 }] }
        const fleet = yield* makeFleet({ hosts: [host], policy })
        const note = fleet.at("runs")
        const [runsGood, runsBad] = [
          yield* fleet.pack("good", noting(note)),
          yield* fleet.pack("bad", noting(note, "exit 1"))
        ]
        const database = new ReferenceDatabase()
        const releases = new Map<string, { readonly bytes: Uint8Array; readonly signature: Uint8Array }>()
        const publish = (ref: string, name: string) => {
          const id = fleet.publish(ref, { [host]: name })
          for (const [path, file] of published(fleet, [id])) releases.set(path, file)
          return id
        }
        const state = (id: string) => database.records.get(`${id} ${host}`)?.state
        /** Each start is another process: nothing but its database and the port of its first listener stays. */
        let handler = new ReferenceControlPlane(database, releases).handler
        const start = Effect.fnUntraced(function*() {
          const options = { planMs: 200, manifestPollMs: 200, coldMs: 1_000 }
          const controlPlane = new ReferenceControlPlane(database, releases, options)
          handler = controlPlane.handler
          return yield* Effect.forkScoped(controlPlane.run)
        })
        const { port } = yield* serve((request, peer) => handler(request, peer))

        yield* start()
        yield* fleet.agent(host, { controlPlaneUrl: `https://localhost:${port}` })
        const r1 = publish("01", runsGood)
        yield* eventually("an acknowledged dispatch", () => state(r1) !== undefined && state(r1) !== "Pending")
        yield* start()
        yield* eventually("Converged at the original", () => state(r1) === "Converged" || state(r1))
        const r2 = publish("02", runsBad)
        yield* eventually("Reverted at the original", () => state(r2) === "Reverted" || state(r2))
        assert.deepStrictEqual(runs(note).map((path) => basename(path)), [runsGood, runsBad, runsGood])
        assert.strictEqual(fleet.current(host), runsGood)
      }))
  })
})
