/**
 * The `Activator` of hosts without Nix: closures are archives (`Archive.ts`) fetched from a directory or an HTTP(S)
 * address, unpacked into a store of its own, numbered as generations, and switched by their own
 * `bin/switch-to-configuration switch` (`DetachedSwitch.ts`).
 *
 * Owns the four directories of its configuration; needs nothing but an ordinary Linux. All of it is plain files, so that a
 * restarted agent, or a person, finds the whole state on the disk.
 *
 * Failures: those of `Activator`. `Absent`, `Transient`: `ArchiveSource.ts`; `Corrupt`, `Untrusted`: `ArchiveUnpack.ts`;
 * `HostFault`: the disk is full, broken or read-only; `Deadline`: it took longer than `realiseTimeoutMs`. Whatever ends
 * a realisation, interruption included, nothing of it is left.
 */
import { Effect, Layer, Option, Schema, Semaphore } from "effect"
import { rm } from "node:fs/promises"
import { join, resolve } from "node:path"
import { errorCode } from "../Disk/AtomicFile.ts"
import { reserveName } from "../Disk/DiskRoom.ts"
import { logOf } from "../Logging.ts"
import {
  Activator,
  type HostReader,
  type RealiseOutcome,
  type RealiseProgress,
  type SetProfileOutcome,
  type SwitchId
} from "./Activator.ts"
import { type ArchiveLimits, defaultArchiveLimits, digestOf } from "./Archive.ts"
import { archiveChunks, SourceError } from "./ArchiveSource.ts"
import { unpackArchive } from "./ArchiveUnpack.ts"
import { DetachedSwitches } from "./DetachedSwitch.ts"
import { errorText, makeDirectory, sweepTemporaries } from "./DurableFiles.ts"
import { Generations, runningClosure } from "./Generations.ts"
import { Store } from "./Store.ts"
import { type Launcher, launchInSession } from "./SwitchLaunch.ts"

const log = logOf("agent_host")

const fieldsOf = ({ rolloutId, ...id }: SwitchId) => ({ rollout: rolloutId, ...id })

export interface ArchiveActivatorConfig {
  /** Directory, or `http(s)://` address, in which `<closure>.tar` is. */
  readonly source: string
  /** Unpacked closures. */
  readonly storeDir: string
  /** Generations and the profile link. */
  readonly profilesDir: string
  /** Holds the `current-system` link and the switch lock. Must survive a reboot: nothing sets the link at boot. */
  readonly runDir: string
  /** Records of switches. */
  readonly stateDir: string
  readonly limits: ArchiveLimits
  /** Longest silence of an HTTP source. */
  readonly stallMs: number
  /** Longest time of one realisation. */
  readonly realiseTimeoutMs: number
  readonly switchTimeoutMs: number
  /** From TERM to KILL when a switch is ended. */
  readonly switchGraceMs: number
  /** Environment of the switch, besides its `NIXFLEET_…` variables. */
  readonly switchEnvironment: Readonly<Record<string, string>>
  /**
   * How many generations are kept with their closures, besides the profile's and the running system's, and how many
   * fetched closures without a generation. At least 1.
   */
  readonly keepGenerations: number
  /** How a switch is started so that it outlives the agent. */
  readonly launch: Launcher
}

/** Everything in one directory, with the defaults of an agent. */
export function archiveActivatorConfig(
  given: { readonly source: string; readonly systemDir: string } & Partial<ArchiveActivatorConfig>
): ArchiveActivatorConfig {
  const { source, ...rest } = given
  const systemDir = resolve(given.systemDir)
  return {
    source,
    storeDir: join(systemDir, "store"),
    profilesDir: join(systemDir, "profiles"),
    runDir: systemDir,
    stateDir: join(systemDir, "switches"),
    limits: defaultArchiveLimits,
    stallMs: 30_000,
    realiseTimeoutMs: 1_800_000,
    switchTimeoutMs: 300_000,
    switchGraceMs: 10_000,
    switchEnvironment: {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: "/root",
      LANG: "C.UTF-8"
    },
    keepGenerations: 10,
    launch: launchInSession,
    ...rest
  }
}

/** The driver's directories cannot be used; the agent does not start. */
export class ActivatorSetupError extends Schema.TaggedError<ActivatorSetupError>()("ActivatorSetupError", {
  directory: Schema.String,
  problem: Schema.String
}) {
  override get message(): string {
    return `cannot prepare ${this.directory}: ${this.problem}`
  }
}

const readOnlyCodes = new Set(["EROFS", "EACCES", "EPERM"])

/** What ended a realisation from outside of its bytes. */
function outcomeOf(error: unknown): RealiseOutcome {
  if (error instanceof SourceError) return error.outcome
  const fault = readOnlyCodes.has(errorCode(error) ?? "") ? "readOnly" : "disk"
  return { _tag: "HostFault", fault, detail: errorText(error) }
}

