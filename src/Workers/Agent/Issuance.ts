/**
 * One request for a certificate, enrollment or renewal (control-plane.md §8): sends it, reads the answer, installs what came.
 * What an answer means is the same for both; what to do about it is each caller's.
 */
import { Effect, Option, Result, Schema } from "effect"
import { Link } from "../../Agent/Link.ts"
import { ClientCertificate, type HeldCertificate } from "../../Layers/Net/ClientCertificate.ts"
import { decodeIssuedCertificate } from "../../Schema/Enrollment.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import { parseStrict } from "../../Trust/CanonicalJson.ts"
import { retryAfterMs } from "../Backoff.ts"
import { wallMs } from "../Pacer.ts"

/** A PEM certificate and its date, with room for a chain. */
const maxAnswerBytes = 65_536
const timeoutMs = 30_000
/** Shown of the body of a refusal. */
const shownLength = 300

export type Issuance =
  | { readonly _tag: "Installed"; readonly certificate: HeldCertificate }
  /** Nothing was decided: the same request may be sent again. */
  | {
    readonly _tag: "Later"
    readonly reason: Reason
    readonly detail: string
    readonly retryAfterMs: number | undefined
  }
  /** The control plane will not do it, whatever is sent again, until a person changes something. */
  | { readonly _tag: "Refused"; readonly reason: Reason; readonly detail: string }

const later = (reason: Reason, detail: string, after?: number): Issuance => ({
  _tag: "Later",
  reason,
  detail,
  retryAfterMs: after
})

const printed = (body: Uint8Array): string => {
  const text = Buffer.from(body).toString("utf8").slice(0, shownLength).trim()
  return text === "" ? "" : `: ${text}`
}

/** Statuses that a person has to do something about: the request itself is refused. */
const isRefusal = (status: number) => status >= 400 && status < 500 && ![408, 425, 429].includes(status)

/** The reason that a control plane of ours gives. */
const Refusal = Schema.fromJsonString(Schema.Struct({ reason: Schema.String }))
const reasonOf = Schema.decodeUnknownOption(Refusal)

/** A token that an operator has just allowed is on a list that the control plane has yet to fetch. */
const isEarly = (body: Uint8Array) =>
  Option.exists(reasonOf(Buffer.from(body).toString("utf8")), ({ reason }) => reason === "nonce-not-listed")

export const askForCertificate = Effect.fnUntraced(function*(path: string, body: string) {
  const sent = yield* Effect.result(
    (yield* Link).send({ method: "POST", path, body }, { timeoutMs, maxBodyBytes: maxAnswerBytes, lane: "report" })
  )
  if (Result.isFailure(sent)) return later("control-plane-unreachable", sent.failure.message)
  const { headers, status } = sent.success
  const told = `answered with status ${status}${printed(sent.success.body)}`
  if (isRefusal(status) && !isEarly(sent.success.body)) {
    const refused: Issuance = { _tag: "Refused", reason: "certificate-refused", detail: told }
    return refused
  }
  if (status !== 200) return later("unexpected-status", told, retryAfterMs(headers, yield* wallMs))
  const parsed = parseStrict(sent.success.body)
  const answer = parsed.ok
    ? decodeIssuedCertificate(parsed.value)
    : { ok: false as const, problem: parsed.problem.detail }
  if (!answer.ok) return later("malformed-answer", answer.problem)
  const installed = yield* Effect.result((yield* ClientCertificate).install(answer.value.certPem))
  if (Result.isFailure(installed)) return later("certificate-unusable", installed.failure.message)
  const done: Issuance = { _tag: "Installed", certificate: installed.success }
  return done
})
