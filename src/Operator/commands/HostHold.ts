/** `nixfleet host hold` and `release`: a host gets nothing until it is released, or its time is over (D17). */
import { Effect } from "effect"
import { Argument, Command } from "effect/cli"
import { act, actingFlags, checkHost, chooseEnd, endFlags } from "../Acting.ts"

/** Without `--until` and `--for`: long enough for a spare part to arrive. */
const holdMs = 7 * 86_400_000

const host = Argument.String("host").pipe(Argument.withDescription("The host's name in the fleet"))

export const hostHold = Command.make(
  "hold",
  { host, ...endFlags("default: in 7 days"), ...actingFlags },
  Effect.fnUntraced(function*({ duration, host: name, reason, until, ...flags }) {
    const found = yield* checkHost(name)
    yield* act({ action: "HoldHost", host: found, reason, until: yield* chooseEnd({ duration, until }, holdMs) }, flags)
  })
).pipe(Command.withDescription(
  "Dispatch nothing to a host for a while. Its waves and budgets go on without it; hosts that wait for it by an edge still wait"
))

export const hostRelease = Command.make(
  "release",
  { host, ...actingFlags },
  Effect.fnUntraced(function*({ host: name, reason, ...flags }) {
    yield* act({ action: "ReleaseHost", host: yield* checkHost(name), reason }, flags)
  })
).pipe(Command.withDescription("Let a held host go on; what it has missed it gets now"))
