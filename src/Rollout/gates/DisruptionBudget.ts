/**
 * At most so many hosts of a selection are in flight at once (D17): they have a dispatch on its way, activate, or soak,
 * whatever rollout that is of, superseded ones included. A host never counts against itself, and one that has its lease has its
 * place already. Every budget that lists the host must allow it.
 *
 * Asked last, of hosts that may go as far as everything else is concerned: a place is taken at the lease and not in the queue, so
 * that a host that does not poll keeps nobody out. `../planner/Budgets.ts` counts.
 */
import type { Candidate, Verdict } from "../planner/View.ts"
import { pass } from "../planner/View.ts"

export function disruptionBudget(
  { budgets, flights, hostname, leased, now }: Pick<Candidate, "budgets" | "flights" | "hostname" | "leased" | "now">
): Verdict {
  if (leased) return pass
  for (const budget of budgets) {
    const hold = flights.holdOf(budget, hostname, now)
    if (hold !== undefined) return { pass: false, gate: budgetGate, ...hold }
  }
  return pass
}

export const budgetGate = "disruption-budget"
