/**
 * What `nixfleet-agent check --deep` looks at besides: the two databases from end to end, that the records are what the rows
 * mean (house rule 2), and that the closures and results that the journal counts on are on the host. Also while the agent
 * runs; changes nothing.
 */
import { Effect, Result } from "effect"
import type { DatabaseReader } from "../Layers/Disk/DatabaseReader.ts"
import { openReader } from "../Layers/Disk/DatabaseReader.ts"
import { bad, type Finding, good, pages, unreadable } from "../Layers/Findings.ts"
import type { HostReader } from "../Layers/Host/Activator.ts"
import { rollbackClosure, switchesToRead } from "../Rollout/Owed.ts"
import type { AgentConfig, AgentOptionName } from "../Schema/AgentConfig.ts"
import type { Gathered } from "../Schema/Options.ts"
import { disagreements } from "./Fold.ts"
import { readable } from "./Journal.ts"
import { allRows } from "./Journal/Load.ts"
import { trustMigrations } from "./Journal/Tables.ts"
import { openJournal, stateOf } from "./JournalReader.ts"
import { currentEntry, entriesOf, type State } from "./State.ts"

const records = Effect.fnUntraced(function*(reader: DatabaseReader, state: State, at: string) {
  const rows = yield* readable(reader, () => allRows(reader.sql))
  const wrong = disagreements(rows, state.rollouts)
  return wrong.length === 0
    ? [good(at, `${reader.file}: ${state.rollouts.size} records are what their ${rows.length} rows mean`)]
    : wrong.map((text) => bad(at, `${reader.file}: ${text}`))
})

/** The closures that must be there, and what each is for. */
const closures = Effect.fnUntraced(function*(state: State, host: HostReader, at: string) {
  const current = yield* Effect.result(host.current)
  if (Result.isFailure(current)) return [bad(at, `what runs cannot be read: ${current.failure}`)]
  const { profile, running } = current.success
  const record = currentEntry(state)?.record
  const back = record?.state === "Soaking" || record?.state === "Failed" ? rollbackClosure(record) : undefined
  const needed = [[running, "runs"], [profile, "is the next boot"], [back, "is where a rollback goes"]] as const
  return yield* Effect.forEach(
    needed.flatMap(([closure, use]) => closure === undefined ? [] : [{ closure, use }]),
    ({ closure, use }) =>
      Effect.match(host.has(closure), {
        onSuccess: (there) =>
          there
            ? good(at, `${closure} ${use}, and is there`)
            : bad(at, `${closure} ${use}, and is not there or not whole`),
        onFailure: (problem) => bad(at, `${closure} ${use}, and cannot be looked at: ${problem}`)
      })
  )
})

const switches = (state: State, host: HostReader, at: string) =>
  Effect.forEach(switchesToRead(entriesOf(state)), (id) => {
    const name = `${id.purpose} switch ${id.run} of ${id.rolloutId}`
    return Effect.match(host.switchResult(id), {
      onSuccess: ({ _tag }) => good(at, `${name}: ${_tag}`),
      onFailure: (problem) => bad(at, `${name}: its result cannot be read: ${problem}`)
    })
  })

const journal = Effect.fnUntraced(function*({ machineId, stateDir }: AgentConfig, host: HostReader, where: Where) {
  const at = where("stateDir")
  const reader = yield* openJournal(stateDir, machineId)
  if (reader === undefined) return [good(at, `no agent ever ran on ${stateDir}`)]
  const whole = yield* pages(reader, at)
  // What a damaged file says about records would only repeat the damage.
  if (whole.some(({ ok }) => !ok)) return whole
  const state = yield* stateOf(reader, machineId)
  return [
    ...whole,
    ...yield* records(reader, state, at),
    ...yield* closures(state, host, where("systemDir")),
    ...yield* switches(state, host, where("systemDir"))
  ]
}, Effect.scoped)

const trustMemory = Effect.fnUntraced(function*({ stateDir }: AgentConfig, at: string) {
  const reader = yield* openReader(`${stateDir}/trust-memory.db`, trustMigrations)
  return reader === undefined ? [] : yield* pages(reader, at)
}, Effect.scoped)

type Where = (name: AgentOptionName) => string

export const deepCheck = Effect.fnUntraced(function*(
  { config, sourceOf }: Gathered<AgentConfig>,
  host: HostReader
): Effect.fn.Return<ReadonlyArray<Finding>> {
  const at = sourceOf("stateDir")
  return [
    ...yield* journal(config, host, sourceOf).pipe(Effect.catch((error) => Effect.succeed(unreadable(at)(error)))),
    ...yield* trustMemory(config, at).pipe(Effect.catch((error) => Effect.succeed(unreadable(at)(error))))
  ]
})
