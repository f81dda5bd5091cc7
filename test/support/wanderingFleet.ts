/**
 * A random fleet of which nothing stays: hosts move between channels, leave and come back, refs come back with other closures,
 * journals are lost, operators act, and the control plane restarts.
 */
import { at, declaredHost, type State } from "../../src/ControlPlane/State.ts"
import { hostSubject, type OperatorAction } from "../../src/Schema/Interventions.ts"
import { closureOf, idOf, type Plane, type Release } from "./controlPlane.ts"
import { RandomHosts } from "./randomHosts.ts"

const channels = ["a", "m", "z"] as const

/** Longer than any operator of this fleet holds anything, ms. */
const longestHoldMs = 3_000_000

export class WanderingFleet extends RandomHosts {
  readonly #channels = new Map<string, string>()
  readonly #absent = new Set<string>()
  /** The release of each channel that was published last. */
  readonly #releases = new Map<string, Release>()

  constructor(seed: number, plane: Plane) {
    super(seed, { hosts: 6, budgets: 2 }, plane)
    for (const host of this.hosts) this.#channels.set(host, this.dice.pick(channels))
    this.publish()
    for (const host of this.hosts) this.hear(host)
  }

  step(): void {
    const { dice } = this
    const roll = dice.next()
    if (roll < 0.3) this.poll(this.hosts.filter(() => dice.chance(0.5)))
    else if (roll < 0.5) this.act(dice.pick(this.hosts))
    else if (roll < 0.66) this.tell(dice.pick(this.hosts))
    else if (roll < 0.82) this.hear(dice.pick(this.hosts))
    else if (roll < 0.93) this.#pass(dice.pick([1_000, 45_000, 170_000]))
    else if (roll < 0.97) this.#operate()
    else if (roll < 0.975) this.loseJournal(dice.pick(this.hosts))
    else this.publish()
  }

  publish(): void {
    const { dice } = this
    for (const host of this.hosts) {
      if (dice.chance(0.12)) this.#channels.set(host, dice.pick(channels))
      if (dice.chance(0.1)) this.#absent.add(host)
      else if (dice.chance(0.6)) this.#absent.delete(host)
    }
    this.#publish((channel, hosts) => {
      const before = this.#releases.get(channel)
      const isNew = before === undefined || dice.chance(0.5)
      const { closures, ref } = isNew ? { ref: dice.pick(["a1", "b2", "c3"]), closures: {} } : before
      const other = hosts.filter(() => dice.chance(isNew ? 0.4 : 0.2))
        .map((host) => [host, closureOf(dice.pick(["same", "same", "x"]), host)])
      const cut = dice.below(hosts.length + 1)
      const waves = [hosts.slice(0, cut), hosts.slice(cut)].filter((wave) => wave.length > 0 || dice.chance(0.3))
      return {
        ref,
        waves,
        closures: { ...closures, ...Object.fromEntries(other) },
        onHealthFailure: dice.pick(["halt", "rollback-and-halt"]),
        edges: waves.flatMap((wave) => wave.length > 1 && dice.chance(0.3) ? [[wave[0]!, wave[1]!] as const] : []),
        after: dice.chance(0.3) ? { a: ["z"], m: ["a"], z: [] }[channel] : []
      }
    })
  }

  #publish(releaseOf: (channel: typeof channels[number], hosts: ReadonlyArray<string>) => Release): void {
    const { plane } = this
    // No two releases are signed at one moment: which of them were newer?
    plane.now += 1
    const releases = channels.flatMap((channel) => {
      const hosts = this.hosts.filter((host) => this.#channels.get(host) === channel && !this.#absent.has(host))
      if (hosts.length === 0) return []
      const release = { ...releaseOf(channel, hosts), channel, signedAt: plane.now }
      this.#releases.set(channel, release)
      return [release]
    })
    const [first, ...others] = releases
    if (first === undefined) return
    this.story.push(`published: ${releases.map((one) => `${idOf(one)} ${JSON.stringify(one.waves)}`).join(", ")}`)
    plane.publish({ ...first, budgets: this.budgets }, ...others)
  }

  #pass(ms: number): void {
    this.story.push(`${ms} ms pass`)
    this.plane.pass(ms)
  }

  #operate(): void {
    const { dice, plane } = this
    const host = dice.pick(this.hosts)
    const channel = dice.pick([null, this.#channels.get(host)!])
    const rolloutId = plane.state.manifests.get(this.#channels.get(host)!)?.rolloutId ?? "a@a1"
    const reason = "a look first"
    const holding = { reason, until: plane.now + dice.pick([30_000, 400_000, longestHoldMs]) }
    const action = dice.pick<OperatorAction>([
      { action: "HoldHost", host, ...holding },
      { action: "HoldHost", host, ...holding },
      { action: "ReleaseHost", host, reason },
      { action: "PauseRollout", rolloutId, ...holding },
      { action: "ResumeRollout", rolloutId, reason },
      { action: "Freeze", channel, ...holding },
      { action: "Unfreeze", channel, reason },
      { action: "ClearRollout", rolloutId, reason },
      { action: "ClearRollout", rolloutId, reason },
      { action: "ClearQuarantine", of: { rolloutId }, reason }
    ])
    this.story.push(`an operator: ${JSON.stringify(action)}`)
    plane.ask(action)
  }

  /** The control plane begins again from what its journal holds; it verifies the same release. */
  restart(stored: State): void {
    const { plane } = this
    const { artifacts } = plane.state
    this.story.push("the control plane restarts")
    plane.state = stored
    if (artifacts !== undefined) plane.offer({ _tag: "ArtifactsVerified", artifacts })
  }

  /** Nobody holds anything any more, every host is there, and one last release is published. */
  calm(): void {
    this.#pass(longestHoldMs + 60_000)
    this.#absent.clear()
    this.#publish((_, [first = "", ...others]) => ({ ref: "ff", waves: [[first], others] }))
  }

  /** A while of a calm fleet, 15 s: nothing fails, and nothing is lost. */
  work(): void {
    this.#pass(15_000)
    for (const host of this.hosts) {
      this.poll([host], 0)
      for (let times = 0; times < 3; times++) this.act(host, 0)
      this.tell(host)
      this.hear(host)
    }
  }

  /** Whether the host really takes a place in its budgets: one that an operator holds does not (D17). */
  flying(host: string): boolean {
    const { interventions, queue } = this.plane.state
    if (at(interventions, hostSubject(host)) !== undefined) return false
    return this.isAtIt(host) || at(queue, host)?.lease !== undefined
  }

  get declared(): ReadonlyArray<string> {
    return this.hosts.filter((host) => declaredHost(this.plane.state, host) !== undefined)
  }
}
