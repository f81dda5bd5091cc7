/** What operators ask for, in the smallest form, and what is seen of it on a control plane without sockets. */
import { at, type HostVerdict, sorted } from "../../src/ControlPlane/State.ts"
import type { ClearingAction, EndingAction, HoldingAction } from "../../src/Schema/Interventions.ts"
import { type Agent, dispatched, idOf, Plane, type Release, start } from "./controlPlane.ts"

export const hour = 3_600_000
export const until = start + hour
export const reason = "database migration"

/** Two hosts in one wave. */
export const wide: Release = { ref: "a1", waves: [["h1", "h2"]] }
export const edge: Release = { channel: "edge", ref: "e1", waves: [["x1"]] }

export const pause = (release: Release): HoldingAction => ({
  action: "PauseRollout",
  rolloutId: idOf(release),
  reason,
  until
})
export const resume = (release: Release): EndingAction => ({
  action: "ResumeRollout",
  rolloutId: idOf(release),
  reason
})
export const hold = (host: string): HoldingAction => ({ action: "HoldHost", host, reason, until })
export const releaseOf = (host: string): EndingAction => ({ action: "ReleaseHost", host, reason })
export const freeze = (channel: string | null): HoldingAction => ({ action: "Freeze", channel, reason, until })
export const unfreeze = (channel: string | null): EndingAction => ({ action: "Unfreeze", channel, reason })
export const clear = (release: Release): ClearingAction => ({
  action: "ClearRollout",
  rolloutId: idOf(release),
  reason
})
export const clearClosure = (closure: string): ClearingAction => ({
  action: "ClearQuarantine",
  of: { closure },
  reason
})

/** A plane on which everybody was heard. */
export function heard(...releases: ReadonlyArray<Release>): Plane {
  const plane = new Plane()
  plane.publish(...releases)
  plane.hear(...releases)
  return plane
}

/** The release fails on this host, and the rollout is halted. */
export function halts(plane: Plane, host: string): Agent {
  const agent = dispatched(plane, host)
  agent.soaks(plane)
  agent.rollsBack(plane)
  return agent
}

export const verdictOf = (plane: Plane, host: string): HostVerdict | undefined => at(plane.state.verdicts, host)
export const inForce = ({ state }: Pick<Plane, "state">): ReadonlyArray<string> =>
  sorted(state.interventions).map(([subject]) => subject)
