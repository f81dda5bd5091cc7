/** Which rollout a channel's manifest means: a new one, the known one, or the known one's next attempt (D7, P-19, P-20). */
import type { RolloutRecord } from "../../Schema/HostRecord.ts"
import type { HostRecord } from "../../Schema/HostRecord.ts"
import { nextAttempt, open } from "../Rollout.ts"
import type { ChannelView, ManifestView, PlanAction, PlannedTopology, PlanView, RolloutView } from "./View.ts"

/**
 * The action that brings the rollout up to the manifest; `undefined` when it is. A channel that was without a manifest gets
 * the rollout it left off with as its current one again; hosts that were on another channel meanwhile begin it anew (D7).
 */
export function opening(
  { channel, current }: Pick<ChannelView, "channel" | "current">,
  manifest: ManifestView,
  known: RolloutView | undefined,
  view: Pick<PlanView, "now" | "convergedOn">
): PlanAction | undefined {
  const { manifestHash, rolloutId, signedAt, targetRef } = manifest
  if (known === undefined) {
    const rollout = open({ rolloutId, channel, targetRef, signedAt, manifestHash, attempt: 1, openedAt: view.now })
    return { _tag: "Open", rollout, carried: carried(manifest, Object.keys(manifest.plan.hosts), view) }
  }
  const { record } = known
  // A pruned rollout is a tombstone: its manifest, still in force, was rolled out long ago (P-19).
  if (record.state === "Pruned") return undefined
  if (record.state === "Superseded") return reopen(record, manifest, Object.keys(manifest.plan.hosts), view)
  const names = Object.keys(manifest.plan.hosts)
  const behind = new Set(current === rolloutId ? [] : names.filter(known.isBehind))
  if (!sameTopology(manifest.plan, known.plan)) {
    const restarted = names.filter((hostname) => behind.has(hostname) || mustRestart(manifest, known, hostname))
    return reopen(record, manifest, restarted, view)
  }
  if (behind.size > 0) return reopen(record, manifest, [...behind], view)
  if (record.state === "Terminal" && Object.keys(known.plan.hosts).some((hostname) => isLeftBehind(known, hostname))) {
    return reopen(record, manifest, [], view)
  }
  return manifestHash === record.manifestHash && current === rolloutId
    ? undefined
    : { _tag: "Refresh", rolloutId, manifestHash, signedAt }
}

function reopen(
  record: RolloutRecord,
  manifest: ManifestView,
  restarted: ReadonlyArray<string>,
  view: Pick<PlanView, "now" | "convergedOn">
): PlanAction {
  return {
    _tag: "Reopen",
    rollout: nextAttempt(record, manifest, view.now),
    restarted: restarted.toSorted(),
    carried: carried(manifest, restarted, view)
  }
}

/** Hosts that have nothing to do to be where the manifest wants them (C-W17). */
function carried(
  { plan }: ManifestView,
  hosts: ReadonlyArray<string>,
  { convergedOn }: Pick<PlanView, "convergedOn">
): ReadonlyArray<string> {
  return hosts.filter((host) => convergedOn(host, plan.hosts[host]?.targetClosure ?? "") !== undefined).toSorted()
}

/** Hosts whose closure stays the same and that are well, or under way, go on; the rest begins anew, and who was left out before. */
function mustRestart(manifest: ManifestView, known: RolloutView, hostname: string): boolean {
  const record = known.recordOf(hostname)
  return record === undefined || !Object.hasOwn(known.plan.hosts, hostname) ||
    record.targetClosure !== manifest.plan.hosts[hostname]?.targetClosure || ended(record)
}

/** Complete without this host, because it was held then: now it has its turn (D17). */
function isLeftBehind({ isHeld, recordOf }: RolloutView, hostname: string): boolean {
  const record = recordOf(hostname)
  return record?.state === "Pending" && record.closedAt === undefined && !isHeld(hostname)
}

function ended(record: HostRecord): boolean {
  return record.closedAt !== undefined || record.state === "Failed" || record.state === "Reverted"
}

/** Whether both name the same hosts, in the same waves, and the same closures for them. */
export function sameTopology(a: PlannedTopology, b: PlannedTopology): boolean {
  // Until the release is signed again it is the very one that opened the rollout.
  if (a === b) return true
  const names = Object.keys(a.hosts)
  return names.length === Object.keys(b.hosts).length && names.every((name) => {
    const before = Object.hasOwn(b.hosts, name) ? b.hosts[name] : undefined
    const after = a.hosts[name]
    return before?.targetClosure === after?.targetClosure && before?.wave === after?.wave
  })
}
