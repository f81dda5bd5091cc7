import { assert, describe, it, layer } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { resolveDeclaration } from "../../src/Operator/Declaration.ts"
import { maxInputBytes } from "../../src/Operator/Files.ts"
import { describeSpan } from "../../src/Operator/PlanText.ts"
import { buildRelease } from "../../src/Operator/Release.ts"
import type { FleetResolved } from "../../src/Schema/Artifacts.ts"
import { decodeFleetDeclaration } from "../../src/Schema/FleetDeclaration.ts"
import { closure } from "../support/artifacts.ts"
import { Certificates } from "../support/certificates.ts"
import { dispatched, idOf, Plane, type Release, start } from "../support/controlPlane.ts"
import { nixfleet, temporaryDirectory } from "../support/operator.ts"
import { connection, reply } from "../support/operatorConnection.ts"
import { published, snapshotText } from "../support/snapshots.ts"

const minute = 60_000

const base: FleetResolved = (() => {
  const decoded = decodeFleetDeclaration({
    ref: "aa11",
    closures: { web: closure("1", "web") },
    channels: { stable: { rolloutPolicy: "careful", freshnessWindow: 120 } },
    rolloutPolicies: {
      careful: {
        waves: [{ selector: { tags: ["canary"] }, soakMinutes: 5 }, { selector: { all: true }, soakMinutes: 5 }]
      }
    },
    hosts: {
      alpha: { channel: "stable", platform: "x86_64-linux", tags: ["canary"], closure: "web" },
      bravo: { channel: "stable", platform: "x86_64-linux", closure: "web" },
      charlie: { channel: "stable", platform: "x86_64-linux", closure: "web" }
    }
  })
  if (!decoded.ok) throw new Error(decoded.problem)
  const resolved = resolveDeclaration(decoded.value, "aa11")
  if (!resolved.ok) throw new Error(JSON.stringify(resolved.problems))
  return resolved.fleet
})()

/** The files of a release in a directory of their own. */
const releaseIn = Effect.fnUntraced(function*(fleet: FleetResolved = base) {
  const directory = yield* temporaryDirectory
  for (const { bytes, path } of buildRelease(fleet).files) {
    mkdirSync(dirname(join(directory, path)), { recursive: true })
    writeFileSync(join(directory, path), bytes)
  }
  return directory
})

interface Told {
  readonly conflicts: ReadonlyArray<{ readonly kind: string; readonly hosts: ReadonlyArray<string> }>
  readonly rollouts: ReadonlyArray<{
    readonly hosts: ReadonlyArray<{ readonly host: string; readonly dispatchedAt: string | null }>
  }>
}

/** `kind hosts` of each conflict. */
const conflictsIn = (out: string): ReadonlyArray<string> => {
  const { conflicts }: Told = JSON.parse(out)
  return conflicts.map(({ hosts, kind }) => [kind, ...hosts].join(" "))
}

/** The same, at a time that is known. */
const releaseNow = (fleet?: FleetResolved) => Effect.tap(releaseIn(fleet), TestClock.setTime(start))

