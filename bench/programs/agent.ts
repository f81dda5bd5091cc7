/** The agent as it is, measured; on SIGUSR2 it says how often it has asked for each path. */
import "./collectable.ts"
import { subscribe } from "node:diagnostics_channel"
import { ClientRequest } from "node:http"

const asked: Record<string, number> = {}
subscribe("http.client.request.start", (message) => {
  if (typeof message !== "object" || message === null || !("request" in message)) return
  if (!(message.request instanceof ClientRequest)) return
  const path = message.request.path.split("?")[0]!
  asked[path] = (asked[path] ?? 0) + 1
})
process.on("SIGUSR2", () => console.log(JSON.stringify({ message: "asked", asked })))

await import("../../src/Main.ts")
