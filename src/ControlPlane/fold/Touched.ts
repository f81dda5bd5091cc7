/**
 * Which stored rows a fold changed, so that the commit writes those and no others. The one thing here that is changed in
 * place: it belongs to a single decision.
 */
import type { LogRow } from "../../Schema/ControlPlaneJournal.ts"

export class Touched {
  readonly rollouts = new Set<string>()
  readonly plans = new Set<string>()
  readonly channels = new Set<string>()
  /** Hosts whose dispatch was put or dropped. */
  readonly dispatches = new Set<string>()
  /** Signed lists that were replaced. */
  readonly lists = new Set<"revocations" | "nonces">()
  /** Nonces of tokens that were used. */
  readonly nonces = new Set<string>()
  /** Hosts whose certificates were issued. */
  readonly chains = new Set<string>()
  /** Quarantines that began or were lifted, by `quarantineKey`. */
  readonly quarantines = new Set<string>()
  /** Subjects that are held from now on, or no longer. */
  readonly interventions = new Set<string>()
  /** Records, as hosts by rollout id. */
  readonly records = new Map<string, Set<string>>()

  record(rolloutId: string, host: string): void {
    const hosts = this.records.get(rolloutId)
    if (hosts === undefined) this.records.set(rolloutId, new Set([host]))
    else hosts.add(host)
  }
}

/** A row that contradicts those before it: the file is not what this program wrote, or the program is wrong. */
export class UnfoldableRow extends Error {
  override readonly name = "UnfoldableRow"

  constructor(row: LogRow, detail: string) {
    super(`${row.entry.kind} of ${row.host ?? "-"} in ${row.rolloutId ?? "-"}: ${detail}`)
  }
}
