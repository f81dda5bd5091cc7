/** What `nixfleet` commands need to talk to a scripted control plane: certificates, and a server for the rest of the scope. */
import { Effect } from "effect"
import type { ExchangeHandler } from "../../src/Layers/Net/Exchange.ts"
import { Certificates } from "./certificates.ts"
import { serve, utf8 } from "./tls.ts"

/** Flags, and environment variables, of a connection as `commonName`. */
export const connection = Effect.fnUntraced(function*(commonName: string, handler: ExchangeHandler) {
  const { authority, caFile, write } = yield* Certificates
  const { port } = yield* serve(handler)
  const files = write(commonName, authority.operator(commonName))
  const values = { cpUrl: `https://localhost:${port}`, caCert: caFile, clientCert: files.cert, clientKey: files.key }
  const flags = ["--cp-url", values.cpUrl, "--ca-cert", caFile, "--client-cert", files.cert, "--client-key", files.key]
  const environment = {
    NIXFLEET_CP_URL: values.cpUrl,
    NIXFLEET_CA_CERT: caFile,
    NIXFLEET_CLIENT_CERT: files.cert,
    NIXFLEET_CLIENT_KEY: files.key
  }
  return { values, flags, environment }
})

/** An answer with a JSON body; text is sent as it is. */
export const reply = (status: number, body: unknown) =>
  Effect.succeed({
    status,
    headers: { "content-type": "application/json" },
    body: utf8(typeof body === "string" ? body : JSON.stringify(body))
  })
