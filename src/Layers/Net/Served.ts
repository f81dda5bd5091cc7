/** What a program answers to exchanges: given by the program, called by `TlsServer.ts` or by the simulated network. */
import { Context } from "effect"
import type { ExchangeHandler } from "./Exchange.ts"

export class Served extends Context.Service<Served, {
  readonly handler: ExchangeHandler
  /** Largest body of a request to this target, bytes; the server stops reading there and answers 413. */
  readonly maxBodyBytes: (target: string) => number
}>()("nixfleet/Layers/Net/Served") {}
