/**
 * The simulated network: carries exchanges from agents to the one control plane, late, twice, half, or not at all. It is
 * the second adapter of the port `Exchange` (house rule 6); neither program knows it from TLS.
 *
 * Owns latency, faults and who is cut off. The chances come from the world's dice; what became of each exchange is told to
 * the trace.
 */
import { Effect, type Exit, type Fiber } from "effect"
import {
  type Exchange,
  ExchangeError,
  type ExchangeRequest,
  type ExchangeResponse,
  type Peer,
  type SendOptions
} from "../Layers/Net/Exchange.ts"
import type { Served } from "../Layers/Net/Served.ts"
import type { Dice } from "./Dice.ts"
import type { Process } from "./Process.ts"

/** Chances per exchange, 0 to 1. */
export interface Weather {
  /** The request never arrives. */
  readonly lost: number
  /** The control plane acts on it, and its answer never arrives. */
  readonly answerLost: number
  /** It arrives twice, the second time after up to `slowMs`. */
  readonly repeated: number
  /** It takes up to `slowMs` in each direction. */
  readonly slow: number
  readonly slowMs: number
}

export const calm: Weather = { lost: 0, answerLost: 0, repeated: 0, slow: 0, slowMs: 0 }

/** One way over a healthy network, ms. */
const latencyMs = [1, 20] as const

interface Server {
  readonly process: Process
  readonly served: Served["Service"]
}

/** An exchange at the control plane: ends with its fiber, or with the process. */
interface InFlight {
  readonly server: Process
  readonly broken: () => void
}

export class Network {
  weather: Weather = calm
  /** Hosts that reach nobody. */
  readonly cutOff = new Set<string>()
  /** How often each fault of the weather happened. */
  readonly counts: Record<string, number> = {}
  readonly #dice: Dice
  readonly #trace: (line: string) => void
  readonly #inFlight = new Set<InFlight>()
  readonly #attempts = new Set<Attempt>()
  #server: Server | undefined

  constructor(dice: Dice, trace: (line: string) => void) {
    this.#dice = dice
    this.#trace = trace
  }

  /** From now on exchanges arrive here; a crashed control plane is nobody. */
  listen(process: Process, served: Served["Service"]): void {
    this.#server = { process, served }
  }

