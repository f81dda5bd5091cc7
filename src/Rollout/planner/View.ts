/**
 * What the planner sees and what it answers: plain data and look-ups, so that the control plane hands over its maps as they
 * are and 10,000 hosts stay linear. `../Planner.ts` is the plan; `../gates/` decide about one host each.
 */
import type { ConvergedRecord, HostRecord, RolloutRecord } from "../../Schema/HostRecord.ts"
import type { RolloutEvent } from "../Rollout.ts"

/** A host's place in a rollout; waves count from 0. */
export interface PlannedHost {
  readonly wave: number
  readonly targetClosure: string
}

/** Topology of a rollout, frozen when it opened. The length of `soakMs` is the number of declared waves. */
export interface PlannedTopology {
  readonly hosts: Readonly<Record<string, PlannedHost>>
  readonly soakMs: ReadonlyArray<number>
}

/** The verified manifest in force for a channel. */
export interface ManifestView {
  readonly rolloutId: string
  readonly targetRef: string
  /** Epoch ms. */
  readonly signedAt: number
  /** SHA-256 of its canonical form. */
  readonly manifestHash: string
  readonly plan: PlannedTopology
  readonly order: PlannedOrder
}

/** What holds single hosts back, as the release in force says it: by the host that it holds. */
export interface PlannedOrder {
  /** Hosts of the same channel that come first; those that have nothing to run are left out, as if they were done (D15). */
  readonly edges: ReadonlyMap<string, ReadonlyArray<PlannedEdge>>
  readonly budgets: ReadonlyMap<string, ReadonlyArray<Budget>>
}

export interface PlannedEdge {
  /** The host, or the channel, that comes first. */
  readonly gates: string
  readonly reason?: string
}

/** Budgets of one name select the same hosts, and share one count (D17). */
export interface Budget {
  /** The selector, as a person reads it. */
  readonly name: string
  readonly hosts: ReadonlyArray<string>
  readonly max: number
}

/** Whether a host counts for its wave, and for the hosts after it. */
export type Proof =
  | { readonly _tag: "Proven" }
  /** Only time is missing. */
  | { readonly _tag: "Due"; readonly at: number }
  /** `at`: not before then, as far as that can be said. */
  | { readonly _tag: "Missing"; readonly converged: boolean; readonly because: string; readonly at?: number }

/** Who is in flight in each budget, for one pass; `Budgets.ts` counts. */
export interface FlightCount {
  /** Why the budget does not let this host take off now; `undefined` when it does. */
  readonly holdOf: (budget: Budget, hostname: string, now: number) => Omit<Blocked, "pass" | "gate"> | undefined
  /** The host takes its place in these budgets. */
  readonly add: (budgets: ReadonlyArray<Budget>, flight: InFlight) => void
}

/** A host that takes a place in its budgets (D17). */
export interface InFlight {
  readonly hostname: string
  readonly rolloutId: string
  /** What it does, as the end of a sentence: "is soaking". */
  readonly doing: string
  /** When it may be over without anybody's doing, epoch ms. */
  readonly endsAt?: number
}

export interface RolloutView {
  readonly record: RolloutRecord
  readonly plan: PlannedTopology
  readonly recordOf: (hostname: string) => HostRecord | undefined
  /** An operator holds the host: its wave does not wait for it (D17). */
  readonly isHeld: (hostname: string) => boolean
  /** A newer manifest has listed the host since it began here: nothing of this one is dispatched to it (D10). */
  readonly isBehind: (hostname: string) => boolean
  /**
   * Whether the host's agent always says which probes it declares, none included (capability `journal`). One of the original
   * says it only when it has a declaration, so that its silence is no missing evidence (D12). True when nothing was heard.
   */
  readonly alwaysDeclares: (hostname: string) => boolean
}

/** What an operator holds back, and until when: it ends by another word of an operator, or by itself. */
export interface HeldBy {
  /** Who, until when and why, as the end of a sentence: "by alice until …". */
  readonly by: string
  /** Epoch ms. */
  readonly until: number
}

