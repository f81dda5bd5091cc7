/**
 * A small fleet of real processes: one control plane and its agents, with mutual TLS over loopback, real journals and the
 * real archive driver, all in one temporary directory. Cadences are shortened; facts are awaited, never slept for.
 */
import { Effect, Layer, Schema } from "effect"
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync
} from "node:fs"
import { createServer } from "node:net"
import { basename, dirname, join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { Exchange } from "../../src/Layers/Net/Exchange.ts"
import * as TlsClient from "../../src/Layers/Net/TlsClient.ts"
import { resolveDeclaration } from "../../src/Operator/Declaration.ts"
import { signRelease } from "../../src/Operator/Release.ts"
import { signingWith } from "../../src/Operator/Signing.ts"
import { type DeclaredPolicy, decodeFleetDeclaration } from "../../src/Schema/FleetDeclaration.ts"
import type { HostRecord } from "../../src/Schema/HostRecord.ts"
import { HostsResponse, RolloutHosts } from "../../src/Schema/OperatorViews.ts"
import type { Json } from "../../src/Trust/CanonicalJson.ts"
import { releaseSeed, signed, trustJson } from "./artifacts.ts"
import { agentSuffix, Certificates } from "./certificates.ts"
import { publishClosure } from "./closures.ts"
import { launch, messageOf, type Running } from "./controlPlaneProcess.ts"
import { temporaryDirectory } from "./directories.ts"

const agentMain = join(import.meta.dirname, "../../src/Main.ts")

const portsOfWorker = 2_000

/**
 * Below the ports that the kernel gives to connections and to listeners of port 0, so that nobody takes it while a process
 * restarts; each of the runner's workers has a range of its own.
 */
const firstPort = 10_000 + (Number(process.env["VITEST_POOL_ID"] ?? 0) % 10) * portsOfWorker
let lastPort = Math.floor(Math.random() * portsOfWorker)

/** A port that nobody has. */
export const freePort: Effect.Effect<number> = Effect.callback((resume) => {
  lastPort = (lastPort + 1) % portsOfWorker
  const port = firstPort + lastPort
  const server = createServer()
  server.once("error", () => resume(freePort))
  server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(port))))
})

/** Waits for a fact; the failure says which one, and what was seen instead. */
export const eventually = (what: string, fact: () => unknown, seconds = 60): Effect.Effect<void> => {
  const look: Effect.Effect<void> = Effect.suspend(() =>
    fact() === true ? Effect.void : Effect.andThen(Effect.sleep(20), look)
  )
  return Effect.timeoutOrElse(look, {
    duration: `${seconds} seconds`,
    orElse: () => Effect.die(new Error(`waited ${seconds} s for ${what}; last seen: ${JSON.stringify(fact())}`))
  })
}

/** The same for a fact that has to be asked for. */
export const eventuallyIs = <A>(
  what: string,
  ask: Effect.Effect<A, unknown>,
  is: (found: A) => boolean,
  seconds = 60
): Effect.Effect<A> => {
  let last: unknown
  const look: Effect.Effect<A> = Effect.matchEffect(ask, {
    onFailure: (problem) => {
      last = String(problem)
      return Effect.andThen(Effect.sleep(50), look)
    },
    onSuccess: (found) => {
      last = found
      return is(found) ? Effect.succeed(found) : Effect.andThen(Effect.sleep(50), look)
    }
  })
  return Effect.timeoutOrElse(look, {
    duration: `${seconds} seconds`,
    orElse: () => Effect.die(new Error(`waited ${seconds} s for ${what}; last seen: ${JSON.stringify(last)}`))
  })
}

export interface FleetOptions {
  readonly hosts: ReadonlyArray<string>
  readonly policy?: Partial<DeclaredPolicy>
  /** Keys that the fleet declares, in OpenSSH's form; a host without one has its certificate already. */
  readonly publicKeys?: Readonly<Record<string, string>>
  /** What everybody trusts; the release key alone when nothing is said. */
  readonly trust?: unknown
  /** Options of the control plane over the shortened ones. */
  readonly controlPlane?: Readonly<Record<string, unknown>>
  /** What runs as the agent, or as the control plane; their sources when nothing is said. */
  readonly agentProgram?: string
  readonly controlPlaneProgram?: string
  /** More environment of the control plane, and of a host's agent. */
  readonly controlPlaneEnvironment?: Readonly<Record<string, string>>
  readonly agentEnvironment?: (host: string) => Readonly<Record<string, string>>
}

/** Seconds; long enough to be seen, short enough to wait for. */
const agentCadences = {
  heartbeatSecs: 0.5,
  pollWaitSecs: 10,
  pollTimeoutSecs: 15,
  drainSecs: 0.5,
  advanceSecs: 0.2,
  manifestPollSecs: 0.5,
  switchPollSecs: 0.1
}
const controlPlaneCadences = {
  artifactPollSecs: 0.2,
  planSecs: 0.2,
  sweepSecs: 0.1,
  heartbeatSecs: 0.5,
  recoveryGraceSecs: 2,
  leaseSecs: 3
}

