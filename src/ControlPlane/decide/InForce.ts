/** What operators hold back at present, as gates, budgets and explanations look at it. Reads and records nothing. */
import { HashMap } from "effect"
import type { HeldBy, Interventions } from "../../Rollout/Planner.ts"
import { channelSubject, hostSubject, type Intervention, rolloutSubject } from "../../Schema/Interventions.ts"
import { formatTimestamp } from "../../Schema/Primitives.ts"
import { at, type State } from "../State.ts"

const heldBy = ({ action: { reason, until }, actor }: Intervention): HeldBy => ({
  by: `by ${actor} until ${formatTimestamp(until)}: "${reason}"`,
  until
})

/** Asked of each host in a pass: nothing is looked up while nobody holds anything. */
export function interventionsIn({ interventions }: State): Interventions {
  if (HashMap.isEmpty(interventions)) return none
  const find = (subject: string) => {
    const found = at(interventions, subject)
    return found === undefined ? undefined : heldBy(found)
  }
  const freeze = (channel: string | null) => {
    const found = find(channelSubject(channel))
    return found === undefined ? undefined : { ...found, channel }
  }
  return {
    freezeOf: (channel) => freeze(null) ?? freeze(channel),
    pauseOf: (rolloutId) => find(rolloutSubject(rolloutId)),
    holdOf: (host) => find(hostSubject(host))
  }
}

const none: Interventions = { freezeOf: () => undefined, pauseOf: () => undefined, holdOf: () => undefined }

export const isHeld = ({ interventions }: State, host: string): boolean =>
  !HashMap.isEmpty(interventions) && HashMap.has(interventions, hostSubject(host))
