/**
 * When a wave is complete (D11, D12, D15): every host of it has converged, is proven, and its soak is over by the control
 * plane's own clock. Deferred satisfies nothing. A wave that declares no host is complete. A host that an operator holds is
 * none of its wave's (D17), unless nobody else is left to try the release before the waves, or the channels, after it (house
 * rule 8).
 */
import type { HostRecord } from "../../Schema/HostRecord.ts"
import { provenUndeclared, soakDue, soakLeftHere } from "../host/Evidence.ts"
import type { PlannedTopology, Proof, RolloutView, WaveReport } from "./View.ts"
import { shownWaiting } from "./View.ts"

const proven: Proof = { _tag: "Proven" }
const missing = (because: string, at?: number): Proof => ({
  _tag: "Missing",
  converged: false,
  because,
  ...(at === undefined ? {} : { at })
})
const unproven = (because: string): Proof => ({ _tag: "Missing", converged: true, because })

/** Whether a host counts for its wave at `now`. `alwaysDeclares`: see `RolloutView`. */
export function proofOf(record: HostRecord | undefined, alwaysDeclares: boolean, now: number): Proof {
  switch (record?.state) {
    case undefined:
      return missing("has no record")
    case "Pending":
      return missing("was not activated yet")
    case "Activating":
      return missing("is activating")
    case "Deferred":
      return missing(`waits for reboot of ${record.component}`)
    case "Soaking": {
      const due = soakDue(record)
      return missing("is soaking", due > now ? due : undefined)
    }
    case "Failed":
      return missing("has failed")
    case "Reverted":
      return missing("was rolled back")
    case "Converged": {
      if (record.diverged === true) return unproven("reports something else than its record")
      if (record.unproven === true && (alwaysDeclares || !provenUndeclared(record))) {
        return unproven("converged without evidence of its probes")
      }
      const left = soakLeftHere(record, now)
      return left > 0 ? { _tag: "Due", at: now + left } : proven
    }
  }
}

/** The same for a host of a rollout. */
export function proofIn(rollout: RolloutView, hostname: string, now: number): Proof {
  const record = rollout.recordOf(hostname)
  // Asked only where it matters: it is a look-up for each host of a wave.
  const proof = proofOf(record, record?.state !== "Converged" || rollout.alwaysDeclares(hostname), now)
  return proof._tag === "Missing" && rollout.isHeld(hostname)
    ? { ...proof, because: `${proof.because} and is held` }
    : proof
}

/** A topology never changes: in which order its hosts go is found once, and not in each pass. */
const found = new WeakMap<PlannedTopology, ReadonlyArray<ReadonlyArray<string>>>()

/** Host names of each wave, in ascending order; index = wave; at least one wave, declared waves without hosts included. */
export function hostsByWave(plan: PlannedTopology): ReadonlyArray<ReadonlyArray<string>> {
  const known = found.get(plan)
  if (known !== undefined) return known
  const names = Object.keys(plan.hosts).toSorted()
  const last = names.reduce((most, name) => Math.max(most, plan.hosts[name]?.wave ?? 0), 0)
  const waves: Array<Array<string>> = Array.from({ length: Math.max(plan.soakMs.length, last + 1) }, () => [])
  for (const name of names) waves[plan.hosts[name]?.wave ?? 0]?.push(name)
  found.set(plan, waves)
  return waves
}

/** Hosts that failed or went back, in the order in which hosts go. */
export const failedIn = (
  { recordOf }: RolloutView,
  waves: ReadonlyArray<ReadonlyArray<string>>
): ReadonlyArray<string> =>
  waves.flat().filter((hostname) => {
    const state = recordOf(hostname)?.state
    return state === "Failed" || state === "Reverted"
  })

export function reportWave(
  rollout: RolloutView,
  waves: ReadonlyArray<ReadonlyArray<string>>,
  now: number
): WaveReport {
  const wave = rollout.record.currentWave
  const all = waves[wave] ?? []
  const free = all.filter((hostname) => !rollout.isHeld(hostname))
  const isTried = wave + 1 === waves.length && waves.slice(0, wave).some((hosts) => hosts.length > 0)
  const names = free.length > 0 || isTried ? free : all
  const proofs = names.map((hostname) => ({ hostname, proof: proofIn(rollout, hostname, now) }))
  const open = proofs.filter(({ proof }) => proof._tag !== "Proven")
  const times = open.flatMap(({ proof }) => earliestOf(proof))
  return {
    rolloutId: rollout.record.rolloutId,
    wave,
    waves: waves.length,
    hosts: names.length,
    complete: open.length === 0,
    converged: open.every(({ proof }) => proof._tag === "Due" || (proof._tag === "Missing" && proof.converged)),
    waiting: open.length,
    waitsFor: open.slice(0, shownWaiting).map(({ hostname, proof }) => ({
      hostname,
      because: proof._tag === "Missing" ? proof.because : "has converged before its soak is over here"
    })),
    ...(times.length > 0 && times.length === open.length ? { earliestAt: latest(times) } : {})
  }
}

/** Before then it proves nothing; none when nobody can say. */
export const earliestOf = (proof: Proof): ReadonlyArray<number> =>
  proof._tag === "Proven" || proof.at === undefined ? [] : [proof.at]

/** `Math.max` of a spread would put 10,000 arguments on the stack. */
function latest(times: ReadonlyArray<number>): number {
  return times.reduce((most, time) => Math.max(most, time), 0)
}
