/**
 * The floor of an idle agent: bare `node:https` that holds one poll with mutual TLS 1.3, over one kept connection, and asks again
 * when it is answered. Argument: the agent's configuration file.
 */
import { readFileSync } from "node:fs"
import { Agent, get } from "node:https"

const config = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8"))
const agent = new Agent({
  keepAlive: true,
  minVersion: "TLSv1.3",
  ca: readFileSync(config.caCert),
  cert: readFileSync(config.clientCert),
  key: readFileSync(config.clientKey)
})

function poll(): void {
  get(`${config.controlPlaneUrl}/v1/agent/dispatch?wait=${config.pollWaitSecs}`, {
    agent,
    headers: { "x-nixfleet-protocol": "1" }
  }, (response) => response.resume().on("end", () => setTimeout(poll, 1000)))
}
poll()
