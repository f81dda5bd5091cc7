/**
 * One row of the event log folded into the state: the only way in which durable state changes, heartbeats aside (house rule
 * 2). The reducer folds a row when it writes it; `foldLog` does the same again from what was stored, so the two are equal
 * by construction and compared by tests.
 *
 * Owns what a row means. Does not own whether it may be written: that is `Decide.ts`. A row that cannot be folded is a fault
 * of the program or of the file, so it throws `UnfoldableRow`.
 */
import type { LogRow } from "../Schema/ControlPlaneJournal.ts"
import { foldAction } from "./fold/Actions.ts"
import { foldDispatchAction } from "./fold/Dispatches.ts"
import { foldAgentEvent } from "./fold/Events.ts"
import { foldIdentity } from "./fold/Identities.ts"
import { foldEffect } from "./fold/Inferences.ts"
import { foldHappening, foldRolloutAction } from "./fold/Rollouts.ts"
import type { Touched } from "./fold/Touched.ts"
import { emptyState, type State } from "./State.ts"

export function foldRow(state: State, row: LogRow, touched: Touched): State {
  const { entry } = row
  switch (entry.kind) {
    case "agent_event":
      return foldAgentEvent(state, row, entry, touched)
    case "plan_action":
      switch (entry.payload.action) {
        case "OpenRollout":
        case "ReopenRollout":
        case "RefreshRollout":
        case "CloseChannel":
        case "BeginRecovery":
        case "EndRecovery":
          return foldRolloutAction(state, entry.payload, row.now, touched)
        case "QueueDispatch":
        case "LeaseDispatch":
        case "ReleaseLease":
        case "RevokeDispatch":
          return foldDispatchAction(state, entry.payload, touched)
      }
    case "rollout_event":
      return foldHappening(state, row, entry.payload, touched)
    case "effect":
      return foldEffect(state, row, entry.payload, touched)
    case "identity":
      return foldIdentity(state, entry.payload, touched)
    case "operator_action":
      return foldAction(state, row, entry.payload, touched)
    case "gate_decision":
    case "verify_outcome":
      return state
  }
}

/** The durable state that the rows mean, but for what heartbeats alone tell; rows in the order of their writing. */
export function foldLog(databaseId: string, rows: Iterable<LogRow>, touched: Touched): State {
  let state = emptyState(databaseId)
  for (const row of rows) state = foldRow(state, row, touched)
  return state
}
