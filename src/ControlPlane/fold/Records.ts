/** Small total changes of the state that every fold uses: one host in one rollout, one rollout, the indexes. */
import { HashMap, HashSet } from "effect"
import { omit } from "../../Rollout/host/Model.ts"
import type { RolloutRecord } from "../../Schema/HostRecord.ts"
import { splitRolloutId } from "../../Schema/Primitives.ts"
import { at, hostIn, type HostInRollout, type RolloutEntry, type State } from "../State.ts"
import type { Touched } from "./Touched.ts"

export function putHost(state: State, rolloutId: string, host: string, entry: HostInRollout, touched: Touched): State {
  const rollout = at(state.rollouts, rolloutId)
  if (rollout === undefined) return state
  touched.record(rolloutId, host)
  return putRollout(state, rolloutId, { ...rollout, hosts: HashMap.set(rollout.hosts, host, entry) })
}

/** Something of this rollout's channel now waits for this host, or the host for it. */
export function waits(state: State, rolloutId: string, host: string): State {
  const { channel } = splitRolloutId(rolloutId)
  const known = at(state.waiting, channel) ?? HashSet.empty<string>()
  if (HashSet.has(known, host)) return state
  return { ...state, waiting: HashMap.set(state.waiting, channel, HashSet.add(known, host)) }
}

/** The next real event of a host ends what was inferred of it (D2). */
export function withoutOverlay(entry: HostInRollout): HostInRollout {
  return entry.overlay === undefined ? entry : omit(entry, ["overlay"])
}

export function putRollout(state: State, rolloutId: string, entry: RolloutEntry): State {
  return { ...state, rollouts: HashMap.set(state.rollouts, rolloutId, entry) }
}

export function putRolloutRecord(state: State, record: RolloutRecord, touched: Touched): State {
  const rollout = at(state.rollouts, record.rolloutId)
  if (rollout === undefined) return state
  touched.rollouts.add(record.rolloutId)
  return putRollout(state, record.rolloutId, { ...rollout, record })
}

/** Puts a rollout into its hosts' indexes, by the manifest that each began it with, newest first (D10). */
export function indexHosts(state: State, rolloutId: string, hosts: Iterable<string>): State {
  const signedAt = (id: string, host: string) =>
    (hostIn(state, id, host) ?? at(state.rollouts, id))?.record.signedAt ?? 0
  const index = HashMap.mutate(state.hosts, (draft) => {
    for (const host of hosts) {
      const entry = at(draft, host) ?? { rollouts: [] }
      const others = entry.rollouts.filter((id) => id !== rolloutId)
      // The later opened wins between equal times: it is put in front and the sort is stable.
      const rollouts = [rolloutId, ...others].toSorted((a, b) => signedAt(b, host) - signedAt(a, host))
      HashMap.set(draft, host, { ...entry, rollouts })
    }
  })
  return { ...state, hosts: index }
}
