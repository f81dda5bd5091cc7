/**
 * What the planner would say now (D17): a look at a published state by the code that decides, which records nothing. The verdict
 * of the last plan is as old as that plan; this one is as old as the question.
 *
 * Costs the hosts of the channels that it is asked about, and of those that come before them, each channel once.
 */
import { type FlightCount, plan, type PlanAction } from "../Rollout/Planner.ts"
import { splitRolloutId } from "../Schema/Primitives.ts"
import { type Dispatchable, type Hold, holdOf } from "./decide/Holds.ts"
import { channelsBefore } from "./decide/Order.ts"
import { viewOf } from "./decide/PlanView.ts"
import { at, type State } from "./State.ts"

/** What one pass said of the channels that it looked at. */
interface Pass {
  readonly verdicts: ReadonlyMap<string, { readonly rolloutId: string; readonly verdict: Hold }>
  readonly flights: FlightCount
  /** Rollouts that the next pass of the planner opens, or opens again. */
  readonly opening: ReadonlySet<string>
}

export class Outlook {
  readonly state: State
  /** Epoch ms. */
  readonly now: number
  readonly #passes = new Map<string, Pass>()

  /** `channels`: looked at together; others when they are asked about. */
  constructor(state: State, now: number, channels: ReadonlyArray<string> = []) {
    this.state = state
    this.now = now
    if (channels.length > 0) this.#look(channels)
  }

  /** What the planner's next pass would say of this host in this rollout, after its own actions. */
  verdictOf({ host, rolloutId }: Pick<Dispatchable, "host" | "rolloutId">): Hold | undefined {
    const found = this.#passOf(splitRolloutId(rolloutId).channel).verdicts.get(host)
    return found?.rolloutId === rolloutId ? found.verdict : undefined
  }

  /** What keeps this dispatch from its host now: gates, budgets, and what only concerns the host. A leased one has left. */
  holdOf(row: Dispatchable): Hold | undefined {
    const verdict = this.verdictOf(row)
    if (verdict !== undefined) return verdict
    const queued = at(this.state.queue, row.host)
    if (queued?.rolloutId === row.rolloutId && queued.lease !== undefined) return undefined
    return holdOf(this.state, this.now, row, this.#passOf(splitRolloutId(row.rolloutId).channel).flights)
  }

  /** Whether the next pass of the planner opens this rollout: what is recorded of it now is of an older attempt. */
  isOpening(rolloutId: string): boolean {
    return this.#passOf(splitRolloutId(rolloutId).channel).opening.has(rolloutId)
  }

  #passOf(channel: string): Pass {
    return this.#passes.get(channel) ?? this.#look([channel])
  }

  #look(channels: ReadonlyArray<string>): Pass {
    const all = withPredecessors(this.state, channels)
    const view = viewOf(this.state, this.now, all)
    const { actions, verdicts } = plan(view)
    const pass = {
      verdicts: new Map(verdicts.map(({ hostname, rolloutId, verdict }) => [hostname, { rolloutId, verdict }])),
      flights: view.flights,
      opening: new Set(actions.flatMap(opens))
    }
    for (const channel of all) this.#passes.set(channel, pass)
    return pass
  }
}

const opens = (action: PlanAction): ReadonlyArray<string> =>
  action._tag === "Open" || action._tag === "Reopen" ? [action.rollout.rolloutId] : []

/** What a channel waits for is planned in the same pass, as a tick does: a rollout that is complete by now lets it begin. */
function withPredecessors({ artifacts }: State, channels: ReadonlyArray<string>): ReadonlyArray<string> {
  const all = new Set(channels)
  // What is added while a set is walked is walked too.
  for (const channel of all) {
    if (artifacts === undefined) break
    for (const { gates } of channelsBefore(artifacts.fleet.value, channel)) all.add(gates)
  }
  return [...all]
}
