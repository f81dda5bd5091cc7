/**
 * A heartbeat on a kept connection: CPU of the server for each, by the kernel's accounting. Each host stays within the allowance
 * that the control plane gives it.
 */
import { Effect } from "effect"
import { Certificates } from "../../test/support/certificates.ts"
import { Connection } from "../support/connection.ts"
import { inTurns, rowOf } from "../support/figures.ts"
import { cpuMs, nameOf, type Server, world } from "../support/servers.ts"

const hosts = 256
const rounds = 6
/** All rounds of a host remain below the 240 requests that it has at once. */
const perRound = 36
/** Others make both servers as fast as they get, which takes tens of thousands of requests. */
const warmUpHosts = 512
const warmUp = 160

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
    const { credentials, floor, ours } = yield* world(warmUpHosts + hosts + 1)
    return yield* Effect.promise(async () => {
      const connect = ({ port }: Server, from: number, to: number) =>
        Promise.all(
          credentials.slice(from, to).map(async (one, index) => ({
            name: nameOf(from + index),
            connection: await Connection.open(port, one)
          }))
        )
      type Connected = Awaited<ReturnType<typeof connect>>
      const run = async (connected: Connected, count: number) => {
        await Promise.all(connected.map(async ({ connection, name }) => {
          for (let i = 0; i < count; i++) {
            const { body, status } = await connection.send("POST", "/v1/agent/heartbeat", beat(name))
            if (status !== 200) throw new Error(`a heartbeat was answered with ${status}: ${body}`)
          }
        }))
      }
      const close = (connected: Connected) => {
        for (const { connection } of connected) connection.close()
      }
      for (const server of [ours, floor]) {
        const warming = await connect(server, 0, warmUpHosts)
        await run(warming, warmUp)
        close(warming)
      }
      const sides = {
        ours: await connect(ours, warmUpHosts, warmUpHosts + hosts),
        floor: await connect(floor, warmUpHosts, warmUpHosts + hosts)
      }
      const microseconds = async ({ pid }: Server, connected: Connected) => {
        const before = cpuMs(pid)
        await run(connected, perRound)
        return (cpuMs(pid) - before) * 1000 / (hosts * perRound)
      }
      const pairs = await inTurns(rounds, {
        ours: () => microseconds(ours, sides.ours),
        floor: () => microseconds(floor, sides.floor)
      })
      for (const connected of Object.values(sides)) close(connected)
      return [rowOf("heartbeat on a kept connection, CPU of the server", { at: "most", ratio: 1.5 }, "µs", pairs)]
    })
  }).pipe(Effect.scoped, Effect.provide(Certificates.layer), Effect.runPromise)
