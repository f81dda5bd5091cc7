/**
 * Budgets and edges of a virtual world's releases, and whether the control plane kept them: its log is read row by row, and at
 * each lease asked who else was in flight then, and not held, and whether the hosts that come first had converged.
 */
import { isHeld } from "../ControlPlane/decide/InForce.ts"
import { foldRow } from "../ControlPlane/Fold.ts"
import { Touched } from "../ControlPlane/fold/Touched.ts"
import { at, emptyState, hostIn, type State } from "../ControlPlane/State.ts"
import type { LogRow } from "../Schema/ControlPlaneJournal.ts"
import type { Dice } from "./Dice.ts"

export interface Order {
  readonly budgets: ReadonlyArray<{ readonly hosts: ReadonlyArray<string>; readonly maxInFlight: number }>
  /** The second of a pair waits for the first. */
  readonly edges: ReadonlyArray<readonly [gates: string, gated: string]>
}

export const noOrder: Order = { budgets: [], edges: [] }

/** Some worlds have a budget, some an edge within a wave, some both. */
export function drawOrder(dice: Dice, waves: ReadonlyArray<ReadonlyArray<string>>): Order {
  const hosts = waves.flat()
  const pair = waves.find((wave) => wave.length > 1)?.toSorted(() => dice.pick([1, -1]))
  const [first, second] = pair ?? []
  return {
    budgets: dice.chance(0.6) ? [{ hosts, maxInFlight: dice.between(1, 2) }] : [],
    edges: first !== undefined && second !== undefined && dice.chance(0.5) ? [[first, second]] : []
  }
}

/** Each finding is a sentence. */
export function orderBroken(
  { log, state: { databaseId } }: { readonly log: ReadonlyArray<LogRow>; readonly state: State },
  { budgets, edges }: Order
): ReadonlyArray<string> {
  const problems: Array<string> = []
  let state = emptyState(databaseId)
  for (const row of log) {
    const { entry, host = "", rolloutId = "" } = row
    if (entry.kind === "plan_action" && entry.payload.action === "LeaseDispatch") {
      for (const { hosts, maxInFlight } of budgets) {
        const others = hosts.filter((other) => other !== host && !isHeld(state, other) && isInFlight(state, other))
        if (others.length < maxInFlight) continue
        problems.push(`${host} got its dispatch of ${rolloutId} while ${others.join(", ")} were in flight`)
      }
      for (const [gates, gated] of edges) {
        const before = hostIn(state, rolloutId, gates)
        const settled = before?.overlay?.state ?? before?.record.state
        if (gated !== host || settled === "Converged") continue
        problems.push(`${host} got its dispatch of ${rolloutId} while ${gates} was ${settled ?? "unknown"}`)
      }
    }
    state = foldRow(state, row, new Touched())
  }
  return problems
}

function isInFlight(state: State, host: string): boolean {
  if (at(state.queue, host)?.lease !== undefined) return true
  return (at(state.hosts, host)?.rollouts ?? []).some((rolloutId) => {
    const entry = hostIn(state, rolloutId, host)
    const settled = entry?.overlay?.state ?? entry?.record.state
    return entry?.record.closedAt === undefined && (settled === "Activating" || settled === "Soaking")
  })
}
