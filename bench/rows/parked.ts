/**
 * Memory of the server for each parked poll, at 5,000 polls over mutual TLS on a connection each: resident memory after a forced
 * collection, less the same before the first connection.
 */
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import { Certificates } from "../../test/support/certificates.ts"
import { Connection } from "../support/connection.ts"
import { rowOf } from "../support/figures.ts"
import { type Server, settledKb, world } from "../support/servers.ts"

const polls = 5000
/** Handshakes at the same time. */
const atOnce = 32

/** What the shell says that a process may open; each server holds one descriptor a poll. */
const openFiles = () => Number(execFileSync("sh", ["-c", "ulimit -n"], { encoding: "utf8" }).trim())

export const parked = async () => {
  if (openFiles() < polls + 500) {
    throw new Error(`${polls} polls need more than ${openFiles()} open files: ulimit -n 20000`)
  }
  return await Effect.gen(function*() {
    const { credentials, floor, ours } = yield* world(polls)
    return yield* Effect.promise(async () => {
      const kilobytesEach = async ({ pid, port }: Server) => {
        const before = await settledKb(pid)
        const connections: Array<Connection> = []
        const ends: Array<string> = []
        const remaining = credentials.values()
        await Promise.all(Array.from({ length: atOnce }, async () => {
          for (const one of remaining) {
            const connection = await Connection.open(port, one)
            connections.push(connection)
            connection.send("GET", "/v1/agent/dispatch?wait=60").then(
              ({ status }) => ends.push(`answered ${status}`),
              () => undefined
            )
          }
        }))
        const after = await settledKb(pid)
        if (ends.length > 0) throw new Error(`${ends.length} polls did not stay parked: ${ends[0]}`)
        for (const connection of connections) connection.close()
        return (after - before) / polls
      }
      const pair = { ours: await kilobytesEach(ours), floor: await kilobytesEach(floor) }
      return [rowOf("memory per parked poll at 5,000", { at: "most", ratio: 1.1 }, "KB", [pair], ["one round"])]
    })
  }).pipe(Effect.scoped, Effect.provide(Certificates.layer), Effect.runPromise)
}
