/**
 * A verified unit comes into force (D14): what each channel's manifest asks for is prepared once, and every channel is
 * planned again. A channel that this database sees for the first time may belong to a lost one and starts in recovery (D6).
 */
import type { FleetResolved, RolloutManifest } from "../../Schema/Artifacts.ts"
import type { RolloutPlan } from "../../Schema/ControlPlaneJournal.ts"
import type { LogTarget } from "../../Schema/Logs.ts"
import { knownReason } from "../../Schema/Reasons.ts"
import { resolvePolicy } from "../../Trust/FleetAndManifests.ts"
import { clockSlackMs, smallestWindowMs, withCeiling } from "../../Trust/Freshness.ts"
import { bootstrapNoncesKind, revocationsKind } from "../../Trust/Verify.ts"
import type { Draft } from "../Draft.ts"
import { sustainedFailureMs } from "../fold/Policy.ts"
import type { ArtifactRefused, Verified, VerifiedArtifacts } from "../Input.ts"
import { at, type PlannedManifest } from "../State.ts"
import { orderOf } from "./Order.ts"
import { beginRecovery } from "./Recovery.ts"

export function decideArtifacts(draft: Draft, artifacts: VerifiedArtifacts): void {
  const previous = draft.state.artifacts
  if (previous?.fleet.hash !== artifacts.fleet.hash) accepted(draft, "fleet.resolved", artifacts.fleet.hash)
  for (const [rolloutId, manifest] of [...artifacts.manifests].toSorted(([a], [b]) => a < b ? -1 : 1)) {
    if (previous?.manifests.get(rolloutId)?.hash !== manifest.hash) accepted(draft, rolloutId, manifest.hash)
  }
  const manifests = new Map<string, PlannedManifest>()
  const window = withCeiling(smallestWindowMs(artifacts.fleet.value), draft.state.limits.freshnessCeilingMs)
  for (const [rolloutId, manifest] of artifacts.manifests) {
    const freshUntil = Math.min(artifacts.fleet.signedAt, manifest.signedAt) + window + clockSlackMs
    const planned = plannedManifest(artifacts.fleet.value, rolloutId, manifest, freshUntil)
    if (planned === undefined) {
      const detail = `channel ${manifest.value.channel} has no rollout policy in the fleet`
      refused(draft, { _tag: "ArtifactRefused", artifact: rolloutId, reason: "policy-missing", detail })
    } else manifests.set(manifest.value.channel, planned)
  }
  draft.enforce(artifacts, manifests)
  for (const channel of [...manifests.keys()].toSorted()) {
    if (at(draft.state.channels, channel) === undefined) beginRecovery(draft, channel)
  }
  draft.markAll()
}

/** Each of the two lists beside the releases is spoken of under its own name. */
const targetOf = (artifact: string): LogTarget => {
  if (artifact === revocationsKind.name) return "revocations"
  return artifact === bootstrapNoncesKind.name ? "bootstrap_nonces" : "cp_manifest_poll"
}

export function refused(draft: Draft, { artifact, detail, reason }: ArtifactRefused): void {
  draft.record({}, { kind: "verify_outcome", payload: { artifact, outcome: "refused", reason, detail } })
  draft.log(targetOf(artifact), "warn", "a signed artifact was refused; the last good one stays in force", {
    artifact,
    reason: knownReason(reason),
    detail
  })
}

function accepted(draft: Draft, artifact: string, hash: string): void {
  draft.record({}, { kind: "verify_outcome", payload: { artifact, outcome: "accepted", hash } })
  draft.log("cp_manifest_poll", "info", "a signed artifact is in force", { artifact, hash })
}

/** What the manifest asks for; `undefined` without a policy: nothing may be activated then (house rule 8). */
function plannedManifest(
  fleet: FleetResolved,
  rolloutId: string,
  { hash, signedAt, value }: Verified<RolloutManifest>,
  freshUntil: number
): PlannedManifest | undefined {
  const policy = resolvePolicy(fleet, value.channel, 0, sustainedFailureMs)
  if (policy === undefined) return undefined
  const plan: RolloutPlan = {
    hosts: Object.fromEntries(
      value.hostSet.map(({ hostname, targetClosure, waveIndex }) => [hostname, { wave: waveIndex, targetClosure }])
    ),
    soakMs: soaks(fleet, value),
    onHealthFailure: policy.onHealthFailure,
    ...(policy.maxFailedUnits === undefined ? {} : { maxFailedUnits: policy.maxFailedUnits })
  }
  return {
    rolloutId,
    targetRef: value.channelRef,
    signedAt,
    manifestHash: hash,
    freshUntil,
    plan,
    order: orderOf(fleet, value)
  }
}

/** One soak for each declared wave, and for each wave that a host is in. */
function soaks(fleet: FleetResolved, { channel, hostSet }: RolloutManifest): ReadonlyArray<number> {
  const declared = Object.hasOwn(fleet.waves, channel) ? fleet.waves[channel]?.length ?? 0 : 0
  const count = hostSet.reduce((most, { waveIndex }) => Math.max(most, waveIndex + 1), Math.max(declared, 1))
  return Array.from(
    { length: count },
    (_, wave) => resolvePolicy(fleet, channel, wave, sustainedFailureMs)?.soakMs ?? 0
  )
}
