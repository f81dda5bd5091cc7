/**
 * What the fleet runs: one small web service a host, which answers with the status that the running closure says
 * (`etc/web-status`). A release is good or bad by its content alone.
 */
import { readFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

/** Starts the web service of the host whose current-system link is given; its port on loopback. Ends with the demo. */
export async function startService(currentSystem: string): Promise<number> {
  const server = createServer((_request, response) => {
    response.statusCode = statusOf(currentSystem)
    response.end()
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return (server.address() as AddressInfo).port
}

function statusOf(currentSystem: string): number {
  try {
    return Number(readFileSync(`${currentSystem}/etc/web-status`, "utf8").trim())
  } catch {
    // Nothing was ever switched to: no service runs.
    return 503
  }
}