  /** A process is gone, and its connections with it. Told by whoever ends it. */
  hangUp(process: Process): void {
    if (this.#server?.process === process) this.#server = undefined
    for (const attempt of this.#attempts) {
      if (attempt.client === process) attempt.abandon()
    }
    for (const exchange of this.#inFlight) {
      if (exchange.server === process) exchange.broken()
    }
  }

  /** A client's end, in the process of the host that `peer` names. */
  exchange(client: Process, host: string, peer: Peer): Exchange["Service"] {
    return {
      send: (request, options) =>
        Effect.callback((resume) => {
          const attempt = new Attempt(client, request, options, (outcome) => {
            this.#attempts.delete(attempt)
            this.#trace(`${host} ${request.method} ${request.path} ${outcomeText(outcome)}`)
            resume(outcome instanceof ExchangeError ? Effect.fail(outcome) : Effect.succeed(outcome))
          })
          this.#attempts.add(attempt)
          attempt.onAbandoned(() => this.#attempts.delete(attempt))
          this.#carry(attempt, host, peer)
          return Effect.sync(() => attempt.abandon())
        })
    }
  }

  /** A question of somebody beside the hosts that is answered at once, with no network between; `undefined` while nobody listens. */
  ask(request: ExchangeRequest, peer: Peer): ExchangeResponse | undefined {
    let answer: ExchangeResponse | undefined
    this.tell(request, peer, (response) => {
      answer = response
    })
    return answer
  }

  /** The same for what is answered later; never, when the control plane ends before. */
  tell(request: ExchangeRequest, peer: Peer, answered: (response: ExchangeResponse) => void): void {
    const server = this.#server
    if (server === undefined) return
    server.process.fork(server.served.handler(request, peer), (exit) => {
      if (exit._tag === "Success") answered(exit.value)
    })
  }

  #carry(attempt: Attempt, host: string, peer: Peer): void {
    const dice = this.#dice
    const { answerLost, lost, repeated, slow, slowMs } = this.weather
    const way = () => this.#met("delay", slow) ? dice.between(latencyMs[1], slowMs) : dice.between(...latencyMs)
    const there = way()
    const back = way()
    if (this.cutOff.has(host) || this.#met("request lost", lost)) return
    const answered = !this.#met("answer lost", answerLost)
    this.#arrive(attempt, host, peer, there, back, answered)
    if (this.#met("request repeated", repeated)) {
      this.#arrive(attempt, host, peer, there + dice.between(1, slowMs), back, false)
    }
  }

  /** Whether a fault of this chance happens now. */
  #met(fault: string, chance: number): boolean {
    const happens = this.#dice.chance(chance)
    if (happens) this.counts[fault] = (this.counts[fault] ?? 0) + 1
    return happens
  }

  #arrive(attempt: Attempt, host: string, peer: Peer, there: number, back: number, answered: boolean): void {
    attempt.client.after(there, () => {
      const server = this.#server
      if (server === undefined) {
        attempt.end(new ExchangeError({ kind: "unreachable", message: "connection refused" }))
        return
      }
      const { request } = attempt
      if (request.body.length > server.served.maxBodyBytes(request.path)) {
        attempt.endAfter(back, { status: 413, headers: {}, body: new Uint8Array() })
        return
      }
      this.#serve(server, attempt, peer, (response) => {
        this.#trace(`control-plane ${request.method} ${request.path} of ${host}: ${response.status}`)
        if (answered && !this.cutOff.has(host)) attempt.endAfter(back, response)
      })
    })
  }

  #serve(server: Server, attempt: Attempt, peer: Peer, answer: (response: ExchangeResponse) => void): void {
    const exchange: InFlight = {
      server: server.process,
      broken: () => {
        this.#inFlight.delete(exchange)
        attempt.endAfter(latencyMs[0], new ExchangeError({ kind: "cut", message: "connection reset" }))
      }
    }
    this.#inFlight.add(exchange)
    const fiber = server.process.fork(
      server.served.handler(attempt.request, peer),
      (exit: Exit.Exit<ExchangeResponse>) => {
        this.#inFlight.delete(exchange)
        if (exit._tag === "Success") answer(exit.value)
      }
    )
    attempt.onAbandoned(() => this.#clientWent(server.process, fiber))
  }

  /** The control plane notices after a while that nobody reads the answer any more. */
  #clientWent(server: Process, fiber: Fiber.Fiber<ExchangeResponse>): void {
    server.after(this.#dice.between(...latencyMs), () => fiber.interruptUnsafe())
  }
}

/** One request as its client sees it: it ends once, by the first of an answer, an error and the time-out. */
class Attempt {
  readonly client: Process
  readonly request: ExchangeRequest
  readonly #options: SendOptions
  readonly #done: (outcome: ExchangeResponse | ExchangeError) => void
  readonly #abandoned: Array<() => void> = []
  #over = false

  constructor(
    client: Process,
    request: ExchangeRequest,
    options: SendOptions,
    done: (outcome: ExchangeResponse | ExchangeError) => void
  ) {
    this.client = client
    this.request = request
    this.#options = options
    this.#done = done
    client.after(options.timeoutMs, () => {
      if (this.#over) return
      this.abandon()
      done(new ExchangeError({ kind: "timeout", message: `no answer within ${options.timeoutMs} ms` }))
    })
  }

  onAbandoned(run: () => void): void {
    if (this.#over) run()
    else this.#abandoned.push(run)
  }

  /** The client no longer waits. */
  abandon(): void {
    if (this.#over) return
    this.#over = true
    for (const run of this.#abandoned) run()
  }

  endAfter(delayMs: number, outcome: ExchangeResponse | ExchangeError): void {
    this.client.after(delayMs, () => this.end(outcome))
  }

  end(outcome: ExchangeResponse | ExchangeError): void {
    if (this.#over) return
    this.#over = true
    this.#done(
      outcome instanceof ExchangeError || outcome.body.length <= this.#options.maxBodyBytes
        ? outcome
        : new ExchangeError({ kind: "tooLarge", message: `an answer of ${outcome.body.length} bytes` })
    )
  }
}

const outcomeText = (outcome: ExchangeResponse | ExchangeError): string =>
  outcome instanceof ExchangeError ? outcome.kind : String(outcome.status)
