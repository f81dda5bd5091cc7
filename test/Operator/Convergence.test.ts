/** How scripts learn whether a fleet, or a rollout, has converged: by exit codes (0, 2, 3), apart from "could not ask" (1). */
import { assert, describe, it, layer, vi } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { parseDuration } from "../../src/Operator/Duration.ts"
import { standingOf } from "../../src/Operator/RolloutState.ts"
import { fleetStanding, hostStanding } from "../../src/Operator/StatusTable.ts"
import { HostStatusEntry, RolloutLifecycle } from "../../src/Schema/OperatorViews.ts"
import { closure } from "../support/artifacts.ts"
import { Certificates } from "../support/certificates.ts"
import { nixfleet } from "../support/operator.ts"
import { connection, reply } from "../support/operatorConnection.ts"

vi.setConfig({ testTimeout: 60_000 })

const [target, older] = [closure("2", "web"), closure("1", "web")]
const hostJson = (overrides: object = {}) => ({
  hostname: "web-1",
  channel: "stable",
  declaredClosureHash: target,
  currentClosureHash: target,
  pendingClosureHash: null,
  lastCheckinAt: "2026-06-01T11:59:30Z",
  lastRolloutId: "stable@aa11",
  converged: true,
  outstandingComplianceFailures: 0,
  outstandingRuntimeGateErrors: 0,
  verifiedEventCount: 3,
  lastUptimeSecs: 60,
  rolloutState: "Converged",
  ...overrides
})
const hostOf = (overrides: object = {}) => Schema.decodeUnknownSync(HostStatusEntry)(hostJson(overrides))

const revoked = { notBefore: "2026-06-01T11:00:00Z", reason: null, revokedBy: null }

describe("how a host stands", () => {
  it.each<[object, string]>([
    [{}, "converged"],
    [{ currentClosureHash: null }, "converged"],
    [{ currentClosureHash: older }, "under-way"],
    [{ converged: false, rolloutState: "Soaking" }, "under-way"],
    [{ converged: false, rolloutState: "Pending" }, "under-way"],
    [{ converged: false, rolloutState: null }, "under-way"],
    [{ converged: false, rolloutState: null, declaredClosureHash: null }, "converged"],
    [{ converged: false, rolloutState: "Failed" }, "ended"],
    [{ converged: false, rolloutState: "Reverted" }, "ended"],
    [{ quarantinedClosure: target }, "ended"],
    [{ revoked }, "converged"],
    [{ converged: false, rolloutState: "Soaking", revoked }, "ended"]
  ])("%j is %s", (overrides, how) => assert.strictEqual(hostStanding(hostOf(overrides)), how))

  it("a fleet stands as the worst of its hosts, and names some of those", () => {
    const named = (count: number, overrides: object) =>
      Array.from({ length: count }, (_, index) => hostOf({ hostname: `h${index}`, ...overrides }))
    const soaking = { converged: false, rolloutState: "Soaking" }
    const failed = { converged: false, rolloutState: "Failed" }
    assert.strictEqual(fleetStanding([]).how, "converged")
    assert.deepStrictEqual(fleetStanding([hostOf(), ...named(7, soaking)]), {
      how: "under-way",
      text: "7 of 8 hosts have not converged yet: h0, h1, h2, h3, h4 and 2 more"
    })
    assert.deepStrictEqual(fleetStanding([...named(2, soaking), hostOf({ hostname: "x\u001b", ...failed })]), {
      how: "ended",
      text: "1 of 3 hosts failed, were rolled back, are revoked or in quarantine: x?"
    })
  })
})

describe("how a rollout stands", () => {
  it.each<[object, string, string]>([
    [{ state: "Opening" }, "under-way", "stable@aa11 is Opening"],
    [{ state: "Active" }, "under-way", "stable@aa11 is Active"],
    [{ state: "Converging" }, "under-way", "stable@aa11 is Converging"],
    [{ state: "FromTheFuture\u001b" }, "under-way", "stable@aa11 is FromTheFuture?"],
    [{ state: "Terminal", terminalAt: "2026-06-01T08:00:00Z" }, "converged", "stable@aa11 has converged"],
    [{ state: "Failed" }, "ended", "stable@aa11 has failed and is halted"],
    [{ state: "Reverted" }, "ended", "stable@aa11 was rolled back and is halted"],
    [
      { state: "Superseded", supersededBy: "stable@bb" },
      "ended",
      "stable@aa11 was superseded by stable@bb before it converged"
    ],
    [
      { state: "Superseded", supersededBy: "stable@bb", terminalAt: "2026-06-01T08:00:00Z" },
      "converged",
      "stable@aa11 has converged, and was superseded by stable@bb since"
    ],
    [{ state: "Pruned" }, "ended", "stable@aa11 was superseded before it converged"]
  ])("%j is %s", (fields, how, text) => {
    const lifecycle = { rolloutId: "stable@aa11", supersededAt: null, supersededBy: null, terminalAt: null, ...fields }
    assert.deepStrictEqual(standingOf(Schema.decodeUnknownSync(RolloutLifecycle)(lifecycle)), { how, text } as never)
  })
})

it.each<[string, number | undefined]>([
  ["0", 0],
  ["90", 90_000],
  ["90s", 90_000],
  ["30m", 1_800_000],
  ["2h", 7_200_000],
  ["", undefined],
  ["-1", undefined],
  ["1.5h", undefined],
  ["7d", 604_800_000],
  ["1w", undefined],
  ["soon", undefined],
  ["1234567890", undefined]
])("the time %j is %s ms", (text, ms) => assert.strictEqual(parseDuration(text), ms))

