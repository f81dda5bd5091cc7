/**
 * The system profile, `<state>/profiles/system`: its generations are roots of the garbage collector, and the boot entry
 * takes its number from it. `nix-env --set` makes the generation; Nix takes no lock for it, so that of two at once one is
 * lost without a word, and it flushes nothing, so that a power cut takes the new generation back (nix.md §4). Both are
 * done here: one lock for every agent of the host, held by `flock` for as long as the command lives, the link is read
 * back, and the file systems of the profile and of the store are flushed before it is reported.
 *
 * Rolling back is `set` of the recorded closure, never `--rollback`, which means "the number below".
 */
import { Effect } from "effect"
import { mkdir, open } from "node:fs/promises"
import { join } from "node:path"
import type { SetProfileOutcome } from "../Activator.ts"
import { errorText } from "../DurableFiles.ts"
import { type Generation, Generations } from "../Generations.ts"
import { quoted } from "../Recovery.ts"
import { type CommandSpec, describeEnd, runCommand } from "./Command.ts"
import type { Nix } from "./Nix.ts"

/** How long another agent's change is waited for; nix-env itself takes 30 ms. */
const lockWaitSeconds = 60
/** Exit code of `flock` when it waited in vain; none of Nix. */
const lockedExitCode = 75

const failed = (detail: string): SetProfileOutcome => ({ _tag: "Failed", detail })

export class Profile {
  readonly #nix: Nix
  readonly #generations: Generations

  constructor(nix: Nix) {
    this.#nix = nix
    this.#generations = new Generations(join(nix.stateDir, "profiles"), nix.storeDir)
  }

  /** What the profile points at. */
  current(): Promise<Generation | undefined> {
    return this.#generations.current()
  }

  /** Makes the closure the profile, durably; it fails for one that is not valid, which nix-env would fetch otherwise. */
  readonly set = (closure: string): Effect.Effect<SetProfileOutcome> =>
    Effect.gen({ self: this }, function*() {
      yield* this.#try(() => mkdir(this.#generations.directory, { recursive: true, mode: 0o755 }))
      if ((yield* this.#try(() => this.current()))?.closure !== closure) yield* this.#change(closure)
      yield* this.#flush
      const now = yield* this.#try(() => this.current())
      return now?.closure === closure
        ? { _tag: "Ok", generation: now.number } as const
        : failed(`after it was set to ${closure} the profile names ${now?.closure ?? "nothing"}`)
    }).pipe(Effect.catch((problem) => Effect.succeed(failed(problem))))

  /** `set` as a shell program: of the closure whose path is in `$closure`; with the tools of that system where it has them. */
  recovery(closure: string): string {
    const { directory } = this.#generations
    const { args, environment, program } = this.#setCommand(closure)
    const PATH = `${join(this.#nix.storeDir, closure)}/sw/bin:${environment["PATH"] ?? ""}`
    const variables = Object.entries({ ...environment, PATH }).map(([name, value]) => `${name}=${value}`)
    return `env -i ${[...variables, program, ...args].map(quoted).join(" ")} &&
    sync -f ${[directory, this.#nix.realStoreDir].map(quoted).join(" ")}`
  }

  #try<A>(read: () => Promise<A>): Effect.Effect<A, string> {
    return Effect.tryPromise({ try: read, catch: errorText })
  }

  /** For its owner only: whoever may read a lock may hold it. */
  get #makeLock(): Effect.Effect<void, string> {
    return this.#try(async () => (await open(this.#lockFile, "a", 0o600)).close())
  }

  get #lockFile(): string {
    return join(this.#generations.directory, ".nixfleet.lock")
  }

  #setCommand(closure: string): CommandSpec {
    const { directory } = this.#generations
    const lock = ["--exclusive", "--wait", String(lockWaitSeconds), "--conflict-exit-code", String(lockedExitCode)]
    const set = ["--profile", join(directory, "system"), "--set", join(this.#nix.storeDir, closure)]
    const withoutFetch = ["--option", "substitute", "false"]
    return this.#nix.command("flock", [...lock, this.#lockFile, "nix-env", ...set, ...withoutFetch])
  }

  #change(closure: string): Effect.Effect<void, string> {
    return Effect.flatMap(Effect.andThen(this.#makeLock, runCommand(this.#setCommand(closure))), (end) => {
      if (end._tag === "Exited" && end.code === 0) return Effect.void
      return Effect.fail(
        end._tag === "Exited" && end.code === lockedExitCode
          ? `another process has held ${this.#lockFile} for ${lockWaitSeconds} s`
          : describeEnd("nix-env --set", end)
      )
    })
  }

  /** Of the whole file systems: Nix has flushed neither the generation nor the files of the store. */
  get #flush(): Effect.Effect<void, string> {
    const { command, realStoreDir } = this.#nix
    const flushing = runCommand(command("sync", ["-f", this.#generations.directory, realStoreDir]))
    return Effect.flatMap(
      flushing,
      (end) => end._tag === "Exited" && end.code === 0 ? Effect.void : Effect.fail(describeEnd("sync", end))
    )
  }
}
