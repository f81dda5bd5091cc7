/**
 * No going back (D14): an artifact that was signed before one already accepted in its place is a replay, however fresh.
 * Owns the rule; where the memory is kept is the caller's matter.
 */
import type { RolloutManifest } from "../Schema/Artifacts.ts"
import type { Millis } from "../Schema/Primitives.ts"
import type { TrustMemory } from "../Schema/Trust.ts"

/** What an artifact replaces: its kind, for manifests its kind and channel. */
export type Lineage = "fleet" | "revocations" | "bootstrap-nonces" | `manifest:${string}`

export function manifestLineage(manifest: RolloutManifest): Lineage {
  return `manifest:${manifest.channel}`
}

export const emptyMemory: TrustMemory = {}

/** The highest accepted `signedAt`; `undefined` before the first. */
export function highestSignedAt(memory: TrustMemory, lineage: string): Millis | undefined {
  return Object.hasOwn(memory, lineage) ? memory[lineage] : undefined
}

/** Whether something newer was accepted in this place. The same time again is a repetition, not a step back. */
export function isRolledBack(highest: Millis | undefined, signedAt: Millis): boolean {
  return highest !== undefined && signedAt < highest
}

/** The memory after an artifact was accepted; the same value when there is nothing new to store. */
export function remember(memory: TrustMemory, lineage: string, signedAt: Millis): TrustMemory {
  const highest = highestSignedAt(memory, lineage)
  return highest !== undefined && highest >= signedAt ? memory : { ...memory, [lineage]: signedAt }
}
