/** One virtual host: the real agent over scripted hardware. What survives a crash is here, outside of the process. */
import { Effect, Layer } from "effect"
import { Journal, journalMigrations, trustMigrations } from "../Agent/Journal.ts"
import { program } from "../Agent/Program.ts"
import { Settings, settings } from "../Agent/Settings.ts"
import { ArtifactCache } from "../Layers/Disk/ArtifactCache.ts"
import { Database } from "../Layers/Disk/Database.ts"
import { DiskRoom } from "../Layers/Disk/DiskRoom.ts"
import { MemoryDisk } from "../Layers/Disk/MemoryDisk.ts"
import { TrustFile } from "../Layers/Disk/TrustFile.ts"
import * as ActivatorMemory from "../Layers/Host/ActivatorMemory.ts"
import { Facts } from "../Layers/Host/Facts.ts"
import * as GuardMemory from "../Layers/Host/GuardMemory.ts"
import { inconclusive, pass, type ProbeOutcome } from "../Layers/Host/Probes.ts"
import * as ProbesMemory from "../Layers/Host/ProbesMemory.ts"
import { ClientCertificate } from "../Layers/Net/ClientCertificate.ts"
import { Exchange } from "../Layers/Net/Exchange.ts"
import { SystemdNotify } from "../Layers/SystemdNotify.ts"
import { Supervisor } from "../Workers/Supervisor.ts"
import { Machine, type Surroundings } from "./Machine.ts"
import { trustFile } from "./Release.ts"

/** What the common names of a virtual fleet's hosts end with. */
export const commonNameSuffix = "fleet.test"
/** Shorter than in production, so that a world of an hour shows what takes a day. */
const cadences = {
  heartbeatSecs: 20,
  pollWaitSecs: 20,
  pollTimeoutSecs: 25,
  drainSecs: 5,
  manifestPollSecs: 120,
  probeResultSecs: 60
} as const

/** The one probe that every closure declares. */
const web = {
  kind: "http",
  mode: "enforce",
  intervalSeconds: 5,
  runOnce: false,
  onBaselineFailure: "hold",
  url: "http://127.0.0.1:8080/",
  expectStatus: 200,
  timeoutSecs: 2
} as const

/** How often the process of the guard looks. */
const guardLookMs = 1_000

const blindness = "too many open files"

export class VirtualHost {
  readonly name: string
  readonly machine: Machine
  readonly hardware: ActivatorMemory.MemoryHost
  /** A process of its own: it goes on when the agent's has crashed. */
  readonly guard: GuardMemory.MemoryGuard
  /** What the web server says when it is asked, and which units are failed. */
  web: () => ProbeOutcome = () => pass
  failedUnits: () => ReadonlyArray<string> = () => []
  /** No probe can run. */
  blind = false
  /** How often it has forgotten what only its journal knew. */
  journalsLost = 0
  readonly #probes: ProbesMemory.MemoryProbes
  /** The journal's disk; the trust memory's has no faults of its own. */
  readonly disk: MemoryDisk
  readonly #trustDisk: MemoryDisk

  constructor(name: string, world: Surroundings, initial: string) {
    const { epochMs, network, timeline } = world
    this.name = name
    this.disk = new MemoryDisk(`${name}/journal.db`)
    this.#trustDisk = new MemoryDisk(`${name}/trust-memory.db`)
    this.hardware = new ActivatorMemory.MemoryHost({ initial, now: Effect.sync(() => Math.floor(timeline.now)) })
    this.guard = new GuardMemory.MemoryGuard(this.hardware)
    const watch = () => {
      this.guard.settle(Math.floor(timeline.now))
      timeline.after(guardLookMs, watch)
    }
    timeline.after(guardLookMs, watch)
    this.#probes = new ProbesMemory.MemoryProbes({ web }, () => ({
      durationMs: 10,
      outcome: this.blind ? inconclusive(blindness) : this.web()
    }))
    this.#probes.failedUnits = () =>
      this.blind ? { _tag: "Unknown", problem: blindness } : { _tag: "Units", units: this.failedUnits() }
    const cache = new Map<string, Uint8Array>()
    const peer = {
      commonName: `agent-${name}.${commonNameSuffix}`,
      unit: undefined,
      notBefore: epochMs - 86_400_000,
      notAfter: epochMs + 86_400_000
    }
    const facts = {
      get uptimeSeconds() {
        return Math.floor(timeline.now / 1000)
      },
      bootId: "first-boot"
    }
    const config = settings({
      ...cadences,
      machineId: name,
      controlPlaneUrl: "https://control-plane.test",
      trustFile: "/trust.json",
      archiveSource: "/archives"
    })
    this.machine = new Machine(name, world, (process) => {
      const outside = Layer.mergeAll(
        Layer.succeed(Exchange, Exchange.of(network.exchange(process, name, peer))),
        ActivatorMemory.layer(this.hardware),
        GuardMemory.layer(this.guard, this.hardware),
        ProbesMemory.layer(this.#probes),
        ArtifactCache.layerMemory(cache),
        ClientCertificate.layerNone,
        TrustFile.layerMemory({ bytes: trustFile }),
        Facts.layerMemory(facts),
        DiskRoom.layerMemory({ trouble: undefined }),
        SystemdNotify.layerSilent
      )
      return Effect.flatMap(Supervisor, ({ fatal }) => fatal).pipe(Effect.provide(program.pipe(
        Layer.provide(this.journal),
        Layer.provide(outside),
        Layer.provide(Settings.layer(config)),
        Layer.provideMerge(Supervisor.layer)
      )))
    })
  }

  /** The journal over this host's disks: for its agent, and for whoever examines the host. */
  get journal() {
    return Journal.layer(this.name, {
      journal: Database.layerMemory(this.disk, journalMigrations),
      trust: Database.layerMemory(this.#trustDisk, trustMigrations)
    })
  }
}
