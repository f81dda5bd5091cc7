/** What gates look at, in the smallest case that passes all of them; a test changes what it is about. */
import { Flights } from "../../src/Rollout/planner/Budgets.ts"
import type {
  Budget,
  Candidate,
  Freeze,
  HeldBy,
  InFlight,
  Interventions,
  PlannedOrder
} from "../../src/Rollout/planner/View.ts"
import { open } from "../../src/Rollout/Rollout.ts"
import type { RolloutRecord, RolloutStateName } from "../../src/Schema/HostRecord.ts"
import { late, t0, target } from "./records.ts"

export const noOrder: PlannedOrder = { edges: new Map(), budgets: new Map() }

export const byAlice: HeldBy = { by: "by alice, who works on it", until: late + 3_600_000 }

export interface InForce {
  readonly freeze?: Freeze
  readonly pauses?: Readonly<Record<string, HeldBy>>
  readonly holds?: Readonly<Record<string, HeldBy>>
}

/** What operators hold back: nothing, unless a test says so. */
export const interventionsOf = ({ freeze, holds = {}, pauses = {} }: InForce = {}): Interventions => ({
  freezeOf: (channel) => freeze === undefined || (freeze.channel ?? channel) !== channel ? undefined : freeze,
  pauseOf: (rolloutId) => pauses[rolloutId],
  holdOf: (hostname) => holds[hostname]
})

export function rolloutIn(state: RolloutStateName, fields: Partial<RolloutRecord> = {}): RolloutRecord {
  const fresh = open({
    rolloutId: "stable@aa11",
    channel: "stable",
    targetRef: "aa11",
    signedAt: t0,
    manifestHash: "h1",
    attempt: 1,
    openedAt: t0
  })
  return { ...fresh, state, ...fields }
}

/** Who is in flight, by name. */
export const flightsOf = (flying: Readonly<Record<string, Omit<InFlight, "hostname">>>): Flights =>
  new Flights((hostname) => flying[hostname] === undefined ? undefined : { hostname, ...flying[hostname] })

export const budgetOf = (max: number, hosts: ReadonlyArray<string>, name = "tags web"): Budget => ({ name, hosts, max })

export const candidate = (fields: Partial<Candidate> = {}): Candidate => ({
  hostname: "web-1",
  wave: 0,
  targetClosure: target,
  rollout: rolloutIn("Active"),
  progress: {
    rolloutId: "stable@aa11",
    wave: 0,
    waves: 3,
    hosts: 1,
    complete: false,
    converged: false,
    waiting: 1,
    waitsFor: [{ hostname: "web-1", because: "was not activated yet" }]
  },
  failed: [],
  quarantined: new Map(),
  predecessors: [],
  edges: [],
  budgets: [],
  flights: flightsOf({}),
  leased: false,
  now: late,
  ...fields
})
