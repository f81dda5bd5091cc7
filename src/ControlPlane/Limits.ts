/** Times that the decision goes by; an operator, a test or a demonstration may set them. The defaults are the rules' own. */

export interface Limits {
  /** How long a leased dispatch may stay unacknowledged before it is offered again, ms (D8). */
  readonly leaseMs: number
  /** Heartbeat period that agents are expected to keep, ms (agent.md §2.3). */
  readonly heartbeatMs: number
  /** How long a channel that this database sees for the first time waits for silent hosts, ms; at least two heartbeats (D6). */
  readonly recoveryGraceMs: number
  /**
   * How long a host that is in flight may be silent before it leaves the count of its budgets, ms (D17). Longer than any reboot,
   * and long enough for somebody to look.
   */
  readonly silentMs: number
  /** Upper bound for the age of a release, ms (D14); absent: the smallest signed window alone decides. */
  readonly freshnessCeilingMs?: number
}

export const defaultLimits: Limits = {
  leaseMs: 90_000,
  heartbeatMs: 60_000,
  recoveryGraceMs: 150_000,
  silentMs: 3_600_000
}
