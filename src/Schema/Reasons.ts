/**
 * The catalogue of reasons (house rule 10): every refusal, hold and failure has a name here, and ends in an event on the
 * wire or in a log line that carries it. Names are stable: operators alert on them.
 */

/** Reason → one sentence for a person. */
export const reasons = {
  // Events refused by the control plane (D4)
  "illegal-for-state": "the event is not legal in the record's state",
  "invariant": "a guard of the state machine refused the event",
  "other-bytes": "an event with this sequence number is already recorded with other content",
  "seq-gap": "events before this one are missing",
  "unknown-rollout": "the control plane has no record of this rollout for this host",
  "wrong-attempt": "the event belongs to another attempt of this rollout"
} as const

export type Reason = keyof typeof reasons

/** The sentence of a reason; the name itself when it is not ours (a peer may be newer). */
export function describeReason(reason: string): string {
  const sentences: Readonly<Record<string, string>> = reasons
  return Object.hasOwn(sentences, reason) ? sentences[reason] ?? reason : reason
}
