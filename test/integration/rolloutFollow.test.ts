/** `nixfleet rollout events --follow`, `rollout wait` and `status --exit-code` as processes, at a control plane that is killed meanwhile. */
import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { Certificates } from "../support/certificates.ts"
import { launch, type Running } from "../support/controlPlaneProcess.ts"
import { eventually, eventuallyIs, type Fleet, makeFleet, noting } from "../support/fleet.ts"

vi.setConfig({ testTimeout: 180_000 })

const operator = join(import.meta.dirname, "../../src/Operator/Main.ts")
const host = "web-1"
const everybody = { tags: [], tagsAny: [], hosts: [], channel: null, all: true }

const nixfleet = (fleet: Fleet, ...args: ReadonlyArray<string>) =>
  launch([...args, ...fleet.operatorFlags], { HOME: fleet.directory }, operator)
const seqs = ({ log }: Pick<Running, "log">): ReadonlyArray<number> => log.map((line) => Number(line["seq"]))

describe("an operator that follows a rollout", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("sees every event once, across a kill of the control plane, and the end", () =>
      Effect.gen(function*() {
        // Long enough to kill and start the control plane while it soaks.
        const fleet = yield* makeFleet({
          hosts: [host],
          policy: { waves: [{ selector: everybody, soakSeconds: 6 }] }
        })
        const closure = yield* fleet.pack("r1", noting(fleet.at("runs")))
        const first = yield* fleet.controlPlane
        const id = fleet.publish("01", { [host]: closure })
        const waiting = yield* eventuallyIs(
          "the release in force",
          fleet.asOperator("/v1/channels/stable"),
          () => true
        ).pipe(Effect.andThen(nixfleet(fleet, "rollout", "wait", id, "--timeout", "120s")))
        yield* eventuallyIs("the rollout", fleet.states(id), (states) => states[host] !== undefined)
        const [followed, left] = yield* Effect.all([
          nixfleet(fleet, "rollout", "events", id, "--follow", "--json"),
          nixfleet(fleet, "rollout", "events", id, "--follow")
        ])
        const notYet = yield* nixfleet(fleet, "status", "--exit-code")
        assert.strictEqual((yield* notYet.ended).code, 2, notYet.errors())

        yield* fleet.agent(host)
        yield* eventuallyIs("soak", fleet.states(id), (states) => states[host] === "Soaking")
        yield* eventually("events", () => followed.log.length > 3 && left.log.length > 3)
        left.process.kill("SIGINT")
        assert.deepStrictEqual(yield* left.ended, { code: 0, signal: null }, left.errors())

        yield* fleet.end(first, "SIGKILL")
        yield* eventually("word of it", () =>
          followed.errors().includes("waiting for the control plane") || followed.errors())
        yield* fleet.controlPlane

        assert.deepStrictEqual(yield* followed.ended, { code: 0, signal: null }, followed.errors())
        assert.include(followed.errors(), "the control plane answers again")
        assert.include(followed.errors(), `${id} has converged`)
        assert.strictEqual((yield* waiting.ended).code, 0, waiting.errors())

        const file = fleet.at("events.jsonl")
        const exported = yield* nixfleet(fleet, "rollout", "events", id, "--export", file)
        assert.strictEqual((yield* exported.ended).code, 0, exported.errors())
        const all = readFileSync(file, "utf8").trimEnd().split("\n").map((line): number =>
          JSON.parse(line).seq
        )
        assert.deepStrictEqual(all, all.toSorted((a, b) => a - b))
        assert.deepStrictEqual(seqs(followed), all.filter((seq) => seq <= (seqs(followed).at(-1) ?? 0)))
        assert.include(JSON.stringify(followed.log.at(-1)), "RolloutTerminal")

        yield* eventuallyIs("the heartbeat after it", fleet.hosts, ([one]) => one?.currentClosureHash === closure)
        const converged = yield* nixfleet(fleet, "status", "--exit-code")
        assert.strictEqual((yield* converged.ended).code, 0, converged.errors())
      }))
  })
})
