/**
 * Who is in flight, counted for each budget (D17). One count lives for one pass: leases that the pass gives are added to it,
 * so that two polls which are answered in one batch cannot both take the last place. Budgets of equal selectors share a count.
 *
 * Does not own who is in flight: the control plane says it of each host, and when a silent one leaves.
 */
import { named, shownHosts } from "../gates/Words.ts"
import type { Blocked, Budget, FlightCount, InFlight } from "./View.ts"

/** `maxInFlight`, or the percentage of the selected hosts, rounded down and at least 1; of both the smaller (D17). */
export function mostInFlight(
  { maxInFlight, maxInFlightPct }: { readonly maxInFlight: number | null; readonly maxInFlightPct: number | null },
  hosts: number
): number {
  const share = maxInFlightPct === null ? Infinity : Math.max(1, Math.floor(hosts * maxInFlightPct / 100))
  return Math.min(maxInFlight ?? Infinity, share)
}

type Hold = Omit<Blocked, "pass" | "gate">

interface Count {
  /** By host; the order is that of the budget's hosts, then of the leases. */
  readonly flights: Map<string, InFlight>
  /** By limit: what is told to hosts that are not in flight themselves; all of them wait for the same. */
  readonly told: Map<number, Hold>
}

export class Flights implements FlightCount {
  readonly #inFlightOf: (hostname: string) => InFlight | undefined
  readonly #counts = new Map<string, Count>()

  constructor(inFlightOf: (hostname: string) => InFlight | undefined) {
    this.#inFlightOf = inFlightOf
  }

  holdOf(budget: Budget, hostname: string, now: number): Hold | undefined {
    const { flights, told } = this.#countOf(budget)
    const isCounted = flights.has(hostname)
    if (flights.size - (isCounted ? 1 : 0) < budget.max) return undefined
    if (isCounted) return sentence(budget, [...flights].flatMap(([host, one]) => host === hostname ? [] : [one]), now)
    const known = told.get(budget.max)
    if (known !== undefined) return known
    const hold = sentence(budget, [...flights.values()], now)
    told.set(budget.max, hold)
    return hold
  }

  add(budgets: ReadonlyArray<Budget>, flight: InFlight): void {
    for (const budget of budgets) {
      const { flights, told } = this.#countOf(budget)
      flights.set(flight.hostname, flight)
      told.clear()
    }
  }

  #countOf({ hosts, name }: Budget): Count {
    const known = this.#counts.get(name)
    if (known !== undefined) return known
    const flights = new Map<string, InFlight>()
    for (const host of hosts) {
      const flight = this.#inFlightOf(host)
      if (flight !== undefined) flights.set(host, flight)
    }
    const count = { flights, told: new Map<number, Hold>() }
    this.#counts.set(name, count)
    return count
  }
}

function sentence({ hosts, max, name }: Budget, others: ReadonlyArray<InFlight>, now: number): Hold {
  const rule = `the budget of ${name} lets ${max} of its ${hosts.length} hosts be in flight`
  if (max === 0) return { because: rule, clearedBy: "publishing a release with a larger budget" }
  const first = others.slice(0, shownHosts).map(({ doing, hostname, rolloutId }) =>
    `${hostname} ${doing} (${rolloutId})`
  )
  const rest = others.slice(shownHosts).map(({ hostname }) => hostname)
  const earliestAt = earliest(others, others.length - max + 1, now)
  return {
    because: `${rule}, and ${others.length} ${others.length === 1 ? "is" : "are"}: ${named([...first, ...rest])}`,
    clearedBy:
      "convergence, failure or deferral of one of them; a host that did not take its dispatch, or stays silent, leaves the count",
    hosts: others.slice(0, shownHosts).map(({ hostname }) => hostname),
    ...(earliestAt === undefined ? {} : { earliestAt })
  }
}

/** When `count` of the flights may be over; a time that has passed already says nothing any more. */
function earliest(flights: ReadonlyArray<InFlight>, count: number, now: number): number | undefined {
  const ends = flights.flatMap(({ endsAt }) => endsAt === undefined || endsAt <= now ? [] : [endsAt])
  return ends.toSorted((a, b) => a - b)[count - 1]
}
