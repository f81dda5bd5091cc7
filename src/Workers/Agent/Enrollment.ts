/**
 * Gets this host its first certificate, or a new one after the old has ended, before anything else starts (agent.md §10.3). Does
 * nothing when the certificate in place is good; else the bootstrap token that an operator put there is presented, with the
 * host's own key.
 *
 * An answer that decides nothing (not ready, no connection) is waited for, with back-off, for ever: a host that was started
 * before its control plane is no fault. The same token with the same key may be sent again, so that a lost answer costs
 * nothing. Failures: `NotEnrolled`, for a person; `CertificateExpired` when there is no token either, or it is spent, which a
 * clock that is set right may mend, and so a restart.
 */
import { Effect, Layer, Result, Schema } from "effect"
import { Settings } from "../../Agent/Settings.ts"
import { logOf } from "../../Layers/Logging.ts"
import { ClientCertificate } from "../../Layers/Net/ClientCertificate.ts"
import { type BootstrapToken, decodeBootstrapToken, EnrollRequest } from "../../Schema/Enrollment.ts"
import { namesHost } from "../../Schema/Identity.ts"
import { formatTimestamp } from "../../Schema/Primitives.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import { parseStrict } from "../../Trust/CanonicalJson.ts"
import { makePacer, wallMs } from "../Pacer.ts"
import { askForCertificate } from "./Issuance.ts"

const log = logOf("agent_enrollment")

export class NotEnrolled extends Schema.TaggedError<NotEnrolled>()("NotEnrolled", {
  reason: Schema.Literals(["certificate-missing", "certificate-refused", "certificate-unusable"]),
  message: Schema.String
}) {}

export class CertificateExpired extends Schema.TaggedError<CertificateExpired>()("CertificateExpired", {
  reason: Schema.Literal("certificate-expired"),
  message: Schema.String
}) {}

/** Why a certificate is needed. */
type Need = { readonly reason: Reason; readonly message: string }

const need = Effect.gen(function*() {
  const certificate = yield* ClientCertificate
  const held = yield* Effect.result(certificate.held)
  if (Result.isFailure(held)) return held.failure satisfies Need
  if (held.success === undefined) {
    const none: Need = { reason: "certificate-missing", message: `there is no certificate at ${certificate.file}` }
    return none
  }
  const { commonName, notAfter } = held.success
  const { machineId } = yield* Settings
  if ((yield* wallMs) >= notAfter) {
    const message = `the certificate ended at ${formatTimestamp(notAfter)}`
    return { reason: "certificate-expired", message } satisfies Need
  }
  return namesHost(commonName, machineId) ? undefined : {
    reason: "certificate-unusable",
    message: `the certificate names ${commonName || "nobody"}, and this host is ${machineId}`
  } satisfies Need
})

const withoutToken = ({ message, reason }: Need) =>
  reason === "certificate-expired"
    ? new CertificateExpired({ reason, message: `${message}, and there is no bootstrap token to enroll anew with` })
    : new NotEnrolled({
      reason: reason === "certificate-missing" ? reason : "certificate-unusable",
      message: `${message}, and there is no bootstrap token to enroll with`
    })

const readToken = Effect.fnUntraced(function*(bytes: Uint8Array) {
  const parsed = parseStrict(bytes)
  const token = parsed.ok ? decodeBootstrapToken(parsed.value) : { ok: false as const, problem: parsed.problem.detail }
  return token.ok ? token.value : yield* new NotEnrolled({
    reason: "certificate-missing",
    message: `the bootstrap token cannot be read: ${token.problem}`
  })
})

const encode = Schema.encodeSync(Schema.fromJsonString(EnrollRequest))

const refused = ({ message, reason }: Need, detail: string) =>
  reason === "certificate-expired"
    ? new CertificateExpired({
      reason,
      message: `${message}, and the control plane does not enroll this host: ${detail}`
    })
    : new NotEnrolled({
      reason: "certificate-refused",
      message: `the control plane does not enroll this host: ${detail}`
    })

/** Presents the token until somebody decides. */
const enroll = Effect.fnUntraced(function*(token: BootstrapToken, needed: Need) {
  const { machineId } = yield* Settings
  const csrPem = yield* (yield* ClientCertificate).request(machineId)
  const pacer = makePacer(Effect.never)
  while (true) {
    const answer = yield* askForCertificate("/v1/enroll", encode({ token, csrPem }))
    switch (answer._tag) {
      case "Installed": {
        const { commonName, notAfter } = answer.certificate
        return yield* log.info("this host is enrolled", { detail: `${commonName}, until ${formatTimestamp(notAfter)}` })
      }
      case "Refused":
        return yield* refused(needed, answer.detail)
      case "Later":
        yield* log.warn("not enrolled yet", { reason: answer.reason, detail: answer.detail })
        yield* pacer.backOff(answer.retryAfterMs)
    }
  }
})

/** `makeKey`: a key is made when there is none. */
export const enrollment = Effect.fnUntraced(function*(makeKey: boolean) {
  const needed = yield* need
  if (needed === undefined) return
  const certificate = yield* ClientCertificate
  const bytes = yield* certificate.bootstrapToken
  if (bytes === undefined) return yield* withoutToken(needed)
  yield* log.info("this host enrolls", { detail: needed.message })
  if (makeKey) yield* certificate.makeKey
  yield* enroll(yield* readToken(bytes), needed)
})

/** Stands until the host has a certificate. */
export const layer = (makeKey: boolean) => Layer.effectDiscard(enrollment(makeKey))
