/** `nixfleet status`: every host at a glance. */
import { Clock, Effect } from "effect"
import { Command } from "effect/cli"
import { ChannelView, HostsResponse } from "../../Schema/OperatorViews.ts"
import { connect, connectionFlags, readView } from "../Connection.ts"
import { outputFlags, printJson, printTable } from "../Output.ts"
import { statusHeader, statusRow } from "../StatusTable.ts"

export const status = Command.make(
  "status",
  { ...outputFlags, ...connectionFlags },
  Effect.fnUntraced(function*({ json, noColor, ...flags }) {
    const { channels, hosts } = yield* readStatus().pipe(Effect.provide(connect(flags)))
    if (json) return yield* printJson({ hosts: hosts.json, channels: channels.map((channel) => channel.json) })
    const windows = new Map(channels.map(({ view }) => [view.name, view.freshness_window_minutes * 60_000]))
    const now = yield* Clock.currentTimeMillis
    const rows = hosts.view.hosts.map((host) => statusRow(host, windows.get(host.channel), now))
    yield* printTable(statusHeader, rows, noColor)
  })
).pipe(Command.withDescription("Show every host: what it runs, what it should run, and how far it is"))

/** The hosts, then each channel that one of them is on. */
const readStatus = Effect.fnUntraced(function*() {
  const hosts = yield* readView("/v1/hosts", HostsResponse)
  const names = [...new Set(hosts.view.hosts.map((host) => host.channel))].toSorted()
  const channels = yield* Effect.forEach(
    names,
    (name) => readView(`/v1/channels/${encodeURIComponent(name)}`, ChannelView)
  )
  return { hosts, channels }
})
