/**
 * Events over mutual TLS, one a POST, durable before the 204: `ProbeResult` of soaking hosts, on one connection each. The
 * floor stores the same events behind bare `node:https`, with group commit. What counts is events for each second of the server's
 * CPU: the load generator shares the machine, so that events per second of wall time say little.
 */
import { Effect } from "effect"
import { Certificates } from "../../test/support/certificates.ts"
import { Connection } from "../support/connection.ts"
import { type Pair, rowOf } from "../support/figures.ts"
import { cpuMs, nameOf, type Server, targetClosure, world } from "../support/servers.ts"

const hosts = 64
const rounds = 7
const perRound = 120
/** Events of a host until both servers are as fast as they get. */
const warmUp = 500

export const ingest = () =>
  Effect.gen(function*() {
    const { credentials, floor, ours, rolloutId } = yield* world(hosts)
    return yield* Effect.promise(async () => {
      const connect = ({ port }: Server) => Promise.all(credentials.map((one) => Connection.open(port, one)))
      const sides = [
        { server: ours, connections: await connect(ours), seq: 0 },
        { server: floor, connections: await connect(floor), seq: 0 }
      ]
      type Side = typeof sides[number]
      const post = async (connection: Connection, index: number, event: Readonly<Record<string, unknown>>) => {
        const hostname = nameOf(index)
        const body = JSON.stringify({ hostname, rolloutId, journalId: `journal-of-${hostname}`, event })
        const answer = await connection.send("POST", "/v1/agent/events", body)
        if (answer.status !== 204) throw new Error(`an event was answered with ${answer.status}: ${answer.body}`)
      }
      const probes = async (side: Side, count: number) => {
        const from = side.seq
        await Promise.all(side.connections.map(async (connection, index) => {
          for (let i = 1; i <= count; i++) {
            await post(connection, index, {
              kind: "ProbeResult",
              probeName: "web",
              mode: "enforce",
              status: "pass",
              observedAt: new Date().toISOString(),
              attempt: 1,
              seq: from + i
            })
          }
        }))
        side.seq += count
      }
      for (const side of sides) {
        if (side === sides[0]) await soak(side.connections, post)
        side.seq = 4
        await probes(side, warmUp)
      }
      const measured = async (side: Side) => {
        const before = cpuMs(side.server.pid)
        const begin = performance.now()
        await probes(side, perRound)
        const wallMs = performance.now() - begin
        const events = hosts * perRound
        return { perCpuSecond: events / (cpuMs(side.server.pid) - before) * 1000, perSecond: events / wallMs * 1000 }
      }
      const pairs: Array<Pair> = []
      const wall: Array<Pair> = []
      for (let i = 0; i < rounds; i++) {
        const [one, other] = [await measured(sides[0]!), await measured(sides[1]!)]
        pairs.push({ ours: one.perCpuSecond, floor: other.perCpuSecond })
        wall.push({ ours: one.perSecond, floor: other.perSecond })
      }
      for (const { connections } of sides) for (const connection of connections) connection.close()
      const { floor: bare, ours: mine, ratio } = rowOf("", { at: "least", ratio: 0 }, "", wall)
      return [
        rowOf("ingest, one event a POST over mTLS", { at: "least", ratio: 0.65 }, "events per CPU second", pairs, [
          `by wall time ${Math.round(mine)} and ${Math.round(bare)} events/s, ratio ${ratio.toFixed(2)}`
        ])
      ]
    })
  }).pipe(Effect.scoped, Effect.provide(Certificates.layer), Effect.runPromise)

/** From the first heartbeat of every host to its soak: seq 1 to 4. */
async function soak(
  connections: ReadonlyArray<Connection>,
  post: (connection: Connection, index: number, event: Readonly<Record<string, unknown>>) => Promise<void>
): Promise<void> {
  const at = () => new Date().toISOString()
  await Promise.all(connections.map((connection, index) =>
    connection.send(
      "POST",
      "/v1/agent/heartbeat",
      JSON.stringify({
        hostname: nameOf(index),
        at: at(),
        boot: true,
        journal_id: `journal-of-${nameOf(index)}`,
        digests: [],
        current_closure: `${"a".repeat(40)}-old`
      })
    )
  ))
  await Promise.all(connections.map(async (connection, index) => {
    const { body, status } = await connection.send("GET", "/v1/agent/dispatch?wait=30")
    if (status !== 200) throw new Error(`a poll was answered with ${status}: ${body}`)
    const { delivery_id: deliveryId }: { readonly delivery_id: string } = JSON.parse(body)
    const attempt = 1
    const events = [
      { kind: "DispatchAck", currentClosureAtDispatch: `${"a".repeat(40)}-old`, receivedAt: at(), deliveryId },
      { kind: "ActivationStarted", startedAt: at(), switchMethod: "bench" },
      { kind: "ActivationCompleted", observedCurrentClosure: targetClosure, exitCode: 0, completedAt: at() },
      { kind: "ProbeTopologyDeclared", probes: [{ probeName: "web", kind: "http", mode: "enforce" }], declaredAt: at() }
    ]
    for (const [i, event] of events.entries()) await post(connection, index, { ...event, attempt, seq: i + 1 })
  }))
}
