import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { ExchangeHandler } from "../../src/Layers/Net/Exchange.ts"
import { rolloutHostRow, rolloutListRow, statusLabel, statusRow } from "../../src/Operator/StatusTable.ts"
import { printable, renderTable } from "../../src/Operator/Table.ts"
import { HostStatusEntry, RolloutHosts, RolloutList } from "../../src/Schema/OperatorViews.ts"
import { describeAge, describeLeft } from "../../src/Schema/Words.ts"
import { closure } from "../support/artifacts.ts"
import { Certificates } from "../support/certificates.ts"
import { nixfleet, temporaryDirectory } from "../support/operator.ts"
import { connection as scriptedConnection } from "../support/operatorConnection.ts"
import { utf8 } from "../support/tls.ts"

const hour = 3_600_000
const now = Date.UTC(2026, 5, 1, 12)
const fetching = (doneBytes: number, expectedBytes: number | null) => ({
  closure: closure("2", "web"),
  doneBytes,
  expectedBytes
})
const revoked = (at: number) => ({ notBefore: new Date(at).toISOString(), reason: "stolen", revokedBy: "ada" })
const hostJson = (overrides: object = {}) => ({
  hostname: "web-1",
  channel: "stable",
  declaredClosureHash: closure("2", "web"),
  currentClosureHash: closure("1", "web"),
  pendingClosureHash: closure("2", "web"),
  lastCheckinAt: "2026-06-01T11:59:30Z",
  lastRolloutId: "stable@aa11",
  converged: false,
  outstandingComplianceFailures: 0,
  outstandingRuntimeGateErrors: 0,
  verifiedEventCount: 3,
  lastUptimeSecs: 60,
  rolloutState: "Soaking",
  ...overrides
})
const hostOf = (overrides: object = {}) => Schema.decodeUnknownSync(HostStatusEntry)(hostJson(overrides))

describe("status labels", () => {
  it.each<[object, string, string]>([
    [{ rolloutState: "Pending" }, "in progress", "yellow"],
    [{ rolloutState: "Activating" }, "activating", "yellow"],
    [{ rolloutState: "Deferred", pendingReboot: true }, "pending reboot", "yellow"],
    [{ rolloutState: "Soaking" }, "soaking", "yellow"],
    [{ rolloutState: "Soaking", outstandingHealthFailures: 1 }, "probes failing", "red"],
    [{ rolloutState: "Converged", pendingClosureHash: null }, "converged", "green"],
    [{ rolloutState: "Activating" }, "activating", "yellow"],
    [{ rolloutState: "Activating", fetching: fetching(31, 120) }, "fetching 25 %", "yellow"],
    [{ rolloutState: "Activating", fetching: fetching(121, 120) }, "fetching 100 %", "yellow"],
    [{ rolloutState: "Activating", fetching: fetching(31_500_000, null) }, "fetching 31 MB", "yellow"],
    [{ rolloutState: "Activating", fetching: fetching(0, 0) }, "fetching 0 B", "yellow"],
    [{ rolloutState: "Soaking", fetching: fetching(31, 120) }, "soaking", "yellow"],
    [{ revoked: revoked(now - hour) }, "revoked since 2026-06-01T11:00:00Z: stolen", "red"],
    [
      { revoked: { ...revoked(now), reason: null }, rolloutState: "Failed" },
      "revoked since 2026-06-01T12:00:00Z",
      "red"
    ],
    [{ revoked: revoked(now + hour) }, "revoked until 2026-06-01T13:00:00Z: stolen", "red"],
    [{ rolloutState: "Failed" }, "failed", "red"],
    [{ rolloutState: "Failed", quarantinedClosure: "x" }, "failed: channel halted, push fix", "red"],
    [{ rolloutState: "Reverted" }, "reverted", "red"],
    [{ rolloutState: "Reverted", quarantinedClosure: "x" }, "reverted: channel halted, push fix", "red"],
    [{ rolloutState: "Pending", quarantinedClosure: "x" }, "quarantined", "red"],
    [{ rolloutState: null, pendingClosureHash: null, converged: true }, "converged", "green"],
    [{ rolloutState: null, pendingClosureHash: null, lastCheckinAt: null }, "never", "red"],
    [{ rolloutState: "Pending", lastCheckinAt: null }, "never", "yellow"],
    [{ lastCheckinAt: "2026-06-01T08:00:00Z" }, "soaking", "yellow"],
    [{ lastCheckinAt: "2026-06-01T07:59:59Z" }, "stale (4h)", "red"],
    [
      { lastCheckinAt: "2026-05-20T08:00:00Z", pendingClosureHash: null, rolloutState: "Converged" },
      "converged",
      "green"
    ]
  ])(
    "%j is %s",
    (overrides, text, colour) =>
      assert.deepStrictEqual(statusLabel(hostOf(overrides), 2 * hour, now), { text, colour } as never)
  )

  it.each([[-5, "0s"], [59_999, "59s"], [60_000, "1m"], [hour, "1h"], [49 * hour, "2d"]])(
    "%d ms are %s",
    (ms, text) => assert.strictEqual(describeAge(ms), text)
  )

  it.each([
    [-1, "0s"],
    [59_999, "59s"],
    [60_000, "1m"],
    [3_599_999, "1h 0m"],
    [7_199_000, "2h 0m"],
    [6_600_000, "1h 50m"],
    [86_340_000, "23h 59m"],
    [86_400_000, "1d 0h"],
    [7 * 86_400_000 - 3_600_000, "6d 23h"]
  ])("what is left of %i ms is %s", (ms, text) => assert.strictEqual(describeLeft(ms), text))
})

