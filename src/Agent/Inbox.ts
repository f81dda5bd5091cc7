/**
 * Where workers put what they saw (house rules 1, 5). Owns nothing: the queue and the loop behind it are `Reducer.ts`, the
 * decision is `Decide.ts`, and `Core.ts` joins them.
 */
import { Context, type Effect } from "effect"
import type { Answer, Input } from "./Input.ts"

/** One host's burst in one rollout is about 32 inputs; doubled. Also the largest commit (house rule 5). */
export const inboxCapacity = 64

export class Inbox extends Context.Service<Inbox, {
  /**
   * Waits for room, then for the commit, and gives the answer. `shutting-down` when the program stops first: nothing then
   * says that the input is durable.
   */
  readonly ask: (input: Input) => Effect.Effect<Answer>
  /** Never succeeds while the program runs; dies with what ended the loop. For the supervisor (house rule 7). */
  readonly ended: Effect.Effect<void>
}>()("nixfleet/Agent/Inbox") {}