describe("a plan of files alone", () => {
  it.effect("tells waves, order, times and what was taken for granted", () =>
    Effect.gen(function*() {
      const directory = yield* releaseNow()
      const { code, err, out } = yield* nixfleet(["plan", "--fleet", directory, "--hosts"])
      assert.deepStrictEqual([code, err], [0, ""])
      assert.deepStrictEqual(out.split("\n"), [
        `Forecast from 2026-05-16T01:00:00Z: the release in ${directory} (not signed: taken as signed now), on a new fleet`,
        "",
        "stable@aa11: 3 hosts in 2 waves, complete at 2026-05-16T01:12:00Z, in 12m",
        "WAVE  HOSTS  STARTS  COMPLETE  ORDER",
        "1     1      now     +6m       alpha",
        "2     2      +6m     +12m      bravo, charlie",
        "",
        "WAVE  HOST     DISPATCHED  RUNS IT  CONVERGED  SWITCH TAKES  WAITS NOW",
        "1     alpha    now         +1m      +6m        1m (assumed)",
        "2     bravo    +6m         +7m      +12m       1m (assumed)  wave-promotion: wave 1 of 2 is not complete: alpha was not activated yet",
        "2     charlie  +6m         +7m      +12m       1m (assumed)  wave-promotion: wave 1 of 2 is not complete: alpha was not activated yet",
        "",
        "Waits now",
        "  bravo and charlie: wave 1 of 2 is not complete: alpha was not activated yet",
        "",
        "Taken for granted: nothing fails, nobody is away, and a switch takes 1m on 3 hosts (assumed)"
      ])
    }))

  it.effect("--json has all of it, times as RFC 3339", () =>
    Effect.gen(function*() {
      const directory = yield* releaseNow()
      const { code, out } = yield* nixfleet(["plan", "--fleet", directory, "--json"])
      assert.strictEqual(code, 0)
      const { rollouts, ...rest } = JSON.parse(out)
      assert.deepStrictEqual(rest, {
        from: "2026-05-16T01:00:00Z",
        live: false,
        release: { directory, signed: false },
        cut: false,
        conflicts: []
      })
      assert.deepStrictEqual(rollouts[0].waves[1], {
        wave: 1,
        hosts: 2,
        soakMs: 5 * minute,
        startsAt: "2026-05-16T01:06:00Z",
        completeAt: "2026-05-16T01:12:00Z"
      })
      assert.deepStrictEqual(rollouts[0].hosts[2], {
        host: "charlie",
        wave: 1,
        targetClosure: closure("1", "web"),
        before: "Pending",
        after: "Converged",
        dispatchedAt: "2026-05-16T01:06:00Z",
        activatedAt: "2026-05-16T01:07:00Z",
        convergedAt: "2026-05-16T01:12:00Z",
        activationMs: minute,
        activationBasis: "assumed",
        waits: {
          gate: "wave-promotion",
          because: "wave 1 of 2 is not complete: alpha was not activated yet",
          clearedBy: "convergence of every host of wave 1",
          earliestAt: null
        },
        stuck: null
      })
    }))

  const budget = {
    selector: { tags: [], tagsAny: [], hosts: ["bravo"], channel: null, all: false },
    maxInFlight: 0,
    maxInFlightPct: null
  }
  const edge = (gates: string, gated: string) => ({ gates, gated, reason: null })
  const waves = base.waves["stable"]!
  const cases: ReadonlyArray<
    readonly [name: string, change: Partial<FleetResolved>, conflicts: ReadonlyArray<string>]
  > = [
    ["nothing is wrong", {}, []],
    ["a budget lets nobody go", { disruptionBudgets: [budget] }, ["budget-never-met bravo", "never-converges bravo"]],
    ["a budget of nobody's binds nobody", {
      disruptionBudgets: [{ ...budget, selector: { ...budget.selector, hosts: [] } }]
    }, []],
    ["a host is in no wave", { waves: { stable: [waves[0]!, { ...waves[1]!, hosts: ["bravo"] }] } }, [
      "host-in-no-wave charlie"
    ]],
    ["hosts wait for each other", { edges: [edge("bravo", "charlie"), edge("charlie", "bravo")] }, [
      "edge-cycle",
      "never-converges bravo",
      "never-converges charlie"
    ]],
    ["an edge goes against the waves", { edges: [edge("bravo", "alpha")] }, [
      "edge-cycle",
      "never-converges alpha",
      "never-converges bravo charlie"
    ]],
    ["a soak is longer than a release is believed", {
      waves: { stable: [waves[0]!, { ...waves[1]!, soakMinutes: 121 }] }
    }, [
      "soak-beyond-freshness"
    ]],
    ["a channel has no host", {
      channels: { ...base.channels, edge: base.channels["stable"]! },
      waves: { ...base.waves, edge: [] }
    }, [
      "channel-without-hosts"
    ]],
    ["a channel has no policy", { rolloutPolicies: {} }, ["policy-missing"]],
    ["it was signed too long ago", { meta: { ...base.meta, signedAt: start - 122 * minute } }, ["release-stale"]]
  ]
  for (const [name, change, expected] of cases) {
    it.effect(`conflicts: ${name}`, () =>
      Effect.gen(function*() {
        const directory = yield* releaseNow({ ...base, ...change })
        const { code, err, out } = yield* nixfleet(["plan", "--fleet", directory, "--json"])
        assert.deepStrictEqual(conflictsIn(out), expected)
        assert.deepStrictEqual([code, err], [expected.length === 0 ? 0 : 3, ""])
        if (expected.length === 0) return
        const { out: text } = yield* nixfleet(["plan", "--fleet", directory])
        for (const conflict of expected) {
          assert.match(text, new RegExp(`^  ${conflict.split(" ")[0]}: .+\\n    → .+`, "m"))
        }
      }))
  }
})

