/**
 * Watches the place where releases are published and offers what verifies to the reducer: the fleet and the manifest of each of
 * its channels as one unit (D14). Decides nothing about rollouts.
 *
 * Failures, and what becomes of each:
 * - source unreachable: a warning; the unit in force stays, the next round tries again
 * - nobody can tell which certificates are void (`SignedLists.ts`): no release comes into force, said in each round
 * - anything that does not verify, or does not belong to its fleet: fetched once more (a release may have been half written),
 *   then refused: one input, and so one audit row and one warning, for each different refusal; the unit in force stays (D15)
 * - trust file or trust memory unusable: nothing verifies, said in each round (house rule 8)
 * - control plane restarted while the source is down: the last good unit is read from the cache and verified anew
 */
import { Clock, Effect, Layer, Schedule, Schema } from "effect"
import { Inbox } from "../../ControlPlane/Inbox.ts"
import type { VerifiedArtifacts } from "../../ControlPlane/Input.ts"
import { Settings } from "../../ControlPlane/Settings.ts"
import { ControlPlaneState } from "../../ControlPlane/State.ts"
import { ArtifactCache, type SignedArtifact } from "../../Layers/Disk/ArtifactCache.ts"
import { TrustFile, type TrustFileUnreadable } from "../../Layers/Disk/TrustFile.ts"
import { TrustMemory, TrustMemoryUnreadable } from "../../Layers/Disk/TrustMemory.ts"
import { logOf } from "../../Layers/Logging.ts"
import { ArtifactSource, type ArtifactSourceError, type FetchedArtifact } from "../../Layers/Net/ArtifactSource.ts"
import type { FleetResolved, RolloutManifest } from "../../Schema/Artifacts.ts"
import type { ReasonedFields } from "../../Schema/Logs.ts"
import { millis } from "../../Schema/Options.ts"
import { RolloutId } from "../../Schema/Primitives.ts"
import { knownReason } from "../../Schema/Reasons.ts"
import { decodeTrustMemory, type TrustMemory as Memory } from "../../Schema/Trust.ts"
import { encodeUtf8, parseStrict } from "../../Trust/CanonicalJson.ts"
import { checkManifestFleet, checkManifestHosts, checkManifestId, rolloutIdOf } from "../../Trust/FleetAndManifests.ts"
import { smallestWindowMs } from "../../Trust/Freshness.ts"
import { readTrustRoots } from "../../Trust/Keys.ts"
import { emptyMemory, highestSignedAt, type Lineage, remember } from "../../Trust/NoGoingBack.ts"
import { type Accepted, fleetKind, manifestKind } from "../../Trust/Verify.ts"
import { Supervisor } from "../Supervisor.ts"
import { type Judge, judged, nameOf, NothingVerifies, NotInForce, type Refused, refused } from "./Judge.ts"
import { followLists } from "./SignedLists.ts"

const log = logOf("cp_manifest_poll")

/** Names below the source's address, as releases write them (protocol.md §8.2). */
const fleetName = "fleet.resolved.json"
const manifestName = (rolloutId: string) => `rollouts/${rolloutId}.json`
/** The cached unit: the fleet first, then the manifests under their rollout ids. */
const unitName = "releases"
/** Pause before the second and last try of a round: a release that is being written is whole by then. */
const refetchPause = "1 second"
/** Manifests fetched at the same time. */
const fetchConcurrency = 4

/** The rollout of each channel that has one, ascending by channel. */
const rolloutIds = (fleet: FleetResolved): ReadonlyArray<string> =>
  Object.keys(fleet.channels).toSorted().flatMap((channel) => rolloutIdOf(fleet, channel) ?? [])

const isRolloutId = Schema.is(RolloutId)

/** A unit with what it was proven by, so that the next round need not prove the same again. */
interface AcceptedUnit extends VerifiedArtifacts {
  readonly fleet: Accepted<FleetResolved>
  readonly manifests: ReadonlyMap<string, Accepted<RolloutManifest>>
}

