/** `nixfleet rollout wait`: ends when a rollout has, with an exit code that says how. */
import { Console, Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { ChannelView } from "../../Schema/OperatorViews.ts"
import { connect, connectionFlags, malformed, requestView } from "../Connection.ts"
import { parseDuration } from "../Duration.ts"
import { NotConverged, usageError } from "../Failure.ts"
import { printJson } from "../Output.ts"
import { isRolloutId } from "../RolloutArgument.ts"
import { lookUntilOver, readStanding, type Standing } from "../RolloutState.ts"
import { printable } from "../Table.ts"

const isChannel = (text: string): boolean => /^[a-z0-9_-]{1,64}$/.test(text)

const chooseTimeout = Effect.fnUntraced(function*(text: string | undefined) {
  if (text === undefined) return undefined
  return parseDuration(text) ??
    (yield* usageError(`--timeout ${JSON.stringify(text)} is not a time such as 90s, 30m or 2h`))
})

/** A release that was just published is not known yet: that is not an error, it is what is waited for. */
const standingOfRollout = (rolloutId: string) =>
  readStanding(rolloutId).pipe(
    Effect.catchIf(
      ({ kind }) => kind === "absent",
      (): Effect.Effect<Standing> =>
        Effect.succeed({ how: "under-way", text: printable(`${rolloutId} is not known to the control plane yet`) })
    )
  )

/** Whatever release is in force on the channel at the moment of each look. */
const standingOfChannel = Effect.fnUntraced(function*(channel: string) {
  const path = `/v1/channels/${channel}`
  const { view } = yield* requestView(path, ChannelView)
  if (view.rollout === undefined) {
    return yield* malformed(path, "this control plane does not say which rollout is in force; name the rollout")
  }
  if (view.rollout === null) {
    return { how: "converged", text: printable(`${channel} has nothing to roll out`) } satisfies Standing
  }
  if (!isRolloutId(view.rollout)) return yield* malformed(path, "the rollout in force has no legal name")
  return yield* standingOfRollout(view.rollout)
})

export const rolloutWait = Command.make(
  "wait",
  {
    target: Argument.String("rollout-or-channel").pipe(
      Argument.withDescription(
        "<channel>@<ref>, which may be published this moment; or a channel: whatever release is in force there"
      )
    ),
    timeout: Flag.String("timeout").pipe(
      Flag.withMetavar("TIME"),
      Flag.withDescription("How long at most, such as 90s, 30m or 2h; 0 asks once; without it, until it is over"),
      Flag.optional
    ),
    json: Flag.Boolean("json").pipe(Flag.withDefault(false), Flag.withDescription("Print the result as JSON")),
    ...connectionFlags
  },
  Effect.fnUntraced(function*({ json, target, timeout, ...flags }) {
    const timeoutMs = yield* chooseTimeout(Option.getOrUndefined(timeout))
    const look = isRolloutId(target)
      ? standingOfRollout(target)
      : isChannel(target)
      ? standingOfChannel(target)
      : undefined
    if (look === undefined) {
      return yield* usageError(`${JSON.stringify(target)} is neither a rollout, <channel>@<ref>, nor a channel`)
    }
    let told = ""
    const waiting = ({ text }: Standing) =>
      Effect.suspend(() => {
        const isNew = text !== told
        told = text
        return isNew ? Console.error(text) : Effect.void
      })
    const { how, text } = yield* lookUntilOver({ ask: look, waiting, timeoutMs }).pipe(Effect.provide(connect(flags)))
    yield* json ? printJson({ target, outcome: how, detail: text }) : Console.log(text)
    if (how !== "converged") return yield* new NotConverged({ how })
  })
).pipe(Command.withDescription(
  "Wait until a rollout is over. Exit 0: it has converged. 2: not yet, and the time is over. 3: it failed, was rolled back or was " +
    "superseded. 1: the control plane could not be asked. A channel may still have its old release in force when a new one " +
    "was just published: to wait for that one, name its rollout."
))
