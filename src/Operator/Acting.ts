/** What the commands that act on a rollout, a host or a channel have in common: their flags, and how they ask. */
import { Clock, Console, Effect, Option, Schema } from "effect"
import { Flag } from "effect/cli"
import { ActionReason, ActionTaken, ChannelName, longestHoldMs, OperatorAction } from "../Schema/Interventions.ts"
import { EpochMillis, Hostname, type Millis, parseTimestamp } from "../Schema/Primitives.ts"
import { takenLines } from "./ActionText.ts"
import { connect, type ConnectionFlags, connectionFlags, readView } from "./Connection.ts"
import { parseDuration } from "./Duration.ts"
import { usageError } from "./Failure.ts"
import { jsonFlag, printJson } from "./Output.ts"

/** Flags of every action. */
export const actingFlags = {
  reason: Flag.String("reason").pipe(
    Flag.withMetavar("TEXT"),
    Flag.withDescription(
      "Why, in 1 to 500 characters: on record with your name, and shown to whoever asks why a host waits"
    )
  ),
  json: jsonFlag,
  ...connectionFlags
}

const longest = `at most ${longestHoldMs / 86_400_000} days`

/** Flags of what holds; `fallback` says what is so without them. */
export const endFlags = (fallback: string) => ({
  until: Flag.String("until").pipe(
    Flag.withMetavar("TIME"),
    Flag.optional,
    Flag.withDescription(`When it ends by itself, RFC 3339, such as 2026-12-01T08:00:00Z; ${longest} (${fallback})`)
  ),
  duration: Flag.String("for").pipe(
    Flag.withMetavar("DURATION"),
    Flag.optional,
    Flag.withDescription("The same as a time from now, such as 90s, 30m, 12h or 7d")
  )
})

interface EndFlags {
  readonly until: Option.Option<string>
  readonly duration: Option.Option<string>
}

/** Epoch ms. `fallbackMs`: how long without a flag; `undefined`: there must be one. */
export const chooseEnd = Effect.fnUntraced(function*(given: EndFlags, fallbackMs: Millis | undefined) {
  const end = yield* endOf(given, fallbackMs)
  // How long is too long the control plane says; here is what no time can hold.
  return isTime(end) ? end : yield* usageError(`what holds does so for ${longest}`)
})

const isTime = Schema.is(EpochMillis)

const endOf = Effect.fnUntraced(function*({ duration, until }: EndFlags, fallbackMs: Millis | undefined) {
  if (Option.isSome(until) && Option.isSome(duration)) {
    return yield* usageError("--until and --for say the same: give one")
  }
  if (Option.isSome(until)) {
    return parseTimestamp(until.value) ??
      (yield* usageError(`--until ${JSON.stringify(until.value)} is not a time such as 2026-12-01T08:00:00Z`))
  }
  const ms = Option.isSome(duration) ? parseDuration(duration.value) : fallbackMs
  // Whole seconds: nobody wants to read more.
  if (ms !== undefined) return Math.floor((yield* Clock.currentTimeMillis) / 1000) * 1000 + ms
  return yield* usageError(
    Option.isSome(duration)
      ? `--for ${JSON.stringify(duration.value)} is not a time such as 90s, 30m, 12h or 7d`
      : "give --until TIME or --for DURATION: what is frozen must end"
  )
})

const isHost = Schema.is(Hostname)
export const checkHost = (text: string) =>
  isHost(text) ? Effect.succeed(text) : Effect.fail(usageError(`${JSON.stringify(text)} is not a host name`))

const isChannel = Schema.is(ChannelName)
export const checkChannel = (text: string) =>
  isChannel(text) ? Effect.succeed(text) : Effect.fail(usageError(`${JSON.stringify(text)} is not a channel`))

const isReason = Schema.is(ActionReason)
const encode = Schema.encodeSync(OperatorAction)

/** Asks for it, and prints what came of it. */
export const act = Effect.fnUntraced(
  function*(action: OperatorAction, { json, ...flags }: ConnectionFlags & { readonly json: boolean }) {
    if (!isReason(action.reason)) return yield* usageError("--reason: expected 1 to 500 characters on one line")
    const taken = yield* readView("/v1/operator/actions", ActionTaken, encode(action)).pipe(
      Effect.provide(connect(flags))
    )
    yield* json ? printJson(taken.json) : Console.log(takenLines(taken.view))
  }
)
