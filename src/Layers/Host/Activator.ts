/**
 * Makes a closure the running system: fetch and verify, set the profile, run its switch detached, read the result.
 * Drivers: `nix/NixActivator.ts`, and `ArchiveActivator.ts` for hosts without Nix. Every operation is idempotent, interruptible, and answers with a
 * tagged outcome, never with an exit code of a tool (nix.md §8, decisions.md D11). A switch survives the agent.
 */
import { Context, type Effect } from "effect"
import type { GuardOrder } from "../../Schema/GuardOrder.ts"

/** Which activation a switch belongs to: names its result file. */
export interface SwitchId {
  readonly rolloutId: string
  readonly attempt: number
  readonly purpose: "forward" | "rollback"
  /** 1 for the first start of this switch, 2 for its re-run (D7). */
  readonly run: number
}

/** What was found on the host; absent = unknown (D12). */
export interface CurrentSystem {
  /** Closure name behind `current-system`. */
  readonly running: string | undefined
  /** Closure name behind the profile. */
  readonly profile: string | undefined
}

/**
 * What came of a realisation. `Absent`, `Untrusted` and `Corrupt` are final; the rest is trouble of the infrastructure: it
 * is tried again inside the deadline, and never condemns the closure (D11).
 */
export type RealiseOutcome =
  | { readonly _tag: "Ok" }
  /** Every source that could be asked says that it has no such closure, or not all of it. */
  | { readonly _tag: "Absent"; readonly detail: string }
  | { readonly _tag: "CacheUnreachable"; readonly detail: string }
  /** The source wants credentials that this host does not have. */
  | { readonly _tag: "CacheAuth"; readonly detail: string }
  /** The source is no binary cache, is one of other stores, or contradicts itself; or signatures would not be checked. */
  | { readonly _tag: "CacheConfig"; readonly detail: string }
  | { readonly _tag: "Untrusted"; readonly detail: string }
  | { readonly _tag: "Corrupt"; readonly detail: string }
  | { readonly _tag: "Transient"; readonly detail: string }
  | { readonly _tag: "HostFault"; readonly fault: "disk" | "readOnly" | "database" | "daemon"; readonly detail: string }
  | { readonly _tag: "Deadline"; readonly detail: string }
  /** Somebody else ended it. */
  | { readonly _tag: "Cancelled"; readonly detail: string }

export type RealiseFailure = Exclude<RealiseOutcome, { readonly _tag: "Ok" }>

/** How far the realisation that runs now has come. */
export interface RealiseProgress {
  readonly closure: string
  readonly doneBytes: number
  /** Grows while the source is asked what belongs to the closure; absent = not known yet. */
  readonly expectedBytes: number | undefined
}

export type SetProfileOutcome =
  | { readonly _tag: "Ok"; readonly generation: number }
  | { readonly _tag: "Failed"; readonly detail: string }

export type StartSwitchOutcome =
  | { readonly _tag: "Started" }
  /** Another switch holds the host; try again later. */
  | { readonly _tag: "Busy"; readonly detail: string }
  | { readonly _tag: "Failed"; readonly detail: string }

export type SwitchResult =
  | { readonly _tag: "Running" }
  /** 0 done, 4 degraded, 100 needs a reboot, anything else failed. `stderrTail` at most 500 bytes, whole characters. */
  | { readonly _tag: "Exited"; readonly code: number; readonly stderrTail: string }
  | { readonly _tag: "TimedOut"; readonly stderrTail: string }
  | { readonly _tag: "Killed"; readonly signal: string; readonly stderrTail: string }
  /** No process and no result: power cut, or never started. */
  | { readonly _tag: "Lost" }

/** What a driver left on the host, for those who only look. Each question fails with what the system said. */
export interface HostReader {
  readonly current: Effect.Effect<CurrentSystem, string>
  readonly switchResult: (id: SwitchId) => Effect.Effect<SwitchResult, string>
  /** Whether the closure is on the host, whole. */
  readonly has: (closure: string) => Effect.Effect<boolean, string>
}

export class Activator extends Context.Service<Activator, {
  /** Name of the driver; the wire's `switchMethod`. */
  readonly method: string
  readonly current: Effect.Effect<CurrentSystem>
  /** Fetches and verifies `closure`; afterwards its files are complete or absent, never half there. */
  readonly realise: (closure: string) => Effect.Effect<RealiseOutcome>
  /** The realisation that runs now; `undefined` when none does. For those who look: it is gone with the process. */
  readonly progress: Effect.Effect<RealiseProgress | undefined>
  /**
   * The closures that must stay, besides the profile's and the running one: target and rollback target of what is going on.
   * What was kept before and is not named is free to be collected. A realised closure stays until the next call. False when
   * one that is there could not be kept: ask again.
   */
  readonly retain: (closures: ReadonlyArray<string>) => Effect.Effect<boolean>
  /** Makes `closure` the next generation, durable before it answers; the same closure as the present one is a no-op. */
  readonly setProfile: (closure: string) => Effect.Effect<SetProfileOutcome>
  /** Runs the closure's own switch detached from this process, with a time limit that the detached side enforces. */
  readonly startSwitch: (closure: string, id: SwitchId) => Effect.Effect<StartSwitchOutcome>
  /** Reads the result of a switch, also one started by an earlier process. */
  readonly switchResult: (id: SwitchId) => Effect.Effect<SwitchResult>
  /**
   * A shell program that does what `setProfile` and `startSwitch` of the order's rollback do, without this process: for its
   * guard (`Recovery.ts`).
   */
  readonly recovery: (order: GuardOrder) => string
}>()("nixfleet/Layers/Host/Activator") {}
