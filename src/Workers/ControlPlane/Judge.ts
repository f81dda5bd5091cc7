/** How everything that is published beside or in a release is judged, in one round of polling (protocol.md §8.8, D14). */
import { Effect, Schema } from "effect"
import type { FetchedArtifact } from "../../Layers/Net/ArtifactSource.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import type { KeySlot, TrustMemory as Memory } from "../../Schema/Trust.ts"
import { withCeiling } from "../../Trust/Freshness.ts"
import { highestSignedAt } from "../../Trust/NoGoingBack.ts"
import { type Accepted, type ArtifactKind, type Signed, verify } from "../../Trust/Verify.ts"

/** Why an artifact was not taken. `artifact`: `fleet.resolved`, a rollout id, or the name of a list. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", {
  artifact: Schema.String,
  reason: Schema.String,
  detail: Schema.String
}) {}

/** The trust file is there and is none. */
export class NothingVerifies extends Schema.TaggedError<NothingVerifies>()("NothingVerifies", {
  reason: Schema.Literals(["trust-file-invalid"]),
  message: Schema.String
}) {}

/** An artifact verified and could not be remembered: it is not used, and tried again. */
export class NotInForce extends Schema.TaggedError<NotInForce>()("NotInForce", {
  reason: Schema.Literals(["artifact-unusable"]),
  message: Schema.String
}) {}

/** What every artifact of one round is judged by. */
export interface Judge {
  readonly slot: KeySlot
  readonly memory: Memory
  readonly now: number
  readonly ceilingMs: number | undefined
}

export const refused = (artifact: string, reason: Reason, detail: string) => new Refused({ artifact, reason, detail })

/** `known`: an earlier acceptance in the same place, whose proof counts as long as nothing has changed. */
export function judged<A extends Signed>(
  judge: Judge,
  kind: ArtifactKind<A>,
  artifact: string,
  { bytes, signature }: FetchedArtifact,
  windowMs: (value: A) => number,
  known: Accepted<A> | undefined
): Effect.Effect<Accepted<A>, Refused> {
  const verdict = verify({
    kind,
    bytes,
    signature,
    slot: judge.slot,
    now: judge.now,
    windowMs: (value) => withCeiling(windowMs(value), judge.ceilingMs),
    highestSignedAt: (lineage) => highestSignedAt(judge.memory, lineage),
    known
  })
  return verdict.ok ? Effect.succeed(verdict) : Effect.fail(refused(artifact, verdict.reason, verdict.detail))
}

/** Whether one refusal is another: the same file is looked at again and again. Ages grow by themselves. */
export const nameOf = ({ artifact, detail, reason }: Refused): string =>
  reason === "stale" || reason === "future-dated" ? `${artifact} ${reason}` : `${artifact} ${reason} ${detail}`
