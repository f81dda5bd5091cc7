/** `nixfleet rollout hosts`: the hosts of one rollout, wave by wave. */
import { Effect } from "effect"
import { Command } from "effect/cli"
import { RolloutHosts } from "../../Schema/OperatorViews.ts"
import { connect, connectionFlags, readView } from "../Connection.ts"
import { outputFlags, printJson, printTable } from "../Output.ts"
import { checkRolloutId, rolloutArgument } from "../RolloutArgument.ts"
import { rolloutHostRow, rolloutHostsHeader } from "../StatusTable.ts"

export const rolloutHosts = Command.make(
  "hosts",
  {
    rollout: rolloutArgument,
    ...outputFlags,
    ...connectionFlags
  },
  Effect.fnUntraced(function*({ json, noColor, rollout, ...flags }) {
    const rolloutId = yield* checkRolloutId(rollout)
    const hosts = yield* readView(`/v1/rollouts/${rolloutId}/hosts`, RolloutHosts).pipe(Effect.provide(connect(flags)))
    if (json) return yield* printJson(hosts.json)
    yield* printTable(rolloutHostsHeader, hosts.view.hosts.map(rolloutHostRow), noColor)
  })
).pipe(Command.withDescription("Show the hosts of a rollout, wave by wave"))
