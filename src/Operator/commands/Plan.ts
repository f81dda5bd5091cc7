/** `nixfleet plan`: what would happen from here, told by the control plane's own decisions, run in this process. */
import { Clock, Console, Effect, Option, Result } from "effect"
import { Command, Flag } from "effect/cli"
import { forecast } from "../../ControlPlane/Forecast.ts"
import { readSnapshot } from "../../ControlPlane/Snapshot.ts"
import { emptyState } from "../../ControlPlane/State.ts"
import { connect, type ConnectionFlags, connectionFlags, isConfigured, readText } from "../Connection.ts"
import { failed, NotConverged, usageError } from "../Failure.ts"
import { outputFlags, printJson, printTable } from "../Output.ts"
import { conflictsOf } from "../PlanConflicts.ts"
import { readRelease } from "../PlanRelease.ts"
import {
  asJson,
  assumptions,
  conflictLines,
  headline,
  hostRow,
  hostsHeader,
  rolloutHeadline,
  waitingLines,
  waveRow,
  wavesHeader
} from "../PlanText.ts"

const snapshotPath = "/v1/snapshot"

/** One answer, so that everything in it is of one moment. */
const readLive = Effect.fnUntraced(function*() {
  const read = readSnapshot(yield* readText(snapshotPath))
  return Result.isSuccess(read)
    ? read.success
    : yield* failed(`${snapshotPath}: the answer is no snapshot: ${read.failure}`)
})

/** The control plane's state and clock; a new fleet now, when there is none to ask. */
const present = Effect.fnUntraced(function*(flags: ConnectionFlags, isLive: boolean) {
  if (!isLive) return { state: emptyState("forecast"), takenAt: Math.floor(yield* Clock.currentTimeMillis) }
  return yield* readLive().pipe(Effect.provide(connect(flags)))
})

export const plan = Command.make(
  "plan",
  {
    fleet: Flag.String("fleet").pipe(
      Flag.withMetavar("DIR"),
      Flag.optional,
      Flag.withDescription(
        "What a release would do that is not published: a directory of `release build` or `release sign`. Without it, the release in force"
      )
    ),
    offline: Flag.Boolean("offline").pipe(
      Flag.withDefault(false),
      Flag.withDescription(
        "Ask no control plane: the release of --fleet on a fleet that runs nothing yet. Also when no control plane is configured"
      )
    ),
    hosts: Flag.Boolean("hosts").pipe(Flag.withDefault(false), Flag.withDescription("Show every host")),
    ...outputFlags,
    ...connectionFlags
  },
  Effect.fnUntraced(function*({ fleet, hosts: withHosts, json, noColor, offline, ...flags }) {
    const directory = Option.getOrUndefined(fleet)
    const isLive = !offline && (yield* isConfigured(flags))
    if (!isLive && directory === undefined) {
      return yield* usageError(
        "nothing to look at: give --fleet DIR, or the address of a control plane without --offline"
      )
    }
    const { state, takenAt } = yield* present(flags, isLive)
    const release = directory === undefined ? undefined : yield* readRelease(directory, takenAt)
    const artifacts = release?.artifacts ?? state.artifacts
    if (artifacts === undefined) return yield* failed("the control plane has no release in force")
    const told = forecast(state, artifacts, takenAt)
    const conflicts = conflictsOf({ state, artifacts, forecast: told, isLive })
    const source = {
      isLive,
      ...(directory === undefined || release === undefined
        ? {}
        : { release: { directory, isSigned: release.isSigned } })
    }
    if (json) yield* printJson(asJson(told, source, conflicts))
    else {
      yield* Console.log(headline(told, source))
      for (const rollout of told.rollouts) {
        yield* Console.log(`\n${rolloutHeadline(rollout, told.from)}`)
        yield* printTable(wavesHeader, rollout.waves.map((wave) => waveRow(rollout, wave, told.from)), noColor)
        if (!withHosts) continue
        yield* Console.log("")
        yield* printTable(hostsHeader, rollout.hosts.map((host) => hostRow(host, told.from)), noColor)
      }
      yield* printSection("Waits now", waitingLines(told))
      yield* printSection("Conflicts", conflicts.flatMap(conflictLines))
      yield* Console.log(`\nTaken for granted: ${assumptions(told)}`)
      if (told.isCut) yield* Console.log("Not told to its end: too many steps lie before it")
    }
    if (conflicts.length > 0) return yield* new NotConverged({ how: "ended" })
  })
).pipe(Command.withDescription(
  "Tell what would happen from here, before it does: which hosts go when, in which order, and who never gets there. Nothing is changed. " +
    "Exit 0: everybody gets there. 3: there are conflicts that need a person. 1: the control plane could not be asked"
))

const printSection = (title: string, lines: ReadonlyArray<string>) =>
  lines.length === 0 ? Effect.void : Console.log([`\n${title}`, ...lines.map((line) => `  ${line}`)].join("\n"))
