/** `nixfleet verify`: judges a signed artifact as a host would, by the names of protocol.md §8.8. */
import { Clock, Console, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { formatTimestamp, parseTimestamp } from "../../Schema/Primitives.ts"
import { keyProblems, readTrustRoots } from "../../Trust/Keys.ts"
import { configError, NegativeVerdict, usageError } from "../Failure.ts"
import { readInput } from "../Files.ts"
import { judge, type Judgement } from "../Judge.ts"

const flags = {
  artifact: Flag.String("artifact").pipe(
    Flag.withDescription("Fleet, rollout manifest, revocations or bootstrap nonces")
  ),
  signature: Flag.String("signature").pipe(Flag.withDescription("Its .sig file: 64 raw bytes")),
  trust: Flag.String("trust").pipe(Flag.withDescription("trust.json with the release keys")),
  at: Flag.String("at").pipe(
    Flag.optional,
    Flag.withDescription("Judge as of this RFC 3339 time instead of now")
  ),
  windowMinutes: Flag.Int("window-minutes").pipe(
    Flag.optional,
    Flag.withDescription("How old it may be, instead of the fleet's own window, or of 60 for everything else")
  ),
  json: Flag.Boolean("json").pipe(Flag.withDefault(false), Flag.withDescription("Print the verdict as JSON"))
}

const chooseTime = Effect.fnUntraced(function*(text: string | undefined) {
  if (text === undefined) return Math.floor(yield* Clock.currentTimeMillis)
  return parseTimestamp(text)
    ?? (yield* usageError(`--at ${JSON.stringify(text)} is not a time such as 2026-06-01T08:00:00Z`))
})

const chooseWindow = Effect.fnUntraced(function*(minutes: number | undefined) {
  if (minutes === undefined) return undefined
  return minutes >= 0 ? minutes * 60_000 : yield* usageError("--window-minutes must not be negative")
})

function asText(verdict: Judgement): string {
  return verdict.ok
    ? `ok: ${verdict.what}, signed at ${
      formatTimestamp(verdict.signedAt)
    } with the ${verdict.key} key\nsha256 ${verdict.hash}`
    : `${verdict.error}: ${verdict.detail}`
}

function asJson(verdict: Judgement): string {
  return JSON.stringify(
    verdict.ok
      ? {
        verdict: "ok",
        what: verdict.what,
        signedAt: formatTimestamp(verdict.signedAt),
        key: verdict.key,
        sha256: verdict.hash
      }
      : { verdict: verdict.error, reason: verdict.reason, detail: verdict.detail },
    undefined,
    2
  )
}

export const verifyArtifact = Command.make(
  "verify",
  flags,
  Effect.fnUntraced(function*({ artifact, at, json, signature, trust, windowMinutes }) {
    const now = yield* chooseTime(Option.getOrUndefined(at))
    const windowMs = yield* chooseWindow(Option.getOrUndefined(windowMinutes))
    const roots = readTrustRoots(yield* readInput(trust, "trust file"))
    if (!roots.ok) return yield* configError(`trust file ${trust}: ${roots.problem}`)
    const slot = roots.value.ciReleaseKey
    for (const problem of keyProblems(slot)) yield* Console.error(`warning: ${trust}: ciReleaseKey.${problem}`)
    const verdict = judge({
      bytes: yield* readInput(artifact, "artifact"),
      signature: yield* readInput(signature, "signature"),
      slot,
      now,
      windowMs
    })
    yield* Console.log(json ? asJson(verdict) : asText(verdict))
    if (!verdict.ok) return yield* new NegativeVerdict()
  })
).pipe(Command.withDescription("Verify a signed artifact and print the verdict; exit 0 when it is good, 1 when not"))
