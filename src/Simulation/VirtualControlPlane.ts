/** The real control plane over a simulated network and disk. What survives a crash is here, outside of the process. */
import { Effect, Layer } from "effect"
import { limitsOf } from "../ControlPlane/Core.ts"
import { Journal, journalMigrations } from "../ControlPlane/Journal.ts"
import { program } from "../ControlPlane/Program.ts"
import { Settings, settings } from "../ControlPlane/Settings.ts"
import { ArtifactCache } from "../Layers/Disk/ArtifactCache.ts"
import { Database } from "../Layers/Disk/Database.ts"
import { MemoryDisk } from "../Layers/Disk/MemoryDisk.ts"
import { TrustFile } from "../Layers/Disk/TrustFile.ts"
import { TrustMemory } from "../Layers/Disk/TrustMemory.ts"
import { Ids } from "../Layers/Ids.ts"
import { ArtifactSource, type FetchedArtifact } from "../Layers/Net/ArtifactSource.ts"
import { Draining } from "../Layers/Net/Draining.ts"
import { Served } from "../Layers/Net/Served.ts"
import { SystemdNotify } from "../Layers/SystemdNotify.ts"
import { Supervisor } from "../Workers/Supervisor.ts"
import { Machine, type Surroundings } from "./Machine.ts"
import { trustFile } from "./Release.ts"
import { commonNameSuffix } from "./VirtualHost.ts"

const config = settings({
  tlsCert: "/server.crt",
  tlsKey: "/server.key",
  clientCa: "/ca.crt",
  agentCnSuffix: commonNameSuffix,
  releasesSource: "/releases",
  leaseSecs: 30,
  heartbeatSecs: 20,
  recoveryGraceSecs: 50
})

export class VirtualControlPlane {
  readonly machine: Machine
  readonly disk = new MemoryDisk("control-plane/journal.db")
  /** What is published; may be changed at any time. */
  readonly releases = new Map<string, FetchedArtifact>()

  constructor(world: Surroundings) {
    const cache = new Map<string, Uint8Array>()
    const trustMemory = { bytes: undefined }
    const outside = Layer.mergeAll(
      ArtifactSource.layerMemory(this.releases),
      ArtifactCache.layerMemory(cache),
      TrustMemory.layerMemory(trustMemory),
      TrustFile.layerMemory({ bytes: trustFile }),
      SystemdNotify.layerSilent
    )
    this.machine = new Machine("control-plane", world, (process) =>
      Effect.gen(function*() {
        world.network.listen(process, yield* Served)
        return yield* (yield* Supervisor).fatal
      }).pipe(Effect.provide(program.pipe(
        Layer.provide(Draining.layer),
        Layer.provide(this.journal),
        Layer.provide(outside),
        Layer.provide(Settings.layer(config)),
        Layer.provideMerge(Supervisor.layer)
      ))))
  }

  /** The journal over this machine's disk: for its control plane, and for whoever examines it. */
  get journal() {
    return Journal.layer(limitsOf(config)).pipe(
      Layer.provide(Database.layerMemory(this.disk, journalMigrations)),
      Layer.provide(Ids.layerSeeded)
    )
  }
}
