/** `nixfleet plan` as a process: of files alone, and of a fleet that runs; and then the fleet does what was said. */
import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { RolloutHosts } from "../../src/Schema/OperatorViews.ts"
import { Certificates } from "../support/certificates.ts"
import { runCommand } from "../support/command.ts"
import { eventuallyIs, type Fleet, makeFleet, noting } from "../support/fleet.ts"

vi.setConfig({ testTimeout: 180_000 })

const operator = join(import.meta.dirname, "../../src/Operator/Main.ts")
const hosts = ["web-1", "web-2", "web-3"]
const soakSeconds = 3
const tagged = (tag: string) => ({ tags: [tag], tagsAny: [], hosts: [], channel: null, all: false })
const everybody = { ...tagged(""), tags: [], all: true }
const policy = {
  waves: [{ selector: tagged("web-1"), soakSeconds }, { selector: everybody, soakSeconds }]
}

const command = (fleet: Fleet, ...args: ReadonlyArray<string>) => runCommand(operator, args, { HOME: fleet.directory })

/** What a release of this closure would be, as `release build` writes it. */
function built(fleet: Fleet, ref: string, closure: string): string {
  const declaration = fleet.at(`${ref}.json`)
  writeFileSync(
    declaration,
    JSON.stringify({
      ref,
      channels: { stable: { rolloutPolicy: "standard", freshnessWindow: 180 } },
      rolloutPolicies: { standard: { strategy: "canary", ...policy, onHealthFailure: "rollback-and-halt" } },
      hosts: Object.fromEntries(
        hosts.map((host) => [host, { channel: "stable", platform: "x86_64-linux", tags: [host], closure }])
      )
    })
  )
  const directory = fleet.at(`built-${ref}`)
  const { code, errors } = command(fleet, "release", "build", "--declaration", declaration, "--out", directory)
  assert.strictEqual(code, 0, errors)
  return directory
}

interface Told {
  readonly from: string
  readonly rollouts: ReadonlyArray<{
    readonly completeAt: string | null
    readonly hosts: ReadonlyArray<{
      readonly host: string
      readonly dispatchedAt: string
      readonly convergedAt: string
      readonly activationBasis: string
    }>
  }>
}

const seconds = (from: string, to: string) => (Date.parse(to) - Date.parse(from)) / 1000
const decodeHosts = Schema.decodeUnknownSync(RolloutHosts)

describe("nixfleet plan", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("tells of a release that is not published what the fleet then does", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts, policy })
        const [first, second] = [
          yield* fleet.pack("r1", noting(fleet.at("runs"))),
          yield* fleet.pack("r2", noting(fleet.at("runs")))
        ]
        const next = built(fleet, "02", second)
        const offline = command(fleet, "plan", "--fleet", next)
        assert.strictEqual(offline.code, 0, offline.errors)
        assert.include(offline.out, "stable@02: 3 hosts in 2 waves, complete at")
        assert.include(offline.out, "on a new fleet")

        yield* fleet.controlPlane
        const id = fleet.publish("01", Object.fromEntries(hosts.map((host) => [host, first])))
        yield* eventuallyIs("the release in force", fleet.asOperator("/v1/channels/stable"), () => true)
        const early = command(fleet, "plan", ...fleet.operatorFlags)
        assert.strictEqual(early.code, 3, early.errors)
        assert.include(early.out, "agent-not-heard: ")

        for (const host of hosts) yield* fleet.agent(host)
        yield* eventuallyIs("r1 everywhere", fleet.states(id), (states) =>
          hosts.every((host) =>
            states[host] === "Converged"
          ))
        const settled = command(fleet, "plan", ...fleet.operatorFlags)
        assert.strictEqual(settled.code, 0, settled.errors)
        assert.include(settled.out, "stable@01: 3 hosts in 2 waves, 0 hosts to go, complete")

        const live = command(fleet, "plan", "--fleet", next, "--json", ...fleet.operatorFlags)
        assert.strictEqual(live.code, 0, live.errors)
        const told: Told = JSON.parse(live.out)
        const [rollout] = told.rollouts
        assert.deepStrictEqual(rollout?.hosts.map(({ activationBasis, host }) => [host, activationBasis]), [
          ["web-1", "host"],
          ["web-2", "host"],
          ["web-3", "host"]
        ])

        const newId = fleet.publish("02", Object.fromEntries(hosts.map((host) => [host, second])))
        yield* eventuallyIs("r2 everywhere", fleet.states(newId), (states) =>
          hosts.every((host) =>
            states[host] === "Converged"
          ))
        const done = decodeHosts(yield* fleet.asOperator(`/v1/rollouts/${newId}/hosts`)).hosts
        const opened = done.find(({ host }) =>
          host === "web-1"
        )?.dispatchedAt ?? ""
        for (const { convergedAt, dispatchedAt, host } of rollout?.hosts ?? []) {
          const real = done.find((one) => one.host === host)
          const ended = new Date(real?.terminalAt ?? NaN).toISOString()
          // A loaded machine is slower than it was, and never faster by more than the whole seconds of a forecast.
          const late = (is: string, was: string) => seconds(opened, was) - seconds(told.from, is)
          assert.isAbove(late(dispatchedAt, real?.dispatchedAt ?? ""), -2, host)
          assert.isBelow(late(convergedAt, ended), 10, host)
        }
      }))
  })
})