describe("tables", () => {
  const texts = (row: ReadonlyArray<{ readonly text: string }>) => row.map((cell) => cell.text)

  it("a host's row cuts closures, and says what it waits for and its pin", () => {
    const row = statusRow(
      hostOf({
        rolloutState: "Pending",
        waitsFor: { gate: "wave", because: "wave 0 soaks", clearedBy: "time", earliestAt: null },
        pin: { commit: "0123456789", reason: "r" },
        outstandingComplianceFailures: 1,
        outstandingRuntimeGateErrors: 2
      }),
      undefined,
      now
    )
    assert.deepStrictEqual(texts(row), [
      "web-1",
      "stable",
      "1111111111111…",
      "2222222222222…",
      "in progress (waits: wave 0 soaks) 🔒0123456",
      "3"
    ])
    const unknown = statusRow(hostOf({ currentClosureHash: null, declaredClosureHash: null }), undefined, now)
    assert.deepStrictEqual(texts(unknown).slice(2, 4), ["<unseen>", "<unset>"])
  })

  it("a host whose label says what it is at does not say it twice", () => {
    const waitsFor = { gate: "soaking", because: "it soaks until noon", clearedBy: "time", earliestAt: null }
    const shown = (rolloutState: string) => texts(statusRow(hostOf({ rolloutState, waitsFor }), undefined, now))[4]
    assert.strictEqual(shown("Soaking"), "soaking")
    assert.strictEqual(shown("Activating"), "activating")
    assert.strictEqual(shown("Converged"), "converged (waits: it soaks until noon)")
    const gone = { ...waitsFor, gate: "certificate-revoked" }
    const entry = hostOf({ rolloutState: "Pending", revoked: revoked(now - hour), waitsFor: gone })
    assert.strictEqual(texts(statusRow(entry, undefined, now))[4], "revoked since 2026-06-01T11:00:00Z: stolen")
  })

  it("rollouts count their hosts by state", () => {
    const { rollouts } = Schema.decodeUnknownSync(RolloutList)({
      rollouts: [{
        rolloutId: "stable@aa11",
        channel: "stable",
        currentWave: 1,
        createdAt: "2026-06-01T08:00:00Z",
        hostStates: { a: "Soaking", b: "Converged", c: "Converged" },
        state: "Active",
        waves: 3
      }]
    })
    assert.deepStrictEqual(texts(rolloutListRow(rollouts[0]!)), [
      "stable@aa11",
      "Active",
      "2 of 3",
      "1 Soaking, 2 Converged",
      "2026-06-01T08:00:00Z"
    ])
  })

  it("hosts of a rollout that is open say so, also when a control plane of the original tells less", () => {
    const base = {
      host: "a",
      channel: "stable",
      wave: 0,
      targetClosureHash: closure("1", "x"),
      targetChannelRef: "aa11",
      dispatchedAt: "2026-06-01T08:00:00Z"
    }
    const { hosts } = Schema.decodeUnknownSync(RolloutHosts)({
      rollout_id: "stable@aa11",
      hosts: [
        { ...base, terminalState: null, terminalAt: null },
        { ...base, terminalState: "converged", terminalAt: "2026-06-01T09:00:00Z", state: "Converged" }
      ]
    })
    assert.deepStrictEqual(texts(rolloutHostRow(hosts[0]!)), ["1", "a", "2026-06-01T08:00:00Z", "<open>", "", ""])
    assert.deepStrictEqual(texts(rolloutHostRow(hosts[1]!)).slice(3), [
      "converged",
      "2026-06-01T09:00:00Z",
      "Converged"
    ])
  })

  it("columns align two spaces apart, with or without colour", () => {
    const rows = [[{ text: "long-name" }, { text: "ok", colour: "green" as const }], [{ text: "b" }, { text: "" }]]
    assert.strictEqual(renderTable(["A", "B"], rows, false), "A          B\nlong-name  ok\nb")
    assert.strictEqual(renderTable(["A", "B"], rows, true), "A          B\nlong-name  \u001b[32mok\u001b[0m\nb")
  })

  it("control characters of other machines never reach the terminal", () => {
    assert.strictEqual(printable("a\u001b[2Jb\n\u009bc\u202ed"), "a?[2Jb??c?d")
    assert.notInclude(renderTable(["A"], [[{ text: "\u001b]0;x\u0007" }]], false), "\u001b")
  })
})

