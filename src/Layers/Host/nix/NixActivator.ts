/**
 * The `Activator` of hosts with Nix, over its own commands: `nix-store` realises (`Realise.ts`), `nix-env` sets the profile
 * (`Profile.ts`), and the closure's `switch-to-configuration` runs apart from the agent (`DetachedSwitch.ts`), as a unit
 * under systemd. The store, its database and its signatures are Nix's; this driver owns its roots of the garbage
 * collector (`Roots.ts`), the records of its switches, and their lock.
 *
 * On macOS the same driver runs nix-darwin's `activate`, and knows neither inhibitors nor another tool's lock (agent.md §8.3).
 * What is of macOS alone was never run there: how processes are found (`Processes.ts`), and that `timeout`, `sync` and `flock`,
 * which macOS lacks, come from the packages of Nix on the agent's path.
 *
 * Nix is configured as for every other use, by `nix.conf` and its environment variables (`Nix.ts`). A configuration that
 * does not check signatures is refused at the start and at each fetch.
 *
 * Failures: those of `Activator`; at the start `NixUnusable`, and `NixSilent` where another start may do.
 */
import { Effect, Layer, Schema, Semaphore } from "effect"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { reserveName } from "../../Disk/DiskRoom.ts"
import { logOf } from "../../Logging.ts"
import {
  Activator,
  type HostReader,
  type RealiseOutcome,
  type RealiseProgress,
  type SetProfileOutcome,
  type StartSwitchOutcome,
  type SwitchId
} from "../Activator.ts"
import { DetachedSwitches, type SwitchAction } from "../DetachedSwitch.ts"
import { errorText } from "../DurableFiles.ts"
import { runningClosure } from "../Generations.ts"
import type { Launcher } from "../SwitchLaunch.ts"
import { describeEnd, runCommand } from "./Command.ts"
import { inhibitor } from "./Inhibitors.ts"
import { isClosureName, type Nix, nixOf, switchSearchPath } from "./Nix.ts"
import { Profile } from "./Profile.ts"
import { type FetchLimits, Realiser } from "./Realise.ts"
import { Roots } from "./Roots.ts"
import { readSettings, refusal } from "./Settings.ts"
import { hostLauncher } from "./System.ts"

const log = logOf("agent_host")

export interface NixActivatorConfig extends FetchLimits {
  readonly system: "nixos" | "darwin"
  readonly nix: Nix
  /** Where `current-system` is; its system sets the link at boot and at each switch. */
  readonly runDir: string
  /** Records of switches. */
  readonly recordsDir: string
  readonly switchTimeoutMs: number
  /** From TERM to KILL when a switch is ended. */
  readonly switchGraceMs: number
  /** Environment of the switch, besides its `NIXFLEET_…` variables. */
  readonly switchEnvironment: Readonly<Record<string, string>>
  readonly launch: Launcher
}

/** With the defaults of an agent. `environment`: of this process, as Nix would see it. */
export function nixActivatorConfig(
  given:
    & { readonly environment: Readonly<Record<string, string | undefined>>; readonly recordsDir: string }
    & Partial<NixActivatorConfig>
): NixActivatorConfig {
  const { environment, ...rest } = given
  return {
    system: "nixos",
    nix: nixOf(environment),
    runDir: "/run",
    realiseTimeoutMs: 1_800_000,
    connectTimeoutSecs: 10,
    stallTimeoutSecs: 30,
    downloadAttempts: 3,
    switchTimeoutMs: 300_000,
    switchGraceMs: 10_000,
    switchEnvironment: { PATH: switchSearchPath, HOME: "/root", LANG: "C.UTF-8" },
    launch: hostLauncher(),
    ...rest
  }
}

/** Nix is not there, is configured wrongly, or would take what nobody signed; the agent does not start. */
export class NixUnusable extends Schema.TaggedError<NixUnusable>()("NixUnusable", { message: Schema.String }) {}

/** Nix was killed, or did not answer in time; the agent does not start now. */
export class NixSilent extends Schema.TaggedError<NixSilent>()("NixSilent", { message: Schema.String }) {}

const currentLink = ({ runDir }: NixActivatorConfig): string => join(runDir, "current-system")

