/** A random fleet that stays as it is, and its history. */
import { at, hostIn } from "../../src/ControlPlane/State.ts"
import { closureOf, type Release } from "./controlPlane.ts"
import { RandomHosts } from "./randomHosts.ts"

/** Two channels, waves, edges that go with the waves, and budgets of any selection. */
export class RandomFleet extends RandomHosts {
  #version = 0

  constructor(seed: number) {
    super(seed, { hosts: 8, budgets: 3 })
    this.publish()
    for (const host of this.hosts) this.plane.greets(host)
  }

  publish(): void {
    const { dice, plane } = this
    // No two releases are signed at one moment: which of them were newer?
    plane.now += 1
    const ref = ["a", "b", "c", "d"][this.#version++ % 4]!
    const channels = new Map([["edge", this.hosts.slice(0, 2)], ["stable", this.hosts.slice(2)]])
    const releases = [...channels].map(([channel, names]): Release => {
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
    plane.publish(...releases)
  }

  step(): void {
    const { dice, plane } = this
    const roll = dice.next()
    if (roll < 0.3) this.poll(this.hosts.filter(() => dice.chance(0.5)))
    else if (roll < 0.55) this.act(dice.pick(this.hosts))
    else if (roll < 0.75) this.tell(dice.pick(this.hosts))
    else if (roll < 0.9) this.hear(dice.pick(this.hosts))
    else if (roll < 0.985) plane.pass(dice.pick([1_000, 45_000, 170_000]))
    else this.publish()
  }

  /** As the control plane sees it, and as it is. */
  flying(host: string): boolean {
    const { state } = this.plane
    if (this.isAtIt(host)) return true
    if (at(state.queue, host)?.lease !== undefined) return true
    return (at(state.hosts, host)?.rollouts ?? []).some((rolloutId) => {
      const record = hostIn(state, rolloutId, host)?.record
      return record?.closedAt === undefined && (record?.state === "Activating" || record?.state === "Soaking")
    })
  }
}
