/**
 * What may be put on the control plane's one queue, what comes back to the one who put it there, and what the loop is told
 * to do after the commit (house rule 1). Every outside fact travels as one of these; the decision is in `Decide.ts`.
 *
 * Owns no behaviour. A new source of facts starts here.
 */
import type { BootstrapNonces, FleetResolved, Revocations, RolloutManifest } from "../Schema/Artifacts.ts"
import type { Issued } from "../Schema/ControlPlaneJournal.ts"
import type { TokenClaims } from "../Schema/Enrollment.ts"
import type { ActionTaken, OperatorAction } from "../Schema/Interventions.ts"
import type { LogMessage, LogTarget } from "../Schema/Logs.ts"
import type { Millis } from "../Schema/Primitives.ts"
import type { Reason } from "../Schema/Reasons.ts"
import type {
  AgentEventEnvelope,
  Capability,
  DispatchResponse,
  HeartbeatRequest,
  HeartbeatResponse,
  Taken
} from "../Schema/Wire.ts"

/** A signed artifact that verified: the value was decoded from exactly `bytes` (house rule 9). */
export interface Verified<A> {
  readonly value: A
  /** As received; served to agents byte for byte. */
  readonly bytes: Uint8Array
  /** The 64 raw bytes of the `.sig` file. */
  readonly signature: Uint8Array
  /** Lower-case hex SHA-256 of the canonical form. */
  readonly hash: string
  readonly signedAt: Millis
}

/** Fleet and manifests as one unit (D14): every manifest names this fleet's hash. */
export interface VerifiedArtifacts {
  readonly fleet: Verified<FleetResolved>
  /** By rollout id, at most one of each channel; a channel with no host to roll out has none (D15). */
  readonly manifests: ReadonlyMap<string, Verified<RolloutManifest>>
}

/** What a peer announced in `X-Nixfleet-Capabilities`; empty for agents of the original (D3). */
export type Capabilities = ReadonlySet<Capability>

/** A new verified unit; offered only when something differs from the unit before. */
export interface ArtifactsVerified {
  readonly _tag: "ArtifactsVerified"
  readonly artifacts: VerifiedArtifacts
}

/** An artifact that was refused: an audit row, nothing else; the last good unit stays in force (D15). */
export interface ArtifactRefused {
  readonly _tag: "ArtifactRefused"
  /** `fleet.resolved`, a rollout id, or another artifact's name. */
  readonly artifact: string
  /** A name of the catalogue, e.g. `rolled-back`. */
  readonly reason: string
  readonly detail: string
}

/** A verified list of revocations; it replaces the one in force as a whole. */
export interface RevocationsVerified {
  readonly _tag: "RevocationsVerified"
  readonly list: Verified<Revocations>
}

/** A verified list of bootstrap nonces; it replaces the one in force as a whole. */
export interface NoncesVerified {
  readonly _tag: "NoncesVerified"
  readonly list: Verified<BootstrapNonces>
}

/** `POST /v1/enroll`: an organisation root key signed the claims, and the request was made with the key that they name. */
export interface EnrollmentAsked {
  readonly _tag: "EnrollmentAsked"
  readonly claims: TokenClaims
  /** The 32 raw bytes of the request's ed25519 key. */
  readonly key: Uint8Array
}

/** A certificate was signed, and waits to be given out until it is on record. */
export interface CertificateIssued {
  readonly _tag: "CertificateIssued"
  readonly issued: Issued
}

/** `POST /v1/agent/events`, decoded; the certificate's machine id equals `envelope.hostname`. */
export interface EventReceived {
  readonly _tag: "EventReceived"
  readonly envelope: AgentEventEnvelope
  /** RFC 8785 text of the envelope's `event` object as it was received: what the journal keeps. */
  readonly canonical: string
  /** Lower-case hex SHA-256 of `canonical`: what tells a duplicate from a forgery (D2). */
  readonly hash: string
  readonly capabilities: Capabilities
}

/** `POST /v1/agent/heartbeat`, decoded; the certificate's machine id equals `heartbeat.hostname`. */
export interface HeartbeatReceived {
  readonly _tag: "HeartbeatReceived"
  readonly heartbeat: HeartbeatRequest
  readonly capabilities: Capabilities
  /** Of the certificate. */
  readonly issuedAt: Millis
}