const views: Readonly<Record<string, unknown>> = {
  "/v1/hosts": { hosts: [hostJson(), hostJson({ hostname: "web-2", channel: "edge", fromTheFuture: 1 })] },
  "/v1/channels/stable": { name: "stable", declared_ci_commit: "aa11", signed_at: null, freshness_window_minutes: 120 },
  "/v1/channels/edge": { name: "edge", declared_ci_commit: "aa11", signed_at: null, freshness_window_minutes: 60 },
  "/v1/rollouts": { rollouts: [] },
  "/v1/rollouts/stable@aa11/hosts": { rollout_id: "stable@aa11", hosts: [] },
  "/v1/rollouts/stable@bb22/hosts": { rollout_id: "stable@bb22" }
}
const viewServer: ExchangeHandler = (request, peer) => {
  const reply = (status: number, body: unknown) =>
    Effect.succeed({ status, headers: { "content-type": "application/json" }, body: utf8(JSON.stringify(body)) })
  if (peer?.commonName !== "alice") return reply(403, { error: "forbidden", reason: "not-operator" })
  if (request.path === "/v1/rollouts/stable@cc33/hosts") return reply(503, { error: "not ready", reason: "no-fleet" })
  const view = views[request.path]
  return view === undefined ? reply(404, { error: "unknown" }) : reply(200, view)
}

const connection = (commonName = "alice", handler = viewServer) => scriptedConnection(commonName, handler)

