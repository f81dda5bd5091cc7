/** The configurable times of the agent's decisions, milliseconds (D5, D6, D12). */
export interface Limits {
  /** A probe whose status does not change is journaled this often. */
  readonly probeResultMs: number
  /** A probe that cannot be run for so long counts as failing. */
  readonly inconclusiveMs: number
  /** Delivered rows of a closed rollout are kept this long after a later rollout ended. */
  readonly retentionMs: number
}

/** Shortest time between two journaled failures or doubts that begin, per probe: bounds what a flapping probe can write. */
export const flapGapMs = 15_000

/** How often the running time of a soak is journaled: what a crash can cost a soak. */
export const soakJournalMs = 60_000

/** How the heartbeats go is stored again after this time when nothing about it changed: how old `status` may be. */
export const contactRewriteMs = 300_000

/** The two clocks may differ by so much between two readings before the wall clock is said to have stepped. */
export const clockStepMs = 2_000

/**
 * Closed rollouts of which the control plane never acknowledged every row, kept beyond their time; older ones are given up.
 * As many as a heartbeat can tell of: of one that it cannot name, nobody can ask for a row.
 */
export const unacknowledgedLimit = 64

/** Rollouts whose rows were replaced by a summary; older ones are forgotten. As many as a heartbeat can tell of. */
export const summaryLimit = 64
