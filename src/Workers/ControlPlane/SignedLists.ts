/**
 * Follows the two signed lists that lie beside the releases: revocations and bootstrap nonces (protocol.md §8.3, §8.4). Each is
 * judged like a fleet, with the fleet's window, and offered as one input, so that it comes into force as a whole.
 *
 * A list that was in force once never goes out of force but by a newer one: not by its file's disappearance, not by growing
 * stale, not by a restart (house rule 8, P-23, P-33). What becomes of each failure:
 * - no file, and never was one: no host is revoked, nobody can enroll
 * - no file any more: a warning; the last list stays in force
 * - unreachable: a warning; the last list stays in force, the next round tries again
 * - does not verify, or is stale: fetched once more, then refused: one audit row and one warning, and an error every hour for
 *   as long as it lasts, because revocations that were made since do not count; the last list stays in force
 */
import { Clock, Effect, Schedule } from "effect"
import { Inbox } from "../../ControlPlane/Inbox.ts"
import type { Input } from "../../ControlPlane/Input.ts"
import { ControlPlaneState } from "../../ControlPlane/State.ts"
import type { TrustFileUnreadable } from "../../Layers/Disk/TrustFile.ts"
import { logOf } from "../../Layers/Logging.ts"
import { ArtifactSource, type ArtifactSourceError } from "../../Layers/Net/ArtifactSource.ts"
import { bootstrapNoncesFile, revocationsFile } from "../../Schema/Artifacts.ts"
import { knownReason } from "../../Schema/Reasons.ts"
import type { Lineage } from "../../Trust/NoGoingBack.ts"
import {
  type Accepted,
  type ArtifactKind,
  bootstrapNoncesKind,
  revocationsKind,
  type Signed
} from "../../Trust/Verify.ts"
import { type Judge, judged, nameOf, type NothingVerifies, type NotInForce, type Refused } from "./Judge.ts"

/** Pause before the second and last try of a round: a list that is being written is whole by then. */
const refetchPause = "1 second"
const reminderMs = 3_600_000

interface List<A> {
  readonly kind: ArtifactKind<A>
  readonly lineage: Lineage
  readonly target: "revocations" | "bootstrap_nonces"
  readonly file: string
  /** Hash of the one in force. */
  readonly inForce: () => string | undefined
  readonly input: (list: Accepted<A>) => Input
}

/** What the lists share with the releases beside which they lie. */
export interface Parts {
  readonly judge: Effect.Effect<Judge, NothingVerifies | TrustFileUnreadable>
  /** Makes a signing time durable, ahead of the journal (D14). */
  readonly remember: (lineage: Lineage, signedAt: number) => Effect.Effect<void, NotInForce>
  /** Whether such an artifact was ever accepted here, also when the journal is new. */
  readonly wasAccepted: (lineage: Lineage) => boolean
}

const follow = Effect.fnUntraced(function*<A extends Signed>(list: List<A>, parts: Parts) {
  const source = yield* ArtifactSource
  const inbox = yield* Inbox
  const log = logOf(list.target)
  const artifact = list.kind.name
  let accepted: Accepted<A> | undefined
  let told: { readonly what: string; readonly at: number } | undefined

  const isInForce = () => list.inForce() !== undefined

  /** The first time, until something else happens; then again every hour. */
  const occasion = Effect.fnUntraced(function*(what: string) {
    const at = yield* Clock.currentTimeMillis
    const isNew = told?.what !== what
    if (!isNew && told !== undefined && at - told.at < reminderMs) return "told" as const
    told = { what, at }
    return isNew ? "new" as const : "again" as const
  })

  const refuse = Effect.fnUntraced(function*(refusal: Refused) {
    const { detail, reason } = refusal
    switch (yield* occasion(nameOf(refusal))) {
      case "new":
        yield* inbox.submit({ _tag: "ArtifactRefused", artifact, reason, detail })
        break
      case "again":
        yield* log.error("the published list is still refused: what was changed in it since does not count", {
          artifact,
          reason: knownReason(reason),
          detail
        })
        break
      case "told":
    }
    return isInForce()
  })

  const take = Effect.fnUntraced(function*(found: Accepted<A>) {
    accepted = found
    told = undefined
    if (list.inForce() === found.hash) return true
    yield* parts.remember(list.lineage, found.signedAt)
    return yield* inbox.submit(list.input(found))
  })

  const unread = Effect.fnUntraced(
    function*({ message, reason }: ArtifactSourceError | NothingVerifies | NotInForce | TrustFileUnreadable) {
      const isAbsent = reason === "artifact-absent"
      if (isAbsent && !parts.wasAccepted(list.lineage)) return true
      if ((yield* occasion(reason)) !== "told") {
        const what = isAbsent ? "the list is not published any more" : "the list could not be read"
        yield* log.warn(`${what}; the last one stays in force`, { artifact, reason, detail: message })
      }
      return isInForce()
    }
  )

  const fetched = (windowMs: number) =>
    Effect.gen(function*() {
      const file = yield* source.fetch(list.file)
      return yield* judged(yield* parts.judge, list.kind, artifact, file, () => windowMs, accepted)
    }).pipe(
      Effect.retry({ schedule: Schedule.spaced(refetchPause), times: 1, while: (error) => error._tag === "Refused" })
    )

  /** Whether it is known what the list says: one is in force, or there never was one. */
  return (windowMs: number): Effect.Effect<boolean> =>
    fetched(windowMs).pipe(
      Effect.flatMap(take),
      Effect.catchTag("Refused", refuse),
      Effect.catch(unread)
    )
})

/**
 * The look of one round at both lists, by the window of the fleet that they lie beside. `false`: nobody can tell which
 * certificates are void, so nothing may be served (control-plane.md §2.1).
 */
export const followLists = Effect.fnUntraced(function*(parts: Parts) {
  const { current } = yield* ControlPlaneState
  const revocations = yield* follow({
    kind: revocationsKind,
    lineage: "revocations",
    target: "revocations",
    file: revocationsFile,
    inForce: () => current().identities.revocations?.list.hash,
    input: (list) => ({ _tag: "RevocationsVerified", list })
  }, parts)
  const nonces = yield* follow({
    kind: bootstrapNoncesKind,
    lineage: "bootstrap-nonces",
    target: "bootstrap_nonces",
    file: bootstrapNoncesFile,
    inForce: () => current().identities.nonces?.list.hash,
    input: (list) => ({ _tag: "NoncesVerified", list })
  }, parts)
  return (windowMs: number) => Effect.tap(revocations(windowMs), nonces(windowMs))
})
