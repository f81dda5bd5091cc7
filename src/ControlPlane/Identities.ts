/**
 * Who may hold a certificate, as the journal knows it: the two signed lists in force, the tokens that were used, and which
 * certificates were renewed from which (control-plane.md §8). Pure questions about it; what changes it is `fold/Identities.ts`.
 */
import { HashMap } from "effect"
import type { NoncesInForce, NonceUse, RenewalChain, RevocationsInForce } from "../Schema/ControlPlaneJournal.ts"
import type { Millis } from "../Schema/Primitives.ts"
import { at } from "./Maps.ts"

/** A list, and its entries by what they are looked up by: the host, the nonce. */
interface InForce<List, Entry> {
  readonly list: List
  readonly entries: HashMap.HashMap<string, Entry>
}

export interface Identities {
  /** Absent until a list was accepted; then there always is one, whatever becomes of the file (house rule 8). */
  readonly revocations?: InForce<RevocationsInForce, Millis>
  readonly nonces?: InForce<NoncesInForce, NoncesInForce["nonces"][number]>
  /** By nonce. Never forgotten: one for each token that an operator minted and a host used. */
  readonly used: HashMap.HashMap<string, NonceUse>
  /** By host, in the order of their beginning; at most `chainsLimit`. */
  readonly chains: HashMap.HashMap<string, ReadonlyArray<RenewalChain>>
}

/** Enrollments of one host that are told apart. What is older is one with the oldest of them: revoked rather than overlooked. */
export const chainsLimit = 8

export const noIdentities: Identities = { used: HashMap.empty(), chains: HashMap.empty() }

/** Of several entries for one host the strictest counts. */
export function revocationsInForce(list: RevocationsInForce): NonNullable<Identities["revocations"]> {
  const entries = list.revocations.reduce(
    (known, { hostname, notBefore }) =>
      HashMap.set(known, hostname, Math.max(notBefore, at(known, hostname) ?? notBefore)),
    HashMap.empty<string, Millis>()
  )
  return { list, entries }
}

export function noncesInForce(list: NoncesInForce): NonNullable<Identities["nonces"]> {
  return { list, entries: HashMap.fromIterable(list.nonces.map((entry) => [entry.nonce, entry] as const)) }
}

/** When a certificate that is issued now begins: certificates know only whole seconds. */
export const beginning = (now: Millis): Millis => Math.floor(now / 1000) * 1000

/** The chain that a certificate of this host, issued then, may belong to: of several the one that began first. */
export function chainOf({ chains }: Identities, host: string, issuedAt: Millis): RenewalChain | undefined {
  return at(chains, host)?.filter(({ firstAt, lastAt }) => firstAt <= issuedAt && issuedAt <= lastAt)
    .toSorted((a, b) => a.firstAt - b.firstAt)[0]
}

/**
 * Whether a host's certificate is void: it, or the one from which it was renewed, was issued before the time on the list
 * (protocol.md §8.3). Costs one look-up for a host that is not on it.
 */
export function isRevoked(identities: Identities, host: string, issuedAt: Millis): boolean {
  const { revocations } = identities
  const notBefore = revocations === undefined ? undefined : at(revocations.entries, host)
  if (notBefore === undefined) return false
  return issuedAt < notBefore || (chainOf(identities, host, issuedAt)?.firstAt ?? issuedAt) < notBefore
}

/**
 * The entry by which a host is kept out, as far as is known here: neither the certificate with which it was heard last nor one that it
 * enrolled for counts. `heardWith`: when the former was issued.
 */
export function revocationOf(
  identities: Identities,
  host: string,
  heardWith: Millis | undefined
): RevocationsInForce["revocations"][number] | undefined {
  const { chains, revocations } = identities
  const notBefore = revocations === undefined ? undefined : at(revocations.entries, host)
  if (revocations === undefined || notBefore === undefined) return undefined
  const isBelieved = (at(chains, host) ?? []).some(({ firstAt }) => firstAt >= notBefore)
    || (heardWith !== undefined && !isRevoked(identities, host, heardWith))
  return isBelieved
    ? undefined
    : revocations.list.revocations.find((entry) => entry.hostname === host && entry.notBefore === notBefore)
}
