/** What an operator's actions mean: what holds from now on, what holds no longer, what leaves the quarantine (D8, D17). */
import { HashMap } from "effect"
import type { LogRow, Quarantine } from "../../Schema/ControlPlaneJournal.ts"
import {
  type ClearingAction,
  type EndingAction,
  type HoldingAction,
  type RecordedAction,
  subjectOf
} from "../../Schema/Interventions.ts"
import type { State } from "../State.ts"
import { lift } from "./Quarantine.ts"
import type { Touched } from "./Touched.ts"

export function foldAction(state: State, row: LogRow, payload: RecordedAction, touched: Touched): State {
  if (payload.by === "itself") return ended(state, payload.action, touched)
  const { action, actor } = payload
  switch (action.action) {
    case "PauseRollout":
    case "HoldHost":
    case "Freeze":
      return begun(state, action, actor, row.now, touched)
    case "ResumeRollout":
    case "ReleaseHost":
    case "Unfreeze":
      return ended(state, action, touched)
    case "ClearRollout":
    case "ClearQuarantine":
      return lift(state, isMeantBy(action), touched)
  }
}

/** What an action takes out of quarantine. */
export function isMeantBy(action: ClearingAction): (one: Quarantine) => boolean {
  const of = action.action === "ClearRollout" ? action : action.of
  return "closure" in of
    ? ({ closure }) => closure === of.closure
    : ({ channel, ref }) => `${channel}@${ref}` === of.rolloutId
}

function begun(state: State, action: HoldingAction, actor: string, at: number, touched: Touched): State {
  const subject = subjectOf(action)
  touched.interventions.add(subject)
  return { ...state, interventions: HashMap.set(state.interventions, subject, { action, actor, at }) }
}

function ended(state: State, action: EndingAction, touched: Touched): State {
  const subject = subjectOf(action)
  touched.interventions.add(subject)
  return { ...state, interventions: HashMap.remove(state.interventions, subject) }
}
