/**
 * Brings a closure into the store of Nix, complete and verified, and says what is wrong when it cannot: one
 * `nix-store --realise` under our own deadline, explained by its messages (`Classify.ts`) and by our own look at the caches
 * (`Cache.ts`). Every outcome of the contract but `Absent` for a wrong name comes from there.
 *
 * A path is never judged by whether it exists: a fetch that broke off leaves half of it there (nix.md §3). A closure that was
 * there already is checked as far as there is doubt: its own path, which holds its switch, always; all of it when an
 * earlier fetch may have lost to a power cut what the database has. What is damaged is repaired from the caches, or refused.
 */
import { Effect, Fiber } from "effect"
import { lstat } from "node:fs/promises"
import { basename, join } from "node:path"
import { errorCode } from "../../Disk/AtomicFile.ts"
import type { RealiseFailure, RealiseOutcome } from "../Activator.ts"
import { errorText, unlessAbsent } from "../DurableFiles.ts"
import { type CacheAccess, lookForFile, lookForPaths } from "./Cache.ts"
import { classify, classifyAbsence, classifyRefusal } from "./Classify.ts"
import { type CommandEnd, describeEnd, runCommand } from "./Command.ts"
import type { Nix } from "./Nix.ts"
import { NixLog, type TransferProgress } from "./NixLog.ts"
import type { Roots } from "./Roots.ts"
import { readSettings, refusal } from "./Settings.ts"

/** Nix's own limits are hostile to a rollout: none for a connection, five minutes for a stall (nix.md §3). */
export interface FetchLimits {
  /** Longest time of one realisation. */
  readonly realiseTimeoutMs: number
  /** Whole seconds, as Nix takes them. */
  readonly connectTimeoutSecs: number
  readonly stallTimeoutSecs: number
  /** Tries of one download, inside one realisation. */
  readonly downloadAttempts: number
}

const ok: RealiseOutcome = { _tag: "Ok" }
/** Paths on one command line. */
const verifyBatch = 500

export class Realiser {
  readonly #nix: Nix
  readonly #roots: Roots
  readonly #limits: FetchLimits
  readonly #access: CacheAccess
  #running: { readonly closure: string; readonly log: NixLog } | undefined

  constructor(nix: Nix, roots: Roots, limits: FetchLimits, authorities: string | undefined) {
    this.#nix = nix
    this.#roots = roots
    this.#limits = limits
    this.#access = { storeDir: nix.storeDir, authorities, timeoutMs: limits.connectTimeoutSecs * 1000 }
  }

  /** Of the fetch that runs now. */
  get progress(): { readonly closure: string; readonly transfer: TransferProgress | undefined } | undefined {
    return this.#running === undefined
      ? undefined
      : { closure: this.#running.closure, transfer: this.#running.log.progress }
  }

  /** One at a time. Interruption ends the fetch; what it left is not valid, and the next one heals it. */
  readonly realise = (closure: string): Effect.Effect<RealiseOutcome> =>
    Effect.gen({ self: this }, function*() {
      const before = yield* this.#files(() => this.#roots.beginFetch(closure))
      // As a rule it is there already; then it has been checked by the time Nix has said so.
      const checking = yield* Effect.forkScoped(Effect.result(this.#damaged([this.#path(closure)])))
      const fetched = yield* this.#fetchSigned(closure)
      // What came now was checked as it came.
      if (before === "Unsure") yield* this.#verify(yield* this.#pathsOf(closure))
      else if (!fetched) {
        const checked = yield* Fiber.join(checking)
        const isWhole = checked._tag === "Success" && checked.success.length === 0
        if (!isWhole) yield* this.#verify([this.#path(closure)])
        yield* this.#files(() => this.#roots.endFetch(closure))
      }
      return ok
    }).pipe(Effect.scoped, Effect.catch((failure) => Effect.succeed<RealiseOutcome>(failure)))

  /** The profile names the closure, and the disk holds both. */
  readonly settled = (closure: string): Effect.Effect<void> =>
    // The note that stays costs a longer look at the next fetch of this closure, and nothing else.
    Effect.ignore(this.#files(() => this.#roots.endFetch(closure)))

  #path(closure: string): string {
    return join(this.#nix.storeDir, closure)
  }

  /** Our own files beside the store. */
  #files<A>(change: () => Promise<A>): Effect.Effect<A, RealiseFailure> {
    return Effect.tryPromise({
      try: change,
      catch: (error): RealiseFailure => ({
        _tag: "HostFault",
        fault: ["EROFS", "EACCES", "EPERM"].includes(errorCode(error) ?? "") ? "readOnly" : "disk",
        detail: errorText(error)
      })
    })
  }

  /**
   * Fetches while Nix is asked whether it checks signatures; both must agree. Asked each time, as a switch may have changed
   * its configuration, and at the same time, as it costs as much as a small fetch.
   */
  #fetchSigned(closure: string): Effect.Effect<boolean, RealiseFailure> {
    return Effect.gen({ self: this }, function*() {
      const asking = yield* Effect.forkChild(Effect.result(this.#refuseUnsigned))
      const refused = Effect.flatMap(
        Fiber.join(asking),
        (result) => result._tag === "Failure" ? Effect.fail(result.failure) : Effect.never
      )
      const fetched = yield* Effect.raceFirst(this.#fetch(closure), refused)
      const result = yield* Fiber.join(asking)
      return result._tag === "Failure" ? yield* Effect.fail(result.failure) : fetched
    })
  }

  get #refuseUnsigned(): Effect.Effect<void, RealiseFailure> {
    return readSettings(this.#nix).pipe(
      Effect.mapError(({ detail }): RealiseFailure => ({ _tag: "Transient", detail })),
      Effect.flatMap((settings) => {
        const detail = refusal(settings)
        return detail === undefined ? Effect.void : Effect.fail<RealiseFailure>({ _tag: "CacheConfig", detail })
      })
    )
  }

  /** Answers whether anything was transferred. */
  #fetch(closure: string): Effect.Effect<boolean, RealiseFailure> {
    const log = new NixLog()
    return Effect.gen({ self: this }, function*() {
      this.#running = { closure, log }
      const held = ["--realise", this.#path(closure), "--add-root", this.#roots.path(closure)]
      const end = yield* this.#nixStore([...held, ...this.#options], log)
      if (end._tag !== "Exited" || end.code !== 0) return yield* this.#explain(end, log, this.#path(closure))
      return log.progress !== undefined
    }).pipe(Effect.ensuring(Effect.sync(() => {
      this.#running = undefined
    })))
  }

  get #options(): ReadonlyArray<string> {
    const { connectTimeoutSecs, downloadAttempts, stallTimeoutSecs } = this.#limits
    const options = {
      "substitute": "true",
      "require-sigs": "true",
      // Nix remembers for an hour that a cache did not have a path, and for a month what it said about one.
      "narinfo-cache-negative-ttl": "0",
      "narinfo-cache-positive-ttl": "60",
      "connect-timeout": String(connectTimeoutSecs),
      "stalled-download-timeout": String(stallTimeoutSecs),
      "download-attempts": String(downloadAttempts)
    }
    return Object.entries(options).flatMap(([name, value]) => ["--option", name, value])
  }

  #nixStore(args: ReadonlyArray<string>, log: NixLog): Effect.Effect<CommandEnd> {
    return runCommand(this.#nix.command("nix-store", [...args, "--log-format", "internal-json"], {
      limitMs: this.#limits.realiseTimeoutMs,
      onLine: (line) => log.push(line)
    }))
  }

