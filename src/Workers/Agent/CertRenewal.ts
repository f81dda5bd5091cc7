/**
 * Renews this host's certificate at half of its life (D16); the next request uses the new one. While the control plane cannot
 * or will not, it is asked again, also after the end of the certificate, since the clock may be what is wrong. One that has
 * ended for an hour of running time ends this worker, and so the process: the next start enrolls anew or says what is
 * wrong. A host that is nobody must not go on in silence (A-W49).
 */
import { Effect, Schema } from "effect"
import { Settings } from "../../Agent/Settings.ts"
import { logOf } from "../../Layers/Logging.ts"
import { ClientCertificate, type HeldCertificate } from "../../Layers/Net/ClientCertificate.ts"
import { RenewRequest } from "../../Schema/Enrollment.ts"
import { formatTimestamp } from "../../Schema/Primitives.ts"
import { done, failed, makePacer, monotonicMs, type Turn, wallMs } from "../Pacer.ts"
import { askForCertificate } from "./Issuance.ts"

const log = logOf("agent_cert_renewal")

/** Longest wait between two looks at the dates: a stepped clock is noticed as soon. */
const lookEveryMs = 60_000
/** Shortest, however little a certificate lives. */
const leastLookMs = 1_000
/** After a refusal, which a person has to do something about. */
const refusedMs = 600_000
/** How long a certificate may have ended, in running time. */
const graceMs = 3_600_000

/** The certificate has ended and was not renewed. */
export class CertificateEnded extends Schema.TaggedError<CertificateEnded>()("CertificateEnded", {
  reason: Schema.Literal("certificate-expired"),
  message: Schema.String
}) {}

const encode = Schema.encodeSync(Schema.fromJsonString(RenewRequest))

/** Until half of its life is over, ms; not positive from then on. */
const untilDue = ({ notAfter, notBefore }: HeldCertificate, now: number): number =>
  notBefore + (notAfter - notBefore) / 2 - now

const renew = Effect.gen(function*() {
  const csrPem = yield* (yield* ClientCertificate).request((yield* Settings).machineId)
  const answer = yield* askForCertificate("/v1/agent/renew", encode({ csrPem }))
  switch (answer._tag) {
    case "Installed": {
      const notAfter = formatTimestamp(answer.certificate.notAfter)
      yield* log.info("the certificate was renewed", { detail: `good until ${notAfter}` })
      return done
    }
    case "Later":
      yield* log.warn("the certificate could not be renewed now", { reason: answer.reason, detail: answer.detail })
      return failed(answer.retryAfterMs)
    case "Refused":
      yield* log.warn("the certificate was not renewed", { reason: answer.reason, detail: answer.detail })
      return failed(refusedMs)
  }
})

/** What one look came to: the turn, the wait until the next, and when the certificate ended, if it has. */
interface Look {
  readonly turn: Turn
  readonly nextMs: number
  readonly ended?: number
}

/** An unreadable certificate or key is told and looked at again: somebody may be replacing it. */
const look = Effect.gen(function*() {
  const held = yield* (yield* ClientCertificate).held
  const now = yield* wallMs
  if (held === undefined) return { turn: done, nextMs: lookEveryMs } satisfies Look
  const left = untilDue(held, now)
  const turn = left > 0 ? done : yield* renew
  const found: Look = {
    turn,
    nextMs: Math.min(lookEveryMs, Math.max(leastLookMs, left)),
    ...(turn._tag === "Failed" && now >= held.notAfter ? { ended: held.notAfter } : {})
  }
  return found
}).pipe(
  Effect.catchTag(
    "CertificateUnusable",
    ({ message, reason }) =>
      log.warn("the certificate cannot be looked after", { reason, detail: message }).pipe(
        Effect.as<Look>({ turn: failed(), nextMs: lookEveryMs })
      )
  )
)

/** Ends only with `CertificateEnded`. */
export const certRenewal = Effect.gen(function*() {
  const pacer = makePacer(Effect.never)
  let endedSince: number | undefined
  while (true) {
    const { ended, nextMs, turn } = yield* look
    if (ended === undefined) endedSince = undefined
    else {
      const now = yield* monotonicMs
      endedSince ??= now
      const message = `the certificate ended at ${formatTimestamp(ended)} and could not be renewed`
      if (now - endedSince >= graceMs) return yield* new CertificateEnded({ reason: "certificate-expired", message })
      yield* log.error(message, { reason: "certificate-expired" })
    }
    if (turn._tag === "Failed") yield* pacer.backOff(turn.retryAfterMs)
    else {
      pacer.succeeded()
      yield* pacer.pause(nextMs)
    }
  }
})
