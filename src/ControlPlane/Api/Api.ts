/** What the routes stand on: each part is a service of the program, given as a value so that a test can give another. */
import { type Effect, Schema } from "effect"
import type { TrustFileUnreadable } from "../../Layers/Disk/TrustFile.ts"
import type { ExchangeRequest } from "../../Layers/Net/Exchange.ts"
import type { ActionsResponse } from "../../Schema/Interventions.ts"
import type {
  ChannelView,
  Explanation,
  HostsResponse,
  RolloutEvents,
  RolloutHosts,
  RolloutLifecycle,
  RolloutList
} from "../../Schema/OperatorViews.ts"
import type { Millis } from "../../Schema/Primitives.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import type { KeySlot } from "../../Schema/Trust.ts"
import type { Inbox } from "../Inbox.ts"
import type { Capabilities } from "../Input.ts"
import type { IssuanceService } from "../Issuance.ts"
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

/** What operators see, as pure projections of a published state and the time (`Views.ts`). `undefined`: there is no such thing. */
export interface Projections {
  /** `only`: one host's entry, if there is one. */
  readonly hosts: (state: State, now: Millis, only?: string) => HostsResponse
  readonly why: (state: State, now: Millis, host: string) => Explanation | undefined
  readonly rollouts: (state: State) => RolloutList
  readonly rolloutHosts: (state: State, now: Millis, rolloutId: string, only?: string) => RolloutHosts | undefined
  readonly lifecycle: (state: State, rolloutId: string) => RolloutLifecycle | undefined
  readonly channel: (state: State, channel: string) => ChannelView | undefined
}

/** The trust file is there and is none, or it names no key that signs bootstrap tokens. */
export class TrustFileInvalid extends Schema.TaggedError<TrustFileInvalid>()("TrustFileInvalid", {
  reason: Schema.Literals(["trust-file-invalid", "no-trust-roots"]),
  message: Schema.String
}) {}

export interface Api {
  readonly inbox: Pick<Inbox["Service"], "action" | "event" | "heartbeat" | "issuance" | "offer">
  readonly waiters: Pick<Waiters["Service"], "open" | "close">
  /** The published state. */
  readonly state: () => State
  readonly projections: Projections
  readonly eventLog: (page: EventsPage) => Effect.Effect<RolloutEvents, JournalUnusable>
  /** What operators did last, newest first. */
  readonly recentActions: Effect.Effect<ActionsResponse["recent"], JournalUnusable>
  /** The page of a scrape. */
  readonly metrics: Effect.Effect<string, JournalUnusable>
  /** Absent where this control plane has no authority to issue certificates with. */
  readonly issuance: IssuanceService | undefined
  /** The organisation root keys, read anew from the trust file for each enrollment. */
  readonly tokenKeys: Effect.Effect<KeySlot, TrustFileUnreadable | TrustFileInvalid>
  /** Common names of operators whose certificates do not say that they are one. */
  readonly operatorNames: ReadonlySet<string>
  /** What follows `agent-<host>.` in the common names of hosts. */
  readonly agentSuffix: string
  /** Refuse requests without `X-Nixfleet-Protocol`, and serve nothing before a list of revocations is in force (control-plane.md §1.5). */
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
