/** Reads the control plane's operator routes with the operator's certificate, as `nixfleet status` does. */
import { readFileSync } from "node:fs"
import { Agent, request } from "node:https"

export interface HostEntry {
  readonly hostname: string
  readonly currentClosureHash: string | null
  readonly lastRolloutId: string | null
  readonly rolloutState: string | null
  readonly converged: boolean
  readonly quarantinedClosure: string | null
  readonly wave: number | null
  readonly soakDueAt: string | null
  readonly rejections: ReadonlyArray<{ readonly rolloutId: string; readonly reason: string; readonly detail: string }>
}

export interface LoggedEvent {
  readonly seq: number
  readonly ts: string
  readonly kind: string
  readonly host: string | null
  readonly payload: Readonly<Record<string, unknown>>
}

export interface Identity {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

export class ControlPlaneClient {
  readonly #port: number
  readonly #agent: Agent

  constructor(port: number, identity: Identity) {
    this.#port = port
    this.#agent = new Agent({
      keepAlive: true,
      ca: readFileSync(identity.ca),
      cert: readFileSync(identity.cert),
      key: readFileSync(identity.key),
      minVersion: "TLSv1.3"
    })
  }

  /** True when the control plane answers and has verified its first artifacts. */
  async ready(): Promise<boolean> {
    try {
      return (await this.#get("/healthz") as { ready?: boolean }).ready === true
    } catch {
      return false
    }
  }

  async hosts(): Promise<ReadonlyArray<HostEntry>> {
    return (await this.#get("/v1/hosts") as { hosts: ReadonlyArray<HostEntry> }).hosts
  }

  /** Wave of each host in a rollout. */
  async waves(rolloutId: string): Promise<ReadonlyMap<string, number>> {
    const answer = await this.#get(`/v1/rollouts/${rolloutId}/hosts`) as {
      hosts: ReadonlyArray<{ host: string; wave: number }>
    }
    return new Map(answer.hosts.map(({ host, wave }) => [host, wave]))
  }

  async lifecycle(rolloutId: string): Promise<string> {
    return (await this.#get(`/v1/rollouts/${rolloutId}/lifecycle`) as { state: string }).state
  }

  /** Every event of a rollout after a position, page by page. */
  async events(rolloutId: string, afterSeq: number): Promise<ReadonlyArray<LoggedEvent>> {
    const answer = await this.#get(`/v1/rollouts/${rolloutId}/events?after_seq=${afterSeq}`) as {
      events: ReadonlyArray<LoggedEvent>
    }
    return answer.events
  }

  close(): void {
    this.#agent.destroy()
  }

  #get(path: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          host: "127.0.0.1",
          port: this.#port,
          path,
          agent: this.#agent,
          timeout: 5_000,
          headers: { "x-nixfleet-protocol": "1" }
        },
        (response) => {
          const chunks: Array<Buffer> = []
          response.on("data", (chunk: Buffer) => chunks.push(chunk))
          response.on("error", reject)
          response.on("end", () => {
            const body = Buffer.concat(chunks).toString("utf8")
            if (response.statusCode !== 200) {
              return reject(new Error(`GET ${path} answered ${response.statusCode} ${body}`))
            }
            resolve(JSON.parse(body))
          })
        }
      )
      sent.on("timeout", () => sent.destroy(new Error(`GET ${path} timed out`)))
      sent.on("error", reject)
      sent.end()
    })
  }
}