const switchesOf = (config: NixActivatorConfig): DetachedSwitches =>
  new DetachedSwitches({
    recordsDir: config.recordsDir,
    lockFile: join(config.runDir, "nixfleet-switch.lock"),
    currentLink: currentLink(config),
    timeoutMs: config.switchTimeoutMs,
    graceMs: config.switchGraceMs,
    environment: config.switchEnvironment,
    mover: "switch",
    foreignLock: config.system === "nixos" ? join(config.runDir, "nixos/switch-to-configuration.lock") : undefined,
    launch: config.launch
  })

/** A name that no closure has. */
const unknownClosure = `${"0".repeat(32)}-unknown`

/** Whether the closure is in the store, whole, as the database of Nix says. */
const isValid = (nix: Nix, closure: string): Effect.Effect<boolean> =>
  isClosureName(closure)
    ? Effect.map(
      runCommand(nix.command("nix-store", ["--check-validity", join(nix.storeDir, closure)])),
      (end) => end._tag === "Exited" && end.code === 0
    )
    : Effect.succeed(false)

const reading = <A>(read: () => Promise<A>): Effect.Effect<A, string> =>
  Effect.tryPromise({ try: read, catch: errorText })

/** Changes nothing and needs no running agent. */
export function nixHost(config: NixActivatorConfig): HostReader {
  const profile = new Profile(config.nix)
  const switches = switchesOf(config)
  return {
    current: Effect.all({
      running: reading(() => runningClosure(currentLink(config), config.nix.storeDir)),
      profile: reading(async () => (await profile.current())?.closure)
    }),
    switchResult: (id) => reading(() => switches.result(id)),
    has: (closure) => isValid(config.nix, closure)
  }
}

const unusable = (message: string): NixUnusable => new NixUnusable({ message })

