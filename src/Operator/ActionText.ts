/** What operators did and what holds, for people: first what is so now, then what it could not change. Pure. */
import { type ActionsResponse, type ActionTaken, type OperatorAction, subjectOf } from "../Schema/Interventions.ts"
import { formatTimestamp, type Millis } from "../Schema/Primitives.ts"
import { describeLeft } from "../Schema/Words.ts"
import { type Cell, printable } from "./Table.ts"

/** Hosts that a sentence names; `--json` has all. */
const shownHosts = 10

function hosts(names: ReadonlyArray<string>): string {
  const more = names.length - shownHosts
  return names.slice(0, shownHosts).join(", ") + (more > 0 ? ` and ${more} more` : "")
}

const until = (time: Millis, now: Millis): string => `until ${formatTimestamp(time)} (in ${describeLeft(time - now)})`

/** What is so from now on. */
function outcome(action: OperatorAction, now: Millis): string {
  switch (action.action) {
    case "PauseRollout":
    case "HoldHost":
    case "Freeze":
      return `${held(action)} ${until(action.until, now)}`
    case "ResumeRollout":
      return `${action.rolloutId} goes on`
    case "ReleaseHost":
      return `${action.host} is free again`
    case "Unfreeze":
      return action.channel === null ? "all channels dispatch again" : `channel ${action.channel} dispatches again`
    case "ClearRollout":
      return `${action.rolloutId} rolls again`
    case "ClearQuarantine":
      return `${subjectOf(action)} is out of quarantine`
  }
}

function held(action: Extract<OperatorAction, { readonly until: Millis }>): string {
  switch (action.action) {
    case "PauseRollout":
      return `${action.rolloutId} is paused`
    case "HoldHost":
      return `${action.host} is held`
    case "Freeze":
      return action.channel === null ? "all channels are frozen" : `channel ${action.channel} is frozen`
  }
}

/** Lines of a command that did something. */
export function takenLines({ action, at, goOn, halted, lifted, needNewRef, restarted }: ActionTaken): string {
  return [
    outcome(action, at),
    ...(goOn.length === 0 ? [] : [`under way already, and going on: ${hosts(goOn)}`]),
    ...(restarted.length === 0 ? [] : [`begin their next attempt: ${hosts(restarted)}`]),
    ...(needNewRef.length === 0
      ? []
      : [`do a rollout only once, and need a new ref on the channel: ${hosts(needNewRef)}`]),
    ...lifted.map(({ closure, rolloutId }) => `out of quarantine: ${closure} (${rolloutId})`),
    ...halted.map((rolloutId) => `still halted: ${rolloutId}; nixfleet rollout clear ${rolloutId} restarts it`)
  ].map(printable).join("\n")
}

/** `web-1 is held by alice until …: "…"`: one line each, as `status` and `actions` show them. */
export const inForceLines = ({ inForce }: ActionsResponse, now: Millis): ReadonlyArray<string> =>
  inForce.map(({ action, actor }) =>
    printable(`${held(action)} by ${actor} ${until(action.until, now)}: "${action.reason}"`)
  )

export const actionsHeader = ["AT", "BY", "ACTION", "OF", "REASON"]

export const actionRow = ({ action, actor, at }: ActionsResponse["recent"][number]): ReadonlyArray<Cell> =>
  [formatTimestamp(at), actor ?? "by itself", action.action, subjectOf(action), action.reason].map((text) => ({ text }))
