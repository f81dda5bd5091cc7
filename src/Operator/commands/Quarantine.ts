/** `nixfleet quarantine list` and `clear`: what is not dispatched again because it failed, and how that is taken back (D11). */
import { Console, Effect } from "effect"
import { Argument, Command } from "effect/cli"
import { QuarantineResponse } from "../../Schema/Interventions.ts"
import { formatTimestamp, isClosureName } from "../../Schema/Primitives.ts"
import { act, actingFlags } from "../Acting.ts"
import { connect, connectionFlags, readView } from "../Connection.ts"
import { usageError } from "../Failure.ts"
import { outputFlags, printJson, printTable } from "../Output.ts"
import { isRolloutId } from "../RolloutArgument.ts"

export const quarantineList = Command.make(
  "list",
  { ...outputFlags, ...connectionFlags },
  Effect.fnUntraced(function*({ json, noColor, ...flags }) {
    const { json: raw, view } = yield* readView("/v1/quarantine", QuarantineResponse).pipe(
      Effect.provide(connect(flags))
    )
    if (json) return yield* printJson(raw)
    if (view.quarantine.length === 0) return yield* Console.log("nothing is in quarantine")
    yield* printTable(
      ["CLOSURE", "ROLLOUT", "FAILED ON", "SINCE"],
      view.quarantine.map(({ at, closure, host, rolloutId }) =>
        [closure, rolloutId, host, formatTimestamp(at)].map((text) => ({ text }))
      ),
      noColor
    )
  })
).pipe(Command.withDescription("Show what is not dispatched again because it failed for its own fault"))

export const quarantineClear = Command.make(
  "clear",
  {
    target: Argument.String("closure-or-rollout").pipe(
      Argument.withDescription("A closure, wherever it failed; or <channel>@<ref>: what failed under that rollout")
    ),
    ...actingFlags
  },
  Effect.fnUntraced(function*({ reason, target, ...flags }) {
    if (!isRolloutId(target) && !isClosureName(target)) {
      return yield* usageError(`${JSON.stringify(target)} is neither a closure nor a rollout, <channel>@<ref>`)
    }
    const of = isRolloutId(target) ? { rolloutId: target } : { closure: target }
    yield* act({ action: "ClearQuarantine", of, reason }, flags)
  })
).pipe(Command.withDescription("Allow again what is in quarantine; `rollout clear` does so, and restarts the rollout"))
