/** A host that runs an agent of the original: its hardware, its declarations, and what its agent leaves on its disk (agent.md §2–§5). */
import type { SwitchId } from "../../src/Layers/Host/Activator.ts"
import type { MemoryHost } from "../../src/Layers/Host/ActivatorMemory.ts"
import type { FetchedArtifact } from "../../src/Layers/Net/ArtifactSource.ts"
import type { AgentEvent, HostRolloutSnapshot, ProbeMode, ProbeStatus } from "../../src/Schema/Wire.ts"

export interface ReferenceCheck {
  readonly kind: string
  readonly mode: ProbeMode
  readonly intervalMs: number
}

/** Cadences of agent.md §2.3, ms; a test on real sockets shortens them. */
export const referenceCadences = {
  heartbeat: 60_000,
  drain: 15_000,
  advance: 5_000,
  manifestPoll: 30_000,
  errorPause: 5_000,
  linkPoll: 2_000,
  switchBudget: 300_000,
  pollTimeout: 65_000,
  requestTimeout: 10_000,
  sustainedFailure: 120_000
}
export type ReferenceCadences = typeof referenceCadences

/** One file of the outbound queue. */
export interface Queued {
  readonly rolloutId: string
  readonly event: AgentEvent
}

/** A host of the original: what a restart of its agent leaves behind. */
export class ReferenceHost {
  readonly name: string
  readonly hardware: MemoryHost
  readonly trustFile: Uint8Array
  /** The health-checks file; absent when the host declares none. */
  checks: Readonly<Record<string, ReferenceCheck>> | undefined
  /** What a probe says while this closure runs. */
  probe: (running: string | undefined) => ProbeStatus = () => "pass"
  /** The outbound queue's directory, by file name. */
  readonly queue = new Map<string, Queued>()
  /** The artifact caches, by path; never pruned. */
  readonly cache = new Map<string, FetchedArtifact>()
  /** Snapshots that it was sent, for a test to look at. */
  readonly snapshots: Array<HostRolloutSnapshot> = []
  #switches = 0

  constructor(name: string, hardware: MemoryHost, trustFile: Uint8Array) {
    this.name = name
    this.hardware = hardware
    this.trustFile = trustFile
  }

  /** Identifies the next start of a switch to the hardware. */
  nextSwitch(rolloutId: string, purpose: SwitchId["purpose"]): SwitchId {
    this.#switches += 1
    return { rolloutId, attempt: 1, purpose, run: this.#switches }
  }
}
