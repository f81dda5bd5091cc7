import { assert, describe, layer } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import {
  ChannelView,
  Healthz,
  HostsResponse,
  RolloutEvents,
  RolloutHosts,
  RolloutList,
  Whoami
} from "../../src/Schema/OperatorViews.ts"
import { formatTimestamp } from "../../src/Schema/Primitives.ts"
import { DispatchResponse } from "../../src/Schema/Wire.ts"
import { closure, seedOf, signed } from "../support/artifacts.ts"
import { agentSuffix, Certificates } from "../support/certificates.ts"
import { peer, ready } from "../support/controlPlanePeer.ts"
import { launch, messageOf, publish, site, start } from "../support/controlPlaneProcess.ts"
import { assertLines } from "../support/logLines.ts"
import { post, textOf } from "../support/tls.ts"

describe("the control plane as a process", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("is not ready before the first release, then serves it byte for byte", () =>
      Effect.gen(function*() {
        const here = yield* site
        const { port } = yield* start(here.args)
        const operator = yield* peer(port, "operator-ada", "operator")
        assert.strictEqual((yield* operator.read("/healthz", Healthz)).ready, false)
        const early = yield* operator.get("/v1/fleet.resolved")
        assert.deepStrictEqual([early.status, early.headers["retry-after"]], [503, "30"])
        const { fleet, manifest, rolloutId } = publish(here, Date.now() - 1000)
        yield* ready(operator.get("/v1/fleet.resolved"))
        assert.deepStrictEqual(Buffer.from((yield* operator.get("/v1/fleet.resolved")).body), Buffer.from(fleet))
        assert.deepStrictEqual(
          Buffer.from((yield* operator.get(`/v1/rollouts/${rolloutId}`)).body),
          Buffer.from(manifest)
        )
        assert.strictEqual((yield* operator.get(`/v1/rollouts/${rolloutId}/sig`)).body.length, 64)
        assert.strictEqual((yield* operator.read("/healthz", Healthz)).ready, true)
        assert.strictEqual((yield* operator.read("/v1/whoami", Whoami)).role, "operator")
        assert.strictEqual((yield* operator.read("/v1/channels/stable", ChannelView)).freshness_window_minutes, 180)
      }))

    it.effect("dispatches to the canary's parked poll, takes its events, and shows all of it to operators", () =>
      Effect.gen(function*() {
        const here = yield* site
        const { rolloutId } = publish(here, Date.now() - 1000)
        const { port } = yield* start(here.args)
        const operator = yield* peer(port, "operator-bob", "operator")
        const canary = yield* peer(port, "web-1", "agent")
        const others = yield* Effect.forEach(["web-2", "db-1", "lab-1"], (name) => peer(port, name, "agent"))
        yield* ready(canary.get("/v1/whoami"))
        const poll = yield* Effect.forkChild(
          canary.get("/v1/agent/dispatch?wait=60", { lane: "poll", timeoutMs: 65_000 })
        )
        // A new database waits until every host of the channel was heard, and has polled (D6).
        for (const agent of [canary, ...others]) assert.strictEqual((yield* agent.heartbeat()).status, 200)
        for (const agent of others) assert.strictEqual((yield* agent.poll).status, 204)
        const offered = yield* Fiber.join(poll)
        assert.strictEqual(offered.status, 200)
        const dispatch = Schema.decodeUnknownSync(DispatchResponse)(JSON.parse(textOf(offered.body)))
        assert.deepStrictEqual(
          [dispatch.hostname, dispatch.rollout_id, dispatch.target_closure, dispatch.attempt],
          ["web-1", rolloutId, closure("1", "web"), 1]
        )

        const at = formatTimestamp(Date.now())
        const ack = {
          kind: "DispatchAck",
          currentClosureAtDispatch: closure("0", "before"),
          receivedAt: at,
          deliveryId: dispatch.delivery_id,
          attempt: 1,
          seq: 1
        }
        assert.strictEqual((yield* canary.event(rolloutId, ack)).status, 204)
        assert.strictEqual((yield* canary.event(rolloutId, ack)).status, 204, "a duplicate")
        const other = yield* canary.event(rolloutId, { ...ack, currentClosureAtDispatch: "" })
        assert.deepStrictEqual(
          [other.status, JSON.parse(textOf(other.body))],
          [409, { verdict: "refused", reason: "other-bytes" }]
        )
        const gap = yield* canary.event(rolloutId, {
          kind: "ActivationStarted",
          startedAt: at,
          switchMethod: "x",
          attempt: 1,
          seq: 3
        })
        assert.deepStrictEqual([gap.status, JSON.parse(textOf(gap.body)).replay_from], [425, 2])
        const illegal = yield* canary.event(rolloutId, {
          kind: "Converged",
          convergedAt: at,
          currentClosure: closure("1", "web"),
          attempt: 1,
          seq: 2
        })
        assert.deepStrictEqual([illegal.status, JSON.parse(textOf(illegal.body)).verdict], [422, "refused"])

        const { hosts } = yield* operator.read("/v1/hosts", HostsResponse)
        assert.deepStrictEqual(hosts.map((host) => host.hostname), ["db-1", "lab-1", "web-1", "web-2"])
        const shown = hosts.find((host) => host.hostname === "web-1")
        assert.deepStrictEqual(
          [shown?.rolloutState, shown?.wave, shown?.currentClosureHash, shown?.lastRolloutId],
          ["Activating", 0, closure("0", "before"), rolloutId]
        )
        assert.isNotNull(shown?.lastCheckinAt)
        const waiting = hosts.find((host) => host.hostname === "web-2")
        assert.strictEqual(waiting?.waitsFor?.gate, "wave-promotion")
        const rollouts = (yield* operator.read("/v1/rollouts", RolloutList)).rollouts
        assert.deepStrictEqual(rollouts.map((rollout) => rollout.rolloutId), [rolloutId])
        const events = (yield* operator.read(`/v1/rollouts/${rolloutId}/events`, RolloutEvents)).events
        assert.includeMembers(events.map((event) => event.kind), ["plan_action", "agent_event"])
        const page =
          (yield* operator.read(`/v1/rollouts/${rolloutId}/events?limit=1&after_seq=${events[0]?.seq}`, RolloutEvents))
            .events
        assert.deepStrictEqual(page, events.slice(1, 2))
        const own = (yield* canary.read(`/v1/rollouts/${rolloutId}/hosts`, RolloutHosts)).hosts
        assert.deepStrictEqual(own.map((host) => host.host), ["web-1"])
        assert.strictEqual((yield* canary.get("/v1/rollouts")).status, 403)
        assert.strictEqual((yield* operator.get("/v1/agent/dispatch")).status, 403)
      }))

    it.effect("SIGTERM answers parked polls 503 with Retry-After and ends with 0 within two seconds", () =>
      Effect.gen(function*() {
        const here = yield* site
        publish(here, Date.now() - 1000)
        const running = yield* start(here.args)
        const agents = yield* Effect.forEach(["web-1", "web-2"], (name) => peer(running.port, name, "agent"))
        const polls = yield* Effect.forEach(agents, (agent) =>
          ready(agent.get("/v1/whoami")).pipe(
            Effect.andThen(agent.heartbeat()),
            Effect.andThen(
              Effect.forkChild(agent.get("/v1/agent/dispatch?wait=60", { lane: "poll", timeoutMs: 65_000 }))
            )
          ))
        // The lane that reports is idle and kept; the poll has surely arrived once this later request is answered.
        for (const agent of agents) yield* agent.get("/v1/whoami", { lane: "report" })
        yield* Effect.sleep("100 millis")
        const asked = performance.now()
        running.process.kill("SIGTERM")
        const answers = yield* Effect.forEach(polls, Fiber.join)
        const ended = yield* running.ended
        assert.isBelow(performance.now() - asked, 2000)
        assert.deepStrictEqual(ended, { code: 0, signal: null })
        for (const { headers, status } of answers) assert.deepStrictEqual([status, headers["retry-after"]], [503, "5"])
        assert.isDefined(running.log.find((line) => messageOf(line).includes("stopped because it was told to")))
        assertLines(running.log)
      }))

    it.effect("killed in the middle, it goes on from its journal", () =>
      Effect.gen(function*() {
        const here = yield* site
        const { rolloutId } = publish(here, Date.now() - 1000)
        const first = yield* start(here.args)
        const names = ["web-1", "web-2", "db-1", "lab-1"]
        const agents = yield* Effect.forEach(names, (name) => peer(first.port, name, "agent"))
        const canary = agents[0]
        assert.isDefined(canary)
        yield* ready(canary.get("/v1/whoami"))
        for (const agent of agents) yield* agent.heartbeat()
        for (const agent of agents.slice(1)) yield* agent.poll
        const dispatch = yield* canary.read("/v1/agent/dispatch", DispatchResponse)
        const ack = {
          kind: "DispatchAck",
          currentClosureAtDispatch: closure("0", "before"),
          receivedAt: formatTimestamp(Date.now()),
          deliveryId: dispatch.delivery_id,
          attempt: 1,
          seq: 1
        }
        assert.strictEqual((yield* canary.event(rolloutId, ack)).status, 204)
        first.process.kill("SIGKILL")
        yield* first.ended

        const second = yield* start(here.args)
        const again = yield* peer(second.port, "web-1", "agent")
        yield* ready(again.get("/v1/whoami"))
        const [own] = (yield* again.read("/v1/hosts", HostsResponse)).hosts
        assert.deepStrictEqual([own?.rolloutState, own?.verifiedEventCount], ["Activating", 1])
        assert.strictEqual((yield* again.event(rolloutId, ack)).status, 204, "known already")
      }))

    it.effect("a tampered and an older release are refused by name, and the one in force is still served", () =>
      Effect.gen(function*() {
        const here = yield* site
        const { fleet } = publish(here, Date.now() - 60_000)
        const running = yield* start(here.args)
        const operator = yield* peer(running.port, "operator-eve", "operator")
        yield* ready(operator.get("/v1/fleet.resolved"))
        const forged = signed({ hosts: {} }, seedOf("somebody else"))
        writeFileSync(join(here.releases, "fleet.resolved.json"), forged.bytes)
        const line = yield* running.line((found) => found["reason"] === "bad-signature")
        assert.strictEqual(line["artifact"], "fleet.resolved")
        publish(here, Date.now() - 3_600_000)
        yield* running.line((found) => found["reason"] === "rolled-back")
        assertLines(running.log)
        assert.deepStrictEqual(Buffer.from((yield* operator.get("/v1/fleet.resolved")).body), Buffer.from(fleet))
      }))

    it.effect("a body above the limit is 413 over TLS, and the connection serves the next request", () =>
      Effect.gen(function*() {
        const here = yield* site
        publish(here, Date.now() - 1000)
        const { port } = yield* start(here.args)
        const agent = yield* peer(port, "web-1", "agent")
        yield* ready(agent.get("/v1/whoami"))
        assert.strictEqual((yield* agent.call(post("/v1/agent/events", "x".repeat(2_097_153)))).status, 413)
        assert.strictEqual((yield* agent.heartbeat()).status, 200)
      }))

    it.effect("a wrong configuration is told whole, each problem with its source, and exits 78", () =>
      Effect.gen(function*() {
        const here = yield* site
        const file = join(here.releases, "config.json")
        writeFileSync(file, JSON.stringify({ listen: 5, bogus: true, sweepSecs: 1 }))
        const running = yield* launch([
          "serve",
          "--config",
          file,
          "--plan-secs",
          "soon",
          "--releases-source",
          "relative"
        ], {
          NIXFLEET_CP_TLS_CERT: "/c.pem",
          NIXFLEET_CP_STATE_DIR: "here"
        })
        assert.strictEqual((yield* running.ended).code, 78)
        for (
          const part of [
            `file ${file} key bogus: unknown key`,
            `file ${file} key listen: expected a string`,
            "flag --plan-secs: expected a number",
            "flag --releases-source: expected an absolute directory or an http(s) address",
            "environment NIXFLEET_CP_STATE_DIR: expected an absolute path",
            "flag --tls-key: required"
          ]
        ) assert.include(running.errors(), part)
        assert.notInclude(running.errors(), "tls-cert: required")
      }))

    const unusable: ReadonlyArray<
      readonly [string, (args: ReadonlyArray<string>) => ReadonlyArray<string>, number, RegExp]
    > = [
      ["an unknown flag", (args) => [...args, "--nope"], 64, /--nope/],
      ["an unknown command", () => ["serv"], 64, /serv/],
      ["a certificate that is not there", (args) => replaced(args, "--tls-cert", "/nowhere.pem"), 78, /\/nowhere\.pem/],
      ["a key that does not fit", (args) => replaced(args, "--tls-key", "/dev/null"), 78, /\/dev\/null/],
      ["a CA file without a certificate", (args) => replaced(args, "--client-ca", "/dev/null"), 78, /\/dev\/null/],
      [
        "a configuration file that is not there",
        (args) => [...args, "--config", "/nowhere.json"],
        78,
        /\/nowhere\.json/
      ]
    ]
    for (const [name, change, code, message] of unusable) {
      it.effect(`${name} exits ${code} and is named`, () =>
        Effect.gen(function*() {
          const here = yield* site
          const running = yield* launch(change(here.args))
          assert.strictEqual((yield* running.ended).code, code)
          assert.match(running.errors() + JSON.stringify(running.log), message)
        }))
    }

    it.effect("a second process on the same state directory exits 78 and names the first", () =>
      Effect.gen(function*() {
        const here = yield* site
        const first = yield* start(here.args)
        const second = yield* launch(here.args)
        assert.strictEqual((yield* second.ended).code, 78)
        assert.include(second.errors(), `in use by process ${first.process.pid}`)
      }))
  })
})

function replaced(args: ReadonlyArray<string>, flag: string, value: string): ReadonlyArray<string> {
  return args.map((arg, index) => args[index - 1] === flag ? value : arg)
}

// The suffix is part of every agent's name; a test of another fleet would need another authority.
assert.strictEqual(agentSuffix, "fleet.test")