/** What operators hold back at present. */
export interface Interventions {
  /** Of the channel, or of all channels; `channel` says of which. */
  readonly freezeOf: (channel: string) => Freeze | undefined
  readonly pauseOf: (rolloutId: string) => HeldBy | undefined
  readonly holdOf: (hostname: string) => HeldBy | undefined
}

export interface Freeze extends HeldBy {
  /** `null`: all of them. */
  readonly channel: string | null
}

/** Set while an older database may have been lost (D6). */
export interface Recovering {
  /** End of the grace, epoch ms. */
  readonly untilAt: number
  /** Hosts of the manifest of which not everything is known here yet, sorted. */
  readonly missingHosts: ReadonlyArray<string>
}

export interface ChannelView {
  readonly channel: string
  /** Absent when no verified manifest names the channel: nothing is to be rolled out there (D15). */
  readonly manifest?: ManifestView
  /** Rollout that was the channel's last one to open. */
  readonly current?: string
  readonly recovering?: Recovering
  /** Channels that come first, in the order of the fleet's edges. */
  readonly after: ReadonlyArray<PlannedEdge>
  /** No host of the channel has anything to run: that is no missing manifest (D15). */
  readonly isEmpty: boolean
}

/** A channel that comes first and is not complete, with what there is to say about it. */
export interface Predecessor {
  readonly channel: string
  readonly reason?: string
  readonly because: string
  readonly clearedBy: string
  readonly earliestAt?: number
  /** Whom its rollout waits for. */
  readonly hosts?: ReadonlyArray<string>
}

/**
 * What must not be dispatched (D11). A rollout, i.e. (channel, ref), is held as a whole while its manifest names a closure
 * that failed under it; the same ref with repaired targets is free again (P-20).
 */
export interface QuarantineView {
  /** By rollout id: the closures that failed under it. */
  readonly rollouts: ReadonlyMap<string, ReadonlySet<string>>
  /** By closure: the host on which it failed. */
  readonly closures: ReadonlyMap<string, string>
}

export interface PlanView {
  /** Epoch ms. */
  readonly now: number
  /** The channels to plan; others are not looked at. */
  readonly channels: ReadonlyArray<ChannelView>
  readonly rolloutOf: (rolloutId: string) => RolloutView | undefined
  /** The dispatch that waits for, or is on its way to, a host: at most one. */
  readonly dispatchOf: (hostname: string) => StandingDispatch | undefined
  readonly quarantine: QuarantineView
  readonly interventions: Interventions
  /** Any channel that the fleet declares. */
  readonly channelOf: (channel: string) => ChannelView | undefined
  readonly flights: FlightCount
  /** The record by which the host runs this closure, converged and proven, and its digest says the same (D17). */
  readonly convergedOn: (hostname: string, closure: string) => ConvergedRecord | undefined
}

interface StandingDispatch {
  readonly rolloutId: string
  readonly attempt: number
  /** Present while it is on its way. */
  readonly lease?: object
}

/** Why a host waits, in sentences for an operator (D17). `earliestAt` is set when only time is missing. */
export interface Blocked {
  readonly pass: false
  readonly gate: string
  readonly because: string
  readonly clearedBy: string
  readonly earliestAt?: number
  /** Hosts that it waits for, or whose failure it is: the first `shownHosts` (`gates/Words.ts`), so that each can be explained in turn. */
  readonly hosts?: ReadonlyArray<string>
}

export type Verdict = { readonly pass: true } | Blocked

export const pass: Verdict = { pass: true }

