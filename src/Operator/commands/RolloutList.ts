/** `nixfleet rollout list`: the rollouts that are not over. */
import { Console, Effect } from "effect"
import { Command } from "effect/cli"
import { RolloutList } from "../../Schema/OperatorViews.ts"
import { connect, connectionFlags, readView } from "../Connection.ts"
import { outputFlags, printJson, printTable } from "../Output.ts"
import { rolloutListHeader, rolloutListRow } from "../StatusTable.ts"

export const rolloutList = Command.make(
  "list",
  { ...outputFlags, ...connectionFlags },
  Effect.fnUntraced(function*({ json, noColor, ...flags }) {
    const list = yield* readView("/v1/rollouts", RolloutList).pipe(Effect.provide(connect(flags)))
    if (json) return yield* printJson(list.json)
    if (list.view.rollouts.length === 0) {
      return yield* Console.log("no rollout is under way; `nixfleet status` shows the hosts")
    }
    yield* printTable(rolloutListHeader, list.view.rollouts.map(rolloutListRow), noColor)
  })
).pipe(Command.withDescription("Show the rollouts that are not over, newest first"))
