/**
 * A host waits until the hosts before it have converged in the same rollout, are proven, and have soaked by this clock too
 * (control-plane.md §6.2). Deferred satisfies no edge: no signed policy can say otherwise (D11). An edge that names a host
 * without a record holds (house rule 8).
 */
import type { Gate } from "../planner/View.ts"
import { pass } from "../planner/View.ts"
import { earliestOf } from "../planner/Waves.ts"
import { reasoned, shownHosts } from "./Words.ts"

export const hostEdges: Gate = ({ edges }) => {
  const open = edges.filter(({ proof }) => proof._tag !== "Proven")
  const first = open[0]
  if (first === undefined) return pass
  const { edge: { gates, reason }, proof } = first
  const isDue = open.every((one) => one.proof._tag === "Due")
  const times = open.flatMap((one) => earliestOf(one.proof))
  return {
    pass: false,
    gate: "host-edges",
    because: `${gates} comes first${reasoned(reason)}: it ` +
      (proof._tag === "Missing" ? proof.because : "has converged before its soak is over here") +
      (open.length === 1 ? "" : `; ${open.length - 1} more of the hosts before this one are not done`),
    clearedBy: isDue ? `the end of the soak of ${gates}` : `convergence of ${gates}`,
    hosts: open.slice(0, shownHosts).map((one) => one.edge.gates),
    ...(times.length === open.length ? { earliestAt: Math.max(...times) } : {})
  }
}
