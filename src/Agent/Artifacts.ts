/**
 * The signed artifacts as the agent uses them (D13–D15): fetched (`Fetch.ts`), verified against the trust file as it is now
 * (`Judge.ts`), and kept as one unit per rollout. What does not verify is fetched once more, in case it was published in
 * between, and then refused by name.
 *
 * Owns the last good units. Does not own the memory of what was accepted (D14): the reducer does, and an acceptance is
 * durable there before anybody acts on it.
 *
 * Failures: a control plane that does not answer falls back to the last good unit, which must verify as well.
 */
import { Clock, Context, Effect, Layer, Result, Schema, Semaphore } from "effect"
import { ArtifactCache } from "../Layers/Disk/ArtifactCache.ts"
import { TrustFile } from "../Layers/Disk/TrustFile.ts"
import { logOf } from "../Layers/Logging.ts"
import type { ExchangeResponse } from "../Layers/Net/Exchange.ts"
import { millis } from "../Schema/AgentConfig.ts"
import { RolloutId } from "../Schema/Primitives.ts"
import { rolloutIdOf } from "../Trust/FleetAndManifests.ts"
import { readTrustRoots } from "../Trust/Keys.ts"
import { fetchSigned, type Received } from "./Fetch.ts"
import { Inbox } from "./Inbox.ts"
import type { TrustMark } from "./Input.ts"
import {
  type Asked,
  type Circumstances,
  type Judged,
  judgeFleet,
  judgeUnit,
  type Refusal,
  refusal,
  type SignedBytes,
  type UnitVerdict
} from "./Judge.ts"
import { Link } from "./Link.ts"
import { Settings } from "./Settings.ts"
import { AgentState } from "./State.ts"

const log = logOf("agent_manifest_cache")

export type { Judged, Refusal } from "./Judge.ts"

/** A look that found nothing usable. `response`: the answer that said so, when there was one. */
export interface Trouble extends Refusal {
  readonly response: ExchangeResponse | undefined
}

export class Artifacts extends Context.Service<Artifacts, {
  /** Looks whether something new was published, and keeps it when it verifies. For the ManifestPoll worker. */
  readonly refresh: Effect.Effect<Result.Result<void, Trouble>>
  /** What a dispatch stands on: verified, fresh, naming this host and this closure. The acceptance is durable (D14). */
  readonly forDispatch: (rolloutId: string, targetClosure: string) => Effect.Effect<Result.Result<Judged, Refusal>>
  /**
   * Whether an accepted dispatch may still be acted on, just before its switch starts for the first time (D14): the unit
   * it stood on, or a later signed one of the same rollout, verifies now. A resumed switch does not ask (D11).
   */
  readonly recheck: (rolloutId: string, targetClosure: string) => Effect.Effect<Refusal | undefined>
}>()("nixfleet/Agent/Artifacts") {
  static readonly layer: Layer.Layer<
    Artifacts,
    never,
    AgentState | ArtifactCache | Inbox | Link | Settings | TrustFile
  > = Layer.effect(Artifacts, Effect.suspend(() => make))
}

const fleetPath = "/v1/fleet.resolved"
const manifestPath = (rolloutId: string) => `/v1/rollouts/${rolloutId}`
/** Names within a cached unit. */
const names = { fleet: "fleet.resolved", manifest: "manifest" } as const
/** Manifests whose validators are remembered: the present rollout's and its predecessor's. */
const rememberedManifests = 2

interface Unit {
  readonly fleet: SignedBytes
  readonly manifest: SignedBytes
}

const isRolloutId = Schema.is(RolloutId)
const noMemory: ReadonlyMap<string, number> = new Map()

