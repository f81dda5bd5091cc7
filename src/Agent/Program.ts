/**
 * The whole agent as one layer: sources put inputs on one queue, the reducer folds them into the journal, and the slots it
 * rings make the sources look again. What stands further down in a chain of `provide` starts earlier and stops later, which
 * is the order of shutdown (house rule 4): the workers, then the reducer, which drains, then the journal, then the lock.
 */
import { Effect, Layer } from "effect"
import { ArtifactCache } from "../Layers/Disk/ArtifactCache.ts"
import { Database } from "../Layers/Disk/Database.ts"
import { DiskRoom } from "../Layers/Disk/DiskRoom.ts"
import { layerProcessLock } from "../Layers/Disk/ProcessLock.ts"
import { TrustFile } from "../Layers/Disk/TrustFile.ts"
import { Facts } from "../Layers/Host/Facts.ts"
import { layerNoting } from "../Layers/Host/FetchNote.ts"
import { Guard } from "../Layers/Host/Guard.ts"
import * as NodeProbes from "../Layers/Host/NodeProbes.ts"
import { ClientCertificate } from "../Layers/Net/ClientCertificate.ts"
import * as TlsClient from "../Layers/Net/TlsClient.ts"
import { SystemdNotify } from "../Layers/SystemdNotify.ts"
import type { AgentConfig } from "../Schema/AgentConfig.ts"
import { activation } from "../Workers/Agent/Activation.ts"
import { advanceTicker } from "../Workers/Agent/AdvanceTicker.ts"
import { certRenewal } from "../Workers/Agent/CertRenewal.ts"
import * as Enrollment from "../Workers/Agent/Enrollment.ts"
import { heartbeat } from "../Workers/Agent/Heartbeat.ts"
import { longpoll } from "../Workers/Agent/Longpoll.ts"
import { manifestPoll } from "../Workers/Agent/ManifestPoll.ts"
import { outbound } from "../Workers/Agent/Outbound.ts"
import { probe } from "../Workers/Agent/Probe.ts"
import { Supervisor } from "../Workers/Supervisor.ts"
import { Artifacts } from "./Artifacts.ts"
import * as Core from "./Core.ts"
import { Handshake } from "./Handshake.ts"
import { guardDirectory, hostDriver, hostGuardLauncher } from "./HostDriver.ts"
import { Inbox } from "./Inbox.ts"
import { Journal, journalMigrations, trustMigrations } from "./Journal.ts"
import { Link } from "./Link.ts"
import { Settings } from "./Settings.ts"
import { SwitchPermit } from "./SwitchPermit.ts"

/** The eight sources and the end of the reducer, each of which takes the process down when it ends (house rule 7). */
const workers = Layer.effectDiscard(Effect.gen(function*() {
  const supervisor = yield* Supervisor
  const inbox = yield* Inbox
  yield* supervisor.start("reducer", inbox.ended)
  yield* supervisor.start("activation", activation)
  yield* supervisor.start("advance_ticker", advanceTicker)
  yield* supervisor.start("cert_renewal", certRenewal)
  yield* supervisor.start("heartbeat", heartbeat)
  yield* supervisor.start("longpoll", longpoll)
  yield* supervisor.start("manifest_poll", manifestPoll)
  yield* supervisor.start("outbound", outbound)
  yield* supervisor.start("probe", probe)
  yield* (yield* SystemdNotify).ready
}))

/** The watchdog's pulse comes from the loop itself (D18). */
const pulse = Layer.effect(Core.Pulse, Effect.map(SystemdNotify, ({ alive }) => alive))

/** The agent over a world: real, in a test, or simulated. */
export const program = workers.pipe(
  Layer.provide(SwitchPermit.layer),
  Layer.provide(Artifacts.layer),
  Layer.provide(Layer.mergeAll(Link.layer, Handshake.layer)),
  Layer.provide(Core.layer.pipe(Layer.provide(pulse)))
)

/** Two files, opened under the lock of the state directory. */
const journal = ({ machineId, stateDir }: AgentConfig) =>
  Journal.layer(machineId, {
    journal: Database.layerFile(`${stateDir}/journal.db`, journalMigrations, { check: true }),
    trust: Database.layerFile(`${stateDir}/trust-memory.db`, trustMigrations, { check: true })
  })

/** The host as those see it who only look. */
export const hostReader = (config: AgentConfig) => hostDriver(config).reader

/** The probes of the real host. */
export const hostProbes = (config: AgentConfig) =>
  NodeProbes.layer({
    declarationFile: config.healthChecksFile,
    evidence: { hostname: config.machineId, keyFile: config.evidenceKeyFile },
    environment: NodeProbes.defaultProbeEnvironment
  })

/** Certificate and key of this host; one that speaks plain http has neither. */
const identity = ({ bootstrapTokenFile, clientCert, clientKey }: AgentConfig) =>
  clientCert === undefined || clientKey === undefined
    ? ClientCertificate.layerNone
    : ClientCertificate.layerFiles({ cert: clientCert, key: clientKey, bootstrapToken: bootstrapTokenFile })

/** Mutual TLS, once this host has a certificate; it asks for its first one without. */
const exchange = (config: AgentConfig) => {
  const { caCert, clientCert, clientKey, controlPlaneUrl, generateKey, insecure } = config
  const anonymous = { baseUrl: controlPlaneUrl, caFile: caCert, insecure }
  const enrolled = Enrollment.layer(generateKey).pipe(
    // Fresh: the agent's own link is over the connection that has the certificate.
    Layer.provide(Layer.fresh(Link.layer)),
    Layer.provide(TlsClient.layer(anonymous))
  )
  return clientCert === undefined
    ? TlsClient.layer(anonymous)
    : TlsClient.layer({ ...anonymous, certFile: clientCert, keyFile: clientKey }).pipe(Layer.provide(enrolled))
}

/** The real host and the real network, as configured. */
const outside = (config: AgentConfig) =>
  Layer.mergeAll(
    exchange(config),
    layerNoting(config.stateDir, hostDriver(config).activator),
    hostProbes(config),
    ArtifactCache.layerFile(`${config.stateDir}/artifacts`),
    TrustFile.layerFile(config.trustFile),
    Facts.layer,
    Guard.layer(guardDirectory(config), hostGuardLauncher())
  )

/** Asked after the driver has made its directories. The journal keeps a reserve of its own. */
const room = (config: AgentConfig) =>
  DiskRoom.layer([
    { directory: config.stateDir, reserve: false },
    { directory: hostDriver(config).directory, reserve: true }
  ])

/** The agent as a process runs it. `environment` is the process's own, for the service manager. */
export const layer = (config: AgentConfig, environment: Readonly<Record<string, string | undefined>>) =>
  program.pipe(
    Layer.provide(journal(config)),
    Layer.provide(room(config)),
    Layer.provide(outside(config)),
    Layer.provide(identity(config)),
    Layer.provide(layerProcessLock(config.stateDir)),
    Layer.provide(Settings.layer(config)),
    Layer.provide(SystemdNotify.layer(environment)),
    Layer.provideMerge(Supervisor.layer)
  )

/** Runs until it is interrupted, or until a worker ends, which is a failure. */
export const run = (config: AgentConfig, environment: Readonly<Record<string, string | undefined>>) =>
  Effect.flatMap(Supervisor, ({ fatal }) => fatal).pipe(Effect.provide(layer(config, environment)))
