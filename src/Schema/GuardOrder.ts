/**
 * The order of a guard (`Layers/Host/Guard.ts`): for which activation it stands, and where it brings the host back to when
 * nobody renews it. Written to the disk by one agent and read by the next.
 */
import { Schema } from "effect"
import { UInt32, WireClosure } from "./Primitives.ts"

export const GuardOrder = Schema.Struct({
  rolloutId: Schema.String,
  /** The activation that it stands for (D7). */
  attempt: UInt32,
  /** The run of the forward switch: once the guard has fired, it can start no more. */
  forwardRun: UInt32,
  /** The rollback that the guard runs, by the name that the agent would give it: a record runs at most once (D7). */
  rollbackRun: UInt32,
  /** Where the host goes back to: the last closure that converged here, or ran before (D11). */
  closure: WireClosure,
  /** The closures of this activation: while another one runs, somebody else put it there, and it stays (D10). */
  expected: Schema.Array(WireClosure)
})
export type GuardOrder = typeof GuardOrder.Type

export const GuardOrderJson = Schema.fromJsonString(GuardOrder)

/** What the guard of a host is doing. */
export type GuardState =
  | { readonly _tag: "None" }
  | {
    readonly _tag: "Armed"
    readonly order: GuardOrder
    /** False after a reboot, or when its process was killed: nobody would fire it. */
    readonly watched: boolean
    /** Until it fires, if nobody renews it, ms; at most. */
    readonly leftMs: number
  }
  /** It was not renewed in time. `acting`: it is still taking the host back. */
  | { readonly _tag: "Fired"; readonly order: GuardOrder; readonly acting: boolean }
