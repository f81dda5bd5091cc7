/**
 * The agent as it ships: one executable, not the sources. What a host asks of it (a rollout, a rollback, a restart), and what
 * whoever installs it relies on: the same bytes from the same sources, and nothing in it that does not belong there.
 */
import { assert, describe, it, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { Certificates } from "../support/certificates.ts"
import { temporaryDirectory } from "../support/directories.ts"
import { buildExecutable } from "../support/executable.ts"
import { eventually, eventuallyIs, type Fleet, makeFleet, noting, runs } from "../support/fleet.ts"
import { assertLines } from "../support/logLines.ts"

// Real processes with real back-off, and two builds.
vi.setConfig({ testTimeout: 180_000 })

const host = "web-1"
const executable = buildExecutable()
const { version }: { readonly version: string } = JSON.parse(
  readFileSync(resolve(import.meta.dirname, "../../package.json"), "utf8")
)

/** Both sides say the same. */
const settledAs = Effect.fnUntraced(function*(fleet: Fleet, rolloutId: string, state: string) {
  yield* eventually(`${state} in the journal`, () => fleet.record(host, rolloutId)?.state === state)
  yield* eventuallyIs(`${state} at the control plane`, fleet.states(rolloutId), (states) => states[host] === state)
})

describe("the executable", () => {
  it("starts with an empty environment, and no option of its starter's NODE_OPTIONS has a say", () => {
    for (const env of [{}, { NODE_OPTIONS: "--no-such-option" }, { NODE_OPTIONS: "--require=/nonexistent.js" }]) {
      const { status, stderr, stdout } = spawnSync(executable.file, ["--version"], { env, encoding: "utf8" })
      assert.deepStrictEqual([status, stdout, stderr], [0, `nixfleet-agent v${version}\n`, ""])
    }
  })

  it("tells a wrong command line and a wrong configuration apart by its exit code", () => {
    const statusOf = (...args: ReadonlyArray<string>) => spawnSync(executable.file, args, { env: {} }).status
    assert.deepStrictEqual([statusOf("--nope"), statusOf("run", "--config", "/nonexistent.json")], [64, 78])
  })

  it.live("is the same, byte for byte, when it is built again elsewhere", () =>
    Effect.gen(function*() {
      const again = buildExecutable(yield* temporaryDirectory)
      assert.strictEqual(again.sha256, executable.sha256)
      assert.deepStrictEqual(again.modules, executable.modules)
    }))

  it("holds the agent and its dependencies, and nothing of control plane, operator or simulator", () => {
    assert.include(executable.modules, "src/Main.ts")
    assert.deepStrictEqual(
      executable.modules.filter((file) =>
        /^src\/(?:ControlPlane|Operator|Simulation|Workers\/ControlPlane)\//.test(file)
      ),
      []
    )
    const packages = executable.modules.flatMap((file) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? [])
    assert.sameMembers([...new Set(packages)], [
      "@effect/platform-node",
      "@effect/platform-node-shared",
      "@noble/ed25519",
      "@peculiar/asn1-csr",
      "@peculiar/asn1-ecc",
      "@peculiar/asn1-schema",
      "@peculiar/asn1-x509",
      "@peculiar/utils",
      "asn1js",
      "effect",
      "pvtsutils",
      "pvutils",
      "tar",
      "tslib"
    ])
  })

  layer(Certificates.layer, { excludeTestServices: true })((test) => {
    test.effect("brings its host to a release, goes back from a broken one, and is killed and started in between", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host], agentProgram: executable.file })
        const note = fleet.at("runs")
        const good = yield* fleet.pack("good", noting(note))
        const slow = yield* fleet.pack("slow", noting(note, "sleep 2"))
        const bad = yield* fleet.pack("bad", noting(note, "exit 1"))
        const controlPlane = yield* fleet.controlPlane
        const agent = yield* fleet.agent(host)
        const starting = yield* agent.line((line) => line["hostname"] === host)
        assert.strictEqual(starting["version"], version)

        yield* settledAs(fleet, fleet.publish("01", { [host]: good }), "Converged")
        assert.strictEqual(fleet.current(host), good)

        const second = fleet.publish("02", { [host]: slow })
        yield* eventually("the second switch", () => runs(note).length === 2)
        yield* fleet.end(agent, "SIGKILL")
        const again = yield* fleet.agent(host)
        yield* settledAs(fleet, second, "Converged")
        assert.strictEqual(fleet.current(host), slow)
        assert.lengthOf(runs(note), 2, "the switch outlived the kill and ran once")

        yield* settledAs(fleet, fleet.publish("03", { [host]: bad }), "Reverted")
        assert.strictEqual(fleet.current(host), slow)
        assert.deepStrictEqual(yield* fleet.end(again, "SIGTERM"), { code: 0, signal: null })
        assert.strictEqual(again.errors(), "")
        assertLines([...agent.log, ...again.log, ...controlPlane.log])
        assert.isTrue(agent.log.every((line) => line["hostname"] === host))
      }))
  })
})
