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
  "wrong-attempt": "the event belongs to another attempt of this rollout",
  // Why a host's rollout failed, in its digest (D6)
  "activation-failed": "the closure could not be activated",
  "boot-loop": "the host was booted again and again before the activation was settled",
  "closure-drift": "somebody else switched the host while it soaked",
  "guard-fired": "the agent gave no sign of life, and the guard took the host back",
  "sustained-failure": "an enforced probe failed for too long",
  // Why the agent holds what it owes (D10, D11); `closure-drift` above is one of them too
  "no-rollback-target": "the policy asks for a rollback, but there is no earlier closure to go back to",
  "rollback-exhausted": "the rollback failed as often as it may be tried: a person is needed",
  "rollback-waits": "the last rollback failed and the next one waits",
  "running-closure-unknown": "what runs on the host could not be read",
  "switch-unread": "the result of a switch was not read yet",
  // The agent's probes
  "probe-failed-before": "the probe failed before the switch already, so going back could not help",
  "probe-inconclusive": "the probe could not be run, which says nothing about the release",
  // The agent's activation
  "fetch-failed": "the closure cannot be fetched now, and is tried again",
  "guard-acts": "a guard that has fired is still taking the host back",
  "guard-not-armed": "the guard that would take the host back without the agent could not be armed",
  "guard-stale": "a guard fired for an activation that is not the current one",
  "guard-unreadable": "the state of the guard could not be read",
  // The agent's clock (D12)
  "clock-stepped": "the wall clock was set while a rollout was under way",
  // The agent's journal
  "journal-of-other-host": "the journal was written under another machine id",
  "journal-unreadable": "the journal holds something that this program did not write",
  "never-acknowledged": "rows of an old rollout were never acknowledged, and are given up to bound the journal",
  // Inputs refused by the agent's reducer
  "attempts-exhausted": "the switch of this attempt was started as often as it may be",
  "invalid-event": "what a worker saw does not fit the wire's limits",
  "not-oldest": "the delivered row is not the oldest undelivered one of its rollout",
  "other-target": "this attempt of the rollout already goes to another closure",
  "record-closed": "a newer rollout closed this record, so it causes nothing more",
  "seq-regression": "the event's sequence number is not above the record's last one",
  "stale-sample": "the probe ran before the activation that it is meant to judge",
  "superseded": "a newer rollout, or a newer attempt, was accepted on this host",
  "undeclared-probe": "the probe is not in the declared topology",
  "shutting-down": "the process is stopping and takes no more inputs",
  // Signed artifacts (protocol.md §8.8, D13, D14)
  "artifact-not-canonicalizable": "readers would differ about the JSON: a key stands twice, or a number has no double",
  "artifact-unparsable": "the bytes are not JSON of the artifact's shape",
  "bad-signature": "no trusted key made this signature over these bytes",
  "future-dated": "the artifact was signed in the future",
  "manifest-host-missing": "the manifest does not list this host",
  "manifest-other-fleet": "the manifest was made from another fleet than the verified one",
  "manifest-other-rollout": "the manifest belongs to another rollout than the one asked for",
  "manifest-other-target": "the manifest names another closure for this host than the dispatch",
  "no-trust-roots": "the trust file has no key that is active now",
  "not-signed": "the artifact does not say when it was signed",
  "rejected-before-timestamp": "the artifact was signed before the time from which its key is believed",
  "rolled-back": "a newer artifact was accepted before: this one is a replay",
  "schema-version-unsupported": "the artifact has a version that this program does not know",
  "stale": "the artifact was signed longer ago than its channel allows",
  "unsupported-algorithm": "no trusted key has an algorithm that this program knows",
  "trust-file-invalid": "the trust file is not JSON of the expected shape",
  "trust-file-unreadable": "the trust file could not be read",
  // Certificates that are issued here (control-plane.md §8)
  "certificate-refused": "the control plane will not give this host a certificate",
  "certificate-unusable": "the certificate or its key cannot be used",
  "certificate-missing": "this host has no certificate, and no bootstrap token to get one with",
  "host-key-differs": "the key of the request is not the one that the fleet declares for the host",
  "host-key-not-declared": "the fleet declares no key for the host, so nobody may have a certificate in its name",
  "host-not-declared": "the fleet declares no host of this name",
  "issuance-not-configured": "this control plane has no authority to issue certificates with",
  "issue-failed": "the certificate could not be signed",
  "issuer-unusable": "the authority that issues certificates cannot be used",
  "request-key-type": "the key of a host's certificate must be ed25519",
  "request-malformed": "the certificate request cannot be read, or is not signed with its own key",
  "request-other-key": "the certificate request has another key than the one that its bootstrap token is for",
  "request-other-name": "the certificate request names another host than the one that asks",
  "sign-command-failed": "the command that signs did not make a signature",
  // Bootstrap tokens (control-plane.md §8)
  "nonce-expired": "the token's entry on the list of bootstrap nonces has expired",
  "nonce-list-absent": "no list of bootstrap nonces was ever published, so nobody can enroll",
  "nonce-not-listed": "the token is not on the list of bootstrap nonces",
  "nonce-other-host": "the token is on the list of bootstrap nonces for another host",
  "nonce-used": "the token was used already, with another key",
  "token-expired": "the bootstrap token has expired",
  "token-not-yet-valid": "the bootstrap token was issued in the future: one of the two clocks is wrong",
  "token-shape": "the claims of the bootstrap token cannot be read",
  "token-version": "the bootstrap token has a version that this program does not know",
  // What the agent met at its control plane (D5, D8, D9)
  "artifact-unavailable": "the control plane does not serve the artifact",
  "control-plane-unreachable": "no complete answer arrived",
  "dispatch-other-host": "the dispatch is for another host",
  "malformed-answer": "the answer cannot be read",
  "no-verdict": "the event was not taken, and no verdict says why",
  "policy-missing": "the fleet has no policy for the channel: without one nothing is activated",
  "unexpected-status": "the answer has a status that means nothing here",
  // Requests refused by the control plane's routes
  "body-not-json": "the body is not strict JSON",
  "body-shape": "the body is JSON of another shape than this route takes",
  "body-too-large": "the body is larger than this route takes",
  "certificate-expired": "the client certificate is not valid at this time",
  "certificate-of-no-role": "the client certificate names neither a host of this fleet nor an operator",
  "certificate-revoked": "the host's certificates issued before a time are void, and this is one of them",
  "channel-unknown": "no channel of this name is in the fleet file in force",
  "content-type": "the body is not announced as application/json",
  "event-shape": "the event's kind or fields cannot be read",
  "hostname-differs": "a host asked or spoke for another host",
  "method-not-allowed": "the path does not take this method",
  "no-client-certificate": "no certificate of the client authority was presented",
  "not-ready": "no signed artifact is verified yet",
  "over-allowance": "one host asks for more than its share; try again later",
  "path-unknown": "there is no such path",
  "protocol-malformed": "the protocol header is not a number",
  "protocol-missing": "the protocol header is required and was not sent",
  "protocol-unsupported": "the peer speaks another version of the protocol",
  "query-invalid": "a query parameter has another form than this route takes",
  "queue-full": "too many inputs wait to be decided; try again",
  "reducer-late": "no decision was made in time; it may still be made",
  "role-not-agent": "only a host's certificate may do this",
  "role-not-operator": "only an operator's certificate may read this",
  "rollout-malformed": "the path names no rollout: expected <channel>@<ref>",
  "rollout-unknown": "there is no such rollout",
  // Why a host waits for its dispatch (D17)
  "already-there": "the host says that it has gone further than its events tell",
  "attempt-not-supported": "the host's agent does a rollout once, and this would be a further attempt",
  "awaiting-replay": "the host has events that are not here yet",
  "lease-expired": "the dispatch was not acknowledged in time, and is offered again",
  "poll-aborted": "the poll ended before the dispatch was written, which is offered again",
  "quarantine": "the release or its closure failed on a host for its own fault",
  "recovery": "the database is new and not every host of the channel has reported",
  "rejected-by-host": "the host could not take its dispatch, and is asked again later",
  "rollout-state": "the rollout is halted or over",
  "wave-promotion": "an earlier wave is not complete",
  "wave-promotion-host-unstaged": "the rollout's manifest does not name the host",
  // Releases polled by the control plane
  "artifact-absent": "an artifact or its signature is not published",
  "artifact-too-large": "an artifact is larger than is read",
  "artifact-unreachable": "the place where releases are published could not be read",
  "artifact-unusable": "a verified release could not be put in force",
  // Network edge
  "handler-defect": "a request met a fault of the program and was answered 500",
  "listen-failed": "the address to listen on could not be taken",
  "tls-ca-missing": "no certificate authority is configured for the other end",
  "tls-file-invalid": "a certificate or key file does not hold what it should, or the two do not belong together",
  "tls-file-unreadable": "a certificate or key file could not be read",
  "tls-identity-incomplete": "a certificate is configured without its key, or a key without its certificate",
  "tls-insecure-url": "an address that is not encrypted needs the insecure option",
  "tls-url-invalid": "the address of the other end is not an https:// address",
  // Disk (D1, D14, D15)
  "cache-name-unsafe": "the name of a cached artifact cannot be a file name",
  "cache-unit-too-large": "what was fetched is larger than the cache takes",
  "cache-unreadable": "a cached artifact is damaged or cannot be read, and is fetched again",
  "cache-write-failed": "an artifact could not be written to the cache; the last good one stays",
  "database-corrupt": "the database file is damaged",
  "database-failed": "the database reported an error after which nobody knows what is durable",
  "database-foreign": "the file is the database of another program",
  "database-locked": "another process holds the database; everything waits for it",
  "database-other-major": "the database has another major version than this program",
  "disk-full": "the disk is full; everything waits until there is room",
  "disk-read-only": "the disk is read-only; everything waits until it can be written",
  "state-directory-locked": "another process uses the state directory",
  "state-directory-unreachable": "the state directory cannot be created or used",
  "state-directory-unsafe": "others may write the state directory",
  "trust-memory-unreadable": "the record of what was accepted last cannot be read",
  // The agent's host
  "host-unreadable": "something about the host could not be read, and counts as unknown",
  "store-not-cleaned": "closures that are not needed any more could not be deleted",
  "switch-not-ended": "a switch that should not go on could not be ended",
  // Differences and answers that the other end brings
  "digest-differs": "the agent's digest differs from the record here",
  "journal-replaced": "the host has a new journal, which does not know the rollout that is under way there",
  "reason-unknown": "the other end gave a reason that this program does not know",
  // Process (D18)
  "log-lines-lost": "nobody read the log fast enough",
  "notify-failed": "the service manager could not be told how the program is doing",
  "program-failed": "the program could not start, or could not go on",
  "worker-ended": "a worker ended, and the program ends with it"
} as const

export type Reason = keyof typeof reasons

/** The reason of that name; a peer may be newer, or say anything. */
export const knownReason = (text: string): Reason => isReason(text) ? text : "reason-unknown"

export const isReason = (text: string): text is Reason => Object.hasOwn(reasons, text)

/** The sentence of a reason; the name itself when it is not ours (a peer may be newer). */
export function describeReason(reason: string): string {
  const sentences: Readonly<Record<string, string>> = reasons
  return Object.hasOwn(sentences, reason) ? sentences[reason] ?? reason : reason
}
