/** Follows the fleet through the operator's routes: draws the table, tells notable events, and waits for facts. */
import { readFileSync } from "node:fs"
import { describeReason } from "../../src/Schema/Reasons.ts"
import type { ControlPlaneClient, HostEntry, LoggedEvent } from "./ControlPlaneClient.ts"
import type { Screen } from "./Screen.ts"

/** Between two looks, milliseconds. */
const lookMs = 250

export class Watcher {
  readonly #client: ControlPlaneClient
  readonly #screen: Screen
  readonly #releaseOf: ReadonlyMap<string, string>
  readonly #cursor = new Map<string, number>()
  readonly #lastEvent = new Map<string, string>()
  #hosts: ReadonlyArray<HostEntry> = []
  #looking: Promise<void> = Promise.resolve()
  #stopped = false

  constructor(
    client: ControlPlaneClient,
    screen: Screen,
    closures: ReadonlyMap<string, string>,
    failed: (why: string) => void
  ) {
    this.#client = client
    this.#screen = screen
    this.#releaseOf = new Map([...closures].map(([release, closure]) => [closure, release]))
    this.#looking = this.#lookForEver(failed)
  }

  /** Tells the events of this rollout too from now on. */
  follow(rolloutId: string): void {
    this.#cursor.set(rolloutId, 0)
  }

  all(fact: (host: HostEntry) => boolean): boolean {
    return this.#hosts.length === 6 && this.#hosts.every(fact)
  }

  one(name: string, fact: (host: HostEntry) => boolean): boolean {
    const host = this.#hosts.find(({ hostname }) => hostname === name)
    return host !== undefined && fact(host)
  }

  /** Waits for a fact; after `limitSeconds` the demo has failed. */
  async until(what: string, limitSeconds: number, fact: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + limitSeconds * 1000
    while (!(await fact())) {
      if (performance.now() > deadline) {
        throw new Error(`waited ${limitSeconds} s in vain: ${what}. Last seen: ${this.#summary()}`)
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  async within<A>(what: string, limitSeconds: number, promise: Promise<A>): Promise<A> {
    const arrived: Array<A> = []
    const arrival = async () => arrived.push(await promise)
    void arrival()
    await this.until(what, limitSeconds, () => arrived.length > 0)
    return arrived[0]!
  }

  /** The reason of the first refusal in a JSON log that names `text`. */
  async logged(file: string, text: string, limitSeconds: number): Promise<string> {
    let found: string | undefined
    await this.until(`the log ${file} names a refusal of ${text}`, limitSeconds, () => {
      found = readFileSync(file, "utf8").split("\n").filter((line) => line.includes(text)).map(refusal)
        .find((reason) => reason !== undefined)
      return found !== undefined
    })
    return found!
  }

  /** Hosts among `names` that a rollout has dispatched to or heard an event of. */
  async touched(rolloutId: string, names: ReadonlyArray<string>): Promise<ReadonlyArray<string>> {
    const events = await this.#client.events(rolloutId, 0)
    return names.filter((name) => events.some(({ host, kind }) => host === name && kind === "agent_event"))
  }

  /** Why the activation of a rollout failed on a host, in the host's words. */
  async failure(rolloutId: string, name: string): Promise<string> {
    const events = await this.#client.events(rolloutId, 0)
    const failed = events.filter(({ host }) => host === name).map(({ payload }) => eventOf(payload))
      .find(({ kind }) => kind === "ActivationFailed")
    return failed === undefined ? "it did not fail" : String(failed["stderrTail"])
  }

  /** Agent events of the followed rollouts that are durable at the control plane, and those it refused. */
  async counts(): Promise<{ readonly delivered: number; readonly refused: number }> {
    const events = (await Promise.all([...this.#cursor.keys()].map((id) => this.#client.events(id, 0)))).flat()
      .filter(({ kind }) => kind === "agent_event")
    const refused = events.filter(({ payload }) => payload["refused"] !== undefined).length
    return { delivered: events.length - refused, refused }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#looking
  }

  async #lookForEver(failed: (why: string) => void): Promise<void> {
    let faults = 0
    while (!this.#stopped) {
      try {
        await this.#look()
        faults = 0
      } catch (error) {
        // The control plane needs a moment to come up; later, silence is a failure.
        faults++
        if (faults * lookMs > 20_000) {
          failed(`the control plane does not answer: ${error instanceof Error ? error.message : String(error)}`)
        }
      }
      await new Promise((resolve) => setTimeout(resolve, lookMs))
    }
  }

  async #look(): Promise<void> {
    const hosts = await this.#client.hosts()
    for (const [rolloutId, cursor] of this.#cursor) {
      const events = await this.#client.events(rolloutId, cursor)
      for (const event of events) this.#tell(rolloutId, event)
      this.#cursor.set(rolloutId, events.at(-1)?.seq ?? cursor)
    }
    // Only now: what a fact rests on has been told when it is seen.
    this.#hosts = hosts
    this.#screen.draw(this.#hosts.map((host) => ({
      host: host.hostname,
      wave: (host.wave ?? 0) + 1,
      state: host.rolloutState ?? "-",
      closure: this.#nameOf(host.currentClosureHash),
      soakLeft: host.soakDueAt === null
        ? "-"
        : `${Math.max(0, Math.ceil((Date.parse(host.soakDueAt) - Date.now()) / 1000))} s`,
      lastEvent: this.#lastEvent.get(host.hostname) ?? "-"
    })))
  }

