/**
 * Virtual worlds in which one side is ours and the other is shaped as the original: same time line, network and machines as
 * `Simulation/World.ts`, whose inhabitants are all ours.
 */
import { Effect, Random } from "effect"
import { Journal } from "../../src/ControlPlane/Journal.ts"
import { hostIn, type State } from "../../src/ControlPlane/State.ts"
import * as ActivatorMemory from "../../src/Layers/Host/ActivatorMemory.ts"
import { fail, pass } from "../../src/Layers/Host/Probes.ts"
import type { FetchedArtifact } from "../../src/Layers/Net/ArtifactSource.ts"
import { Exchange } from "../../src/Layers/Net/Exchange.ts"
import type { HostStateName } from "../../src/Schema/Wire.ts"
import { Dice } from "../../src/Simulation/Dice.ts"
import { Machine, type Surroundings } from "../../src/Simulation/Machine.ts"
import { Network } from "../../src/Simulation/Network.ts"
import { closureOf, filesOf, rolloutIdOf, trustFile } from "../../src/Simulation/Release.ts"
import { Timeline } from "../../src/Simulation/Timeline.ts"
import { Trace } from "../../src/Simulation/Trace.ts"
import { VirtualControlPlane } from "../../src/Simulation/VirtualControlPlane.ts"
import { commonNameSuffix, VirtualHost } from "../../src/Simulation/VirtualHost.ts"
import { referenceAgent } from "./referenceAgent.ts"
import { ReferenceControlPlane } from "./referenceControlPlane.ts"
import { type ReferenceControlPlaneOptions, ReferenceDatabase } from "./referenceDatabase.ts"
import { ReferenceHost } from "./referenceHost.ts"

/** 2026-06-01T00:00:00Z, on a minute: the original's soaks are whole minutes. */
const epochMs = 1_780_272_000_000
/** Canary, then one host, then two. */
export const waves = [["a"], ["b"], ["c", "d"]] as const
const hostNames = waves.flat()
const soakSeconds = 60
/** Far beyond every time-out and back-off, ms. */
const chapterMs = 3_600_000
const shownLines = 60

/** A release that is bad wherever it runs: its service answers 500. */
const spoiled = closureOf(2)

abstract class InteropWorld {
  readonly timeline = new Timeline()
  readonly trace = new Trace(() => this.timeline.now)
  readonly network: Network
  protected readonly surroundings: Surroundings
  protected abstract readonly releases: Map<string, FetchedArtifact>

  constructor(seed: string) {
    this.network = new Network(new Dice(seed), (line) => this.trace.add("network", line))
    this.surroundings = { timeline: this.timeline, trace: this.trace, network: this.network, epochMs, seed }
  }

  /** Signs r1, r2, … now and puts it where the control plane looks. */
  publish(version: number): void {
    this.trace.add("world", `publishes r${version}`)
    const signedAt = epochMs + Math.floor(this.timeline.now / 1000) * 1000
    for (const [name, file] of filesOf({ version, waves, soakSeconds, signedAt })) this.releases.set(name, file)
  }

  pass(ms: number): void {
    this.timeline.runUntil(this.timeline.now + ms)
  }

  /** What the control plane says of a host's record in a release. */
  abstract stateOf(version: number, host: string): HostStateName | undefined

  /** What each host runs, by name. */
  abstract running(): ReadonlyMap<string, string | undefined>

  /** Every host runs it, and the control plane knows. */
  isConverged(version: number): boolean {
    const running = this.running()
    return hostNames.every((host) =>
      running.get(host) === closureOf(version) && this.stateOf(version, host) === "Converged"
    )
  }

  /** Lets time pass until it is so; fails with the latest of the trace when it is not within an hour. */
  await(what: string, isSo: () => boolean, lookMs = 5_000): void {
    const end = this.timeline.now + chapterMs
    while (!isSo()) {
      if (this.timeline.now >= end) {
        throw new Error([`${what}: not within ${chapterMs} ms`, ...this.trace.lines.slice(-shownLines)].join("\n"))
      }
      this.pass(lookMs)
    }
  }
}

