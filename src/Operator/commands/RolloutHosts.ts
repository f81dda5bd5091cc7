/** `nixfleet rollout hosts`: the hosts of one rollout, wave by wave. */
import { Effect, Schema } from "effect"
import { Argument, Command } from "effect/cli"
import { RolloutHosts } from "../../Schema/OperatorViews.ts"
import { RolloutId } from "../../Schema/Primitives.ts"
import { connect, connectionFlags, readView } from "../Connection.ts"
import { usageError } from "../Failure.ts"
import { outputFlags, printJson, printTable } from "../Output.ts"
import { rolloutHostRow, rolloutHostsHeader } from "../StatusTable.ts"

const isRolloutId = Schema.is(RolloutId)

export const rolloutHosts = Command.make(
  "hosts",
  {
    rolloutId: Argument.String("rollout").pipe(Argument.withDescription("<channel>@<ref>, as `rollout list` shows it")),
    ...outputFlags,
    ...connectionFlags
  },
  Effect.fnUntraced(function*({ json, noColor, rolloutId, ...flags }) {
    if (!isRolloutId(rolloutId)) {
      return yield* usageError(`${JSON.stringify(rolloutId)} is not a rollout: <channel>@<ref>`)
    }
    const hosts = yield* readView(`/v1/rollouts/${rolloutId}/hosts`, RolloutHosts).pipe(Effect.provide(connect(flags)))
    if (json) return yield* printJson(hosts.json)
    yield* printTable(rolloutHostsHeader, hosts.view.hosts.map(rolloutHostRow), noColor)
  })
).pipe(Command.withDescription("Show the hosts of a rollout, wave by wave"))
