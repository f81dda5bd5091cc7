/**
 * Which certificates count, and who may have one (control-plane.md §8, D16). What the signatures of tokens and requests prove
 * is proven before; here is what the fleet, the lists and the journal say.
 */
import type { BootstrapNonces, FleetHost, Revocations } from "../../Schema/Artifacts.ts"
import type { IdentityFact, NoncesInForce, RevocationsInForce } from "../../Schema/ControlPlaneJournal.ts"
import { formatTimestamp, type Millis } from "../../Schema/Primitives.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import { keyFingerprint } from "../../Trust/BootstrapToken.ts"
import { rawOpenSshKey } from "../../Trust/OpenSshPublicKey.ts"
import type { About, Draft } from "../Draft.ts"
import { beginning, isRevoked } from "../Identities.ts"
import type { CertificateIssued, EnrollmentAsked, IssuanceAnswer, Verified } from "../Input.ts"
import { at, declaredHost, type State } from "../State.ts"
import { endRevoked } from "./Dispatch.ts"

type Denied = Extract<IssuanceAnswer, { readonly _tag: "Denied" }>

const granted: IssuanceAnswer = { _tag: "Granted" }
const denied = (reason: Reason, detail: string): Denied => ({ _tag: "Denied", reason, detail })

const record = (draft: Draft, about: About, payload: IdentityFact) => draft.record(about, { kind: "identity", payload })

/** The whole list at once; polls that wait with a certificate which is void now end (D16). */
export function decideRevocations(draft: Draft, { hash, signedAt, value }: Verified<Revocations>): void {
  if (draft.state.identities.revocations?.list.hash === hash) return
  const revocations = value.revocations.map(({ hostname, notBefore, reason, revokedBy }) => ({
    hostname,
    notBefore,
    ...(reason === null ? {} : { reason }),
    ...(revokedBy === null ? {} : { revokedBy })
  }))
  const list: RevocationsInForce = { signedAt, hash, revocations }
  record(draft, {}, { fact: "RevocationsInForce", list })
  const count = `${revocations.length} hosts, signed at ${formatTimestamp(signedAt)}`
  draft.log("revocations", "info", "a list of revocations is in force", { hash, detail: count })
  for (const host of new Set(revocations.map(({ hostname }) => hostname))) {
    const parked = at(draft.state.parked, host)
    if (parked === undefined || !isRevoked(draft.state.identities, host, parked.issuedAt)) continue
    draft.unpark(host)
    endRevoked(draft, host, parked.waiterId)
  }
}

export function decideNonces(draft: Draft, { hash, signedAt, value }: Verified<BootstrapNonces>): void {
  if (draft.state.identities.nonces?.list.hash === hash) return
  const nonces = value.bootstrapNonces.map(({ expiresAt, hostname, nonce }) => ({ nonce, hostname, expiresAt }))
  const list: NoncesInForce = { signedAt, hash, nonces }
  record(draft, {}, { fact: "NoncesInForce", list })
  const count = `${nonces.length} tokens, signed at ${formatTimestamp(signedAt)}`
  draft.log("bootstrap_nonces", "info", "a list of bootstrap nonces is in force", { hash, detail: count })
}

/**
 * Burns the token for this key, before anything is signed (C-W29): whoever else has the token is too late from here on, while
 * the host itself may ask again when its answer was lost or the signing failed.
 */
export function decideEnrollment(draft: Draft, { claims, key }: EnrollmentAsked): IssuanceAnswer {
  const { hostname: host, nonce } = claims
  const refusal = nonceRefusal(draft.state, host, nonce, draft.now) ?? holderRefusal(draft.state, host, key, draft.now)
  if (refusal !== undefined) return refusal
  const fingerprint = keyFingerprint(key)
  const use = at(draft.state.identities.used, nonce)
  if (use === undefined) record(draft, { host }, { fact: "NonceUsed", use: { nonce, host, fingerprint } })
  else if (use.fingerprint !== fingerprint) return denied("nonce-used", `nonce ${nonce} was used by ${use.host}`)
  return granted
}

/** What was signed meanwhile is given out only if it is still to be had, and not before it is on record. */
export function decideIssued(draft: Draft, { issued }: CertificateIssued): IssuanceAnswer {
  const { by, commonName, fingerprint, host, notAfter, notBefore, serial } = issued
  const { identities } = draft.state
  if (by.request === "renew" && isRevoked(identities, host, by.notBefore)) {
    return denied("certificate-revoked", `${host} was revoked while its certificate was renewed`)
  }
  record(draft, { host }, { fact: "CertificateIssued", issued })
  draft.log("issuance", "info", "a certificate is issued", {
    hostname: host,
    kind: by.request,
    detail: `${commonName}, serial ${serial}, key ${fingerprint}, ` +
      `${formatTimestamp(notBefore)} to ${formatTimestamp(notAfter)}`
  })
  return granted
}

function nonceRefusal({ identities }: State, host: string, nonce: string, now: Millis): Denied | undefined {
  if (identities.nonces === undefined) return denied("nonce-list-absent", "")
  const entry = at(identities.nonces.entries, nonce)
  if (entry === undefined) return denied("nonce-not-listed", `nonce ${nonce} of ${host}`)
  if (entry.hostname !== host) return denied("nonce-other-host", `nonce ${nonce} is for ${entry.hostname}, not ${host}`)
  return now <= entry.expiresAt
    ? undefined
    : denied("nonce-expired", `nonce ${nonce} of ${host} expired at ${formatTimestamp(entry.expiresAt)}`)
}

/** Why this key may not have a certificate of this host now: the fleet file says whose key is whose. */
export function holderRefusal(state: State, host: string, key: Uint8Array, now: Millis): Denied | undefined {
  const declared = declaredHost(state, host)
  if (declared === undefined) return denied("host-not-declared", host)
  const expected = declaredKey(declared)
  if (expected === undefined) return denied("host-key-not-declared", host)
  if (!Buffer.from(expected).equals(key)) return denied("host-key-differs", host)
  return isRevoked(state.identities, host, beginning(now))
    ? denied("certificate-revoked", `certificates of ${host} count only from a later time on`)
    : undefined
}

const declaredKey = ({ pubkey }: FleetHost): Uint8Array | undefined =>
  pubkey === null ? undefined : rawOpenSshKey(pubkey)
