/** A fetch that takes its time, on real processes: its host and the control plane say how far it is. */
import { assert, describe, layer } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { existsSync, statSync } from "node:fs"
import { join } from "node:path"
import { AgentStatusJson } from "../../src/Schema/AgentStatus.ts"
import { Certificates } from "../support/certificates.ts"
import { agentMain, runCommand } from "../support/command.ts"
import { eventually, eventuallyIs, type Fleet, makeFleet } from "../support/fleet.ts"
import { slowSource } from "../support/slowSource.ts"

const host = "edge-07"
const operatorMain = join(import.meta.dirname, "../../src/Operator/Main.ts")

const status = (fleet: Fleet) => {
  const flags = ["--config", fleet.at(`${host}.json`)]
  const { code, errors, out } = runCommand(agentMain, ["status", "--json", ...flags])
  assert.deepStrictEqual([code, errors], [0, ""])
  const { fetching, journal } = Schema.decodeUnknownSync(AgentStatusJson)(out)
  return { fetching, sentence: journal?.waitsFor.sentence ?? "" }
}

describe("a slow fetch", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("is shown by the host and at the control plane while it runs, and by nobody afterwards", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        yield* fleet.controlPlane
        const { finish, url } = yield* slowSource(fleet.at("archives"))
        const note = fleet.at("state", host, "fetching.json")
        const agent = yield* fleet.agent(host, { archiveSource: url })
        const closure = yield* fleet.pack("r1", "exit 0")
        const id = fleet.publish("01", { [host]: closure })
        yield* eventually("the note of the fetch", () => existsSync(note))

        const { fetching, sentence } = status(fleet)
        const { doneBytes = 0, expectedBytes = 0 } = fetching ?? {}
        assert.strictEqual(fetching?.closure, closure)
        assert.strictEqual(expectedBytes, statSync(fleet.at("archives", `${closure}.tar`)).size)
        assert.strictEqual(doneBytes, Math.floor(expectedBytes / 2))
        const kB = (bytes: number) => Math.floor(bytes / 1000)
        assert.strictEqual(sentence, `${id}: fetches ${closure}: ${kB(doneBytes)} of ${kB(expectedBytes)} kB`)
        const shown = { closure, doneBytes, expectedBytes }
        const [entry] = yield* eventuallyIs(
          "the fetch at the control plane",
          fleet.hosts,
          ([one]) => one?.fetching !== null
        )
        assert.deepStrictEqual(entry?.fetching, shown)
        const table = runCommand(operatorMain, ["status", ...fleet.operatorFlags])
        assert.include(table.out, "fetching 50 %", table.errors)

        yield* fleet.end(agent, "SIGKILL")
        assert.isTrue(existsSync(note))
        assert.isUndefined(status(fleet).fetching)
        yield* fleet.agent(host, { archiveSource: url })
        yield* eventually("the note of the next agent", () => status(fleet).fetching !== undefined)

        finish()
        yield* eventuallyIs("the convergence", fleet.states(id), (states) => states[host] === "Converged")
        assert.isFalse(existsSync(note))
        assert.isUndefined(status(fleet).fetching)
        yield* eventuallyIs("nothing to fetch at the control plane", fleet.hosts, ([one]) => one?.fetching === null)
      }))
  })
})
