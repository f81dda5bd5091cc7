/**
 * Fetches signed artifacts from the control plane (D15): conditional requests, because nearly every look finds what the
 * last one found, and a limit on every body. Artifact and signature are two requests; a pair that was published in between
 * does not verify, and its reader fetches it once more.
 *
 * Failures: no answer, or a status that is none of 200 and 304, is a `Refusal`.
 */
import { Effect, Result } from "effect"
import type { ExchangeResponse } from "../Layers/Net/Exchange.ts"
import { millis } from "../Schema/AgentConfig.ts"
import { type Refusal, refusal, type SignedBytes } from "./Judge.ts"
import { Link } from "./Link.ts"
import { Settings } from "./Settings.ts"

/** One body as last received, with the validator for the next request. */
interface Part {
  readonly bytes: Uint8Array
  readonly etag: string | undefined
}

/** What was received at one address; `undefined` before the first time. */
export interface Received extends SignedBytes {
  readonly artifact: Part
  readonly sig: Part
}

/** The refusal, and for how long the server asked to be left alone. */
export interface Unavailable extends Refusal {
  readonly response: ExchangeResponse | undefined
}

/** One conditional GET: the part before when the server says that it is still the same. */
const part = Effect.fnUntraced(function*(path: string, before: Part | undefined) {
  const settings = yield* Settings
  const sent = yield* Effect.result((yield* Link).send(
    { method: "GET", path, headers: before?.etag === undefined ? {} : { "if-none-match": before.etag } },
    { timeoutMs: millis(settings.artifactTimeoutSecs), maxBodyBytes: settings.maxArtifactBytes, lane: "report" }
  ))
  if (Result.isFailure(sent)) {
    const { kind, message } = sent.failure
    const reason = kind === "tooLarge" ? "artifact-too-large" : "control-plane-unreachable"
    const unavailable: Unavailable = { ...refusal(reason, message), response: undefined }
    return Result.fail(unavailable)
  }
  const { body, headers, status } = sent.success
  if (status === 200) return Result.succeed<Part>({ bytes: body, etag: headers["etag"] })
  if (status === 304 && before !== undefined) return Result.succeed(before)
  const unavailable: Unavailable = {
    ...refusal("artifact-unavailable", `GET ${path} was answered with status ${status}`),
    response: sent.success
  }
  return Result.fail(unavailable)
})

/** The artifact at `path` and its signature at `path/sig`; a changed artifact is never joined with a signature from before. */
export const fetchSigned = Effect.fnUntraced(function*(path: string, before: Received | undefined) {
  const artifact = yield* part(path, before?.artifact)
  if (Result.isFailure(artifact)) return Result.fail(artifact.failure)
  const same = before !== undefined && artifact.success === before.artifact
  const sig = yield* part(`${path}/sig`, same ? before.sig : undefined)
  if (Result.isFailure(sig)) return Result.fail(sig.failure)
  return Result.succeed<Received>({
    bytes: artifact.success.bytes,
    signature: sig.success.bytes,
    artifact: artifact.success,
    sig: sig.success
  })
})