/** What a gate may look at: one host that waits to be dispatched, and the present around it. */
export interface Candidate {
  readonly hostname: string
  readonly wave: number
  readonly targetClosure: string
  readonly rollout: RolloutRecord
  /** The rollout's current wave. */
  readonly progress: WaveReport
  readonly frozen?: Freeze | undefined
  readonly paused?: HeldBy | undefined
  readonly held?: HeldBy | undefined
  readonly recovering?: Recovering | undefined
  /** Hosts that failed or went back under this rollout, in the order of the plan. */
  readonly failed: ReadonlyArray<string>
  /** Closures in quarantine, whatever the rollout under which they failed, each with the host on which it did. */
  readonly quarantined: ReadonlyMap<string, string>
  /** The closure that failed under this rollout and that its manifest still names. */
  readonly condemnedBy?: string | undefined
  /** Channels before this one that are not complete. */
  readonly predecessors: ReadonlyArray<Predecessor>
  /** Hosts before this one, and how far they are; `undefined`: the rollout has no such host, and never will. */
  readonly edges: ReadonlyArray<{ readonly edge: PlannedEdge; readonly proof: Proof | undefined }>
  readonly budgets: ReadonlyArray<Budget>
  readonly flights: FlightCount
  /** Its dispatch is on its way already. */
  readonly leased: boolean
  readonly now: number
}

export type Gate = (candidate: Candidate) => Verdict

/** How far a wave is. */
export interface WaveReport {
  readonly rolloutId: string
  readonly wave: number
  /** Number of waves, at least 1. */
  readonly waves: number
  /** Of the wave, but for those that an operator holds while there are others. */
  readonly hosts: number
  readonly complete: boolean
  /** Every host says Converged; what is missing is proof or time. */
  readonly converged: boolean
  readonly waiting: number
  /** The first hosts by name that the wave waits for, and why; at most `shownWaiting`. */
  readonly waitsFor: ReadonlyArray<{ readonly hostname: string; readonly because: string }>
  /** When the wave may be complete, epoch ms, if every host of it that is missing soaks, or has soaked. */
  readonly earliestAt?: number
}

/** Most hosts that a report names: a verdict is read by a person. */
export const shownWaiting = 3

/** Fold them in their order. */
export type PlanAction =
  /**
   * A manifest that is seen for the first time: every planned host begins attempt 1. Supersedes the channel's others.
   * `carried` hosts (sorted) begin as converged (`Carry.ts`).
   */
  | { readonly _tag: "Open"; readonly rollout: RolloutRecord; readonly carried: ReadonlyArray<string> }
  /**
   * The same id once more (D7): `restarted` hosts (sorted) begin their next attempt, the `carried` ones of them as converged;
   * all others go on. Supersedes as above.
   */
  | {
    readonly _tag: "Reopen"
    readonly rollout: RolloutRecord
    readonly restarted: ReadonlyArray<string>
    readonly carried: ReadonlyArray<string>
  }
  /** The same topology in other bytes (signed again), or back on a channel that had none: the channel's current one. */
  | {
    readonly _tag: "Refresh"
    readonly rolloutId: string
    readonly manifestHash: string
    readonly signedAt: number
  }
  /** The channel's last rollout has no manifest in force any more: what it has queued must not go out. */
  | { readonly _tag: "CloseChannel"; readonly channel: string; readonly rolloutId: string }
  | {
    readonly _tag: "Move"
    readonly rolloutId: string
    readonly event: Extract<RolloutEvent, { kind: "WaveAdvanced" | "RolloutTerminal" }>
  }
  | {
    readonly _tag: "Dispatch"
    readonly hostname: string
    readonly rolloutId: string
    readonly attempt: number
    readonly targetClosure: string
  }
  /** A queued or leased dispatch that must not go out any more (D8). */
  | { readonly _tag: "Revoke"; readonly hostname: string; readonly rolloutId: string; readonly because: string }

export interface Plan {
  readonly actions: ReadonlyArray<PlanAction>
  /**
   * One for each host that waits, in the order in which hosts go: by wave, then name. A host that is free to go, under way or
   * done has none. One that only a budget holds is queued all the same: its place is taken at the lease (D17).
   */
  readonly verdicts: ReadonlyArray<{ readonly hostname: string; readonly rolloutId: string; readonly verdict: Blocked }>
}