/** Verifies a whole unit, whatever it comes from. The first thing that is wrong refuses all of it. */
const verifyUnit = Effect.fnUntraced(function*<E>(
  judge: Judge,
  known: AcceptedUnit | undefined,
  fleetFile: FetchedArtifact,
  manifestFile: (rolloutId: string) => Effect.Effect<FetchedArtifact, E>
) {
  const fleet = yield* judged(judge, fleetKind, "fleet.resolved", fleetFile, smallestWindowMs, known?.fleet)
  const window = smallestWindowMs(fleet.value)
  const manifests = yield* Effect.forEach(rolloutIds(fleet.value), (rolloutId) =>
    Effect.gen(function*() {
      if (!isRolloutId(rolloutId)) {
        return yield* refused(rolloutId, "rollout-malformed", "the fleet's commit is not lower-case hex digits")
      }
      const file = yield* manifestFile(rolloutId)
      const manifest = yield* judged(
        judge,
        manifestKind,
        rolloutId,
        file,
        () => window,
        known?.manifests.get(rolloutId)
      )
      const mismatch = checkManifestId(manifest.value, rolloutId) ??
        checkManifestFleet(manifest.value, fleet.hash) ?? checkManifestHosts(manifest.value, fleet.value)
      if (mismatch !== undefined) return yield* refused(rolloutId, mismatch.reason, mismatch.detail)
      return [rolloutId, manifest] as const
    }), { concurrency: fetchConcurrency })
  const unit: AcceptedUnit = { fleet, manifests: new Map(manifests) }
  return unit
})

const remembered = (memory: Memory, { fleet, manifests }: VerifiedArtifacts): Memory =>
  [...manifests.values()].reduce(
    (known, manifest) => remember(known, manifestKind.lineage(manifest.value), manifest.signedAt),
    remember(memory, fleetKind.lineage(fleet.value), fleet.signedAt)
  )

const cached = ({ fleet, manifests }: VerifiedArtifacts): ReadonlyArray<SignedArtifact> => [
  { name: fleetName, bytes: fleet.bytes, signature: fleet.signature },
  ...[...manifests].map(([name, { bytes, signature }]) => ({ name, bytes, signature }))
]

/** Equal when nothing was published in between: same bytes and same signatures. */
const fingerprint = ({ fleet, manifests }: VerifiedArtifacts): string =>
  [fleet, ...manifests.values()].map(({ hash, signature }) => `${hash} ${Buffer.from(signature).toString("hex")}`)
    .join("\n")

/** Memory that cannot be read must not be started over: what was refused would be accepted again (house rule 8). */
const loadMemory = Effect.gen(function*() {
  const { file, load } = yield* TrustMemory
  const bytes = yield* load
  if (bytes === undefined) return emptyMemory
  const parsed = parseStrict(bytes)
  const decoded = parsed.ok ? decodeTrustMemory(parsed.value) : { ok: false as const, problem: parsed.problem.detail }
  if (decoded.ok) return decoded.value
  const message =
    `${file} is damaged: ${decoded.problem}; restore it from a backup: without it an older release would be ` +
    `accepted again. To accept that, move it away`
  return yield* new TrustMemoryUnreadable({ reason: "trust-memory-unreadable", file, message })
})