/**
 * A poll waits (`GET /v1/agent/dispatch`). The route has registered `waiterId` at `Waiters` before it offers this, so that a
 * completion can never come too early. Every answer to the poll comes through the waiter, at once or later.
 */
export interface Parked {
  readonly _tag: "Parked"
  readonly host: string
  readonly waiterId: number
  readonly capabilities: Capabilities
  /** When the certificate that asks was issued: a revocation ends the poll. */
  readonly issuedAt: Millis
  /** What the agent said that it took last; absent for one that does not say so. */
  readonly taken?: Taken
  /** When the sweeper answers the poll with "no work": wall clock, 54–60 s from its arrival (D9). */
  readonly until: Millis
}

/**
 * A poll was aborted before its waiter was completed, or before its answer was written: a lease that was given to this waiter
 * is released (D8).
 */
export interface Unparked {
  readonly _tag: "Unparked"
  readonly host: string
  readonly waiterId: number
}

/** `POST /v1/operator/actions`, decoded; `actor` is the common name of the certificate. */
export interface ActionAsked {
  readonly _tag: "ActionAsked"
  readonly action: OperatorAction
  readonly actor: string
}

/** Safety net of the planner, and its kick: every channel is looked at again. */
export interface PlanTick {
  readonly _tag: "PlanTick"
}

/** Ends leases and waiters whose time is over. */
export interface LeaseSweep {
  readonly _tag: "LeaseSweep"
}

export type Input =
  | ArtifactsVerified
  | ArtifactRefused
  | RevocationsVerified
  | NoncesVerified
  | EnrollmentAsked
  | CertificateIssued
  | EventReceived
  | HeartbeatReceived
  | Parked
  | Unparked
  | ActionAsked
  | PlanTick
  | LeaseSweep

/**
 * The answer to an event (D4). Statuses are the route's: `Applied` and `Duplicate` 204; `Refused` 409 (`guard`) or 422
 * (`illegal`), and 204 to a peer without `verdicts`; `Gap` 425; `NotReady` 503. A refusal is already durable.
 */
export type EventAnswer =
  | { readonly _tag: "Applied" }
  | { readonly _tag: "Duplicate" }
  | { readonly _tag: "Refused"; readonly reason: Reason; readonly class: "guard" | "illegal" }
  /** `replayFrom`: the first sequence number that is missing. Given only to peers that keep a journal. */
  | { readonly _tag: "Gap"; readonly replayFrom: number }
  /** No artifact is verified yet, so a rollout that is not known may still be opened: try again. */
  | { readonly _tag: "NotReady" }

/** The answer to a heartbeat: the body, and the value of `X-Nixfleet-Replay-From` for the rollout it named (D6). */
export interface HeartbeatAnswer {
  readonly _tag: "Heartbeat"
  readonly response: HeartbeatResponse
  readonly replayFrom?: number
}

/** Whether a certificate may be issued, or given out; why not. `Granted` is durable. */
export type IssuanceAnswer =
  | { readonly _tag: "Granted" }
  | { readonly _tag: "Denied"; readonly reason: Reason; readonly detail: string }

/** What an operator's action did, durable; or why it was not done: no such thing, not in this state, a time that cannot be. */
export type ActionAnswer =
  | { readonly _tag: "Taken"; readonly taken: ActionTaken }
  | {
    readonly _tag: "NotTaken"
    readonly because: "unknown" | "not-now" | "impossible"
    readonly reason: Reason
    readonly detail: string
  }

export type Answer = EventAnswer | HeartbeatAnswer | IssuanceAnswer | ActionAnswer | { readonly _tag: "Done" }

/**
 * How a parked poll ends. `Dispatch` 200; `Nothing` (time over, or a newer poll of this host) 204; `Revoked` 401; `Draining`
 * 503.
 */
export type PollAnswer =
  | { readonly _tag: "Dispatch"; readonly dispatch: DispatchResponse }
  | { readonly _tag: "Nothing" }
  | { readonly _tag: "Revoked" }
  | { readonly _tag: "Draining" }

/** What `Apply` does after the commit: synchronous and total, never offers to the queue (house rule 5). */
export type Action =
  /** Ends exactly one poll; a waiter that is gone is ignored. */
  | { readonly _tag: "CompleteWaiter"; readonly host: string; readonly waiterId: number; readonly answer: PollAnswer }
  /** One line for the operator; the durable copy is in the event log. */
  | { readonly _tag: "Log"; readonly target: LogTarget; readonly entry: LogMessage }
