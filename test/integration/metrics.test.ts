/** `GET /metrics` of a real control plane, before and after a rollout: who may read it, its format, and that its values are true. */
import { assert, describe, layer, vi } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { Certificates } from "../support/certificates.ts"
import { peer, ready } from "../support/controlPlanePeer.ts"
import { eventuallyIs, makeFleet, noting } from "../support/fleet.ts"
import { labelNames, readPage } from "../support/prometheus.ts"
import { client, get, quick, textOf } from "../support/tls.ts"

vi.setConfig({ testTimeout: 180_000 })

const host = "web-1"
const hasPromtool = spawnSync("promtool", ["--version"]).status === 0
if (!hasPromtool) console.log("skipped: promtool is not there, only our own checker reads the page")

describe("metrics of a real control plane", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("are for operators, well formed, and true after a rollout", () =>
      Effect.gen(function*() {
        const fleet = yield* makeFleet({ hosts: [host] })
        const closure = yield* fleet.pack("r1", noting(fleet.at("runs")))
        yield* fleet.controlPlane
        const id = fleet.publish("01", { [host]: closure })
        yield* fleet.agent(host)
        yield* eventuallyIs("convergence", fleet.states(id), (states) => states[host] === "Converged")

        const operator = yield* peer(fleet.port, "operator", "operator")
        yield* ready(operator.get("/v1/whoami"))
        const agent = yield* peer(fleet.port, host, "agent")
        assert.strictEqual((yield* agent.get("/metrics")).status, 403)
        const { caFile } = yield* Certificates
        const stranger = yield* client({ baseUrl: `https://localhost:${fleet.port}`, caFile, insecure: false })
        assert.strictEqual((yield* stranger.send(get("/metrics"), quick)).status, 401)

        const response = yield* operator.get("/metrics", { maxBodyBytes: 1_000_000 })
        assert.strictEqual(response.status, 200)
        assert.strictEqual(response.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        const text = textOf(response.body)
        const page = readPage(text)
        assert.strictEqual(page.value("nixfleet_hosts", { channel: "stable", state: "Converged" }), 1)
        assert.strictEqual(page.value("nixfleet_rollouts", { channel: "stable", state: "Terminal" }), 1)
        assert.strictEqual(page.value("nixfleet_dispatches_total", { outcome: "leased" }), 1)
        assert.strictEqual(page.value("nixfleet_dispatch_ack_seconds_count"), 1)
        assert.isAbove(page.value("nixfleet_dispatch_ack_seconds_sum"), 0)
        // DispatchAck, ActivationStarted, ActivationCompleted, ProbeTopologyDeclared, Converged
        assert.isAtLeast(page.value("nixfleet_events_total", { verdict: "accepted" }), 5)
        assert.strictEqual(page.value("nixfleet_events_total", { verdict: "refused" }), 0)
        assert.isAbove(page.value("nixfleet_commit_duration_seconds_count"), 0)
        assert.isAbove(page.value("nixfleet_event_log_rows_total"), 5)
        assert.isAbove(page.value("nixfleet_database_size_bytes"), 4096)
        assert.isBelow(page.value("nixfleet_heartbeat_age_max_seconds", { channel: "stable" }), 60)
        assert.isBelow(page.value("nixfleet_channel_signed_age_seconds", { channel: "stable" }), 180)
        assert.strictEqual(page.value("nixfleet_channel_freshness_window_seconds", { channel: "stable" }), 180 * 60)
        assert.isAbove(page.value("process_resident_memory_bytes"), 10_000_000)
        for (const name of ["closure", "rollout", "host", "hostname", "ref"]) {
          assert.notInclude([...labelNames(page)], name)
        }
        for (const unbounded of [closure, id, host]) {
          assert.notInclude(text, unbounded)
        }

        const again = readPage(textOf((yield* operator.get("/metrics", { maxBodyBytes: 1_000_000 })).body))
        for (const counter of ["nixfleet_commit_duration_seconds_count", "process_cpu_seconds_total"]) {
          assert.isAtLeast(again.value(counter), page.value(counter), counter)
        }
        if (hasPromtool) {
          const checked = spawnSync("promtool", ["check", "metrics"], { input: text, encoding: "utf8" })
          assert.strictEqual(checked.status, 0, `${checked.stdout}${checked.stderr}`)
        }
      }))
  })
})