describe("exit codes", () => {
  layer(Certificates.layer, { excludeTestServices: true })((live) => {
    /** The states that the rollout goes through, one a look; the last one stays. `undefined`: not known. */
    const scripted = Effect.fnUntraced(function*(
      states: ReadonlyArray<string | undefined>,
      channel: Readonly<Record<string, unknown>> = { rollout: "stable@aa11" }
    ) {
      let looks = 0
      const { flags } = yield* connection("alice", ({ path }) => {
        if (path === "/v1/channels/stable") {
          return reply(200, { name: "stable", declared_ci_commit: null, freshness_window_minutes: 60, ...channel })
        }
        if (path !== "/v1/rollouts/stable@aa11/lifecycle") return reply(404, { error: "unknown" })
        const state = states[Math.min(looks, states.length - 1)]
        looks += 1
        if (state === "503") return reply(503, { error: "not ready" })
        return state === undefined ? reply(404, {}) : reply(200, { rolloutId: "stable@aa11", state })
      })
      return (what: string, ...args: ReadonlyArray<string>) => nixfleet(["rollout", "wait", what, ...args, ...flags])
    })

    const table: ReadonlyArray<readonly [ReadonlyArray<string | undefined>, ReadonlyArray<string>, number, string]> = [
      [["Terminal"], [], 0, "stable@aa11 has converged"],
      [["Active", "Active", "Terminal"], [], 0, "stable@aa11 has converged"],
      [[undefined, "Opening", "Terminal"], [], 0, "stable@aa11 has converged"],
      [["Active", "503", "Terminal"], [], 0, "stable@aa11 has converged"],
      [["Active"], ["--timeout", "0"], 2, "stable@aa11 is Active"],
      [["Active"], ["--timeout", "2s"], 2, "stable@aa11 is Active"],
      [["Active", "503"], ["--timeout", "2s"], 2, "stable@aa11 is Active"],
      [[undefined], ["--timeout", "0"], 2, "stable@aa11 is not known to the control plane yet"],
      [["Active", "Failed"], [], 3, "stable@aa11 has failed and is halted"],
      [["Reverted"], [], 3, "stable@aa11 was rolled back and is halted"],
      [["503"], [], 1, ""]
    ]
    for (const [states, args, code, out] of table) {
      live.effect(`rollout wait ${args.join(" ")}: ${states.join(", ")} ends ${code}`, () =>
        Effect.gen(function*() {
          const wait = yield* scripted(states)
          const waited = yield* wait("stable@aa11", ...args)
          assert.deepStrictEqual([waited.code, waited.out], [code, out], waited.err)
        }))
    }

    live.effect("rollout wait CHANNEL waits for what is in force there", () =>
      Effect.gen(function*() {
        const wait = yield* scripted(["Active", "Terminal"])
        const waited = yield* wait("stable", "--json")
        assert.strictEqual(waited.code, 0, waited.err)
        assert.deepStrictEqual(JSON.parse(waited.out), {
          target: "stable",
          outcome: "converged",
          detail: "stable@aa11 has converged"
        })
        const idle = yield* scripted([], { rollout: null })
        assert.deepStrictEqual((yield* idle("stable")).out, "stable has nothing to roll out")
        const original = yield* scripted([], {})
        const unknown = yield* original("stable")
        assert.strictEqual(unknown.code, 1)
        assert.include(unknown.err, "name the rollout")
        const lying = yield* scripted([], { rollout: "../../hosts" })
        assert.strictEqual((yield* lying("stable")).code, 1)
        assert.strictEqual((yield* (yield* scripted([]))("edge")).code, 1, "a channel that nobody knows")
      }))

    live.effect("a target or a time that cannot be one is a usage error", () =>
      Effect.gen(function*() {
        const wait = yield* scripted(["Terminal"])
        for (const args of [["Stable"], ["a/b"], ["stable@XYZ"], ["stable", "--timeout", "soon"]]) {
          assert.strictEqual((yield* wait(...args as [string])).code, 64, args.join(" "))
        }
      }))

    const fleets: ReadonlyArray<readonly [string, ReadonlyArray<object>, number]> = [
      ["all have converged", [{}], 0],
      ["one is on its way", [{}, { hostname: "web-2", converged: false, rolloutState: "Soaking" }], 2],
      ["one has failed", [{}, { hostname: "web-2", converged: false, rolloutState: "Failed" }], 3]
    ]
    for (const [name, hosts, code] of fleets) {
      live.effect(`status --exit-code is ${code} when ${name}; plain status is 0`, () =>
        Effect.gen(function*() {
          const { flags } = yield* connection("alice", ({ path }) =>
            path === "/v1/hosts"
              ? reply(200, { hosts: hosts.map((host) => hostJson(host)) })
              : path === "/v1/operator/actions"
              ? reply(200, { inForce: [], recent: [] })
              : reply(200, { name: "stable", declared_ci_commit: null, signed_at: null, freshness_window_minutes: 60 }))
          assert.strictEqual((yield* nixfleet(["status", ...flags])).code, 0)
          for (const format of [[], ["--json"]]) {
            const asked = yield* nixfleet(["status", "--exit-code", ...format, ...flags])
            assert.strictEqual(asked.code, code, asked.err)
            assert.include(asked.out, "web-1")
            if (code !== 0) assert.include(asked.err, "1 of 2 hosts")
          }
        }))
    }

    live.effect("status --exit-code is 1 when the control plane could not be asked", () =>
      Effect.gen(function*() {
        const { flags } = yield* connection("alice", () => reply(503, { error: "not ready" }))
        assert.strictEqual((yield* nixfleet(["status", "--exit-code", ...flags])).code, 1)
      }))
  })
})
