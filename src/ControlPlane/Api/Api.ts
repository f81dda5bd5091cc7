/** What the routes stand on: each part is a service of the program, given as a value so that a test can give another. */
import type { Effect } from "effect"
import type { ExchangeRequest } from "../../Layers/Net/Exchange.ts"
import type {
  ChannelView,
  HostsResponse,
  RolloutEvents,
  RolloutHosts,
  RolloutLifecycle,
  RolloutList
} from "../../Schema/OperatorViews.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import type { Inbox } from "../Inbox.ts"
import type { Capabilities } from "../Input.ts"
import type { JournalUnusable } from "../Journal.ts"
import type { State } from "../State.ts"
import type { Waiters } from "../Waiters.ts"
import type { Identity } from "./Identity.ts"

/** One page of a rollout's event log, ascending. */
export interface EventsPage {
  readonly rolloutId: string
  /** At least 1, at most `eventsPageLimit`. */
  readonly limit: number
  /** Only rows after this position; 0 from the start. */
  readonly afterSeq: number
}

/** What operators see, as pure projections of a published state (`Views.ts`). `undefined`: there is no such thing. */
export interface Projections {
  /** `only`: one host's entry, if there is one. */
  readonly hosts: (state: State, only?: string) => HostsResponse
  readonly rollouts: (state: State) => RolloutList
  readonly rolloutHosts: (state: State, rolloutId: string, only?: string) => RolloutHosts | undefined
  readonly lifecycle: (state: State, rolloutId: string) => RolloutLifecycle | undefined
  readonly channel: (state: State, channel: string) => ChannelView | undefined
}

export interface Api {
  readonly inbox: Pick<Inbox["Service"], "event" | "heartbeat" | "offer">
  readonly waiters: Pick<Waiters["Service"], "open" | "close">
  /** The published state. */
  readonly state: () => State
  readonly projections: Projections
  readonly eventLog: (page: EventsPage) => Effect.Effect<RolloutEvents, JournalUnusable>
  /** What follows `agent-<host>.` in the common names of hosts. */
  readonly agentSuffix: string
  /** Refuse requests without `X-Nixfleet-Protocol` (control-plane.md §1.5). */
  readonly strict: boolean
  readonly version: string
}

/** A request that came through the door: who asks, and what its peer understands. */
export interface Call {
  readonly request: ExchangeRequest
  readonly identity: Identity
  readonly capabilities: Capabilities
  /** The one parameter of the path, or "". */
  readonly parameter: string
  readonly query: URLSearchParams
  /** A line for the operator, as many as one peer may cause. */
  readonly note: (reason: Reason, message: string, detail: string) => Effect.Effect<void>
}
