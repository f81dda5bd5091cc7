/** Reading persistent maps: a key that may be absent, and all of them in order. */
import { HashMap, Option } from "effect"

/** The value at a key, or `undefined`: absence is the common case here and needs no wrapper. */
export function at<V>(map: HashMap.HashMap<string, V>, key: string): V | undefined {
  return Option.getOrUndefined(HashMap.get(map, key))
}

/** Entries in ascending order of their keys: how every decision and every view iterates (house rule 6). */
export function sorted<V>(map: HashMap.HashMap<string, V>): ReadonlyArray<readonly [string, V]> {
  return HashMap.toEntries(map).toSorted(([a], [b]) => a < b ? -1 : 1)
}
