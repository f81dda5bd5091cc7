/**
 * A virtual world: one control plane, some hosts, a network and a time line, all from one seed. Both programs are the real
 * ones; what is swapped is time, network, disk and host (house.md). It offers what can happen to such a world; `Story.ts`
 * decides what does, `Checks.ts` what must hold.
 */
import { type CommitFault } from "../Layers/Disk/MemoryDisk.ts"
import { revocationsFile } from "../Schema/Artifacts.ts"
import { Dice } from "./Dice.ts"
import type { Surroundings } from "./Machine.ts"
import { Network, type Weather } from "./Network.ts"
import { noOrder, type Order } from "./Order.ts"
import { closureOf, filesOf, revocationList } from "./Release.ts"
import { Timeline } from "./Timeline.ts"
import { Trace } from "./Trace.ts"
import { VirtualControlPlane } from "./VirtualControlPlane.ts"
import { VirtualHost } from "./VirtualHost.ts"

/** When every virtual world begins: 2026-06-01T00:00:00Z. */
export const epochMs = 1_780_272_000_000
/** The closure that ran before nixfleet. */
export const firstVersion = 0

export interface WorldOptions {
  readonly seed: string
  /** Host names by wave. */
  readonly waves: ReadonlyArray<ReadonlyArray<string>>
  readonly soakSeconds: number
  /** Budgets and edges of every release. */
  readonly order?: Order
}

export class World {
  readonly dice: Dice
  readonly timeline = new Timeline()
  readonly trace = new Trace(() => this.timeline.now)
  readonly network: Network
  readonly hosts: ReadonlyArray<VirtualHost>
  readonly controlPlane: VirtualControlPlane
  readonly waves: ReadonlyArray<ReadonlyArray<string>>
  readonly #soakSeconds: number
  readonly #order: Order
  #backup: Uint8Array | undefined
  /** By host: since when. */
  readonly #revoked = new Map<string, number>()
  #revocationsSignedAt = 0
  /** The control plane's disk was put back or replaced: it has forgotten what only it knew. */
  forgot = false

  constructor({ order = noOrder, seed, soakSeconds, waves }: WorldOptions) {
    this.dice = new Dice(`${seed}/world`)
    this.network = new Network(new Dice(`${seed}/network`), (line) => this.trace.add("network", line))
    const world: Surroundings = { timeline: this.timeline, trace: this.trace, network: this.network, epochMs, seed }
    this.waves = waves
    this.#soakSeconds = soakSeconds
    this.#order = order
    this.controlPlane = new VirtualControlPlane(world)
    this.hosts = waves.flat().toSorted().map((name) => new VirtualHost(name, world, closureOf(firstVersion)))
  }

  /** Everything is switched on. */
  start(): void {
    this.controlPlane.machine.start()
    for (const { machine } of this.hosts) machine.start()
  }

  /** Signs a release now and puts it where the control plane looks. */
  publish(version: number): void {
    this.trace.add("world", `publishes r${version}`)
    const release = {
      version,
      waves: this.waves,
      soakSeconds: this.#soakSeconds,
      order: this.#order,
      signedAt: epochMs + Math.floor(this.timeline.now / 1000) * 1000
    }
    for (const [name, file] of filesOf(release)) this.controlPlane.releases.set(name, file)
  }

  /** Lets time pass. */
  pass(ms: number): void {
    this.timeline.runUntil(this.timeline.now + ms)
  }

  set weather(weather: Weather) {
    this.trace.add("world", `weather ${JSON.stringify(weather)}`)
    this.network.weather = weather
  }

  /** A host reaches nobody for a while. */
  cutOff(host: VirtualHost, forMs: number): void {
    this.trace.add("world", `${host.name} is cut off for ${forMs} ms`)
    this.network.cutOff.add(host.name)
    this.timeline.after(forMs, () => this.network.cutOff.delete(host.name))
  }

  /** A list that names the host is published, and after a while a newer one that does not. */
  revoke(host: VirtualHost, forMs: number): void {
    if (this.#revoked.has(host.name)) return
    this.trace.add("world", `${host.name} is revoked for ${forMs} ms`)
    this.#revoked.set(host.name, epochMs + this.timeline.now)
    this.#publishRevocations()
    this.timeline.after(forMs, () => {
      this.trace.add("world", `${host.name} is not revoked any more`)
      this.#revoked.delete(host.name)
      this.#publishRevocations()
    })
  }

  /** Each is newer than the one before. */
  #publishRevocations(): void {
    this.#revocationsSignedAt = Math.max(this.#revocationsSignedAt + 1, epochMs + this.timeline.now)
    this.controlPlane.releases.set(revocationsFile, revocationList(this.#revoked, this.#revocationsSignedAt))
  }

  /** Nothing about a host's health can be found out for a while. */
  blind(host: VirtualHost, forMs: number): void {
    this.trace.add("world", `the probes of ${host.name} cannot run for ${forMs} ms`)
    host.blind = true
    this.timeline.after(forMs, () => {
      host.blind = false
    })
  }

  /** The next commits of a machine meet these faults. */
  failDisk(machine: VirtualHost | VirtualControlPlane, faults: ReadonlyArray<CommitFault>): void {
    this.trace.add("world", `${machine.disk.file} meets ${faults.join(", ")}`)
    machine.disk.fail(...faults)
  }

  /** A host's journal is lost, and with it all that only this host knew; its agent starts again on an empty one. */
  loseJournal(host: VirtualHost, downMs: number): void {
    if (!host.machine.running) return
    host.machine.crash(downMs)
    this.trace.add("world", `the journal of ${host.name} is lost`)
    host.disk.wipe()
    host.journalsLost += 1
  }

  /** Keeps what the control plane's disk holds now. */
  backUp(): void {
    this.#backup = this.controlPlane.disk.image()
  }

  /** The control plane's disk is lost; it starts again on the last backup, or on an empty disk when there is none. */
  loseDisk(downMs: number): void {
    const { disk, machine } = this.controlPlane
    machine.crash(downMs)
    this.trace.add(
      "world",
      `the control plane's disk is lost; ${this.#backup === undefined ? "no backup" : "restored"}`
    )
    if (this.#backup === undefined) disk.wipe()
    else disk.restore(this.#backup)
    this.#backup = undefined
    this.forgot = true
  }
}
