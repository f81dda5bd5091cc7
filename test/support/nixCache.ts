/** A binary cache over HTTP that misbehaves as it is told: for one test, on a port of its own. */
import { Effect } from "effect"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { join, normalize } from "node:path"

/** What is done to an answer; `status`: only that; `edit`: other bytes; the others break the connection or are slow. */
export type Misbehaviour =
  | { readonly status: number }
  | { readonly edit: (body: Buffer) => Buffer }
  /** Bytes a tick of 50 ms. */
  | { readonly slow: number }
  | "hang"
  | "reset"
  | "cut"
  | "stall"

export interface Fault {
  /** Paths that it is for. */
  readonly match: RegExp
  readonly does: Misbehaviour
}

export const flipped = (body: Buffer): Buffer => {
  const other = Buffer.from(body)
  // In the middle of the contents, where the frame of the archive stays whole.
  other[other.length >> 1]! ^= 0xff
  return other
}
export const halved = (body: Buffer): Buffer => body.subarray(0, body.length >> 1)
export const edited = (from: RegExp, to: string) => (body: Buffer): Buffer =>
  Buffer.from(body.toString("latin1").replace(from, to), "latin1")

export interface NixCache {
  readonly url: string
  faults: ReadonlyArray<Fault>
  /** `name:password` without which it answers 401. */
  password: string | undefined
  /** Paths that were asked for, in order. */
  readonly requests: Array<string>
}

function answer(
  response: ServerResponse,
  request: IncomingMessage,
  body: Buffer,
  does: Misbehaviour | undefined
): void {
  const send = (bytes: Buffer) => {
    response.writeHead(200, { "content-length": bytes.length })
    response.end(request.method === "HEAD" ? undefined : bytes)
  }
  if (does === undefined) return send(body)
  if (typeof does === "object") {
    if ("status" in does) return void response.writeHead(does.status).end("fault")
    if ("edit" in does) return send(does.edit(body))
    response.writeHead(200, { "content-length": body.length })
    let at = 0
    const timer = setInterval(() => {
      response.write(body.subarray(at, at += does.slow))
      if (at < body.length) return
      clearInterval(timer)
      response.end()
    }, 50)
    response.once("close", () => clearInterval(timer))
    return
  }
  switch (does) {
    case "hang":
      return
    case "reset":
      return void request.socket.resetAndDestroy()
    case "cut":
      response.writeHead(200, { "content-length": body.length })
      response.write(halved(body), () => setTimeout(() => request.socket.destroy(), 20))
      return
    case "stall":
      response.writeHead(200, { "content-length": body.length })
      response.write(halved(body))
  }
}

/** Serves `directory` until the end of the test. */
export const serveCache = (directory: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const server = createServer((request, response) => {
        const path = normalize((request.url ?? "/").split("?")[0]!)
        cache.requests.push(path)
        const { password } = cache
        const given = `Basic ${Buffer.from(password ?? "").toString("base64")}`
        if (password !== undefined && request.headers.authorization !== given) return void response.writeHead(401).end()
        const does = cache.faults.find(({ match }) => match.test(path))?.does
        try {
          answer(response, request, readFileSync(join(directory, path)), does)
        } catch {
          response.writeHead(404).end()
        }
      })
      server.listen(0, "127.0.0.1")
      await once(server, "listening")
      const { port } = server.address() as AddressInfo
      const cache: NixCache = { url: `http://127.0.0.1:${port}`, faults: [], password: undefined, requests: [] }
      return { cache, server }
    }),
    ({ server }) =>
      Effect.promise(async () => {
        server.closeAllConnections()
        await new Promise((closed) => server.close(closed))
      })
  ).pipe(Effect.map(({ cache }) => cache))