const onePolicy = {
  strategy: "canary",
  waves: [{ selector: { all: true }, soakSeconds: 1 }],
  onHealthFailure: "rollback-and-halt"
}

function writeJson(file: string, value: unknown): string {
  writeFileSync(file, JSON.stringify(value))
  return file
}

function replaceFile(file: string, bytes: Uint8Array): void {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(`${file}.new`, bytes)
  renameSync(`${file}.new`, file)
}

/** One row of a journal. */
export interface JournaledEvent {
  readonly rolloutId: string
  readonly seq: number
  readonly kind: string
  readonly delivery: string
}

export const makeFleet = Effect.fnUntraced(function*(options: FleetOptions) {
  const { authority, caFile, serverFiles, write } = yield* Certificates
  const directory = yield* temporaryDirectory
  const port = yield* freePort
  const at = (...parts: ReadonlyArray<string>) => join(directory, ...parts)
  for (const name of ["archives", "releases/rollouts", "state"]) mkdirSync(at(name), { recursive: true, mode: 0o700 })
  const trustFile = writeJson(at("trust.json"), options.trust ?? trustJson())
  const operatorFiles = write("operator", authority.operator("operator"))

  const agentConfig = Effect.fnUntraced(function*(host: string, given: Readonly<Record<string, unknown>>) {
    const files = write(host, authority.agent(host))
    return writeJson(at(`${host}.json`), {
      controlPlaneUrl: `https://localhost:${port}`,
      machineId: host,
      trustFile,
      caCert: caFile,
      clientCert: files.cert,
      clientKey: files.key,
      stateDir: at("state", host),
      systemDir: at("systems", host),
      archiveSource: at("archives"),
      healthChecksFile: at(`${host}.health.json`),
      ...agentCadences,
      ...given
    })
  })

  const running = (program: Running) => program.process.exitCode === null && program.process.signalCode === null

  /** The system that runs on a host. */
  const current = (host: string): string | undefined => {
    const link = at("systems", host, "current-system")
    return existsSync(link) ? basename(readlinkSync(link)) : undefined
  }

  /**
   * Reads a copy, so that the agent never meets a foreign lock; a copy that was taken in the middle of a write, or of the
   * journal's making, says nothing yet.
   */
  const readJournal = <A>(host: string, read: (db: DatabaseSync) => A): A | undefined => {
    const copy = at(`${host}.copy.db`)
    try {
      for (const suffix of ["", "-wal"]) {
        rmSync(`${copy}${suffix}`, { force: true })
        const original = `${at("state", host, "journal.db")}${suffix}`
        if (existsSync(original)) copyFileSync(original, `${copy}${suffix}`)
      }
      rmSync(`${copy}-shm`, { force: true })
      const db = new DatabaseSync(copy)
      try {
        return read(db)
      } finally {
        db.close()
      }
    } catch {
      return undefined
    }
  }

  const asOperator = Effect.fnUntraced(function*(path: string) {
    const context = yield* Layer.build(TlsClient.layer({
      baseUrl: `https://localhost:${port}`,
      caFile,
      certFile: operatorFiles.cert,
      keyFile: operatorFiles.key,
      insecure: false
    }))
    const { send } = yield* Effect.provide(Exchange, context)
    const response = yield* send(
      { method: "GET", path, headers: { "x-nixfleet-protocol": "1" }, body: new Uint8Array() },
      { timeoutMs: 5000, maxBodyBytes: 10_000_000, lane: "report" }
    )
    if (response.status !== 200) return yield* Effect.fail(`${path}: status ${response.status}`)
    return JSON.parse(new TextDecoder().decode(response.body)) as unknown
  }, Effect.scoped)

  const startControlPlane = Effect.suspend(() =>
    launch(
      [
        "serve",
        "--config",
        writeJson(at("control-plane.json"), {
          listen: `127.0.0.1:${port}`,
          tlsCert: serverFiles.cert,
          tlsKey: serverFiles.key,
          clientCa: caFile,
          agentCnSuffix: agentSuffix,
          trustFile,
          releasesSource: at("releases"),
          stateDir: at("control-plane"),
          ...controlPlaneCadences,
          ...options.controlPlane
        })
      ],
      options.controlPlaneEnvironment,
      options.controlPlaneProgram
    )
  )

  return {
    directory,
    port,
    /** Flags of a `nixfleet` command that asks this control plane. */
    operatorFlags: [
      ["--cp-url", `https://localhost:${port}`],
      ["--ca-cert", caFile],
      ["--client-cert", operatorFiles.cert],
      ["--client-key", operatorFiles.key]
    ].flat(),
    at,
    current,

    /** Packs a closure whose switch runs `body`; answers its name. */
    pack: (name: string, body: string) => publishClosure(at("archives"), name, body),

    /** Signs and publishes a release; hosts without a closure have nothing to run. Answers the rollout id. */
    publish: (ref: string, closures: Readonly<Record<string, string>>, policy: Partial<DeclaredPolicy> = {}) => {
      const decoded = decodeFleetDeclaration({
        channels: { stable: { rolloutPolicy: "standard", freshnessWindow: 180 } },
        rolloutPolicies: { standard: { ...onePolicy, ...options.policy, ...policy } },
        hosts: Object.fromEntries(options.hosts.map((host) => [
          host,
          {
            channel: "stable",
            platform: "x86_64-linux",
            tags: [host],
            closure: closures[host] ?? null,
            pubkey: options.publicKeys?.[host] ?? null
          }
        ]))
      })
      if (!decoded.ok) throw new Error(decoded.problem)
      const resolved = resolveDeclaration(decoded.value, ref)
      if (!resolved.ok) throw new Error(JSON.stringify(resolved.problems))
      for (
        const { bytes, path } of Effect.runSync(signRelease(resolved.fleet, Date.now(), signingWith(releaseSeed))).files
      ) {
        replaceFile(at("releases", path), bytes)
      }
      return `stable@${ref}`
    },

    /** Signs and publishes a list beside the releases, its signature first. */
    publishList: (name: string, list: Json): void => {
      const { bytes, signature } = signed(list)
      replaceFile(at("releases", `${name}.sig`), signature)
      replaceFile(at("releases", name), bytes)
    },

    /** Starts the control plane, whatever becomes of it. */
    startControlPlane,

    /** Starts the control plane and answers when its port is open. */
    controlPlane: Effect.tap(
      startControlPlane,
      (program) => program.line((line) => messageOf(line).startsWith("listening on"))
    ),

    /** Forgets everything that the control plane knew; it must not run. */
    wipeControlPlane: Effect.sync(() => rmSync(at("control-plane"), { recursive: true, force: true })),

    /** Starts an agent. `given`: options over the shortened ones. */
    agent: Effect.fnUntraced(function*(
      host: string,
      given: Readonly<Record<string, unknown>> = {},
      program: string = options.agentProgram ?? agentMain
    ) {
      const config = yield* agentConfig(host, given)
      return yield* launch(
        ["run", "--config", config],
        { PATH: process.env["PATH"] ?? "", ...options.agentEnvironment?.(host) },
        program
      )
    }),

    /** Ends a process by a signal and waits until it is gone. */
    end: Effect.fnUntraced(function*(program: Running, signal: NodeJS.Signals) {
      if (running(program)) program.process.kill(signal)
      return yield* program.ended
    }),

    /** What a host's journal holds of its events, in their order. */
    events: (host: string): ReadonlyArray<JournaledEvent> =>
      readJournal(host, (db) =>
        db.prepare(
          `SELECT r.rollout_id AS rolloutId, e.seq, e.kind, e.delivery FROM events e
           JOIN rollouts r ON r.id = e.rollout WHERE e.seq IS NOT NULL ORDER BY e.id`
        ).all().map(({ delivery, kind, rolloutId, seq }) => ({
          rolloutId: String(rolloutId),
          seq: Number(seq),
          kind: String(kind),
          delivery: String(delivery)
        }))) ?? [],

    /** The record of one rollout in a host's journal. */
    record: (host: string, rolloutId: string): HostRecord | undefined => {
      const row = readJournal(
        host,
        (db) => db.prepare("SELECT folded FROM rollouts WHERE rollout_id = ?").get(rolloutId)
      )
      return row === undefined || row["folded"] === ""
        ? undefined
        : (JSON.parse(String(row["folded"])) as { record: HostRecord }).record
    },

    /** What the control plane says about the hosts of a rollout: host → state. */
    states: (rolloutId: string) =>
      Effect.map(asOperator(`/v1/rollouts/${rolloutId}/hosts`), (json) => {
        const { hosts } = Schema.decodeUnknownSync(RolloutHosts)(json)
        return Object.fromEntries(hosts.map(({ host, state }) => [host, state ?? "none"]))
      }),

    hosts: Effect.map(asOperator("/v1/hosts"), (json) => Schema.decodeUnknownSync(HostsResponse)(json).hosts),
    asOperator
  }
})

export type Fleet = Effect.Success<ReturnType<typeof makeFleet>>

/** A switch that notes that it ran, then does `body`; `runs` reads the notes. */
export const noting = (file: string, body = "exit 0") => `echo "$NIXFLEET_CLOSURE" >>${file}\n${body}`
export const runs = (file: string): ReadonlyArray<string> =>
  existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : []
