/**
 * `nixfleet-agent journal reset`: the next start makes a new journal. For a journal that is damaged, or that another host
 * wrote. The trust memory stays: nothing older than what was accepted is taken afterwards (D14).
 *
 * A guard goes with the journal: it stands for a record that is not there any more, and would take the host back on its own. Refused
 * while an agent runs, or while a guard that has fired takes the host back. Failures: those of the lock, by name; those of the
 * file system as they are.
 */
import { Clock, Effect, Layer, Result, Schema } from "effect"
import { layerProcessLock } from "../Layers/Disk/ProcessLock.ts"
import { discard, setAside } from "../Layers/Disk/SetAside.ts"
import { Guard } from "../Layers/Host/Guard.ts"
import type { AgentConfig } from "../Schema/AgentConfig.ts"
import type { GuardOrder } from "../Schema/GuardOrder.ts"
import type { HostRecord } from "../Schema/HostRecord.ts"
import { formatTimestamp } from "../Schema/Primitives.ts"
import { isOver } from "./Fold.ts"
import { guardDirectory, hostGuardLauncher } from "./HostDriver.ts"
import { detailsOf, journalFile, openJournal, stateOf } from "./JournalReader.ts"
import { currentEntry } from "./State.ts"

/** Fails, and says who, when an agent runs. */
export const nobodyRuns = ({ stateDir }: AgentConfig) => Effect.void.pipe(Effect.provide(layerProcessLock(stateDir)))

/** What would be lost, line by line; `undefined` when there is no journal. */
export const whatIsThere = Effect.fnUntraced(function*({ machineId, stateDir }: AgentConfig) {
  const read = yield* Effect.result(Effect.gen(function*() {
    const reader = yield* openJournal(stateDir, machineId)
    return reader === undefined
      ? undefined
      : { state: yield* stateOf(reader, machineId), details: yield* detailsOf(reader) }
  }))
  if (Result.isFailure(read)) return [`the journal cannot be read: ${read.failure.message}`]
  if (read.success === undefined) return undefined
  const { details: { rows }, state } = read.success
  const waiting = rows.filter(({ delivery }) => delivery !== "refused").reduce((sum, { count }) => sum + count, 0)
  const record = currentEntry(state)?.record
  return [
    `the journal ${state.journalId} holds ${state.rollouts.size} rollouts, and ${waiting} events that the control plane ` +
    "has not taken",
    ...(record === undefined || isOver(record)
      ? []
      : [`${record.rolloutId} is ${record.state} here, ${afterwards(record)}`])
  ]
}, Effect.scoped)

/** What the file system said; the journal is as it was, or gone with its copy in place. */
export class ResetFailed extends Schema.TaggedError<ResetFailed>()("ResetFailed", { message: Schema.String }) {}

/** What becomes of a rollout whose record is gone. */
const afterwards = ({ state }: HostRecord): string =>
  state === "Failed"
    ? "and will not go back by itself afterwards: the next release takes this host on"
    : "and is dispatched again afterwards, as a new attempt; by a control plane of the original only with the next release"

const failedTo = (what: string) => (cause: unknown) =>
  new ResetFailed({ message: `cannot ${what}: ${cause instanceof Error ? cause.message : String(cause)}` })

const acting = ({ closure }: GuardOrder) =>
  new ResetFailed({
    message: `the guard takes this host back to ${closure}; nothing was changed, try again when it has`
  })

/** Before the journal goes: an agent that found its record without its guard would arm it again. */
const disarmGuard = Effect.gen(function*() {
  const guard = yield* Guard
  const found = yield* Effect.mapError(guard.state, failedTo("read the state of the guard"))
  switch (found._tag) {
    case "None":
      return
    case "Fired":
      return found.acting ? yield* acting(found.order) : undefined
    case "Armed": {
      const first = yield* Effect.try({ try: () => guard.disarm(found.order), catch: failedTo("disarm the guard") })
      return first ? yield* guard.clear : yield* acting(found.order)
    }
  }
})

/** Where the copy is; `undefined` when none was kept. */
export const resetJournal = (config: Pick<AgentConfig, "stateDir">, keep: boolean) =>
  Effect.gen(function*() {
    yield* disarmGuard
    const file = journalFile(config.stateDir)
    const at = formatTimestamp(Math.floor(yield* Clock.currentTimeMillis)).replaceAll(/[-:]/g, "")
    const copy = keep ? `${file}.${at}` : undefined
    yield* Effect.try({
      try: () => copy === undefined ? discard(file) : setAside(file, copy),
      catch: failedTo(`take ${file} away`)
    })
    return copy
  }).pipe(Effect.provide(Layer.mergeAll(
    Guard.layer(guardDirectory(config), hostGuardLauncher()),
    layerProcessLock(config.stateDir)
  )))

/** What an operator has to know afterwards. */
export const consequences = [
  "the next start makes a new journal with an id of its own; the first heartbeat tells the control plane so",
  "numbers of events go on above those that the control plane has; events that it lacks stay in the copy",
  "the closure that runs then is where a rollback goes, until another one has converged",
  "a guard that was armed is armed no more: it stood for a record of this journal",
  "what was accepted as signed stays remembered: nothing older is taken"
]
