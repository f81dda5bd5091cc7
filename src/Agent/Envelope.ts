/**
 * An event as it travels (D2, D3): the journal's row, without the fields that this control plane does not know. Pure; the
 * same row gives the same bytes to the same peer, which is what makes a resent event an exact duplicate (D4).
 */
import { Result, Schema } from "effect"
import { type AgentEvent, AgentEventEnvelope, type Capability, EventVerdict } from "../Schema/Wire.ts"
import type { DeliveryVerdict } from "./Input.ts"

const encode = Schema.encodeUnknownSync(Schema.fromJsonString(AgentEventEnvelope))
const decodeVerdict = Schema.decodeUnknownResult(Schema.fromJsonString(EventVerdict))

/** Which capability a peer must have announced to be sent an additive field. */
const additive: Readonly<Record<string, Capability>> = {
  attempt: "attempts",
  deliveryId: "journal",
  closureAtFault: "journal",
  cause: "journal",
  journalId: "journal"
}

function known(value: object, peer: ReadonlySet<Capability>): object {
  return Object.fromEntries(
    Object.entries(value).filter(([key]) => {
      const needed = Object.hasOwn(additive, key) ? additive[key] : undefined
      return needed === undefined || peer.has(needed)
    })
  )
}

/** JSON text of `POST /v1/agent/events`. */
export function envelopeFor(
  row: {
    readonly hostname: string
    readonly rolloutId: string
    readonly journalId: string
    readonly event: AgentEvent
  },
  peer: ReadonlySet<Capability>
): string {
  const { event, hostname, journalId, rolloutId } = row
  return encode({ ...known({ hostname, rolloutId, journalId }, peer), event: known(event, peer) })
}

/** What an answer to an event means. */
export type Reception =
  | DeliveryVerdict
  /** Nothing was decided: the row stays. `counts`: the answer was about this row, and K such answers park it (D5). */
  | { readonly _tag: "Undecided"; readonly counts: boolean; readonly detail: string }

const undecided = (status: number, counts: boolean): Reception => ({
  _tag: "Undecided",
  counts,
  detail: `the answer was ${status} without a verdict`
})

/** Statuses that speak of the moment, not of the row: they never park it. */
const passing: ReadonlySet<number> = new Set([408, 425, 429])

/**
 * Reads an answer (D4, D5). A row is refused only by our own verdict body on a status that carries one: a proxy's 403 or
 * 422 is not a verdict. Any 2xx is acceptance, as the original's 204 is.
 */
export function receptionOf(status: number, body: string, seq: number): Reception {
  if (status >= 200 && status < 300) return { _tag: "Applied" }
  const decoded = status === 409 || status === 422 || status === 425 ? decodeVerdict(body) : undefined
  if (decoded !== undefined && Result.isSuccess(decoded)) {
    const { reason, replay_from: replayFrom, verdict } = decoded.success
    if (verdict === "refused" && status !== 425) return { _tag: "Refused", reason }
    if (verdict === "gap" && status === 425) {
      // A gap that asks for this very row, or a later one, cannot be closed by going back: it is about this row.
      return replayFrom !== undefined && replayFrom < seq ? { _tag: "Gap", replayFrom } : undecided(status, true)
    }
  }
  return undecided(status, status >= 400 && status < 500 && !passing.has(status))
}