const run = Effect.fnUntraced(function*(atStart: Memory) {
  const source = yield* ArtifactSource
  const cache = yield* ArtifactCache
  const trustFile = yield* TrustFile
  const trustMemory = yield* TrustMemory
  const inbox = yield* Inbox
  const { current } = yield* ControlPlaneState
  const { artifactPollSecs, freshnessWindowSecs } = yield* Settings
  let memory = atStart
  let inForce: string | undefined
  let lastRefusal: string | undefined
  let lastUnit: AcceptedUnit | undefined

  const judge = Effect.gen(function*() {
    const roots = readTrustRoots(yield* trustFile.read)
    if (!roots.ok) return yield* new NothingVerifies({ reason: "trust-file-invalid", message: roots.problem })
    return {
      slot: roots.value.ciReleaseKey,
      memory,
      now: yield* Clock.currentTimeMillis,
      ceilingMs: freshnessWindowSecs === undefined ? undefined : millis(freshnessWindowSecs)
    }
  })

  const keep = Effect.fnUntraced(function*(next: Memory) {
    if (next === memory) return
    yield* Effect.try({
      try: () => trustMemory.save(encodeUtf8(JSON.stringify(next))),
      catch: (cause) => new NotInForce({ reason: "artifact-unusable", message: String(cause) })
    })
    memory = next
  })

  const wasAccepted = (lineage: Lineage) => highestSignedAt(memory, lineage) !== undefined
  const lookAtLists = yield* followLists({
    judge,
    remember: (lineage, signedAt) => Effect.suspend(() => keep(remember(memory, lineage, signedAt))),
    wasAccepted
  })

  /** Ahead of the journal: an acceptance that is forgotten would let an older artifact in, one too many does no harm. */
  const publish = Effect.fnUntraced(function*(artifacts: VerifiedArtifacts) {
    lastRefusal = undefined
    const print = fingerprint(artifacts)
    if (print === inForce) return
    yield* keep(remembered(memory, artifacts))
    if (!(yield* inbox.submit({ _tag: "ArtifactsVerified", artifacts }))) return
    inForce = print
    yield* cache.write(unitName, cached(artifacts)).pipe(
      Effect.catch(({ message, reason }) => log.warn("the release could not be cached", { reason, detail: message }))
    )
  })

  const refuse = Effect.fnUntraced(function*(refusal: Refused) {
    const { artifact, detail, reason } = refusal
    const told = nameOf(refusal)
    if (told === lastRefusal) return
    lastRefusal = told
    yield* inbox.submit({ _tag: "ArtifactRefused", artifact, reason, detail })
  })

  const manifestFile = (rolloutId: string) =>
    source.fetch(manifestName(rolloutId)).pipe(
      Effect.catchIf(
        (error) => error.reason !== "artifact-unreachable",
        (error) => Effect.fail(refused(rolloutId, error.reason, error.message))
      )
    )

  /** Judged in every round, changed or not: a key may have been withdrawn since, and freshness ends by itself. */
  const fromSource = Effect.gen(function*() {
    const fleetFile = yield* source.fetch(fleetName)
    lastUnit = yield* verifyUnit(yield* judge, lastUnit, fleetFile, manifestFile)
    return lastUnit
  }).pipe(
    Effect.retry({ schedule: Schedule.spaced(refetchPause), times: 1, while: (error) => error._tag === "Refused" })
  )

  /** The lists first: no release comes into force here while nobody can tell which certificates are void. */
  const besideLists = Effect.fnUntraced(function*(artifacts: AcceptedUnit | undefined) {
    const fleet = artifacts?.fleet ?? current().artifacts?.fleet
    if (fleet === undefined) return
    const isKnown = yield* lookAtLists(smallestWindowMs(fleet.value))
    if (artifacts === undefined) return
    if (isKnown) return yield* publish(artifacts)
    const message = "it is not known which certificates are void, because no list of revocations could be taken"
    return yield* new NotInForce({ reason: "artifact-unusable", message })
  })

  const round = fromSource.pipe(
    Effect.catchTag("Refused", (refusal) => Effect.as(refuse(refusal), undefined)),
    Effect.flatMap(besideLists),
    Effect.catch((error) => log.warn("no release could be read; the one in force stays", describe(error)))
  )

  /** What was in force before a restart, judged as if it had just been fetched. */
  const fromCache = Effect.gen(function*() {
    const unit = yield* cache.read(unitName)
    const files = new Map((unit ?? []).map((file) => [file.name, file]))
    const file = (name: string) => {
      const found = files.get(name)
      return found === undefined
        ? Effect.fail(refused(name, "artifact-absent", "not in the cache"))
        : Effect.succeed(found)
    }
    if (unit === undefined) return
    const verified = yield* verifyUnit(yield* judge, undefined, yield* file(fleetName), file)
    // With a journal that is gone the lists come from the source, or nothing does.
    const isKnown = current().identities.revocations !== undefined || !wasAccepted("revocations")
    if (isKnown) yield* publish(verified)
  }).pipe(
    Effect.catch((error) => log.warn("the cached release is not used", describe(error)))
  )

  yield* fromCache
  return yield* round.pipe(Effect.repeat(Schedule.spaced(millis(artifactPollSecs))))
})

/** Reason and text of whatever went wrong. */
const describe = (
  error: Refused | NothingVerifies | NotInForce | ArtifactSourceError | TrustFileUnreadable
): ReasonedFields => ({
  reason: knownReason(error.reason),
  detail: error._tag === "Refused" ? `${error.artifact}: ${error.detail}` : error.message
})

/** Polls while its scope is open, at once and then every `artifactPollSecs`. Fails before it starts when the memory is damaged. */
export const layer = Layer.effectDiscard(
  Effect.gen(function*() {
    const supervisor = yield* Supervisor
    yield* supervisor.start("artifact-poll", run(yield* loadMemory))
  })
)
