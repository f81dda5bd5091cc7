/**
 * The whole control plane as one layer: routes and workers put inputs on one queue, the reducer folds them into the journal, and
 * what it decides completes parked polls. What stands further down in a chain of `provide` starts earlier and stops later, which
 * is the order of shutdown (house rule 4): the server, the workers, then the reducer, which drains, then the journal, then the lock.
 */
import { Effect, Layer } from "effect"
import { ArtifactCache } from "../Layers/Disk/ArtifactCache.ts"
import { Database } from "../Layers/Disk/Database.ts"
import { layerProcessLock } from "../Layers/Disk/ProcessLock.ts"
import { TrustFile } from "../Layers/Disk/TrustFile.ts"
import { TrustMemory } from "../Layers/Disk/TrustMemory.ts"
import { Ids } from "../Layers/Ids.ts"
import { ArtifactSource } from "../Layers/Net/ArtifactSource.ts"
import { Draining } from "../Layers/Net/Draining.ts"
import * as TlsServer from "../Layers/Net/TlsServer.ts"
import { SystemdNotify } from "../Layers/SystemdNotify.ts"
import { type ControlPlaneConfig, listenAddress } from "../Schema/ControlPlaneConfig.ts"
import * as ArtifactPoll from "../Workers/ControlPlane/ArtifactPoll.ts"
import * as LeaseSweep from "../Workers/ControlPlane/LeaseSweep.ts"
import * as Plan from "../Workers/ControlPlane/Plan.ts"
import { Supervisor } from "../Workers/Supervisor.ts"
import * as Routes from "./Api/Served.ts"
import * as Core from "./Core.ts"
import { Inbox } from "./Inbox.ts"
import * as Issuance from "./Issuance.ts"
import { Journal, journalMigrations } from "./Journal.ts"
import { Settings } from "./Settings.ts"
import { Waiters } from "./Waiters.ts"

/** The end of the reducer takes the process down, as that of any worker (house rule 7). */
const reducer = Layer.effectDiscard(Effect.gen(function*() {
  const { ended } = yield* Inbox
  yield* (yield* Supervisor).start("reducer", ended)
}))

/** The watchdog's pulse comes from the loop itself (D18). */
const pulse = Layer.effect(Core.Pulse, Effect.map(SystemdNotify, ({ alive }) => alive))

/** The control plane over a world, real, in a test, or simulated; gives `Served` to whoever carries exchanges to it. */
export const program = Layer.mergeAll(reducer, ArtifactPoll.layer, Plan.layer, LeaseSweep.layer).pipe(
  Layer.provideMerge(Routes.layer),
  Layer.provide(Core.layer.pipe(Layer.provide(pulse))),
  Layer.provide(Waiters.layer)
)

/** Exchanges over TLS; the service manager hears of it when the port is open. */
const server = (config: ControlPlaneConfig) =>
  Layer.effectDiscard(Effect.flatMap(SystemdNotify, ({ ready }) => ready)).pipe(
    Layer.provideMerge(TlsServer.layer({
      ...listenAddress(config.listen),
      certFile: config.tlsCert,
      keyFile: config.tlsKey,
      clientCaFile: config.clientCa
    }))
  )

const journal = (config: ControlPlaneConfig) =>
  Journal.layer(Core.limitsOf(config)).pipe(
    Layer.provide(Database.layerFile(`${config.stateDir}/journal.db`, journalMigrations))
  )

/** Where releases come from. */
export const releasesSource = ({ releasesSource: source, releasesTokenFile: tokenFile }: ControlPlaneConfig) =>
  source.startsWith("/")
    ? ArtifactSource.layerDirectory(source)
    : ArtifactSource.layerHttp({ baseUrl: source, tokenFile })

/** Where releases come from, and what is remembered of them beside the journal. */
const releases = (config: ControlPlaneConfig) =>
  Layer.mergeAll(
    releasesSource(config),
    ArtifactCache.layerFile(`${config.stateDir}/artifacts`),
    TrustMemory.layerFile(`${config.stateDir}/trust-memory.json`),
    TrustFile.layerFile(config.trustFile)
  )

/** The control plane as a process runs it. `environment` is the process's own, for the service manager. */
export const layer = (config: ControlPlaneConfig, environment: Readonly<Record<string, string | undefined>>) =>
  server(config).pipe(
    Layer.provide(program),
    Layer.provide(Draining.layer),
    Layer.provide(journal(config)),
    Layer.provide(releases(config)),
    Layer.provide(Issuance.layer(config)),
    Layer.provide(layerProcessLock(config.stateDir)),
    Layer.provide(Ids.layer),
    Layer.provide(Settings.layer(config)),
    Layer.provide(SystemdNotify.layer(environment)),
    Layer.provideMerge(Supervisor.layer)
  )

/** Runs until it is interrupted, or until a worker ends, which is a failure. */
export const run = (config: ControlPlaneConfig, environment: Readonly<Record<string, string | undefined>>) =>
  Effect.flatMap(Supervisor, ({ fatal }) => fatal).pipe(Effect.provide(layer(config, environment)))
