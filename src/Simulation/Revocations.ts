/**
 * Whether a control plane kept out whom it was told to: its log is read row by row. From the row that puts a list into force until
 * the one that lifts it nothing is leased to a host on the list, and none of its events is taken.
 */
import type { LogRow } from "../Schema/ControlPlaneJournal.ts"

/**
 * What was let in just before is decided just after. A full disk holds both back, ms: it takes six commits at most, and a commit
 * is tried again within seconds.
 */
const letInMs = 30_000

/** Each finding is a sentence. Certificates in a virtual world are older than every list. */
export function revocationsDisobeyed({ log }: { readonly log: ReadonlyArray<LogRow> }): ReadonlyArray<string> {
  let revoked: ReadonlyMap<string, number> = new Map()
  return log.flatMap(({ entry, host = "", now, rolloutId }) => {
    if (entry.kind === "identity" && entry.payload.fact === "RevocationsInForce") {
      const { revocations } = entry.payload.list
      revoked = new Map(revocations.map(({ hostname }) => [hostname, revoked.get(hostname) ?? now]))
      return []
    }
    const since = revoked.get(host)
    if (since === undefined) return []
    if (entry.kind === "plan_action" && entry.payload.action === "LeaseDispatch") {
      return [`${host} got its dispatch of ${rolloutId} while it was revoked`]
    }
    return entry.kind === "agent_event" && now > since + letInMs
      ? [`an event of ${host} in ${rolloutId} was taken ${now - since} ms after it was revoked`]
      : []
  })
}
