/** The commands that look at an agent's journal, on real processes: while the agent runs, after it, and after a reset. */
import { assert, describe, layer } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { existsSync, readdirSync, statSync, writeFileSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { ExportLineJson } from "../../src/Schema/AgentExport.ts"
import { AgentStatusJson } from "../../src/Schema/AgentStatus.ts"
import { Certificates } from "../support/certificates.ts"
import { agentMain, runCommand } from "../support/command.ts"
import { eventually, eventuallyIs, type Fleet, makeFleet, noting, runs } from "../support/fleet.ts"

const host = "edge-07"

const command = (fleet: Fleet, ...args: ReadonlyArray<string>) =>
  runCommand(agentMain, [...args, "--config", fleet.at(`${host}.json`)])

const statusOf = (fleet: Fleet) => {
  const { code, errors, out } = command(fleet, "status", "--json")
  assert.deepStrictEqual([code, errors], [0, ""])
  return Schema.decodeUnknownSync(AgentStatusJson)(out)
}

const linesOf = (text: string) =>
  text.trimEnd().split("\n").map((line) => Schema.decodeUnknownSync(ExportLineJson)(line))

const converged = (fleet: Fleet, id: string) =>
  eventuallyIs(`the convergence of ${id}`, fleet.states(id), (states) => states[host] === "Converged")

const waves = (soakSeconds: number) => [{
  selector: { tags: [], tagsAny: [], hosts: [], channel: null, all: true },
  soakSeconds
}]

describe("a host's own words", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("status, export and check --deep work while the agent runs, and say what it does", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        yield* fleet.controlPlane
        const agent = yield* fleet.agent(host)
        const first = yield* fleet.pack("r1", "exit 0")
        yield* converged(fleet, fleet.publish("01", { [host]: first }))
        const next = yield* fleet.pack("r2", "exit 0")
        const id = fleet.publish("02", { [host]: next }, { waves: waves(600) })
        yield* eventually("the soak", () => fleet.record(host, id)?.state === "Soaking")
        yield* eventually("the delivery", () => fleet.events(host).every(({ delivery }) => delivery === "delivered"))

        const status = statusOf(fleet)
        assert.deepStrictEqual(status.agent, { running: true, pid: agent.process.pid ?? 0 })
        assert.deepStrictEqual(status.closures, { running: next, profile: next, lastConverged: first })
        assert.isTrue(status.journal?.contact?.answered)
        const [current] = status.journal?.rollouts ?? []
        assert.strictEqual(current?.rolloutId, id)
        assert.strictEqual(current?.state, "Soaking")
        const { sentence, until } = current?.waitsFor ?? {}
        assert.strictEqual(sentence, "soaks")
        assert.approximately((until ?? 0) - status.at, 600_000, 60_000)

        const text = command(fleet, "status")
        assert.include(text.out, `an agent runs (process ${agent.process.pid})`)
        assert.include(text.out, `waits    ${id}: soaks; until 20`)

        const exported = linesOf(command(fleet, "journal", "export").out)
        assert.strictEqual(exported[0]?.line, "header")
        assert.isAtLeast(exported.filter(({ line }) => line === "row").length, 8)
        assert.strictEqual(exported.at(-1)?.line, "end")

        const file = fleet.at("export.jsonl")
        assert.strictEqual(command(fleet, "journal", "export", "--out", file).code, 0)
        assert.strictEqual(statSync(file).mode & 0o777, 0o600)
        const again = command(fleet, "journal", "export", "--out", file)
        assert.strictEqual(again.code, 78)
        assert.include(again.errors, `${file} exists; --force replaces it`)
        writeFileSync(file, "old")
        assert.strictEqual(command(fleet, "journal", "export", "--out", file, "--force").code, 0)
        assert.isAbove(statSync(file).size, 3)
        assert.isFalse(existsSync(`${file}.part`))

        const deep = command(fleet, "check", "--deep")
        assert.strictEqual(deep.code, 0, deep.errors)
        assert.include(deep.out, "2 records are what their")
        assert.include(deep.out, `${first} is where a rollback goes, and is there`)

        const refused = command(fleet, "journal", "reset", "--yes")
        assert.strictEqual(refused.code, 78)
        assert.include(refused.errors, `is in use by process ${agent.process.pid}`)
        assert.deepStrictEqual(yield* fleet.end(agent, "SIGTERM"), { code: 0, signal: null })
        const stopped = statusOf(fleet)
        assert.isFalse(stopped.agent.running)
        assert.include(stopped.journal?.waitsFor.sentence, "no agent runs here")
        assert.isUndefined(stopped.journal?.rollouts[0]?.waitsFor?.until)
      }))

    it.effect("after a reset the agent works on against a control plane that knows the old journal", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        yield* fleet.controlPlane
        const agent = yield* fleet.agent(host)
        yield* converged(fleet, fleet.publish("01", { [host]: yield* fleet.pack("r1", "exit 0") }))
        const { journal } = statusOf(fleet)
        yield* fleet.end(agent, "SIGTERM")

        const unasked = command(fleet, "journal", "reset")
        assert.strictEqual(unasked.code, 64)
        assert.isTrue(existsSync(fleet.at("state", host, "journal.db")))
        const reset = command(fleet, "journal", "reset", "--yes")
        assert.strictEqual(reset.code, 0, reset.errors)
        assert.include(reset.out, "set aside as")
        const kept = readdirSync(fleet.at("state", host)).filter((name) => /^journal\.db\.[0-9]{8}T/.test(name))
        assert.lengthOf(kept, 1)
        assert.isTrue(existsSync(fleet.at("state", host, "trust-memory.db")))
        assert.isUndefined(statusOf(fleet).journal)

        yield* fleet.agent(host)
        yield* converged(fleet, fleet.publish("02", { [host]: yield* fleet.pack("r2", "exit 0") }))
        assert.notStrictEqual(statusOf(fleet).journal?.journalId, journal?.journalId)
        assert.strictEqual(command(fleet, "check", "--deep").code, 0)
      }))

    it.effect("a damaged journal is named, saved as far as it can be read, and replaced", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        yield* fleet.controlPlane
        const agent = yield* fleet.agent(host)
        yield* converged(fleet, fleet.publish("01", { [host]: yield* fleet.pack("r1", "exit 0") }))
        yield* fleet.end(agent, "SIGTERM")
        const file = fleet.at("state", host, "journal.db")
        const db = new DatabaseSync(file)
        db.exec("UPDATE rollouts SET folded = '{'")
        db.close()
        for (const args of [["status"], ["check", "--deep"], ["run"]]) {
          const { code, errors } = command(fleet, ...args)
          assert.strictEqual(code, 78, args.join(" "))
          assert.include(errors, `${file} cannot be read`, args.join(" "))
        }
        const saved = command(fleet, "journal", "export")
        assert.strictEqual(saved.code, 0)
        assert.include(saved.errors, "1 that cannot be read")
        const reset = command(fleet, "journal", "reset", "--yes")
        assert.strictEqual(reset.code, 0, reset.errors)
        assert.include(reset.out, "the journal cannot be read")
        yield* fleet.agent(host)
        yield* converged(fleet, fleet.publish("02", { [host]: yield* fleet.pack("r2", "exit 0") }))
      }))

    it.effect("after a reset in the middle of a soak the host is dispatched again, and soaks without a second switch", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        yield* fleet.controlPlane
        const agent = yield* fleet.agent(host)
        const notes = fleet.at("notes")
        const closure = yield* fleet.pack("r1", noting(notes))
        const id = fleet.publish("01", { [host]: closure }, { waves: waves(5) })
        yield* eventuallyIs("the soak", fleet.states(id), (states) => states[host] === "Soaking")
        yield* fleet.end(agent, "SIGKILL")
        const reset = command(fleet, "journal", "reset", "--yes", "--discard")
        assert.strictEqual(reset.code, 0, reset.errors)
        assert.include(reset.out, `${id} is Soaking here, and is dispatched again afterwards`)
        assert.isEmpty(readdirSync(fleet.at("state", host)).filter((name) => name.startsWith("journal.db.2")))
        yield* fleet.agent(host)
        yield* converged(fleet, id)
        assert.strictEqual(fleet.record(host, id)?.attempt, 2)
        assert.lengthOf(runs(notes), 1)
        yield* converged(fleet, fleet.publish("02", { [host]: yield* fleet.pack("r2", "exit 0") }))
      }))
  })
})