const make = Effect.fnUntraced(function*(config: NixActivatorConfig) {
  const { nix } = config
  const settings = yield* Effect.mapError(
    readSettings(nix),
    ({ detail, passing }) =>
      passing
        ? new NixSilent({
          message: `Nix was asked for its settings and gave no answer, started again the agent asks again: ${detail}`
        })
        : unusable(`Nix cannot be used: ${detail}`)
  )
  const refused = refusal(settings)
  if (refused !== undefined) return yield* unusable(refused)
  const authorityFile = nix.command("nix", []).environment["NIX_SSL_CERT_FILE"]
  const opening = <A>(what: string, open: () => Promise<A>) =>
    Effect.mapError(reading(open), (problem) => unusable(`cannot prepare ${what}: ${problem}`))
  const authorities = authorityFile === undefined
    ? undefined
    : yield* opening(authorityFile, () => readFile(authorityFile, "utf8"))

  const roots = new Roots(nix)
  const realiser = new Realiser(nix, roots, config, authorities)
  const profile = new Profile(nix)
  const switches = switchesOf(config)
  const host = nixHost(config)
  yield* opening(roots.directory, () => roots.open())
  yield* opening(config.recordsDir, () => switches.open())
  // Opens the store: Nix makes the database of a new one now, and one that is ended while it does leaves it broken.
  yield* isValid(nix, unknownClosure)
  // Realising and setting the profile change the store one at a time.
  const changing = yield* Semaphore.make(1)
  /** Closures that this process has seen to be whole and holds a root for. */
  const whole = new Set<string>()

  const realise = (closure: string): Effect.Effect<RealiseOutcome> => {
    if (!isClosureName(closure)) {
      return Effect.succeed({ _tag: "Absent", detail: `${JSON.stringify(closure)} is not the name of a store path` })
    }
    return changing.withPermit(
      Effect.tap(
        realiser.realise(closure),
        (outcome) => Effect.sync(() => outcome._tag === "Ok" ? whole.add(closure) : whole.delete(closure))
      )
    )
  }

  const isWhole = (closure: string) => whole.has(closure) ? Effect.succeed(true) : isValid(nix, closure)

  const setProfile = (closure: string): Effect.Effect<SetProfileOutcome> =>
    isClosureName(closure)
      ? profile.set(closure).pipe(
        Effect.tap((outcome) => outcome._tag === "Ok" ? realiser.settled(closure) : Effect.void),
        Effect.uninterruptible,
        (changed) => changing.withPermit(changed)
      )
      : Effect.succeed({ _tag: "Failed", detail: `${JSON.stringify(closure)} is not the name of a store path` })

  /** A rollback runs in any case: what it would change ran here before. */
  const actionFor = (closure: string, id: SwitchId): Effect.Effect<SwitchAction> =>
    Effect.gen(function*() {
      if (config.system === "darwin") return "activate"
      const { running } = yield* Effect.orElseSucceed(host.current, () => ({ running: undefined }))
      if (id.purpose === "rollback" || running === undefined) return "switch"
      const place = (name: string) => join(nix.realStoreDir, name)
      const looking = reading(() => inhibitor(place(running), place(closure)))
      const component = yield* Effect.orElseSucceed(looking, () => undefined)
      if (component === undefined) return "switch"
      yield* log.info("the switch waits for a reboot: it would change a component under the running system", {
        closure,
        rollout: id.rolloutId,
        detail: component
      })
      return "boot"
    })

  const startSwitch = (closure: string, id: SwitchId): Effect.Effect<StartSwitchOutcome> =>
    Effect.gen(function*() {
      if (!(yield* isWhole(closure))) {
        return { _tag: "Failed", detail: `${closure} is not in the store` } as const
      }
      const action = yield* actionFor(closure, id)
      return yield* Effect.promise(() => switches.start(join(nix.realStoreDir, closure), id, action))
    }).pipe(Effect.uninterruptible)

  /** Unreadable is unknown, which is no closure (D12). */
  const unlessUnreadable = (read: Effect.Effect<string | undefined, string>, what: string) =>
    read.pipe(
      Effect.catch((problem) =>
        Effect.as(log.warn(`cannot read ${what}`, { reason: "host-unreadable", detail: problem }), undefined)
      )
    )

  const progress = Effect.sync((): RealiseProgress | undefined => {
    const running = realiser.progress
    return running === undefined ? undefined : {
      closure: running.closure,
      doneBytes: running.transfer?.doneBytes ?? 0,
      expectedBytes: running.transfer?.expectedBytes
    }
  })

  /** One that is not there cannot be held, and is not fetched for that. */
  const hold = Effect.fnUntraced(function*(closure: string) {
    const held = ["--realise", join(nix.storeDir, closure), "--add-root", roots.path(closure)]
    const end = yield* runCommand(nix.command("nix-store", [...held, "--option", "substitute", "false"]))
    const failed = end._tag !== "Exited" || end.code !== 0
    if (failed && (yield* isValid(nix, closure))) return yield* Effect.fail(describeEnd("nix-store --add-root", end))
  })

  const retain = (closures: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const kept = new Set(closures.filter(isClosureName))
      for (const closure of whole) if (!kept.has(closure)) whole.delete(closure)
      const held = new Set(yield* reading(() => roots.list()))
      for (const closure of kept) if (!held.has(closure)) yield* hold(closure)
      for (const closure of held) if (!kept.has(closure)) yield* reading(() => roots.release(closure))
      return true
    }).pipe(
      Effect.catch((problem) =>
        Effect.as(
          log.warn("roots of the garbage collector were not changed", { reason: "store-not-cleaned", detail: problem }),
          false
        )
      ),
      Effect.uninterruptible,
      (changed) => changing.withPermit(changed)
    )

  return Activator.of({
    method: config.system === "nixos" ? "nix" : "darwin",
    current: Effect.all({
      running: unlessUnreadable(
        reading(() => runningClosure(currentLink(config), nix.storeDir)),
        currentLink(config)
      ),
      profile: unlessUnreadable(reading(async () => (await profile.current())?.closure), "the profile")
    }),
    realise,
    progress,
    retain,
    setProfile,
    startSwitch,
    switchResult: (id) =>
      host.switchResult(id).pipe(
        // Not `Lost`, which would start it again: a record that cannot be read now is looked at again (house rule 8).
        Effect.catch((problem) =>
          Effect.as(
            log.warn("cannot read the result of a switch", {
              rollout: id.rolloutId,
              attempt: id.attempt,
              reason: "switch-unread",
              detail: problem
            }),
            { _tag: "Running" } as const
          )
        )
      ),
    recovery: (order) =>
      switches.recovery(order, {
        closurePath: join(nix.realStoreDir, order.closure),
        action: config.system === "darwin" ? "activate" : "switch",
        setProfile: profile.recovery(order.closure),
        reserves: [join(nix.stateDir, reserveName)]
      })
  })
})

export const layer = (config: NixActivatorConfig): Layer.Layer<Activator, NixUnusable | NixSilent> =>
  Layer.effect(Activator, make(config))
