/** A binary cache over HTTP: files of a directory, on a free port of loopback. */
import { createReadStream } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join, normalize } from "node:path"
import { pipeline } from "node:stream"

export async function serveFiles(directory: string): Promise<{ readonly url: string; readonly close: () => void }> {
  const server = createServer((request, response) => {
    // A path that begins with a slash cannot leave the directory once it is normal.
    const path = normalize(`/${(request.url ?? "").split("?")[0]!}`)
    const file = createReadStream(join(directory, path))
    // What is gone in the middle breaks the connection, which is what `pipeline` does.
    file.once("open", () => pipeline(file, response, () => {}))
    file.once("error", () => {
      if (!response.headersSent) response.writeHead(404).end()
    })
  })
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.closeAllConnections()
      server.close()
    }
  }
}
