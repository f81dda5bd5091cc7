/** Who is missing before a channel may dispatch on a database that may have replaced a lost one (D6). */
import { at, hostIn, type PlannedManifest, type State } from "../State.ts"

/** Hosts of the manifest that were not heard, or that have events which are not here yet; ascending. */
export function missingHosts(state: State, { plan, rolloutId }: PlannedManifest): ReadonlyArray<string> {
  return Object.keys(plan.hosts).filter((host) => !isHeard(state, rolloutId, host)).toSorted()
}

/** Nothing is missing of this host: an agent that keeps a journal is heard when it said what is in it; one of the original has nothing more to say. */
export function isHeard(state: State, rolloutId: string, host: string): boolean {
  const seen = at(state.hosts, host)?.seen
  if (seen === undefined) return false
  if (seen.capabilities.includes("journal") && seen.journalId === undefined) return false
  const digest = seen.digests.find((one) => one.rollout_id === rolloutId)
  return digest === undefined || digest.last_event_seq <= (hostIn(state, rolloutId, host)?.ledger.lastSeq ?? 0)
}