/** Agents of the original at our control plane. */
export class ReferenceAgentsWorld extends InteropWorld {
  readonly controlPlane: VirtualControlPlane
  readonly hosts: ReadonlyMap<string, ReferenceHost>
  readonly machines: ReadonlyMap<string, Machine>
  protected readonly releases

  constructor(seed: string) {
    super(seed)
    const { network } = this
    this.controlPlane = new VirtualControlPlane(this.surroundings)
    this.releases = this.controlPlane.releases
    this.hosts = new Map(hostNames.map((name) => {
      const now = Effect.sync(() => Math.floor(this.timeline.now))
      const hardware = new ActivatorMemory.MemoryHost({ initial: closureOf(0), now })
      const host = new ReferenceHost(name, hardware, trustFile)
      host.probe = (running) => running === spoiled ? "fail" : "pass"
      return [name, host]
    }))
    this.machines = new Map([...this.hosts].map(([name, host]) => {
      const peer = {
        commonName: `agent-${name}.${commonNameSuffix}`,
        unit: undefined,
        notBefore: epochMs - 86_400_000,
        notAfter: epochMs + 86_400_000
      }
      return [
        name,
        new Machine(name, this.surroundings, (process) =>
          Effect.provideService(
            referenceAgent(host),
            Exchange,
            Exchange.of(network.exchange(process, name, peer))
          ))
      ]
    }))
  }

  start(): void {
    this.controlPlane.machine.start()
    for (const machine of this.machines.values()) machine.start()
  }

  host(name: string): ReferenceHost {
    return this.hosts.get(name)!
  }

  /** What the control plane's disk says now; no program takes part. */
  mirror(): State {
    return Effect.runSync(Random.withSeed(
      Effect.map(Journal, ({ initial }) => initial).pipe(Effect.provide(this.controlPlane.journal)),
      "reader"
    ))
  }

  /** An overlay says what heartbeats showed and events did not (D2). */
  stateOf(version: number, host: string): HostStateName | undefined {
    const entry = hostIn(this.mirror(), rolloutIdOf(version), host)
    return entry?.overlay?.state ?? entry?.record.state
  }

  running(): ReadonlyMap<string, string | undefined> {
    return new Map([...this.hosts].map(([name, { hardware }]) => [name, hardware.running]))
  }
}

/** Our agents at a control plane of the original. */
export class ReferenceControlPlaneWorld extends InteropWorld {
  readonly database = new ReferenceDatabase()
  readonly machine: Machine
  readonly hosts: ReadonlyMap<string, VirtualHost>
  /** Every request that it was sent, for a test to look at. */
  readonly controlPlanes: Array<ReferenceControlPlane> = []
  protected readonly releases = new Map<string, FetchedArtifact>()
  /** Of its next start. */
  options: Partial<ReferenceControlPlaneOptions>

  constructor(seed: string, options: Partial<ReferenceControlPlaneOptions> = {}) {
    super(seed)
    this.options = options
    this.machine = new Machine("control-plane", this.surroundings, (process) =>
      Effect.gen({ self: this }, function*() {
        const controlPlane = new ReferenceControlPlane(this.database, this.releases, this.options)
        this.controlPlanes.push(controlPlane)
        this.network.listen(process, { handler: controlPlane.handler, maxBodyBytes: () => 2_000_000 })
        return yield* controlPlane.run
      }))
    this.hosts = new Map(hostNames.map((name) => {
      const host = new VirtualHost(name, this.surroundings, closureOf(0))
      host.web = () => host.hardware.running === spoiled ? fail("500") : pass
      return [name, host]
    }))
  }

  start(): void {
    this.machine.start()
    for (const { machine } of this.hosts.values()) machine.start()
  }

  host(name: string): VirtualHost {
    return this.hosts.get(name)!
  }

  stateOf(version: number, host: string): HostStateName | undefined {
    return this.database.records.get(`${rolloutIdOf(version)} ${host}`)?.state
  }

  running(): ReadonlyMap<string, string | undefined> {
    return new Map([...this.hosts].map(([name, { hardware }]) => [name, hardware.running]))
  }
}