describe("files that are no release", () => {
  const manifest = "rollouts/stable@aa11.json"
  const fleet = "fleet.resolved.json"
  const cases: ReadonlyArray<readonly [name: string, spoil: (at: (name: string) => string) => void, message: string]> =
    [
      ["no fleet", (at) => rmSync(at(fleet)), "there is no such file"],
      ["no manifest", (at) => rmSync(at(manifest)), "there is no such file"],
      ["an empty fleet", (at) => writeFileSync(at(fleet), ""), fleet],
      ["half a fleet", (at) => writeFileSync(at(fleet), readFileSync(at(fleet)).subarray(0, 100)), fleet],
      ["a key twice", (at) => writeFileSync(at(fleet), "{\"hosts\":{},\"hosts\":{}}"), fleet],
      ["a list", (at) => writeFileSync(at(fleet), "[]"), "is not a fleet.resolved"],
      [
        "a manifest of another shape",
        (at) => writeFileSync(at(manifest), "{\"hostSet\":{}}"),
        "is not a rollout manifest"
      ],
      ["too much", (at) => writeFileSync(at(fleet), Buffer.alloc(maxInputBytes + 1, 0x20)), "more than the"],
      [
        "a manifest of another fleet",
        (at) => {
          const other = buildRelease({ ...base, meta: { ...base.meta, signedAt: start } })
          writeFileSync(at(manifest), other.files[0]!.bytes)
        },
        "the verified fleet is"
      ]
    ]
  for (const [name, spoil, message] of cases) {
    it.effect(`${name}: exit 78, and which file it is`, () =>
      Effect.gen(function*() {
        const directory = yield* releaseIn()
        spoil((file) => join(directory, file))
        const { code, err, out } = yield* nixfleet(["plan", "--fleet", directory])
        assert.deepStrictEqual([code, out], [78, ""])
        assert.include(err, message)
        assert.include(err, directory)
      }))
  }
})

describe("a command line without anything to look at", () => {
  it.effect("is a usage error", () =>
    Effect.gen(function*() {
      for (const args of [["plan"], ["plan", "--offline", "--cp-url", "https://localhost:1"]]) {
        const { code, err } = yield* nixfleet(args)
        assert.strictEqual(code, 64)
        assert.include(err, "give --fleet DIR")
      }
    }))

  it.effect("a control plane that is named halfway is a configuration error, not an offline plan", () =>
    Effect.gen(function*() {
      const directory = yield* releaseIn()
      const environment = { NIXFLEET_CP_URL: "https://localhost:1" }
      const { code } = yield* nixfleet(["plan", "--fleet", directory], { environment })
      assert.strictEqual(code, 78)
      assert.strictEqual((yield* nixfleet(["plan", "--fleet", directory, "--offline"], { environment })).code, 0)
    }))
})

const r1: Release = { ref: "a1", waves: [["h1"], ["h2", "h3"]] }
const r2: Release = { ...r1, ref: "b2", signedAt: start + minute }

/** A plane on which r1 is in force and everybody was heard. */
const rolling = (): Plane => {
  const plane = new Plane()
  plane.offer({ _tag: "ArtifactsVerified", artifacts: published(r1) })
  plane.hear(r1)
  return plane
}

