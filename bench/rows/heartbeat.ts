/**
 * A heartbeat on a kept connection: CPU of the server for each, by the kernel's accounting. Each host stays within the allowance
 * that the control plane gives it.
 */
import { Effect } from "effect"
import { Certificates } from "../../test/support/certificates.ts"
import { Connection } from "../support/connection.ts"
import { type Pair, rowOf } from "../support/figures.ts"
import { cpuMs, nameOf, type Server, world } from "../support/servers.ts"

const hosts = 256
const rounds = 4
/** Four rounds, and what warms up, remain below the 240 requests that a host has at once. */
const perRound = 45
const warmUp = 40

const beat = (name: string) =>
  JSON.stringify({
    hostname: name,
    at: new Date().toISOString(),
    journal_id: `journal-of-${name}`,
    digests: [],
    uptime_secs: 60,
    current_closure: `${"a".repeat(40)}-old`
  })

export const heartbeat = () =>
  Effect.gen(function*() {
    // One host more than beats: its silence holds the release back, so that nothing but heartbeats happens.
    const { credentials, floor, ours } = yield* world(hosts + 1)
    return yield* Effect.promise(async () => {
      const connect = ({ port }: Server) =>
        Promise.all(credentials.slice(0, hosts).map((one) => Connection.open(port, one)))
      const run = async (connections: ReadonlyArray<Connection>, count: number) => {
        await Promise.all(connections.map(async (connection, index) => {
          for (let i = 0; i < count; i++) {
            const { body, status } = await connection.send("POST", "/v1/agent/heartbeat", beat(nameOf(index)))
            if (status !== 200) throw new Error(`a heartbeat was answered with ${status}: ${body}`)
          }
        }))
      }
      const sides = [
        { server: ours, connections: await connect(ours) },
        { server: floor, connections: await connect(floor) }
      ] as const
      for (const { connections } of sides) await run(connections, warmUp)
      const microseconds = async ({ connections, server }: typeof sides[number]) => {
        const before = cpuMs(server.pid)
        await run(connections, perRound)
        return (cpuMs(server.pid) - before) * 1000 / (hosts * perRound)
      }
      const pairs: Array<Pair> = []
      for (let i = 0; i < rounds; i++) {
        pairs.push({ ours: await microseconds(sides[0]), floor: await microseconds(sides[1]) })
      }
      for (const { connections } of sides) for (const connection of connections) connection.close()
      return [rowOf("heartbeat on a kept connection, CPU of the server", { at: "most", ratio: 1.5 }, "µs", pairs)]
    })
  }).pipe(Effect.scoped, Effect.provide(Certificates.layer), Effect.runPromise)
