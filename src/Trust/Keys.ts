/**
 * Which keys of a slot count at a given time (protocol.md §8.7), and what is wrong with the others. A key that cannot be
 * used is named with its place and never silently skipped (D13).
 */
import type { Decoded } from "../Schema/Decode.ts"
import type { Millis } from "../Schema/Primitives.ts"
import { decodeTrustRoots, type KeySlot, type TrustedKey, type TrustRoots } from "../Schema/Trust.ts"
import { parseStrict } from "./CanonicalJson.ts"
import { parseKey, type VerifyKey } from "./Signature.ts"

/** Where in its slot a key stands. */
export type KeyPlace = "current" | "previous" | "successor"

export interface ActiveKey {
  readonly place: KeyPlace
  /** As the trust file has it. */
  readonly trusted: TrustedKey
  readonly key: VerifyKey
}

/** Keys that may sign at `now`, in the order in which they are tried. A successor counts only before `retireAt`. */
export function activeKeys(slot: KeySlot, now: Millis): ReadonlyArray<ActiveKey> {
  const successor = slot.retireAt !== null && now < slot.retireAt ? slot.successor : null
  const places = [["current", slot.current], ["previous", slot.previous], ["successor", successor]] as const
  return places.flatMap(([place, key]) => key === null ? [] : [{ place, trusted: key, key: parseKey(key) }])
}

/** The slot's successor waits and its time has come: an operator should finish the rotation (protocol.md §8.7). */
export function isRotationDue(slot: KeySlot, now: Millis): boolean {
  return slot.successor !== null && slot.retireAt !== null && slot.retireAt <= now
}

/** What is wrong with the keys of a slot, active or not, one sentence a key: for `check` and for logs. */
export function keyProblems(slot: KeySlot): ReadonlyArray<string> {
  const places = [["current", slot.current], ["previous", slot.previous], ["successor", slot.successor]] as const
  return places.flatMap(([place, key]) => {
    const problem = key === null ? undefined : describeUnusable(parseKey(key))
    return problem === undefined ? [] : [`${place}: ${problem}`]
  })
}

/** Why a key can never verify anything; `undefined` for a usable one. */
export function describeUnusable(key: VerifyKey): string | undefined {
  switch (key._tag) {
    case "Ed25519":
    case "EcdsaP256":
      return undefined
    case "Unsupported":
      return `unknown algorithm ${JSON.stringify(key.algorithm)}`
    case "Malformed":
      return `malformed ${key.algorithm} key: ${key.problem}`
  }
}

/** Reads `trust.json`, as strictly as a signed artifact. */
export function readTrustRoots(bytes: Uint8Array): Decoded<TrustRoots> {
  const parsed = parseStrict(bytes)
  return parsed.ok ? decodeTrustRoots(parsed.value) : { ok: false, problem: parsed.problem.detail }
}
