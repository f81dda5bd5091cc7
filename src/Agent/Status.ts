/**
 * `nixfleet-agent status`: what this host is doing and what it waits for, read from the journal and from the links of the
 * host. Changes nothing, takes no lock, needs no network, and works while the agent runs and while it does not.
 *
 * Failures: a journal that cannot be read, or that is another host's, by name, as at a start; a link or a switch that cannot
 * be read counts as unknown.
 */
import { Clock, Effect } from "effect"
import { lockHolder } from "../Layers/Disk/ProcessLock.ts"
import type { HostReader } from "../Layers/Host/Activator.ts"
import { readFetchNote } from "../Layers/Host/FetchNote.ts"
import { readGuard } from "../Layers/Host/Guard.ts"
import { switchesToRead } from "../Rollout/Owed.ts"
import type { AgentConfig } from "../Schema/AgentConfig.ts"
import type { GuardState } from "../Schema/GuardOrder.ts"
import { guardDirectory } from "./HostDriver.ts"
import { detailsOf, openJournal, stateOf } from "./JournalReader.ts"
import { entriesOf } from "./State.ts"
import { type JournalReading, statusOf } from "./Status/View.ts"

const unknown = { running: undefined, profile: undefined }

/** Switches whose result cannot be read are left out: `Owed` holds, and says why. */
const readHost = Effect.fnUntraced(function*(
  config: AgentConfig,
  host: HostReader,
  journal: JournalReading | undefined
) {
  const { profile, running } = yield* Effect.orElseSucceed(host.current, () => unknown)
  const ids = journal === undefined ? [] : switchesToRead(entriesOf(journal.state))
  const switches = yield* Effect.forEach(ids, (id) =>
    host.switchResult(id).pipe(
      Effect.map((state) => [{ id, state }]),
      Effect.orElseSucceed(() => [])
    ))
  const guard = yield* Effect.orElseSucceed(readGuard(guardDirectory(config)), (): GuardState => ({ _tag: "None" }))
  return { profile, observed: { running, switches: switches.flat(), guard } }
})

const readJournal = Effect.fnUntraced(function*({ machineId, stateDir }: AgentConfig) {
  const reader = yield* openJournal(stateDir, machineId)
  if (reader === undefined) return undefined
  const reading: JournalReading = { state: yield* stateOf(reader, machineId), details: yield* detailsOf(reader) }
  return reading
}, Effect.scoped)

export const readStatus = Effect.fnUntraced(function*(config: AgentConfig, host: HostReader) {
  // Before the journal: an agent that starts in between is then seen as not running, and not the other way round.
  const holder = yield* lockHolder(config.stateDir)
  const journal = yield* readJournal(config)
  const now = Math.floor(yield* Clock.currentTimeMillis)
  const fetching = holder._tag === "Process" ? yield* readFetchNote(config.stateDir) : undefined
  const pid = holder._tag === "Process" ? holder.pid : undefined
  return statusOf(
    { config, now, agentRuns: holder._tag === "Process", pid, fetching, ...yield* readHost(config, host, journal) },
    journal
  )
})