/** Work that can be ended: interruption aborts it and waits until it has ended, so that nothing writes afterwards. */
const abortable = (run: (signal: AbortSignal) => Promise<RealiseOutcome>): Effect.Effect<RealiseOutcome> =>
  Effect.callback<RealiseOutcome>((resume) => {
    const controller = new AbortController()
    const ended = run(controller.signal).catch(outcomeOf).then((outcome) => resume(Effect.succeed(outcome)))
    return Effect.suspend(() => {
      controller.abort()
      return Effect.promise(() => ended)
    })
  })

/** How much of an archive has come, and is to come. */
interface Meter {
  readonly came: (bytes: number) => void
  readonly expects: (bytes: number) => void
}

async function* counted(chunks: AsyncIterable<Buffer>, { came }: Meter) {
  for await (const chunk of chunks) {
    came(chunk.length)
    yield chunk
  }
}

/** Unpacks one closure into the store, or leaves the store as it was. */
const fetchClosure = (
  config: ArchiveActivatorConfig,
  store: Store,
  closure: string,
  digest: string,
  meter: Meter
) =>
  Effect.acquireUseRelease(
    Effect.tryPromise({ try: () => store.begin(closure), catch: outcomeOf }),
    (temporary) =>
      abortable(async (signal): Promise<RealiseOutcome> => {
        const { limits, source, stallMs } = config
        const chunks = archiveChunks(source, closure, { maxBytes: limits.maxBytes, stallMs }, signal, meter.expects)
        const unpacked = await unpackArchive(counted(chunks, meter), temporary, digest, limits, signal)
        if (unpacked._tag !== "Ok") return { ...unpacked, detail: `${closure}: ${unpacked.detail}` }
        signal.throwIfAborted()
        await store.commit(closure, temporary, unpacked.sha256)
        return { _tag: "Ok" }
      }),
    (temporary) =>
      Effect.tryPromise({ try: () => rm(temporary, { recursive: true, force: true }), catch: errorText }).pipe(
        // The next start sweeps it.
        Effect.catch((problem) =>
          log.warn("an unfinished closure was not deleted", {
            reason: "store-not-cleaned",
            file: temporary,
            detail: problem
          })
        )
      )
  )

/** Deletes generations and closures that are no longer kept; the disk is all that is lost when it fails. */
const prune = (
  config: ArchiveActivatorConfig,
  store: Store,
  generations: Generations,
  retained: ReadonlySet<string>
) =>
  Effect.tryPromise({
    try: async () => {
      const keep = Math.max(1, config.keepGenerations)
      const named = await generations.prune(keep)
      const running = await runningClosure(currentLink(config), store.directory)
      const unnamed = (await store.list()).filter((closure) =>
        !named.has(closure) && closure !== running && !retained.has(closure)
      )
      // One that was just fetched has no generation yet, and one that was superseded before its turn never gets one.
      for (const closure of unnamed.slice(keep)) await store.remove(closure)
    },
    catch: errorText
  }).pipe(
    Effect.catch((problem) =>
      log.warn("old closures were not deleted", { reason: "store-not-cleaned", detail: problem })
    )
  )

const currentLink = (config: ArchiveActivatorConfig): string => join(config.runDir, "current-system")

const switchesOf = (config: ArchiveActivatorConfig): DetachedSwitches =>
  new DetachedSwitches({
    recordsDir: config.stateDir,
    lockFile: join(config.runDir, "switch.lock"),
    currentLink: currentLink(config),
    timeoutMs: config.switchTimeoutMs,
    graceMs: config.switchGraceMs,
    environment: config.switchEnvironment,
    mover: "supervisor",
    foreignLock: undefined,
    launch: config.launch
  })

/** Changes nothing and needs no running agent; directories that were never made hold nothing. */
export function archiveHost(config: ArchiveActivatorConfig): HostReader {
  const reading = <A>(read: () => Promise<A>) => Effect.tryPromise({ try: read, catch: errorText })
  const generations = new Generations(config.profilesDir, config.storeDir)
  const store = new Store(config.storeDir)
  const switches = switchesOf(config)
  return {
    current: Effect.all({
      running: reading(() => runningClosure(currentLink(config), config.storeDir)),
      profile: reading(async () => (await generations.current())?.closure)
    }),
    switchResult: (id) => reading(() => switches.result(id)),
    has: (closure) => reading(() => store.isValid(closure))
  }
}

const prepare = (directory: string, task: () => Promise<void>) =>
  Effect.tryPromise({
    try: task,
    catch: (error) => new ActivatorSetupError({ directory, problem: errorText(error) })
  })

