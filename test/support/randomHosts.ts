/** Hosts of a random fleet at work: their agents step their own records, and tell them late, twice or never. */
import type { DispatchResponse, Taken } from "../../src/Schema/Wire.ts"
import { Agent, capable, Plane, type Release, soakMs } from "./controlPlane.ts"
import { type Random, random } from "./random.ts"

type Budget = NonNullable<Release["budgets"]>[number]

/** Sizes of a fleet: at most so many hosts, and budgets of any selection. */
interface Sizes {
  readonly hosts: number
  readonly budgets: number
}

/** What is published to them, and when each does something, is for those that extend this. */
export class RandomHosts {
  readonly plane: Plane
  readonly dice: Random
  readonly hosts: ReadonlyArray<string>
  readonly budgets: ReadonlyArray<Budget>
  /** What each host took last and really does, whether the control plane was told or not. */
  readonly agents = new Map<string, Agent>()
  /** How many of its rows were told. */
  readonly told = new Map<Agent, number>()
  /** What happened, oldest first. */
  readonly story: Array<string> = []
  /** All that the journal of a host holds, by rollout. */
  readonly #records = new Map<string, Map<string, Agent>>()
  readonly #journals = new Map<string, string>()
  /** Answers that the host has and verifies still: it does not poll meanwhile. */
  readonly #inHand = new Map<string, DispatchResponse>()
  #waiter = 1_000_000

  constructor(seed: number, sizes: Sizes, plane = new Plane()) {
    const dice = random(seed)
    this.plane = plane
    this.dice = dice
    this.hosts = Array.from({ length: 3 + dice.below(sizes.hosts - 2) }, (_, index) => `h${index}`)
    this.budgets = Array.from({ length: 1 + dice.below(sizes.budgets) }, () => {
      const hosts = this.hosts.filter(() => dice.chance(0.6))
      return { hosts: hosts.length === 0 ? this.hosts : hosts, maxInFlight: 1 + dice.below(2) }
    })
  }

  /** Polls that are answered in one batch; some answers are lost on their way, and some connections before they were written. */
  poll(asking: ReadonlyArray<string>, loss = 0.2): void {
    const { dice, plane } = this
    const polls = asking.filter((host) => !this.#inHand.has(host)).map((host) => ({ host, waiterId: this.#waiter++ }))
    this.story.push(`polls of ${polls.map(({ host }) => host).join(" ")}`)
    plane.batch(...polls.map(({ host, waiterId }) => ({
      _tag: "Parked" as const,
      host,
      waiterId,
      capabilities: capable,
      issuedAt: 0,
      until: plane.now + 55_000,
      ...this.#saying(host)
    })))
    for (const { host, waiterId } of polls) {
      const answer = plane.answerTo(waiterId)
      // Nobody is left parked, so that a later batch cannot answer a poll of which this fleet knows nothing.
      if (answer === undefined) plane.offer({ _tag: "Unparked", host, waiterId })
      if (answer?._tag !== "Dispatch") continue
      const { attempt = 1, rollout_id: rolloutId } = answer.dispatch
      const fate = !dice.chance(loss) ? "arrives" : dice.chance(0.5) ? "is lost" : "is aborted"
      this.story.push(`${rolloutId} #${attempt} for ${host} ${fate}`)
      if (fate === "arrives") this.#inHand.set(host, answer.dispatch)
      if (fate === "arrives" && dice.chance(0.7)) this.#take(host, answer.dispatch)
      if (fate === "is aborted") plane.offer({ _tag: "Unparked", host, waiterId })
    }
  }

  /** Every third agent does not say what it took last, as those of an older version. */
  #saying(host: string): { readonly taken?: Taken } {
    if (this.hosts.indexOf(host) % 3 === 2) return {}
    const agent = this.agents.get(host)
    return { taken: agent === undefined ? "nothing" : { rolloutId: agent.rolloutId, attempt: agent.record.attempt } }
  }