const make = Effect.gen(function*() {
  const settings = yield* Settings
  const cache = yield* ArtifactCache
  const trustFile = yield* TrustFile
  const inbox = yield* Inbox
  const state = yield* AgentState
  const services = yield* Effect.context<Link | Settings>()
  const oneAtATime = yield* Semaphore.make(1)

  /** What the last requests brought, by path. */
  const received = new Map<string, Received>()

  const circumstances = Effect.fnUntraced(function*(memory: ReadonlyMap<string, number>) {
    const read = yield* Effect.result(trustFile.read)
    if (Result.isFailure(read)) return Result.fail(refusal("trust-file-unreadable", read.failure.message))
    const roots = readTrustRoots(read.success)
    if (!roots.ok) return Result.fail(refusal("trust-file-invalid", roots.problem))
    const ceiling = settings.manifestFreshnessWindowSecs
    return Result.succeed<Circumstances>({
      machineId: settings.machineId,
      slot: roots.value.ciReleaseKey,
      now: Math.floor(yield* Clock.currentTimeMillis),
      ceilingMs: ceiling === undefined ? undefined : millis(ceiling),
      memory
    })
  })

  /** `anew`: without validators, so that nothing from before can answer. */
  const fetchPath = Effect.fnUntraced(function*(path: string, anew: boolean) {
    const fetched = yield* fetchSigned(path, anew ? undefined : received.get(path))
    if (Result.isSuccess(fetched)) {
      received.delete(path)
      received.set(path, fetched.success)
      const manifests = [...received.keys()].filter((known) => known !== fleetPath)
      for (const old of manifests.slice(0, -rememberedManifests)) received.delete(old)
    }
    return fetched
  }, Effect.provideContext(services))

  const fetchUnit = Effect.fnUntraced(function*(rolloutId: string, anew: boolean, known: SignedBytes | undefined) {
    const fleet = known === undefined ? yield* fetchPath(fleetPath, anew) : Result.succeed(known)
    if (Result.isFailure(fleet)) return Result.fail(fleet.failure)
    const manifest = yield* fetchPath(manifestPath(rolloutId), anew)
    if (Result.isFailure(manifest)) return Result.fail(manifest.failure)
    return Result.succeed<Unit>({ fleet: fleet.success, manifest: manifest.success })
  })

  const kept = Effect.fnUntraced(function*(rolloutId: string) {
    const unit = yield* cache.read(rolloutId)
    const fleet = unit?.find(({ name }) => name === names.fleet)
    const manifest = unit?.find(({ name }) => name === names.manifest)
    return fleet === undefined || manifest === undefined ? undefined : { fleet, manifest }
  })

  /** The bytes written last: unchanged answers give the same arrays, and then nothing is written. */
  let written: ReadonlyArray<Uint8Array> = []

  const keep = Effect.fnUntraced(function*(rolloutId: string, { fleet, manifest }: Unit) {
    const parts = [fleet.bytes, fleet.signature, manifest.bytes, manifest.signature]
    if (parts.every((part, index) => part === written[index])) return
    yield* cache.write(rolloutId, [
      { name: names.fleet, bytes: fleet.bytes, signature: fleet.signature },
      { name: names.manifest, bytes: manifest.bytes, signature: manifest.signature }
    ])
    written = parts
  }, Effect.catch(({ message, reason }) => log.warn("the artifacts are not cached", { reason, detail: message })))

  const judge = Effect.fnUntraced(function*(unit: Unit, asked: Asked, memory: ReadonlyMap<string, number>) {
    const now = yield* circumstances(memory)
    const verdict: UnitVerdict = Result.isFailure(now)
      ? { ok: false, refusal: now.failure }
      : judgeUnit(unit.fleet, unit.manifest, asked, now.success)
    return verdict
  })

  /** The acceptance is durable before its artifacts are used; a stopping reducer accepts nothing. */
  const remember = Effect.fnUntraced(function*(marks: ReadonlyArray<TrustMark>) {
    const highest = state.current().trust
    if (marks.every(({ artifact, signedAt }) => signedAt <= (highest.get(artifact) ?? -1))) return undefined
    const answer = yield* inbox.ask({ _tag: "ArtifactsAccepted", marks })
    return answer._tag === "Accepted" ? undefined : refusal(answer.reason, answer.detail)
  })

  const accept = Effect.fnUntraced(function*(rolloutId: string, unit: Unit, judged: Judged) {
    const refused = yield* remember(judged.marks)
    if (refused !== undefined) return Result.fail(refused)
    yield* keep(rolloutId, unit)
    return Result.succeed(judged)
  })

  /** Fetches and judges; what does not verify gets a second, unconditional look. `known`: a fleet fetched just now. */
  const obtain = Effect.fnUntraced(function*(asked: Asked, known?: SignedBytes) {
    const memory = () => state.current().trust
    for (const anew of [false, true]) {
      const unit = yield* fetchUnit(asked.rolloutId, anew, anew ? undefined : known)
      if (Result.isFailure(unit)) return Result.fail(unit.failure)
      const verdict = yield* judge(unit.success, asked, memory())
      if (verdict.ok) return yield* accept(asked.rolloutId, unit.success, verdict.judged)
      if (anew) return Result.fail<Trouble>({ ...verdict.refusal, response: undefined })
    }
    return Result.fail<Trouble>({ ...refusal("artifact-unavailable", "nothing was fetched"), response: undefined })
  })

  const ask = (rolloutId: string, targetClosure: string | undefined): Asked => ({
    rolloutId,
    targetClosure,
    sustainedFailureMs: millis(settings.sustainedFailureSecs)
  })

  /** Rejections that good artifacts do not answer: the dispatch itself was wrong, or a guard fired. */
  const notAboutArtifacts: ReadonlySet<string> = new Set<Refusal["reason"]>([
    "dispatch-other-host",
    "guard-stale",
    "manifest-host-missing",
    "manifest-other-target",
    "superseded"
  ])

  const fromNetwork = new Set<Refusal["reason"]>(["control-plane-unreachable", "artifact-unavailable"])

  const forDispatch = Effect.fnUntraced(function*(rolloutId: string, targetClosure: string) {
    // It becomes part of an address and of a file name.
    if (!isRolloutId(rolloutId)) return Result.fail(refusal("rollout-malformed", "expected <channel>@<ref>"))
    const asked = ask(rolloutId, targetClosure)
    const obtained = yield* obtain(asked)
    if (Result.isSuccess(obtained) || !fromNetwork.has(obtained.failure.reason)) return obtained
    const unit = yield* kept(rolloutId)
    if (unit === undefined) return obtained
    const verdict = yield* judge(unit, asked, state.current().trust)
    return verdict.ok ? Result.succeed(verdict.judged) : obtained
  })

  const recheck = Effect.fnUntraced(function*(rolloutId: string, targetClosure: string) {
    const unit = yield* kept(rolloutId)
    if (unit !== undefined) {
      // Accepted before: a fleet that was signed since says nothing against it.
      const verdict = yield* judge(unit, ask(rolloutId, targetClosure), noMemory)
      if (verdict.ok) return undefined
    }
    const obtained = yield* oneAtATime.withPermit(forDispatch(rolloutId, targetClosure))
    return Result.isSuccess(obtained) ? undefined : refusal(obtained.failure.reason, obtained.failure.detail)
  })

  /** The fleet alone tells which rollout this host's channel has. */
  const presentRollout = Effect.fnUntraced(function*(anew: boolean) {
    const fleet = yield* fetchPath(fleetPath, anew)
    if (Result.isFailure(fleet)) return Result.fail<Trouble>(fleet.failure)
    const now = yield* circumstances(state.current().trust)
    if (Result.isFailure(now)) return Result.fail<Trouble>({ ...now.failure, response: undefined })
    const verdict = judgeFleet(fleet.success, now.success)
    if (!verdict.ok) return Result.fail<Trouble>({ ...verdict.refusal, response: undefined })
    const { hosts } = verdict.fleet
    const host = Object.hasOwn(hosts, settings.machineId) ? hosts[settings.machineId] : undefined
    const listed = host !== undefined && host.closureHash !== null
    return Result.succeed({
      fleet: fleet.success,
      mark: verdict.mark,
      rolloutId: listed ? rolloutIdOf(verdict.fleet, host.channel) : undefined
    })
  })

  /** Otherwise the control plane would go on to pause a dispatch that can be taken again (D8). */
  const withdrawRejection = Effect.fnUntraced(function*(rolloutId: string) {
    const rejection = state.current().rejections.get(rolloutId)
    if (rejection !== undefined && !notAboutArtifacts.has(rejection.reason)) {
      yield* inbox.ask({ _tag: "RejectionOver", rolloutId })
    }
  })

  const refresh = Effect.gen(function*() {
    const first = yield* presentRollout(false)
    const again = Result.isFailure(first) && !fromNetwork.has(first.failure.reason)
    const present = again ? yield* presentRollout(true) : first
    if (Result.isFailure(present)) return Result.fail(present.failure)
    const { fleet, mark, rolloutId } = present.success
    if (rolloutId === undefined) {
      const refused = yield* remember([mark])
      return refused === undefined ? Result.void : Result.fail<Trouble>({ ...refused, response: undefined })
    }
    const obtained = yield* obtain(ask(rolloutId, undefined), fleet)
    if (Result.isSuccess(obtained)) yield* withdrawRejection(rolloutId)
    return Result.isSuccess(obtained) ? Result.void : Result.fail<Trouble>({ response: undefined, ...obtained.failure })
  })

  return Artifacts.of({
    refresh: oneAtATime.withPermit(refresh),
    forDispatch: (rolloutId, targetClosure) => oneAtATime.withPermit(forDispatch(rolloutId, targetClosure)),
    recheck
  })
})
