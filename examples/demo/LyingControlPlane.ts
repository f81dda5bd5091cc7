/**
 * A control plane that lies: it has a certificate of the fleet's authority and serves what it is given, without a look
 * at any signature. It offers one host a manifest that was changed after it was signed.
 */
import { readFileSync } from "node:fs"
import { createServer } from "node:https"
import type { AddressInfo } from "node:net"

export interface Lie {
  readonly rolloutId: string
  readonly host: string
  readonly targetClosure: string
  /** Bytes by path, e.g. `/v1/fleet.resolved`. */
  readonly served: ReadonlyMap<string, Uint8Array>
}

export interface LyingControlPlane {
  readonly port: number
  /** Resolves with the rejection that the host reported in a heartbeat. */
  readonly refused: Promise<{ readonly reason: string; readonly detail: string }>
  readonly close: () => void
}

export async function startLyingControlPlane(
  identity: { readonly ca: string; readonly cert: string; readonly key: string },
  lie: Lie
): Promise<LyingControlPlane> {
  let report: (rejection: { reason: string; detail: string }) => void = () => {}
  const refused = new Promise<{ reason: string; detail: string }>((resolve) => {
    report = resolve
  })
  const server = createServer(
    {
      ca: readFileSync(identity.ca),
      cert: readFileSync(identity.cert),
      key: readFileSync(identity.key),
      requestCert: true,
      minVersion: "TLSv1.3"
    },
    (request, response) => {
      const chunks: Array<Buffer> = []
      request.on("data", (chunk: Buffer) => chunks.push(chunk))
      request.on("end", () => {
        const path = (request.url ?? "/").split("?")[0]!
        response.setHeader("x-nixfleet-capabilities", "verdicts,journal,attempts")
        const bytes = lie.served.get(path)
        if (bytes !== undefined) return response.end(bytes)
        if (path === "/v1/agent/dispatch") {
          const now = new Date().toISOString()
          response.setHeader("content-type", "application/json")
          return response.end(JSON.stringify({
            hostname: lie.host,
            rollout_id: lie.rolloutId,
            target_closure: lie.targetClosure,
            soak_due_at: now,
            enqueued_at: now,
            attempt: 1,
            delivery_id: "lie-1",
            last_event_seq: 0
          }))
        }
        if (path === "/v1/agent/heartbeat") {
          const body = JSON.parse(Buffer.concat(chunks).toString("utf8")) as {
            at: string
            rejections?: ReadonlyArray<{ rollout_id: string; reason: string; detail: string }>
          }
          const rejection = body.rejections?.find((one) => one.rollout_id === lie.rolloutId)
          if (rejection !== undefined) report(rejection)
          response.setHeader("content-type", "application/json")
          return response.end(JSON.stringify({ received_at: body.at }))
        }
        response.statusCode = path === "/v1/agent/events" ? 204 : 404
        return response.end()
      })
    }
  )
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    port: (server.address() as AddressInfo).port,
    refused,
    close: () => {
      server.closeAllConnections()
      server.close()
    }
  }
}
