/**
 * What the fleet runs: one small web service a host, which answers with the status that the running closure says
 * (`etc/web-status`). A release is good or bad by its content alone.
 */
import { existsSync, readFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

/**
 * Starts the web service of a host, which may run another system at each look; its port on loopback. Ends with the demo. While
 * the file `outage` exists, what the service needs is down, whatever the host runs.
 */
export async function startService(runningSystem: () => string, outage: string): Promise<number> {
  const server = createServer((_request, response) => {
    response.statusCode = existsSync(outage) ? 503 : statusOf(runningSystem)
    response.end()
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return (server.address() as AddressInfo).port
}

function statusOf(runningSystem: () => string): number {
  try {
    return Number(readFileSync(`${runningSystem()}/etc/web-status`, "utf8").trim())
  } catch {
    // Nothing was ever switched to: no service runs.
    return 503
  }
}
