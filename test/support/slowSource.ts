/** Where archives come from slowly, so that a fetch can be seen. */
import { Effect } from "effect"
import { createReadStream, statSync } from "node:fs"
import { createServer, type ServerResponse } from "node:http"
import { basename } from "node:path"

/** Serves archives of a directory, but of each only the first half until `finish`; from then on all of it. */
export const slowSource = Effect.fnUntraced(function*(directory: string) {
  const waiting: Array<() => void> = []
  let finished = false
  const answer = (file: string, response: ServerResponse) => {
    const { size } = statSync(file)
    const half = Math.floor(size / 2)
    response.writeHead(200, { "content-length": size })
    if (finished) return createReadStream(file).pipe(response)
    createReadStream(file, { end: half - 1 }).pipe(response, { end: false })
    return waiting.push(() => createReadStream(file, { start: half }).pipe(response))
  }
  const server = yield* Effect.acquireRelease(
    Effect.sync(() =>
      createServer((request, response) => answer(`${directory}/${basename(request.url ?? "")}`, response))
    ),
    (one) =>
      Effect.sync(() => {
        one.closeAllConnections()
        one.close()
      })
  )
  const port = yield* Effect.callback<number>((resume) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
    })
  })
  const finish = () => {
    finished = true
    for (const go of waiting.splice(0)) go()
  }
  return { url: `http://127.0.0.1:${port}`, finish }
})
