/**
 * `evidence.json`: what a compliance collector of this host found (protocol.md §7.8), signed beside the file. Unknown fields
 * are ignored; the signature covers them. Names are bounded and without control characters, because they travel.
 */
import { Schema } from "effect"
import { decoder } from "./Decode.ts"
import { defaulted, mapOf, Timestamp, WireId } from "./Primitives.ts"

/** The only version that is read. */
export const evidenceSchemaVersion = 1

export const EvidenceControl = Schema.Struct({
  controlId: WireId,
  passed: Schema.Boolean,
  /** Framework → articles of it that the control speaks for. */
  frameworkArticles: defaulted(mapOf(WireId, Schema.Array(WireId)), {})
})
export type EvidenceControl = typeof EvidenceControl.Type

export const Evidence = Schema.Struct({
  schemaVersion: Schema.Literal(evidenceSchemaVersion),
  hostname: WireId,
  collectedAt: Timestamp,
  controls: Schema.Array(EvidenceControl)
})
export type Evidence = typeof Evidence.Type

export const decodeEvidence = decoder(Evidence)