describe("a plan from a control plane", () => {
  layer(Certificates.layer, { excludeTestServices: true })((live) => {
    const ask = Effect.fnUntraced(function*(answer: ReturnType<typeof reply>, ...args: ReadonlyArray<string>) {
      const asked: Array<string> = []
      const { flags } = yield* connection(
        "operator-ada",
        (request) => Effect.suspend(() => (asked.push(request.path), answer))
      )
      const outcome = yield* nixfleet(["plan", ...args, ...flags])
      return { ...outcome, asked }
    })
    const askAbout = ({ now, state }: Plane, ...args: ReadonlyArray<string>) =>
      ask(reply(200, snapshotText(state, now)), "--json", ...args)

    live.effect("asks for one snapshot, and tells by its clock", () =>
      Effect.gen(function*() {
        const { asked, code, err, out } = yield* askAbout(rolling())
        assert.deepStrictEqual([code, err, asked], [0, "", ["/v1/snapshot"]])
        const { rollouts, ...rest } = JSON.parse(out)
        assert.deepStrictEqual([rest.from, rest.live, rest.release], ["2026-05-16T01:00:00Z", true, null])
        assert.deepStrictEqual(
          rollouts[0].hosts.map(({ convergedAt, host }: { convergedAt: string; host: string }) => [host, convergedAt]),
          [["h1", "2026-05-16T01:06:00Z"], ["h2", "2026-05-16T01:12:00Z"], ["h3", "2026-05-16T01:12:00Z"]]
        )
      }))

    const failing = () => {
      const plane = rolling()
      const agent = dispatched(plane, "h1")
      agent.soaks(plane)
      agent.rollsBack(plane)
      return plane
    }
    const acting = (...actions: ReadonlyArray<Parameters<Plane["act"]>[0]>) => () => {
      const plane = rolling()
      for (const action of actions) plane.act(action)
      return plane
    }
    const until = start + 60 * minute
    const cases: ReadonlyArray<readonly [name: string, plane: () => Plane, conflicts: ReadonlyArray<string>]> = [
      ["nothing is wrong", rolling, []],
      ["a rollout is halted", failing, ["rollout-state h2 h3", "never-converges h1"]],
      [
        "a channel is frozen",
        acting({ action: "Freeze", channel: "stable", reason: "night", until }),
        ["frozen h1 h2 h3"]
      ],
      ["a rollout is paused", acting({ action: "PauseRollout", rolloutId: idOf(r1), reason: "lunch", until }), [
        "paused h1 h2 h3"
      ]],
      ["a host is held", acting({ action: "HoldHost", host: "h2", reason: "in repair", until }), ["held h2"]],
      [
        "agents were never heard, or long ago",
        () => {
          const plane = new Plane()
          plane.offer({ _tag: "ArtifactsVerified", artifacts: published(r1) })
          plane.heartbeat("h1")
          plane.now += 61 * minute
          plane.heartbeat("h2")
          return plane
        },
        ["agent-not-heard h1 h3"]
      ],
      [
        "a closure is in quarantine",
        () => {
          const plane = failing()
          const closures = { h1: published(r1).fleet.value.hosts["h1"]?.closureHash ?? "" }
          plane.offer({ _tag: "ArtifactsVerified", artifacts: published({ ...r2, closures }) })
          plane.hear(r1)
          return plane
        },
        ["quarantine h1", "never-converges h2 h3"]
      ]
    ]
    for (const [name, plane, expected] of cases) {
      live.effect(`conflicts: ${name}`, () =>
        Effect.gen(function*() {
          const { code, out } = yield* askAbout(plane())
          assert.deepStrictEqual(conflictsIn(out), expected)
          assert.strictEqual(code, expected.length === 0 ? 0 : 3)
        }))
    }

    live.effect(
      "--fleet puts a release over what runs, and an older one would be refused",
      () =>
        Effect.gen(function*() {
          const hosts = Object.fromEntries(["h1", "h2"].map((name) => [name, { ...base.hosts["alpha"]! }]))
          const signed = (signedAt: number): FleetResolved => ({
            ...base,
            hosts,
            waves: { stable: [{ hosts: ["h1", "h2"], soakMinutes: 5 }] },
            meta: { ...base.meta, signedAt }
          })
          const newer = yield* askAbout(rolling(), "--fleet", yield* releaseIn(signed(start + 1)))
          assert.deepStrictEqual([newer.code, conflictsIn(newer.out)], [0, []])
          const { rollouts }: Told = JSON.parse(newer.out)
          assert.deepStrictEqual(rollouts[0]?.hosts.map(({ host }) => host), ["h1", "h2"])
          const older = yield* askAbout(rolling(), "--fleet", yield* releaseIn(signed(start - 1)))
          assert.deepStrictEqual([older.code, conflictsIn(older.out)], [3, ["release-older", "superseded h1 h2"]])
        })
    )

    live.effect("--offline asks nobody", () =>
      Effect.gen(function*() {
        const { asked, code } = yield* askAbout(rolling(), "--offline", "--fleet", yield* releaseIn())
        assert.deepStrictEqual([code, asked], [0, []])
      }))

    live.effect("an answer that is no snapshot, and none at all, are told", () =>
      Effect.gen(function*() {
        const whole = snapshotText(rolling().state, start)
        const answers: ReadonlyArray<readonly [ReturnType<typeof reply>, string]> = [
          [reply(200, ""), "line 1 is no header"],
          [reply(200, "{}"), "line 1: "],
          [reply(200, whole.slice(0, -30)), "/v1/snapshot: the answer is no snapshot"],
          [reply(200, "\u0000"), "line 1: "],
          [reply(404, ""), "there is no such thing (404)"],
          [reply(403, ""), "refuses this certificate (403)"],
          [reply(503, ""), "not ready (503)"],
          [reply(200, snapshotText(new Plane().state, start)), "no release in force"]
        ]
        for (const [answer, message] of answers) {
          const { code, err, out } = yield* ask(answer)
          assert.deepStrictEqual([code, out], [1, ""])
          assert.include(err, message)
        }
      }))
  })
})

describe("spans of time", () => {
  it.each([
    [0, "0s"],
    [999, "0s"],
    [1000, "1s"],
    [59_999, "59s"],
    [60_000, "1m"],
    [61_000, "1m 1s"],
    [3_600_000, "1h"],
    [3_661_000, "1h 1m"],
    [86_400_000, "1d"],
    [90_000_000, "1d 1h"],
    [40 * 86_400_000 + 1, "40d"]
  ])("%i ms is %s", (ms, text) => {
    assert.strictEqual(describeSpan(ms), text)
  })
})
