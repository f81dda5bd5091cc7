/**
 * What the fleet runs: one small web service a host, which answers with the status that the running closure says
 * (`etc/web-status`). A release is good or bad by its content alone.
 */
import { readFileSync } from "node:fs"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"

export interface Service {
  readonly port: number
  readonly close: () => void
}

/** Starts the web service of the host whose current-system link is given; free port on loopback. */
export async function startService(currentSystem: string): Promise<Service> {
  const server: Server = createServer((_request, response) => {
    response.statusCode = statusOf(currentSystem)
    response.end()
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return { port: (server.address() as AddressInfo).port, close: () => server.closeAllConnections() ?? server.close() }
}

function statusOf(currentSystem: string): number {
  try {
    return Number(readFileSync(`${currentSystem}/etc/web-status`, "utf8").trim())
  } catch {
    // Nothing was ever switched to: no service runs.
    return 503
  }
}
