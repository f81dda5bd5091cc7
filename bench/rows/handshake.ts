/**
 * Mutual TLS handshakes of hosts, from scratch and resumed: CPU of the control plane for each connection that is opened, over that
 * of a bare server with the same settings. A resumed one skips both certificates; who it is, and whether it is revoked, is asked
 * at each of its requests all the same.
 */
import { Effect } from "effect"
import { connect } from "node:tls"
import { Certificates } from "../../test/support/certificates.ts"
import type { Credentials } from "../support/connection.ts"
import { inTurns, median, rowOf, shown } from "../support/figures.ts"
import { cpuMs, type Server, world } from "../support/servers.ts"

const hosts = 64
const rounds = 5
const perRound = 400
const atOnce = 8

/** Whatever it is answered: it goes no further than the door. */
const request = "POST /v1/agent/heartbeat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"

/** One connection: a handshake, one request, and the ticket for the next one. */
const open = (port: number, { ca, cert, key }: Credentials, session: Buffer | undefined) =>
  new Promise<Buffer>((resolve, reject) => {
    let ticket = session
    let isAnswered = false
    const settle = () => {
      if (ticket === undefined || !isAnswered) return
      resolve(ticket)
      socket.destroy()
    }
    const socket = connect({
      host: "127.0.0.1",
      port,
      servername: "localhost",
      ca,
      cert,
      key,
      minVersion: "TLSv1.3",
      ...(session === undefined ? {} : { session })
    })
    socket.once("error", reject)
    socket.once("close", () => reject(new Error("the server closed the connection")))
    socket.on("session", (found) => {
      ticket = found
      settle()
    })
    socket.once("secureConnect", () => {
      if (socket.isSessionReused() !== (session !== undefined)) reject(new Error("the session was not as asked"))
      socket.write(request)
    })
    socket.once("data", () => {
      isAnswered = true
      settle()
    })
  })

export const handshake = () =>
  Effect.gen(function*() {
    const { credentials, floor, ours } = yield* world(hosts)
    return yield* Effect.promise(async () => {
      /** Milliseconds of a server for each connection; `tickets`: one of each host, when it resumes. */
      const cost = async ({ pid, port }: Server, tickets: ReadonlyArray<Buffer> | undefined) => {
        const before = cpuMs(pid)
        let next = 0
        await Promise.all(Array.from({ length: atOnce }, async () => {
          while (next < perRound) {
            const host = next++ % hosts
            await open(port, credentials[host]!, tickets?.[host])
          }
        }))
        return (cpuMs(pid) - before) / perRound
      }
      const ticketsOf = async ({ port }: Server) => {
        const tickets: Array<Buffer> = []
        for (const one of credentials) tickets.push(await open(port, one, undefined))
        return tickets
      }
      const tickets = { ours: await ticketsOf(ours), floor: await ticketsOf(floor) }
      const rowFor = async (what: string, resumed: boolean, note: (ms: number) => string) => {
        const ask = (server: Server, own: ReadonlyArray<Buffer>) => cost(server, resumed ? own : undefined)
        const sides = { ours: () => ask(ours, tickets.ours), floor: () => ask(floor, tickets.floor) }
        await inTurns(1, sides)
        const pairs = await inTurns(rounds, sides)
        return rowOf(what, { at: "most", ratio: 1.5 }, "ms", pairs, [note(median(pairs.map((pair) => pair.ours)))])
      }
      const perSecond = (ms: number) => `${shown(1000 / ms)} a second on one core`
      return [
        await rowFor("connection with a full handshake, CPU of the server", false, perSecond),
        await rowFor("connection with a resumed session, CPU of the server", true, perSecond)
      ]
    })
  }).pipe(Effect.scoped, Effect.provide(Certificates.layer), Effect.runPromise)
