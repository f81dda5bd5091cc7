/**
 * Who a certificate stands for (D16): decided by the shape of its common name, for every request anew, because a resumed TLS
 * session skips the checks that a full handshake makes. Pure.
 */
import { Schema } from "effect"
import type { Peer } from "../../Layers/Net/Exchange.ts"
import { Hostname } from "../../Schema/Primitives.ts"
import type { Millis } from "../../Schema/Primitives.ts"
import type { Reason } from "../../Schema/Reasons.ts"

export type Identity =
  | { readonly role: "agent"; readonly host: string; readonly commonName: string; readonly issuedAt: Millis }
  | { readonly role: "operator"; readonly commonName: string; readonly issuedAt: Millis }

export type Identified =
  | { readonly ok: true; readonly identity: Identity }
  /** 401: the certificate proves nothing. 403: it proves a name that may do nothing here. */
  | { readonly ok: false; readonly status: 401 | 403; readonly reason: Reason }

const isHostname = Schema.is(Hostname)
const agentPrefix = "agent-"

/** The host in `agent-<host>.<suffix>`; `undefined` for another shape. */
export function hostOfCommonName(commonName: string, agentSuffix: string): string | undefined {
  const tail = `.${agentSuffix}`
  if (!commonName.startsWith(agentPrefix) || !commonName.endsWith(tail)) return undefined
  const host = commonName.slice(agentPrefix.length, -tail.length)
  return isHostname(host) ? host : undefined
}

/**
 * Any name that is no agent's is an operator's, save two: one that looks like an agent of another fleet, and one that equals a
 * host's, as certificates of older fleets do, also when that host has left the fleet. Either would let a host read what is for
 * operators.
 */
export function identify(
  peer: Peer | undefined,
  now: Millis,
  agentSuffix: string,
  isHost: (name: string) => boolean
): Identified {
  if (peer?.commonName === undefined) return { ok: false, status: 401, reason: "no-client-certificate" }
  if (now < peer.notBefore || now > peer.notAfter) return { ok: false, status: 401, reason: "certificate-expired" }
  const { commonName, notBefore: issuedAt } = peer
  const host = hostOfCommonName(commonName, agentSuffix)
  if (host !== undefined) return { ok: true, identity: { role: "agent", host, commonName, issuedAt } }
  // Names of hosts are DNS names: their case means nothing.
  if (commonName.toLowerCase().startsWith(agentPrefix) || isHost(commonName)) {
    return { ok: false, status: 403, reason: "certificate-of-no-role" }
  }
  return { ok: true, identity: { role: "operator", commonName, issuedAt } }
}
