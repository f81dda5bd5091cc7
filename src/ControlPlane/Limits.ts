/** Times that the decision goes by; an operator, a test or a demonstration may set them. The defaults are the rules' own. */

export interface Limits {
  /** How long a leased dispatch may stay unacknowledged before it is offered again, ms (D8). */
  readonly leaseMs: number
  /** Heartbeat period that agents are expected to keep, ms (agent.md §2.3). */
  readonly heartbeatMs: number
  /** How long a channel that this database sees for the first time waits for silent hosts, ms; at least two heartbeats (D6). */
  readonly recoveryGraceMs: number
  /** Upper bound for the age of a release, ms (D14); absent: the smallest signed window alone decides. */
  readonly freshnessCeilingMs?: number
}

export const defaultLimits: Limits = { leaseMs: 90_000, heartbeatMs: 60_000, recoveryGraceMs: 150_000 }