  #explain(end: CommandEnd, log: NixLog, path: string): Effect.Effect<never, RealiseFailure> {
    return Effect.gen({ self: this }, function*() {
      switch (end._tag) {
        case "NotStarted":
          return yield* Effect.fail<RealiseFailure>({ _tag: "Transient", detail: describeEnd("nix-store", end) })
        case "Signalled":
          return yield* Effect.fail<RealiseFailure>({ _tag: "Cancelled", detail: describeEnd("nix-store", end) })
        case "Deadline":
          return yield* Effect.fail<RealiseFailure>({
            _tag: "Deadline",
            detail: `${path} was not there after ${end.limitMs} ms`
          })
        case "Exited": {
          const found = classify(log.messages, path)
          if (found._tag !== "Unsubstitutable" && found._tag !== "FileRefused") return yield* Effect.fail(found)
          const settings = yield* Effect.mapError(
            readSettings(this.#nix),
            ({ detail }): RealiseFailure => ({ _tag: "Transient", detail })
          )
          return yield* Effect.fail(
            found._tag === "Unsubstitutable"
              ? classifyAbsence(found, yield* lookForPaths(found.paths, settings, this.#access))
              : classifyRefusal(found, yield* lookForFile(found.url, settings, this.#access))
          )
        }
      }
    })
  }

  #verify(paths: ReadonlyArray<string>): Effect.Effect<void, RealiseFailure> {
    return Effect.gen({ self: this }, function*() {
      for (let at = 0; at < paths.length; at += verifyBatch) {
        for (const path of yield* this.#damaged(paths.slice(at, at + verifyBatch))) yield* this.#repair(path)
      }
    })
  }

  #pathsOf(closure: string): Effect.Effect<ReadonlyArray<string>, RealiseFailure> {
    const log = new NixLog()
    return Effect.flatMap(
      this.#nixStore(["--query", "--requisites", this.#path(closure)], log),
      (end) =>
        end._tag === "Exited" && end.code === 0
          ? Effect.succeed(end.stdout.split("\n").filter((line) => line !== ""))
          : this.#explain(end, log, this.#path(closure))
    )
  }

  /**
   * Those of these paths whose files are not what was signed. A repair that broke off has deleted the files of a path that
   * the database still calls valid; Nix would stop at such a one.
   */
  #damaged(paths: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>, RealiseFailure> {
    return Effect.gen({ self: this }, function*() {
      const there = yield* this.#files(() =>
        Promise.all(paths.map((path) => unlessAbsent(lstat(join(this.#nix.realStoreDir, basename(path))))))
      )
      const gone = paths.filter((_, index) => there[index] === undefined)
      const present = paths.filter((_, index) => there[index] !== undefined)
      if (present.length === 0) return gone
      const log = new NixLog()
      const end = yield* this.#nixStore(["--verify-path", ...present], log)
      if (end._tag === "Exited" && end.code === 0) return gone
      const modified = log.messages.flatMap(({ text }) => /path '([^']+)' was modified/.exec(text)?.[1] ?? [])
      return modified.length > 0 ? [...gone, ...modified] : yield* this.#explain(end, log, paths[0]!)
    })
  }

  #repair(path: string): Effect.Effect<void, RealiseFailure> {
    const log = new NixLog()
    return Effect.flatMap(
      this.#nixStore(["--repair-path", path, ...this.#options], log),
      (end) =>
        end._tag === "Exited" && end.code === 0
          ? Effect.void
          : Effect.mapError(this.#explain(end, log, path), (failure): RealiseFailure => {
            const detail = `${path} is damaged, and could not be repaired: ${failure.detail}`
            // Nobody has it as it was signed: it stays damaged.
            return failure._tag === "Absent" ? { _tag: "Corrupt", detail } : { ...failure, detail }
          })
    )
  }
}
