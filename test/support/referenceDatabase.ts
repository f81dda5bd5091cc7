/** What a control plane of the original is set to, and what its disk holds (control-plane.md §2.5, §5). */
import type { AgentEvent } from "../../src/Schema/Wire.ts"
import type { ReferenceRecord } from "./referenceMachine.ts"

export interface ReferenceControlPlaneOptions {
  /** Until then every `/v1` route answers 503 with a JSON body, ms from the start. */
  readonly notReadyMs: number
  /** Until then events are answered 204 and dropped, ms from the start (C-W1). */
  readonly coldMs: number
  /** `instant`: no poll is ever parked (A-W51). */
  readonly polls: "parked" | "instant"
  /** What no work looks like. */
  readonly noWork: "204" | "null"
  /** The answers to this many first takes of each dispatch are lost on the way: the row is gone (C-W3). */
  readonly lostTakes: number
  readonly planMs: number
  readonly manifestPollMs: number
}

export const referenceOptions: ReferenceControlPlaneOptions = {
  notReadyMs: 0,
  coldMs: 0,
  polls: "parked",
  noWork: "204",
  lostTakes: 0,
  planMs: 15_000,
  manifestPollMs: 30_000
}

export type RolloutState = "Opening" | "Active" | "Terminal" | "Reverted" | "Failed" | "Superseded"

export interface Rollout {
  readonly rolloutId: string
  readonly channel: string
  readonly state: RolloutState
  readonly currentWave: number
}

export interface DispatchRow {
  readonly hostname: string
  readonly rolloutId: string
  readonly targetClosure: string
  readonly soakDueAt: number
  readonly enqueuedAt: number
}

/** What its disk holds: everything that a restart finds again. */
export class ReferenceDatabase {
  readonly rollouts = new Map<string, Rollout>()
  /** By `rolloutId hostname`. */
  readonly records = new Map<string, ReferenceRecord>()
  /** By `hostname rolloutId`, oldest first. */
  readonly queue = new Map<string, DispatchRow>()
  /** Closures by channel; never asked (C-W9). */
  readonly quarantine: Array<{ readonly channel: string; readonly closure: string }> = []
  /** Every event that was applied, invented ones included. */
  readonly log: Array<{ readonly hostname: string; readonly rolloutId: string; readonly event: AgentEvent }> = []
  /** How often each dispatch was taken. */
  readonly takes = new Map<string, number>()
}
