/** `nixfleet status`: every host at a glance. */
import { Clock, Console, Effect, type Schema } from "effect"
import { Command, Flag } from "effect/cli"
import { ActionsResponse } from "../../Schema/Interventions.ts"
import { ChannelView, HostsResponse } from "../../Schema/OperatorViews.ts"
import { inForceLines } from "../ActionText.ts"
import { connect, connectionFlags, readView, requestView } from "../Connection.ts"
import { failed, NotConverged } from "../Failure.ts"
import { outputFlags, printJson, printTable } from "../Output.ts"
import { fleetStanding, statusHeader, statusRow } from "../StatusTable.ts"

export const status = Command.make(
  "status",
  {
    exitCode: Flag.Boolean("exit-code").pipe(
      Flag.withDefault(false),
      Flag.withDescription(
        "Exit 0: every host runs what is declared, and has converged. 2: some are on their way. 3: some failed, were rolled back, " +
          "are revoked or in quarantine. 1: the control plane could not be asked. Without it, 0 whatever the fleet is like"
      )
    ),
    ...outputFlags,
    ...connectionFlags
  },
  Effect.fnUntraced(function*({ exitCode, json, noColor, ...flags }) {
    const { actions, channels, hosts } = yield* readStatus().pipe(Effect.provide(connect(flags)))
    if (json) {
      yield* printJson({ hosts: hosts.json, channels: channels.map((channel) => channel.json), actions: actions.json })
    } else {
      const windows = new Map(channels.map(({ view }) => [view.name, view.freshness_window_minutes * 60_000]))
      const now = yield* Clock.currentTimeMillis
      for (const line of inForceLines(actions.view, now)) yield* Console.log(line)
      const rows = hosts.view.hosts.map((host) => statusRow(host, windows.get(host.channel), now))
      yield* printTable(statusHeader, rows, noColor)
    }
    const { how, text } = fleetStanding(hosts.view.hosts)
    if (!exitCode || how === "converged") return
    yield* Console.error(text)
    return yield* new NotConverged({ how })
  })
).pipe(Command.withDescription("Show every host: what it runs, what it should run, and how far it is"))

/** A control plane that is older than actions has none. */
const noActions: { readonly view: ActionsResponse; readonly json: Schema.Json } = {
  view: { inForce: [], recent: [] },
  json: { inForce: [], recent: [] }
}

const readActions = requestView("/v1/operator/actions", ActionsResponse).pipe(
  Effect.catchIf(({ kind }) => kind === "absent", () => Effect.succeed(noActions)),
  Effect.mapError(({ message }) => failed(message))
)

/** The hosts, then each channel that one of them is on, and what operators hold back. */
const readStatus = Effect.fnUntraced(function*() {
  const hosts = yield* readView("/v1/hosts", HostsResponse)
  const names = [...new Set(hosts.view.hosts.map((host) => host.channel))].toSorted()
  const channels = yield* Effect.forEach(
    names,
    (name) => readView(`/v1/channels/${encodeURIComponent(name)}`, ChannelView)
  )
  return { hosts, channels, actions: yield* readActions }
})
