/** An operator pauses, holds, freezes and clears, as processes at a control plane that is killed meanwhile (D7, D8, D17). */
import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { Certificates } from "../support/certificates.ts"
import { controlPlaneMain, runCommand } from "../support/command.ts"
import { launch } from "../support/controlPlaneProcess.ts"
import { eventually, eventuallyIs, type Fleet, makeFleet, noting } from "../support/fleet.ts"

vi.setConfig({ testTimeout: 180_000 })

const operator = join(import.meta.dirname, "../../src/Operator/Main.ts")
const selector = (...hosts: ReadonlyArray<string>) => ({ tags: [], tagsAny: [], hosts, channel: null, all: false })
const because = ["--reason", "a test"]

/** Runs a command to its end; it must say yes. */
const nixfleet = Effect.fnUntraced(function*(fleet: Fleet, ...args: ReadonlyArray<string>) {
  const running = yield* launch([...args, ...fleet.operatorFlags], { HOME: fleet.directory }, operator)
  const { code } = yield* running.ended
  assert.strictEqual(code, 0, running.errors())
  return running
})

/** What the control plane says the host waits for. */
const waitsFor = (fleet: Fleet, host: string) =>
  Effect.map(fleet.hosts, (hosts) => hosts.find(({ hostname }) => hostname === host)?.waitsFor)

describe("operators' actions on real programs", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("a freeze stops a rollout by the next poll, holds across kill -9, and what goes on is under way", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({
          hosts: ["web-1", "web-2"],
          policy: {
            waves: [
              { selector: selector("web-1"), soakSeconds: 4 },
              { selector: selector("web-2"), soakSeconds: 1 }
            ]
          }
        })
        const closure = yield* fleet.pack("r1", noting(fleet.at("runs")))
        const first = yield* fleet.controlPlane
        const id = fleet.publish("01", { "web-1": closure, "web-2": closure })
        yield* fleet.agent("web-1")
        yield* fleet.agent("web-2")
        yield* eventuallyIs("soak", fleet.states(id), (states) => states["web-1"] === "Soaking")
        yield* nixfleet(fleet, "freeze", "--for", "1h", ...because)
        yield* fleet.end(first, "SIGKILL")
        yield* fleet.controlPlane

        yield* eventuallyIs("web-1 goes on", fleet.states(id), (states) => states["web-1"] === "Converged")
        const waits = yield* eventuallyIs("the verdict", waitsFor(fleet, "web-2"), (found) => found?.gate === "frozen")
        assert.match(waits?.because ?? "", /^every channel is frozen by operator until \S+: "a test"$/)
        assert.strictEqual(waits?.clearedBy, "nixfleet unfreeze")
        // The next poll that could have brought it: the agent asks anew whenever its poll has ended.
        assert.isUndefined(fleet.current("web-2"))
        const deep = runCommand(controlPlaneMain, ["check", "--deep", "--config", fleet.at("control-plane.json")])
        assert.match(deep.out, /what is stored is what its \d+ rows mean/, deep.errors)

        yield* nixfleet(fleet, "unfreeze", ...because)
        yield* eventuallyIs("web-2 converged", fleet.states(id), (states) => states["web-2"] === "Converged")
        assert.strictEqual(fleet.current("web-2"), closure)
      }))

    it.effect("a held host is left out, and gets what it missed when its time is over", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: ["web-1", "web-2"] })
        const [one, two] = [yield* fleet.pack("r1", "exit 0"), yield* fleet.pack("r2", "exit 0")]
        yield* fleet.controlPlane
        const first = fleet.publish("01", { "web-1": one, "web-2": one })
        yield* fleet.agent("web-1")
        yield* fleet.agent("web-2")
        yield* eventuallyIs("r1", fleet.states(first), (states) =>
          states["web-1"] === "Converged" && states["web-2"] === "Converged")
        yield* nixfleet(fleet, "host", "hold", "web-2", "--for", "12s", ...because)
        const second = fleet.publish("02", { "web-1": two, "web-2": two })
        yield* nixfleet(fleet, "rollout", "wait", second, "--timeout", "60s")
        assert.deepStrictEqual([fleet.current("web-1"), fleet.current("web-2")], [two, one])
        assert.strictEqual((yield* waitsFor(fleet, "web-2"))?.gate, "held")
        yield* eventuallyIs("its turn", fleet.states(second), (states) =>
          states["web-2"] === "Converged")
        assert.strictEqual(fleet.current("web-2"), two)
        const actions = yield* fleet.asOperator("/v1/operator/actions")
        assert.deepInclude(actions, { inForce: [] })
        assert.include(JSON.stringify(actions), "its time is over")
      }))

    it.effect("a halted rollout that is cleared converges once its cause is repaired", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({
          hosts: ["web-1", "web-2"],
          policy: {
            waves: [{ selector: selector("web-1"), soakSeconds: 1 }, { selector: selector("web-2"), soakSeconds: 1 }]
          }
        })
        const good = yield* fleet.pack("r1", "exit 0")
        const needy = yield* fleet.pack("r2", `test -e ${fleet.at("repaired")}`)
        yield* fleet.controlPlane
        const first = fleet.publish("01", { "web-1": good, "web-2": good })
        yield* fleet.agent("web-1")
        yield* fleet.agent("web-2")
        yield* eventuallyIs("r1", fleet.states(first), (states) =>
          states["web-1"] === "Converged" && states["web-2"] === "Converged")
        const second = fleet.publish("02", { "web-1": needy, "web-2": needy })
        yield* eventuallyIs("the way back", fleet.states(second), (states) =>
          states["web-1"] === "Reverted")
        yield* eventually("the old closure", () =>
          fleet.current("web-1") === good)
        assert.include(JSON.stringify(yield* fleet.asOperator("/v1/quarantine")), needy)

        writeFileSync(fleet.at("repaired"), "")
        const cleared = yield* nixfleet(fleet, "rollout", "clear", second, ...because)
        assert.include(JSON.stringify(cleared.log), "web-1")
        yield* nixfleet(fleet, "rollout", "wait", second, "--timeout", "60s")
        assert.deepStrictEqual([fleet.current("web-1"), fleet.current("web-2")], [needy, needy])
        assert.strictEqual(fleet.record("web-1", second)?.attempt, 2)
        // The digest of what failed before comes with each heartbeat, and tells nothing new.
        assert.deepStrictEqual(yield* fleet.asOperator("/v1/quarantine"), { quarantine: [] })
      }))
  })
})
