/** A random fleet and its history: the agents step their own records, and tell them late, twice or never. */
import { at, hostIn } from "../../src/ControlPlane/State.ts"
import type { Taken } from "../../src/Schema/Wire.ts"
import { Agent, capable, closureOf, Plane, type Release, soakMs } from "./controlPlane.ts"
import { type Random, random } from "./random.ts"

type Budget = NonNullable<Release["budgets"]>[number]

/** Two channels, waves, edges that go with the waves, and budgets of any selection. */
export class RandomFleet {
  readonly plane = new Plane()
  readonly hosts: ReadonlyArray<string>
  readonly budgets: ReadonlyArray<Budget>
  /** What each host really does, whether the control plane was told or not. */
  readonly agents = new Map<string, Agent>()
  /** Rows that were not told yet. */
  readonly untold = new Map<string, number>()
  readonly dice: Random
  #version = 0
  #waiter = 1_000_000
  #releases: ReadonlyArray<Release> = []

  constructor(seed: number) {
    const dice = random(seed)
    this.dice = dice
    this.hosts = Array.from({ length: 3 + dice.below(6) }, (_, index) => `h${index}`)
    this.budgets = Array.from({ length: 1 + dice.below(3) }, () => {
      const hosts = this.hosts.filter(() => dice.chance(0.6))
      return { hosts: hosts.length === 0 ? this.hosts : hosts, maxInFlight: 1 + dice.below(2) }
    })
    this.publish()
    for (const host of this.hosts) this.plane.greets(host)
  }

  publish(): void {
    const { dice, plane } = this
    // No two releases are signed at one moment: which of them were newer?
    plane.now += 1
    const ref = ["a", "b", "c", "d"][this.#version++ % 4]!
    const channels = new Map([["edge", this.hosts.slice(0, 2)], ["stable", this.hosts.slice(2)]])
    this.#releases = [...channels].map(([channel, names]): Release => {
      const cut = dice.below(names.length + 1)
      const waves = [names.slice(0, cut), names.slice(cut)].filter((wave) => wave.length > 0)
      const unchanged = names.filter(() => dice.chance(0.3)).map((host) => [host, closureOf("same", host)] as const)
      const edges = waves.flatMap((wave) => wave.length > 1 && dice.chance(0.4) ? [[wave[0]!, wave[1]!] as const] : [])
      return {
        channel,
        ref,
        waves,
        edges,
        signedAt: plane.now,
        closures: Object.fromEntries(unchanged),
        budgets: channel === "edge" ? this.budgets : [],
        after: channel === "stable" && dice.chance(0.3) ? ["edge"] : []
      }
    })
    plane.publish(...this.#releases)
  }

  /** Polls of some hosts, answered in one batch; some answers are lost on their way. */
  poll(): void {
    const { dice, plane } = this
    const asking = this.hosts.filter(() => dice.chance(0.5)).map((host) => ({ host, waiterId: this.#waiter++ }))
    plane.batch(...asking.map(({ host, waiterId }) => ({
      _tag: "Parked" as const,
      host,
      waiterId,
      capabilities: capable,
      issuedAt: 0,
      until: plane.now + 55_000,
      taken: this.#takenBy(host)
    })))
    for (const { host, waiterId } of asking) {
      const answer = plane.answerTo(waiterId)
      if (answer?._tag !== "Dispatch") continue
      if (dice.chance(0.2)) continue
      const { dispatch } = answer
      const known = this.agents.get(host)
      if (known?.rolloutId === dispatch.rollout_id && known.record.attempt >= (dispatch.attempt ?? 1)) continue
      const agent = new Agent(host, dispatch, plane.now)
      this.agents.set(host, agent)
      this.untold.set(host, 0)
      agent.does({ kind: "DispatchAck", currentClosureAtDispatch: "0-before", receivedAt: plane.now }, plane.now)
    }
    // Nobody is left parked, so that a later batch cannot answer a poll of which this test knows nothing.
    for (const { host, waiterId } of asking) {
      if (plane.answerTo(waiterId) === undefined) plane.offer({ _tag: "Unparked", host, waiterId })
    }
  }

  #takenBy(host: string): Taken {
    const agent = this.agents.get(host)
    return agent === undefined ? "nothing" : { rolloutId: agent.rolloutId, attempt: agent.record.attempt }
  }

  /** One host goes on by itself. */
  act(): void {
    const { dice, plane } = this
    const agent = this.agents.get(dice.pick(this.hosts))
    if (agent === undefined) return
    const { now } = plane
    switch (agent.record.state) {
      case "Activating": {
        const { activationStartedAt, targetClosure } = agent.record
        if (activationStartedAt === undefined) {
          agent.does({ kind: "ActivationStarted", startedAt: now, switchMethod: "test" }, now)
        } else if (dice.chance(0.1)) {
          agent.does({ kind: "ActivationFailed", exitCode: 1, stderrTail: "", failedAt: now }, now)
        } else {
          agent.does({
            kind: "ActivationCompleted",
            observedCurrentClosure: targetClosure,
            exitCode: 0,
            completedAt: now
          }, now)
          agent.does({ kind: "ProbeTopologyDeclared", probes: [], declaredAt: now }, now)
        }
        return
      }
      case "Soaking":
        if (now < agent.record.activationCompletedAt + soakMs || now < agent.record.soakDueAt) return
        agent.record = { ...agent.record, soakedMs: soakMs }
        agent.does({ kind: "Converged", convergedAt: now, currentClosure: agent.record.targetClosure }, now)
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

  /** One host tells what it did. */
  tell(): void {
    const host = this.dice.pick(this.hosts)
    const agent = this.agents.get(host)
    const told = this.untold.get(host) ?? 0
    if (agent === undefined) return
    for (const row of agent.rows.slice(told)) this.plane.post(host, agent.rolloutId, row)
    this.untold.set(host, agent.rows.length)
  }

  hear(): void {
    const host = this.dice.pick(this.hosts)
    const agent = this.agents.get(host)
    const isIdle = agent?.record.state === "Converged" && this.untold.get(host) === agent.rows.length
    this.plane.heartbeat(host, {
      digests: agent === undefined ? [] : [agent.digest],
      ...(isIdle ? { current_closure: agent.record.targetClosure } : {})
    })
  }

  step(): void {
    const { dice, plane } = this
    const roll = dice.next()
    if (roll < 0.3) this.poll()
    else if (roll < 0.55) this.act()
    else if (roll < 0.75) this.tell()
    else if (roll < 0.9) this.hear()
    else if (roll < 0.985) plane.pass(dice.pick([1_000, 45_000, 170_000]))
    else this.publish()
  }

  /** As the control plane sees it, and as it is. */
  flying(host: string): boolean {
    const { state } = this.plane
    const real = this.agents.get(host)?.record.state
    if (real === "Activating" || real === "Soaking") return true
    if (at(state.queue, host)?.lease !== undefined) return true
    return (at(state.hosts, host)?.rollouts ?? []).some((rolloutId) => {
      const record = hostIn(state, rolloutId, host)?.record
      return record?.closedAt === undefined && (record?.state === "Activating" || record?.state === "Soaking")
    })
  }
}
