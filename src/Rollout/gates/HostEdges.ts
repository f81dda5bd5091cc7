/**
 * A host waits until the hosts before it have converged in the same rollout, are proven, and have soaked by this clock too
 * (control-plane.md §6.2). Deferred satisfies no edge: no signed policy can say otherwise (D11). An edge that names a host
 * which the rollout does not have holds for good (house rule 8).
 */
import type { Gate, Proof } from "../planner/View.ts"
import { pass } from "../planner/View.ts"
import { earliestOf } from "../planner/Waves.ts"
import { reasoned, shownHosts } from "./Words.ts"

export const hostEdges: Gate = ({ edges, rollout: { channel, rolloutId } }) => {
  const open = edges.filter(({ proof }) => proof?._tag !== "Proven")
  const first = open[0]
  if (first === undefined) return pass
  const { edge: { gates, reason }, proof } = first
  const isDue = open.every((one) => one.proof?._tag === "Due")
  const times = open.flatMap((one) => one.proof === undefined ? [] : earliestOf(one.proof))
  return {
    pass: false,
    gate: "host-edges",
    because: `${gates} comes first${reasoned(reason)}: ${saidOf(proof, rolloutId)}` +
      (open.length === 1 ? "" : `; ${open.length - 1} more of the hosts before this one are not done`),
    clearedBy: proof === undefined
      ? `publishing a fleet that has ${gates} on channel ${channel}, or not the edge`
      : isDue
      ? `the end of the soak of ${gates}`
      : `convergence of ${gates}`,
    hosts: open.slice(0, shownHosts).map((one) => one.edge.gates),
    ...(times.length === open.length ? { earliestAt: Math.max(...times) } : {})
  }
}

function saidOf(proof: Proof | undefined, rolloutId: string): string {
  switch (proof?._tag) {
    case undefined:
      return `${rolloutId} has no such host`
    case "Missing":
      return `it ${proof.because}`
    default:
      return "it has converged before its soak is over here"
  }
}
