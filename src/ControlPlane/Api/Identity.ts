/**
 * Who a certificate stands for (D16): decided by its subject, for every request anew, because a resumed TLS session skips the
 * checks that a full handshake makes. Pure.
 */
import { Schema } from "effect"
import type { Peer } from "../../Layers/Net/Exchange.ts"
import { operatorUnit } from "../../Schema/Identity.ts"
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

/** What tells hosts and operators apart. */
export interface Roles {
  readonly agentSuffix: string
  /** Names of operators whose certificates do not say that they are one, as those of the original. */
  readonly operatorNames: ReadonlySet<string>
  /** Hosts of the fleet, also such as have left it. */
  readonly isHost: (name: string) => boolean
}

/**
 * `agent-<host>.<suffix>` is that host. An operator's certificate says so in its unit, which no host's ever has, or its name is
 * one that the configuration lists. Everybody else is nobody; so is a certificate that says two things, and an operator's with
 * the name of a host, as certificates of older fleets have it.
 */
export function identify(
  peer: Peer | undefined,
  now: Millis,
  { agentSuffix, isHost, operatorNames }: Roles
): Identified {
  if (peer?.commonName === undefined) return { ok: false, status: 401, reason: "no-client-certificate" }
  if (now < peer.notBefore || now > peer.notAfter) return { ok: false, status: 401, reason: "certificate-expired" }
  const { commonName, notBefore: issuedAt, unit } = peer
  const saysOperator = unit === operatorUnit
  const host = hostOfCommonName(commonName, agentSuffix)
  if (host !== undefined && !saysOperator) return { ok: true, identity: { role: "agent", host, commonName, issuedAt } }
  // Names of hosts are DNS names: their case means nothing.
  const isOperator = (saysOperator || operatorNames.has(commonName)) &&
    !commonName.toLowerCase().startsWith(agentPrefix) && !isHost(commonName)
  return isOperator
    ? { ok: true, identity: { role: "operator", commonName, issuedAt } }
    : { ok: false, status: 403, reason: "certificate-of-no-role" }
}