  #tell(rolloutId: string, { host, kind, payload }: LoggedEvent): void {
    const line = kind === "agent_event" ? describe(payload) : undefined
    if (host === null || line === undefined) return
    this.#lastEvent.set(host, line)
    this.#screen.tell(`${host.padEnd(8)} ${line.padEnd(46)} ${rolloutId}`)
  }

  #nameOf(closure: string | null): string {
    if (closure === null) return "-"
    const release = this.#releaseOf.get(closure)
    return release === undefined ? closure.slice(0, 12) : `${release} (${closure.slice(0, 8)}…)`
  }

  #summary(): string {
    return this.#hosts.map(({ currentClosureHash, hostname, lastRolloutId, rolloutState }) =>
      `${hostname} ${rolloutState ?? "-"} of ${lastRolloutId ?? "-"} on ${this.#nameOf(currentClosureHash)}`
    ).join("; ")
  }
}

const eventOf = (payload: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> =>
  (payload["event"] ?? payload) as Readonly<Record<string, unknown>>

/** One notable event in words; probe samples are told only when they fail. */
function describe(payload: Readonly<Record<string, unknown>>): string | undefined {
  const event = eventOf(payload)
  switch (event["kind"]) {
    case "DispatchAck":
      return "has accepted its dispatch"
    case "ActivationStarted":
      return "starts the switch"
    case "ActivationCompleted":
      return "runs the new closure, soak begins"
    case "ActivationFailed":
      return `activation failed, exit ${String(event["exitCode"])}`
    case "ProbeResult":
      return event["status"] === "fail"
        ? `probe ${String(event["probeName"])} fails: ${String(event["failureReason"])}`
        : undefined
    case "Failed":
      return `has failed for ${String(event["sustainedDurationSecs"])} s, policy ${String(event["policyApplied"])}`
    case "RollbackComplete":
      return "is back on its last good closure"
    case "Converged":
      return "has converged"
    default:
      return undefined
  }
}

/** A reason with its sentence, and what exactly was found. */
export function explain(reason: string, detail: string): string {
  return `${reason}: ${describeReason(reason)} (${detail})`
}

function refusal(line: string): string | undefined {
  try {
    const entry = JSON.parse(line) as { reason?: unknown; detail?: unknown; message?: unknown }
    const { reason } = entry
    return typeof reason === "string" ? explain(reason, String(entry.detail ?? entry.message)) : undefined
  } catch {
    return undefined
  }
}
