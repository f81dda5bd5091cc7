/** `nixfleet freeze` and `unfreeze`: the cord that stops the line, for one channel or for all. */
import { Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { act, actingFlags, checkChannel, chooseEnd, endFlags } from "../Acting.ts"

const channel = Flag.String("channel").pipe(
  Flag.withMetavar("CHANNEL"),
  Flag.optional,
  Flag.withDescription("Only this channel (default: all of them)")
)

const chooseChannel = (given: Option.Option<string>) =>
  Option.match(given, { onNone: () => Effect.succeed(null), onSome: checkChannel })

export const freeze = Command.make(
  "freeze",
  { channel, ...endFlags("one of the two is required"), ...actingFlags },
  Effect.fnUntraced(function*({ channel: named, duration, reason, until, ...flags }) {
    const chosen = yield* chooseChannel(named)
    yield* act(
      { action: "Freeze", channel: chosen, reason, until: yield* chooseEnd({ duration, until }, undefined) },
      flags
    )
  })
).pipe(Command.withDescription("Dispatch nothing new until a time; hosts that are under way go on"))

export const unfreeze = Command.make(
  "unfreeze",
  { channel, ...actingFlags },
  Effect.fnUntraced(function*({ channel: named, reason, ...flags }) {
    yield* act({ action: "Unfreeze", channel: yield* chooseChannel(named), reason }, flags)
  })
).pipe(Command.withDescription("End a freeze: with --channel that of the channel, without it that of all channels"))