describe("over mutual TLS", () => {
  layer(Certificates.layer, { excludeTestServices: true })((live) => {
    live.effect("status shows every host, and --json the views as they came", () =>
      Effect.gen(function*() {
        const { flags } = yield* connection()
        const shown = yield* nixfleet(["status", ...flags])
        assert.strictEqual(shown.code, 0, shown.err)
        const [header, ...rows] = shown.out.split("\n")
        assert.match(header!, /^HOST {3}CHANNEL {2}CURRENT {9}DECLARED {8}STATUS {7}.*COMPLIANCE$/)
        assert.deepStrictEqual(rows.map((row) => row.slice(0, 14)), ["web-1  stable ", "web-2  edge   "])
        const json = JSON.parse((yield* nixfleet(["status", "--json", ...flags])).out)
        assert.deepStrictEqual(json.hosts, views["/v1/hosts"])
        assert.deepStrictEqual(json.channels, [views["/v1/channels/edge"], views["/v1/channels/stable"]])
      }))

    live.effect("rollout list and hosts show tables and JSON", () =>
      Effect.gen(function*() {
        const { flags } = yield* connection()
        assert.match((yield* nixfleet(["rollout", "list", ...flags])).out, /^no rollout is under way/)
        const hosts = yield* nixfleet(["rollout", "hosts", "stable@aa11", ...flags])
        assert.strictEqual(hosts.out, "WAVE  HOST  DISPATCHED  TERMINAL  AT  STATE")
        const json = yield* nixfleet(["rollout", "hosts", "stable@aa11", "--json", ...flags])
        assert.deepStrictEqual(JSON.parse(json.out), views["/v1/rollouts/stable@aa11/hosts"])
        assert.deepStrictEqual(JSON.parse((yield* nixfleet(["rollout", "list", "--json", ...flags])).out), {
          rollouts: []
        })
      }))

    live.effect(
      "the connection comes from flags, the environment or a file, the strongest first",
      () =>
        Effect.gen(function*() {
          const { environment, flags, values } = yield* connection()
          const directory = yield* temporaryDirectory
          const file = join(directory, "connection.json")
          writeFileSync(file, JSON.stringify(values))
          const list = (args: ReadonlyArray<string>, variables: Readonly<Record<string, string>>) =>
            Effect.map(nixfleet(["rollout", "list", ...args], { environment: variables }), ({ code }) => code)
          const wrong = { cpUrl: "https://localhost:1" }
          assert.strictEqual(yield* list([], environment), 0)
          assert.strictEqual(yield* list(["--config", file], {}), 0)
          assert.strictEqual(yield* list([], { NIXFLEET_CONFIG: file }), 0)
          assert.strictEqual(yield* list(flags, { NIXFLEET_CP_URL: wrong.cpUrl }), 0)
          assert.strictEqual(yield* list(["--config", file], { NIXFLEET_CP_URL: wrong.cpUrl }), 1)
          mkdirSync(join(directory, ".config/nixfleet"), { recursive: true })
          writeFileSync(join(directory, ".config/nixfleet/config.json"), JSON.stringify(values))
          assert.strictEqual(yield* list([], { HOME: directory }), 0)
          assert.strictEqual(yield* list([], { HOME: directory, XDG_CONFIG_HOME: "/nowhere" }), 78)
        })
    )

    live.effect("refusals say what the control plane said, exit 1", () =>
      Effect.gen(function*() {
        const { environment, flags } = yield* connection()
        const mallory = yield* connection("mallory")
        const cases: ReadonlyArray<readonly [ReadonlyArray<string>, string]> = [
          [
            ["status", ...mallory.flags],
            "refuses this certificate (403): {\"error\":\"forbidden\",\"reason\":\"not-operator\"}"
          ],
          [["rollout", "hosts", "stable@dd44", ...flags], "there is no such thing (404)"],
          [["rollout", "hosts", "stable@cc33", ...flags], "not ready (503)"],
          [["rollout", "hosts", "stable@bb22", ...flags], "not the expected view"],
          [["status", "--cp-url", "https://localhost:1"], "localhost:1"]
        ]
        for (const [args, message] of cases) {
          const refused = yield* nixfleet(args, { environment })
          assert.strictEqual(refused.code, 1, refused.err)
          assert.include(refused.err, message)
          assert.strictEqual(refused.out, "")
        }
      }))

    live.effect(
      "an answer that is no JSON is refused without obeying its control characters",
      () =>
        Effect.gen(function*() {
          const { flags } = yield* connection(
            "alice",
            () => Effect.succeed({ status: 500, headers: {}, body: utf8("\u001b[2Joops") })
          )
          const refused = yield* nixfleet(["status", ...flags])
          assert.strictEqual(refused.code, 1)
          assert.include(refused.err, "answered 500: ?[2Joops")
        })
    )

    live.effect(
      "a connection that cannot be made from what is configured exits 78, with all problems at once",
      () =>
        Effect.gen(function*() {
          const { environment } = yield* connection()
          const nothing = yield* nixfleet(["status"])
          assert.strictEqual(nothing.code, 78)
          for (const name of ["--cp-url", "NIXFLEET_CA_CERT", "clientCert", "--client-key"]) {
            assert.include(nothing.err, name)
          }
          const file = join(yield* temporaryDirectory, "config.json")
          for (
            const content of ["{", "[]", "{\"cp_url\":\"x\"}", "{\"cpUrl\":\"http://localhost\"}", "{\"cpUrl\":1}"]
          ) {
            writeFileSync(file, content)
            assert.strictEqual((yield* nixfleet(["status", "--config", file], { environment })).code, 78, content)
          }
          assert.strictEqual((yield* nixfleet(["status", "--config", `${file}.absent`], { environment })).code, 78)
          const noKey = yield* nixfleet(["status", "--client-key", "/nowhere"], { environment })
          assert.strictEqual(noKey.code, 78)
          assert.include(noKey.err, "/nowhere")
        })
    )

    live.effect("a rollout that cannot be one is a usage error, before anything is sent", () =>
      Effect.gen(function*() {
        for (const id of ["stable", "stable@", "stable@XYZ", "../hosts@aa", "stable@aa/../.."]) {
          assert.strictEqual((yield* nixfleet(["rollout", "hosts", id])).code, 64, id)
        }
        assert.strictEqual((yield* nixfleet(["rollout", "hosts"])).code, 64)
      }))
  })
})
