/**
 * What the planner sees and what it answers: plain data and look-ups, so that the control plane hands over its maps as they
 * are and 10,000 hosts stay linear. `../Planner.ts` is the plan; `../gates/` decide about one host each.
 */
import type { HostRecord, RolloutRecord } from "../../Schema/HostRecord.ts"
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
}

export interface RolloutView {
  readonly record: RolloutRecord
  readonly plan: PlannedTopology
  readonly recordOf: (hostname: string) => HostRecord | undefined
  /**
   * Whether the host's agent always says which probes it declares, none included (capability `journal`). One of the original
   * says it only when it has a declaration, so that its silence is no missing evidence (D12). True when nothing was heard.
   */
  readonly alwaysDeclares: (hostname: string) => boolean
}

/** Set while an older database may have been lost (D6). */
export interface Recovering {
  /** End of the grace, epoch ms. */
  readonly untilAt: number
  /** Hosts of the manifest that have sent no digest yet, sorted. */
  readonly missingHosts: ReadonlyArray<string>
}

export interface ChannelView {
  readonly channel: string
  /** Absent when no verified manifest names the channel: nothing is to be rolled out there (D15). */
  readonly manifest?: ManifestView
  /** Rollout that was the channel's last one to open. */
  readonly current?: string
  readonly recovering?: Recovering
}

/**
 * What must not be dispatched (D11). A rollout, i.e. (channel, ref), is held as a whole while its manifest names a closure
 * that failed under it; the same ref with repaired targets is free again (P-20).
 */
export interface QuarantineView {
  /** By rollout id: the closures that failed under it. */
  readonly rollouts: ReadonlyMap<string, ReadonlySet<string>>
  readonly closures: ReadonlySet<string>
}

export interface PlanView {
  /** Epoch ms. */
  readonly now: number
  /** The channels to plan; others are not looked at. */
  readonly channels: ReadonlyArray<ChannelView>
  readonly rolloutOf: (rolloutId: string) => RolloutView | undefined
  /** The dispatch that waits for, or is on its way to, a host: at most one. */
  readonly dispatchOf: (hostname: string) => { readonly rolloutId: string; readonly attempt: number } | undefined
  readonly quarantine: QuarantineView
}

/** Why a host waits, in sentences for an operator (D17). `earliestAt` is set when only time is missing. */
export interface Blocked {
  readonly pass: false
  readonly gate: string
  readonly because: string
  readonly clearedBy: string
  readonly earliestAt?: number
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
  readonly recovering?: Recovering
  /** Closures in quarantine, whatever the rollout under which they failed. */
  readonly quarantined: ReadonlySet<string>
  /** The closure that failed under this rollout and that its manifest still names. */
  readonly condemnedBy?: string
  readonly now: number
}

export type Gate = (candidate: Candidate) => Verdict

/** How far a wave is. */
export interface WaveReport {
  readonly rolloutId: string
  readonly wave: number
  /** Number of waves, at least 1. */
  readonly waves: number
  readonly hosts: number
  readonly complete: boolean
  /** Every host says Converged; what is missing is proof or time. */
  readonly converged: boolean
  readonly waiting: number
  /** The first hosts by name that the wave waits for, and why; at most `shownWaiting`. */
  readonly waitsFor: ReadonlyArray<{ readonly hostname: string; readonly because: string }>
  /** When the wave is complete if only time is missing, epoch ms. */
  readonly earliestAt?: number
}

/** Most hosts that a report names: a verdict is read by a person. */
export const shownWaiting = 3

/** Fold them in their order. */
export type PlanAction =
  /** A manifest that is seen for the first time: every planned host begins attempt 1. Supersedes the channel's others. */
  | { readonly _tag: "Open"; readonly rollout: RolloutRecord }
  /** The same id once more (D7): `restarted` hosts (sorted) begin their next attempt, all others go on. Supersedes as above. */
  | { readonly _tag: "Reopen"; readonly rollout: RolloutRecord; readonly restarted: ReadonlyArray<string> }
  /** The same topology in other bytes (signed again), or back on a channel that had none: the channel's current one. */
  | {
    readonly _tag: "Refresh"
    readonly rolloutId: string
    readonly manifestHash: string
    readonly signedAt: number
  }
  /** The channel's last rollout has no manifest in force any more. */
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
  /** One for each host that waits, by rollout and host name. A host that is dispatched, or done, has none. */
  readonly verdicts: ReadonlyArray<{ readonly hostname: string; readonly rolloutId: string; readonly verdict: Blocked }>
  /** The current wave of each live rollout that was planned. */
  readonly waves: ReadonlyArray<WaveReport>
}