  #take(host: string, dispatch: DispatchResponse): void {
    const { now } = this.plane
    this.#inHand.delete(host)
    const records = this.#records.get(host) ?? new Map<string, Agent>()
    const known = records.get(dispatch.rollout_id)
    if (known !== undefined && known.record.attempt >= (dispatch.attempt ?? 1)) return
    const agent = new Agent(host, dispatch, now)
    if (known !== undefined) {
      const lastEventSeq = Math.max(agent.record.lastEventSeq, known.record.lastEventSeq)
      agent.record = { ...agent.record, lastEventSeq }
      agent.rows.push(...known.rows)
      this.told.set(agent, this.told.get(known) ?? 0)
    }
    agent.does({ kind: "DispatchAck", currentClosureAtDispatch: "0-before", receivedAt: now }, now)
    this.agents.set(host, agent)
    records.delete(agent.rolloutId)
    this.#records.set(host, records.set(agent.rolloutId, agent))
  }

  /** The host goes on by itself. */
  act(host: string, failure = 0.1): void {
    const { dice, plane: { now } } = this
    const dispatch = this.#inHand.get(host)
    if (dispatch !== undefined) return this.#take(host, dispatch)
    const agent = this.agents.get(host)
    if (agent === undefined) return
    const { record } = agent
    this.story.push(`${host} goes on from ${record.state} in ${agent.rolloutId}`)
    switch (record.state) {
      case "Activating":
        if (record.activationStartedAt === undefined) {
          agent.does({ kind: "ActivationStarted", startedAt: now, switchMethod: "test" }, now)
        } else if (dice.chance(failure)) {
          const closureAtFault = dice.chance(0.5)
          agent.does({ kind: "ActivationFailed", exitCode: 1, stderrTail: "", failedAt: now, closureAtFault }, now)
        } else {
          const observedCurrentClosure = record.targetClosure
          agent.does({ kind: "ActivationCompleted", observedCurrentClosure, exitCode: 0, completedAt: now }, now)
          agent.does({ kind: "ProbeTopologyDeclared", probes: [], declaredAt: now }, now)
        }
        return
      case "Soaking":
        if (now < record.activationCompletedAt + soakMs || now < record.soakDueAt) return
        agent.record = { ...record, soakedMs: soakMs }
        agent.does({ kind: "Converged", convergedAt: now, currentClosure: record.targetClosure }, now)
        return
      case "Failed":
        agent.does({ kind: "RollbackComplete", revertedToClosure: "0-before", exitCode: 0, completedAt: now }, now)
        return
      case "Pending":
      case "Deferred":
      case "Converged":
      case "Reverted":
    }
  }

  /** The host tells what it did, now and then all of it again. */
  tell(host: string): void {
    this.story.push(`${host} tells`)
    for (const agent of this.#recordsOf(host)) {
      const from = this.dice.chance(0.1) ? 0 : this.told.get(agent)
      for (const row of agent.rows.slice(from)) {
        this.plane.post(host, agent.rolloutId, row, { journalId: this.#journalOf(host) })
      }
      this.told.set(agent, agent.rows.length)
    }
  }

  hear(host: string): void {
    const agent = this.agents.get(host)
    const isIdle = agent?.record.state === "Converged" && this.told.get(agent) === agent.rows.length
    this.story.push(`${host} is heard`)
    this.plane.heartbeat(host, {
      journal_id: this.#journalOf(host),
      // The one that it goes by comes first.
      digests: this.#recordsOf(host).map(({ digest }) => digest).toReversed(),
      ...(isIdle ? { current_closure: agent.record.targetClosure } : {})
    })
  }

  /** Whether the host has a dispatch in its hands, activates or soaks. */
  isAtIt(host: string): boolean {
    const state = this.agents.get(host)?.record.state
    return this.#inHand.has(host) || state === "Activating" || state === "Soaking"
  }

  /** With everything that was in it; the host begins another. */
  loseJournal(host: string): void {
    this.story.push(`the journal of ${host} is lost`)
    this.#journals.set(host, `${this.#journalOf(host)}+`)
    for (const kept of [this.agents, this.#inHand, this.#records]) kept.delete(host)
  }

  /** In the order in which the host took them. */
  #recordsOf(host: string): ReadonlyArray<Agent> {
    return [...this.#records.get(host)?.values() ?? []]
  }

  #journalOf(host: string): string {
    return this.#journals.get(host) ?? `journal-of-${host}`
  }
}
