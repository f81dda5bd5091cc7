/** `nixfleet actions`: what operators hold back now, and what they did last. */
import { Clock, Console, Effect } from "effect"
import { Command } from "effect/cli"
import { ActionsResponse } from "../../Schema/Interventions.ts"
import { actionRow, actionsHeader, inForceLines } from "../ActionText.ts"
import { connect, connectionFlags, readView } from "../Connection.ts"
import { outputFlags, printJson, printTable } from "../Output.ts"

export const actions = Command.make(
  "actions",
  { ...outputFlags, ...connectionFlags },
  Effect.fnUntraced(function*({ json, noColor, ...flags }) {
    const { json: raw, view } = yield* readView("/v1/operator/actions", ActionsResponse).pipe(
      Effect.provide(connect(flags))
    )
    if (json) return yield* printJson(raw)
    const lines = inForceLines(view, yield* Clock.currentTimeMillis)
    yield* Console.log(lines.length === 0 ? "nothing is paused, held or frozen" : lines.join("\n"))
    if (view.recent.length === 0) return
    yield* Console.log("")
    yield* printTable(actionsHeader, view.recent.map(actionRow), noColor)
  })
).pipe(Command.withDescription("Show what is paused, held and frozen, and what operators did last"))
