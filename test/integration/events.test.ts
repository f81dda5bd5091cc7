/** Events of agents at a real control plane: out of order, poisoned, before it is ready, and cut off by a kill. */
import { assert, describe, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { existsSync, mkdirSync, renameSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import type { ExchangeResponse } from "../../src/Layers/Net/Exchange.ts"
import { HostsResponse, RolloutEvents } from "../../src/Schema/OperatorViews.ts"
import { formatTimestamp } from "../../src/Schema/Primitives.ts"
import { DispatchResponse } from "../../src/Schema/Wire.ts"
import { closure } from "../support/artifacts.ts"
import { Certificates } from "../support/certificates.ts"
import { peer, ready } from "../support/controlPlanePeer.ts"
import { publish, site, start } from "../support/controlPlaneProcess.ts"
import { textOf } from "../support/tls.ts"

const hosts = ["web-1", "web-2", "db-1", "lab-1"]
const canary = "web-1"

/** The events of an activation without a surprise, as seq 1, 2, 3. */
function activation(deliveryId: string | undefined) {
  const at = formatTimestamp(Date.now())
  const attempt = 1
  return {
    ack: {
      kind: "DispatchAck",
      currentClosureAtDispatch: closure("0", "before"),
      receivedAt: at,
      deliveryId,
      attempt,
      seq: 1
    },
    started: { kind: "ActivationStarted", startedAt: at, switchMethod: "test", attempt, seq: 2 },
    completed: {
      kind: "ActivationCompleted",
      observedCurrentClosure: closure("1", "web"),
      exitCode: 0,
      completedAt: at,
      attempt,
      seq: 3
    }
  }
}

/** A control plane whose canary has its dispatch. */
const dispatched = Effect.gen(function*() {
  const here = yield* site
  const { rolloutId } = publish(here, Date.now() - 1000)
  const program = yield* start(here.args)
  for (const name of hosts) {
    const agent = yield* peer(program.port, name, "agent")
    yield* ready(agent.get("/v1/whoami"))
    yield* agent.heartbeat()
    if (name !== canary) yield* agent.poll
  }
  const agent = yield* peer(program.port, canary, "agent")
  const { delivery_id } = yield* agent.read("/v1/agent/dispatch", DispatchResponse)
  return { here, program, rolloutId, agent, ...activation(delivery_id) }
})

const statusOf = (sent: Effect.Effect<ExchangeResponse, unknown>) => Effect.map(sent, ({ status }) => status)

/** What the log holds of the canary: sequence numbers in their order, and the reasons of refusals. */
const logged = Effect.fnUntraced(function*(port: number, rolloutId: string) {
  const operator = yield* peer(port, "operator-log", "operator")
  yield* ready(operator.get("/v1/whoami"))
  const { events } = yield* operator.read(`/v1/rollouts/${rolloutId}/events`, RolloutEvents)
  return events.filter(({ host, kind }) => kind === "agent_event" && host === canary).map(({ payload }) => {
    const { refused, seq } = payload as { readonly seq?: number; readonly refused?: string }
    return [seq, refused] as const
  })
})

const stateOf = Effect.fnUntraced(function*(port: number) {
  const agent = yield* peer(port, canary, "agent")
  yield* ready(agent.get("/v1/whoami"))
  return (yield* agent.read("/v1/hosts", HostsResponse)).hosts[0]?.rolloutState
})

describe("events at a real control plane", () => {
  layer(Certificates.layer, { excludeTestServices: true })((it) => {
    it.effect("that arrive out of order and twice are told where to begin, and count once, in their order", () =>
      Effect.gen(function*() {
        const { ack, agent, completed, program, rolloutId, started } = yield* dispatched
        for (const early of [completed, started]) {
          const answer = yield* agent.event(rolloutId, early)
          assert.deepStrictEqual([answer.status, JSON.parse(textOf(answer.body)).replay_from], [425, 1])
        }
        for (const event of [ack, ack, started, ack, completed, started]) {
          assert.strictEqual(yield* statusOf(agent.event(rolloutId, event)), 204, event.kind)
        }
        assert.deepStrictEqual(yield* logged(program.port, rolloutId), [1, 2, 3].map((seq) => [seq, undefined]))
        assert.strictEqual(yield* stateOf(program.port), "Soaking")
      }))

    it.effect("of which one is poison: it is refused by name and consumes its number, all others pass", () =>
      Effect.gen(function*() {
        const { ack, agent, completed, program, rolloutId, started } = yield* dispatched
        assert.strictEqual(yield* statusOf(agent.event(rolloutId, ack)), 204)
        const poison = {
          ...completed,
          kind: "Converged",
          currentClosure: "",
          convergedAt: started.startedAt,
          seq: 2
        }
        const other = yield* peer(program.port, "web-2", "agent")
        // At the same moment, so that they share a commit if they can.
        const [refused, heartbeat] = yield* Effect.all([agent.event(rolloutId, poison), other.heartbeat()], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(
          [refused.status, JSON.parse(textOf(refused.body))],
          [422, { verdict: "refused", reason: "illegal-for-state" }]
        )
        assert.strictEqual(heartbeat.status, 200)
        for (const event of [{ ...started, seq: 3 }, { ...completed, seq: 4 }]) {
          assert.strictEqual(yield* statusOf(agent.event(rolloutId, event)), 204)
        }
        assert.deepStrictEqual(yield* logged(program.port, rolloutId), [
          [1, undefined],
          [2, "illegal-for-state"],
          [3, undefined],
          [4, undefined]
        ])
        assert.strictEqual(yield* stateOf(program.port), "Soaking")
      }))

    it.effect("while the manifests are cold are put off, and taken once there is a release to judge them by", () =>
      Effect.gen(function*() {
        const { ack, agent, here, program, rolloutId, started } = yield* dispatched
        assert.strictEqual(yield* statusOf(agent.event(rolloutId, ack)), 204)
        program.process.kill("SIGKILL")
        yield* program.ended
        // Neither the source nor the cache of what was fetched before has anything.
        renameSync(here.releases, `${here.releases}.away`)
        mkdirSync(here.releases)
        if (existsSync(join(here.stateDir, "artifacts"))) {
          renameSync(join(here.stateDir, "artifacts"), `${here.releases}.cache`)
        }
        const again = yield* start(here.args)
        const cold = yield* peer(again.port, canary, "agent")
        const answer = yield* cold.event(rolloutId, started)
        assert.deepStrictEqual([answer.status, answer.headers["retry-after"]], [503, "30"])
        renameSync(here.releases, `${here.releases}.empty`)
        renameSync(`${here.releases}.away`, here.releases)
        yield* ready(cold.get("/v1/whoami"))
        assert.strictEqual(yield* statusOf(cold.event(rolloutId, started)), 204)
        assert.deepStrictEqual(yield* logged(again.port, rolloutId), [[1, undefined], [2, undefined]])
      }))

    it.effect("that were received and not committed when it was killed were not acknowledged, and are taken later", () =>
      Effect.gen(function*() {
        const { ack, agent, here, program, rolloutId, started } = yield* dispatched
        assert.strictEqual(yield* statusOf(agent.event(rolloutId, ack)), 204)
        // A writer from outside holds every commit: what is received now is decided, and not durable.
        const blocker = yield* Effect.acquireRelease(
          Effect.sync(() => {
            const db = new DatabaseSync(join(here.stateDir, "journal.db"))
            db.exec("BEGIN IMMEDIATE")
            return db
          }),
          (db) => Effect.sync(() => db.close())
        )
        const sending = yield* Effect.forkChild(Effect.result(agent.event(rolloutId, started)))
        yield* program.line((line) => line["reason"] === "database-locked")
        assert.isUndefined(sending.pollUnsafe(), "nobody is told before it is durable")
        program.process.kill("SIGKILL")
        yield* program.ended
        assert.strictEqual((yield* Fiber.join(sending))._tag, "Failure")
        blocker.exec("ROLLBACK")

        const again = yield* start(here.args)
        assert.deepStrictEqual(yield* logged(again.port, rolloutId), [[1, undefined]])
        const later = yield* peer(again.port, canary, "agent")
        const answer = yield* later.heartbeat({ last_event_seq_by_rollout: { [rolloutId]: 2 } })
        assert.deepStrictEqual(JSON.parse(textOf(answer.body)).replay_from, { [rolloutId]: 2 })
        assert.strictEqual(yield* statusOf(later.event(rolloutId, started)), 204)
        assert.deepStrictEqual(yield* logged(again.port, rolloutId), [[1, undefined], [2, undefined]])
      }))
  })
})
