/** What is in quarantine, and what an operator took out of it (D11). */
import { HashMap } from "effect"
import type { Quarantine } from "../../Schema/ControlPlaneJournal.ts"
import { splitRolloutId } from "../../Schema/Primitives.ts"
import type { State } from "../State.ts"
import type { Touched } from "./Touched.ts"

export function quarantined(rolloutId: string, closure: string, host: string, now: number): Quarantine {
  const { channel, ref } = splitRolloutId(rolloutId)
  return { channel, ref, closure, at: now, host }
}

export const quarantineKey = ({ channel, closure, ref }: Quarantine): string => `${channel}@${ref} ${closure}`

/** Recorded once for (channel, ref, closure); the first host is named. A failure after it was lifted puts it back. */
export function quarantine(state: State, found: Quarantine, touched: Touched): State {
  if (isQuarantined(state, found)) return state
  const key = quarantineKey(found)
  touched.quarantines.add(key)
  return { ...state, quarantine: [...state.quarantine, found], lifted: HashMap.remove(state.lifted, key) }
}

export function isQuarantined(state: State, { channel, closure, ref }: Quarantine): boolean {
  return state.quarantine.some((known) => known.channel === channel && known.ref === ref && known.closure === closure)
}

/** Takes these out of force. They stay on record: the digest of a host that failed long ago does not put them back. */
export function lift(state: State, isMeant: (one: Quarantine) => boolean, touched: Touched): State {
  const meant = state.quarantine.filter(isMeant)
  for (const one of meant) touched.quarantines.add(quarantineKey(one))
  return {
    ...state,
    quarantine: state.quarantine.filter((one) => !isMeant(one)),
    lifted: meant.reduce((lifted, one) => HashMap.set(lifted, quarantineKey(one), one), state.lifted)
  }
}
