/**
 * How a host gets its certificate, and the next one (control-plane.md §8.2, §8.4). Each check has its place in a fixed order and
 * its own reason. What a signature proves is checked first and here, so that whoever holds no signed token learns nothing
 * and costs the reducer nothing (C-W29); what the lists, the fleet and the journal say is the reducer's, in one commit.
 *
 * Nothing is given out before it is on record. Failures: 503 and `Retry-After` when nothing was decided; the same request may
 * then be sent again, also when the answer was lost.
 */
import { Clock, Effect, Result } from "effect"
import type { KeyObject } from "node:crypto"
import type { Issued } from "../../Schema/ControlPlaneJournal.ts"
import {
  type BootstrapToken,
  decodeEnrollRequest,
  decodeRenewRequest,
  encodeIssuedCertificate,
  type TokenClaims
} from "../../Schema/Enrollment.ts"
import { agentCommonName } from "../../Schema/Identity.ts"
import { describeReason, type Reason } from "../../Schema/Reasons.ts"
import { keyFingerprint, verifyToken } from "../../Trust/BootstrapToken.ts"
import { holderRefusal } from "../decide/Identities.ts"
import type { CertificateIssued, EnrollmentAsked } from "../Input.ts"
import type { IssuanceService } from "../Issuance.ts"
import { body, hostOf, retryLater } from "./AgentRoutes.ts"
import type { Api, Call } from "./Api.ts"
import { bare, json, refuse } from "./Reply.ts"

/** Says why in the body: a person at the host has nothing else to go by. */
const refused = (reason: Reason, detail: string, status: number, headers: Readonly<Record<string, string>> = {}) =>
  refuse(reason, detail, json(status, { error: describeReason(reason), reason }, headers))

/** What the reducer denies is 401, as in control-plane.md §8.2, save what is too late, and what time may still mend. */
const deniedStatus: Partial<Record<Reason, number>> = {
  "certificate-revoked": 503,
  "nonce-list-absent": 503,
  "nonce-used": 409
}

const denied = ({ detail, reason }: { readonly reason: Reason; readonly detail: string }) => {
  const status = deniedStatus[reason] ?? 401
  return refused(reason, detail, status, status === 503 ? retryLater : {})
}

const issuanceOf = ({ issuance }: Api) =>
  issuance === undefined
    ? Effect.fail(refused("issuance-not-configured", "no authority is configured", 501))
    : Effect.succeed(issuance)

interface Wanted {
  readonly host: string
  readonly publicKey: KeyObject
  readonly key: Uint8Array
}

/** 400: the request itself. `wrongName`: the status when it names another host than the one that may ask (C-W20). */
const wanted = Effect.fnUntraced(function*(
  api: Api,
  { rawKey, readRequest }: IssuanceService,
  csrPem: string,
  host: string,
  wrongName: 401 | 403
) {
  const request = readRequest(csrPem)
  if (Result.isFailure(request)) return yield* refused("request-malformed", `${host}: ${request.failure}`, 400)
  const { commonName, publicKey } = request.success
  if (commonName !== host && commonName !== agentCommonName(host, api.agentSuffix)) {
    return yield* refused("request-other-name", `${host} asked for a certificate of ${commonName}`, wrongName)
  }
  const key = rawKey(publicKey)
  if (key === undefined) return yield* refused("request-key-type", host, 400)
  const found: Wanted = { host, publicKey, key }
  return found
})

/** Asks the reducer; 503 when it does not answer. */
const grant = Effect.fnUntraced(function*(api: Api, input: EnrollmentAsked | CertificateIssued) {
  const answer = yield* api.inbox.issuance(input)
  if (answer._tag === "Busy") return yield* refuse("queue-full", "a certificate", bare(503, retryLater))
  if (answer._tag === "Denied") return yield* denied(answer)
})

/** Signs, puts on record, and only then gives out. */
const issued = Effect.fnUntraced(function*(
  api: Api,
  issuance: IssuanceService,
  { host, key, publicKey }: Wanted,
  by: Issued["by"]
) {
  const certificate = yield* Effect.mapError(
    issuance.issue(host, publicKey),
    ({ message, reason }) => refused(reason, `${host}: ${message}`, 503, retryLater)
  )
  const { commonName, notAfter, notBefore, serial, text } = certificate
  const fingerprint = keyFingerprint(key)
  yield* grant(api, {
    _tag: "CertificateIssued",
    issued: { host, commonName, fingerprint, serial, notBefore, notAfter, by }
  })
  return json(200, encodeIssuedCertificate({ certPem: text, notAfter }))
})

// ---- POST /v1/enroll

/** The claims of a token that an organisation root key signed. 500: nobody could tell. */
const claimsOf = Effect.fnUntraced(function*(api: Api, token: BootstrapToken) {
  const slot = yield* Effect.mapError(api.tokenKeys, ({ message, reason }) => refused(reason, message, 500))
  const verdict = verifyToken(token, slot, yield* Clock.currentTimeMillis)
  if (verdict.ok) return verdict.claims
  return yield* refused(verdict.reason, verdict.detail, verdict.reason === "no-trust-roots" ? 500 : 401)
})

const checkFingerprint = ({ expectedPubkeyFingerprint, hostname }: TokenClaims, key: Uint8Array) =>
  keyFingerprint(key) === expectedPubkeyFingerprint ? Effect.void : refused("request-other-key", hostname, 401)

export const enroll = Effect.fnUntraced(function*(api: Api, call: Pick<Call, "request">) {
  const issuance = yield* issuanceOf(api)
  const decoded = decodeEnrollRequest(yield* Effect.fromResult(body(call)))
  if (!decoded.ok) return yield* refuse("body-shape", decoded.problem, 422)
  const claims = yield* claimsOf(api, decoded.value.token)
  const request = yield* wanted(api, issuance, decoded.value.csrPem, claims.hostname, 401)
  yield* checkFingerprint(claims, request.key)
  yield* grant(api, { _tag: "EnrollmentAsked", claims, key: request.key })
  return yield* issued(api, issuance, request, { request: "enroll", nonce: claims.nonce })
})

// ---- POST /v1/agent/renew

export const renew = Effect.fnUntraced(function*(api: Api, call: Call) {
  const host = yield* hostOf(call)
  const issuance = yield* issuanceOf(api)
  const decoded = decodeRenewRequest(yield* Effect.fromResult(body(call)))
  if (!decoded.ok) return yield* refuse("body-shape", decoded.problem, 422)
  const request = yield* wanted(api, issuance, decoded.value.csrPem, host, 403)
  const refusal = holderRefusal(api.state(), host, request.key, yield* Clock.currentTimeMillis)
  if (refusal !== undefined) return yield* denied(refusal)
  return yield* issued(api, issuance, request, { request: "renew", notBefore: call.identity.issuedAt })
})
