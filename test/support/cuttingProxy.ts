/** A TCP relay before a server that can lose answers: while it cuts, the first byte of an answer ends its connection. */
import { Effect } from "effect"
import { connect, createServer, type Socket } from "node:net"

export interface CuttingProxy {
  readonly port: number
  /** While true, answers are lost: the server has sent them, the client never gets them. */
  cutting: boolean
  /** How many answers were lost. */
  readonly lost: () => number
}

export const cuttingProxy = (target: number) =>
  Effect.acquireRelease(
    Effect.callback<CuttingProxy & { readonly close: () => void }>((resume) => {
      const sockets = new Set<Socket>()
      let lost = 0
      const server = createServer((client) => {
        const upstream = connect(target, "127.0.0.1")
        const end = () => {
          client.destroy()
          upstream.destroy()
        }
        for (const socket of [client, upstream]) {
          sockets.add(socket)
          socket.on("error", end)
          socket.on("close", () => {
            sockets.delete(socket)
            end()
          })
        }
        client.on("data", (chunk) => upstream.write(chunk))
        upstream.on("data", (chunk) => {
          // A handshake is no answer: only established connections lose theirs.
          if (proxy.cutting && client.bytesRead > 2500) {
            lost += 1
            end()
          } else client.write(chunk)
        })
      })
      const proxy = {
        port: 0,
        cutting: false,
        lost: () => lost,
        close: () => {
          for (const socket of sockets) socket.destroy()
          server.close()
        }
      }
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        proxy.port = typeof address === "object" && address !== null ? address.port : 0
        resume(Effect.succeed(proxy))
      })
    }),
    (proxy) => Effect.sync(proxy.close)
  )