const make = (config: ArchiveActivatorConfig) =>
  Effect.gen(function*() {
    const store = new Store(config.storeDir)
    const generations = new Generations(config.profilesDir, config.storeDir)
    const switches = switchesOf(config)
    for (const directory of [config.runDir, config.profilesDir]) {
      yield* prepare(directory, async () => {
        await makeDirectory(directory, 0o755)
        await sweepTemporaries(directory)
      })
    }
    yield* prepare(config.storeDir, () => store.open())
    yield* prepare(config.stateDir, () => switches.open())
    // Realising, numbering and pruning change the store and the generations one at a time.
    const changing = yield* Semaphore.make(1)
    let retained: ReadonlySet<string> = new Set()
    let progress: RealiseProgress | undefined

    const realise = Effect.fn("ArchiveActivator.realise")(function*(closure: string) {
      const digest = digestOf(closure)
      if (digest === undefined) {
        const outcome: RealiseOutcome = {
          _tag: "Absent",
          detail: `${JSON.stringify(closure)} is not the name of an archive`
        }
        return outcome
      }
      const meter: Meter = {
        came: (bytes) => {
          progress = { closure, doneBytes: (progress?.doneBytes ?? 0) + bytes, expectedBytes: progress?.expectedBytes }
        },
        expects: (expectedBytes) => {
          progress = { closure, doneBytes: 0, expectedBytes }
        }
      }
      const fetched = Effect.tryPromise({ try: () => store.isValid(closure), catch: outcomeOf }).pipe(
        Effect.flatMap((valid) =>
          valid ? Effect.succeed<RealiseOutcome>({ _tag: "Ok" }) : fetchClosure(config, store, closure, digest, meter)
        ),
        Effect.catch((outcome) => Effect.succeed(outcome)),
        Effect.ensuring(Effect.sync(() => {
          progress = undefined
        }))
      )
      const outcome = yield* Effect.timeoutOption(changing.withPermit(fetched), config.realiseTimeoutMs)
      return Option.getOrElse(outcome, (): RealiseOutcome => ({
        _tag: "Deadline",
        detail: `${closure} was not there after ${config.realiseTimeoutMs} ms`
      }))
    })

    const setProfile = (closure: string) =>
      Effect.tryPromise({
        try: async (): Promise<SetProfileOutcome> =>
          await store.isValid(closure)
            ? { _tag: "Ok", generation: await generations.set(closure) }
            : { _tag: "Failed", detail: `${closure} is not in the store` },
        catch: errorText
      }).pipe(
        Effect.tap((outcome) => outcome._tag === "Ok" ? prune(config, store, generations, retained) : Effect.void),
        Effect.catch((detail) => Effect.succeed<SetProfileOutcome>({ _tag: "Failed", detail })),
        Effect.uninterruptible,
        (changed) => changing.withPermit(changed)
      )

    const startSwitch = (closure: string, id: SwitchId) =>
      Effect.promise(async () => {
        const valid = await store.isValid(closure).catch(() => false)
        if (!valid) return { _tag: "Failed", detail: `${closure} is not in the store` } as const
        return switches.start(store.path(closure), id, "switch")
      }).pipe(Effect.uninterruptible)

    /** Unreadable is unknown, which is no closure (D12). */
    const reading = (read: () => Promise<string | undefined>, what: string) =>
      Effect.tryPromise({ try: read, catch: errorText }).pipe(
        Effect.catch((problem) =>
          Effect.as(log.warn(`cannot read ${what}`, { reason: "host-unreadable", detail: problem }), undefined)
        )
      )

    return Activator.of({
      method: "archive",
      current: Effect.all({
        running: reading(() => runningClosure(currentLink(config), config.storeDir), currentLink(config)),
        profile: reading(async () => (await generations.current())?.closure, config.profilesDir)
      }),
      realise,
      progress: Effect.sync(() => progress),
      retain: (closures) =>
        Effect.sync(() => {
          retained = new Set(closures)
          return true
        }),
      setProfile,
      startSwitch,
      switchResult: (id) =>
        Effect.tryPromise({ try: () => switches.result(id), catch: errorText }).pipe(
          // Not `Lost`, which would start it again: a record that cannot be read now is looked at again (house rule 8).
          Effect.catch((problem) =>
            Effect.as(
              log.warn("cannot read the result of a switch", {
                ...fieldsOf(id),
                reason: "switch-unread",
                detail: problem
              }),
              { _tag: "Running" } as const
            )
          )
        ),
      recovery: (order) =>
        switches.recovery(order, {
          closurePath: store.path(order.closure),
          action: "switch",
          setProfile: generations.recovery,
          reserves: [join(config.runDir, reserveName)]
        })
    })
  })

export const layer = (config: ArchiveActivatorConfig): Layer.Layer<Activator, ActivatorSetupError> =>
  Layer.effect(Activator, make(config))
