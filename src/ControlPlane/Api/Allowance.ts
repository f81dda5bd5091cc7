/**
 * How much one peer may ask for: a bucket per name, full at first, that time fills again (D9: protect the server). One host that
 * sends without end gets 503 and `Retry-After`; nobody else notices, and neither the disk nor the log fills up.
 *
 * Not durable: a restart gives everybody a full bucket. Time is an argument.
 */
import type { Millis } from "../../Schema/Primitives.ts"

export interface AllowanceRule {
  /** What a full bucket holds. */
  readonly burst: number
  readonly perSecond: number
}

/** Whether it is granted; `refused`: how often the same name was refused since it was last granted. */
export interface Grant {
  readonly granted: boolean
  readonly refused: number
}

export type Allowance = (name: string, cost: number, now: Millis) => Grant

interface Bucket {
  readonly level: number
  readonly at: Millis
  readonly refused: number
}

/** Names remembered; the one that asked longest ago is forgotten first, its bucket long full again. */
const namesLimit = 65_536

export function makeAllowance({ burst, perSecond }: AllowanceRule): Allowance {
  const buckets = new Map<string, Bucket>()
  return (name, cost, now) => {
    const known = buckets.get(name) ?? { level: burst, at: now, refused: 0 }
    const filled = Math.min(burst, known.level + Math.max(0, now - known.at) / 1000 * perSecond)
    const granted = filled >= cost
    buckets.delete(name)
    buckets.set(
      name,
      granted
        ? { level: filled - cost, at: now, refused: 0 }
        : { level: filled, at: now, refused: known.refused + 1 }
    )
    const oldest = buckets.size > namesLimit ? buckets.keys().next().value : undefined
    if (oldest !== undefined) buckets.delete(oldest)
    return { granted, refused: known.refused }
  }
}

/** Bytes of events of one host: a whole journal at once, then what two dozen probes that flap without end would send. */
export const eventBytes: AllowanceRule = { burst: 33_554_432, perSecond: 16_384 }
/** What storing an event costs beside its own bytes. */
export const eventOverheadBytes = 512
/** Every other request of one host: it polls and beats a few times a minute, and reads its manifest with each dispatch. */
export const otherRequests: AllowanceRule = { burst: 240, perSecond: 4 }
/** Log lines about refused requests, per peer and reason. */
export const refusalLines: AllowanceRule = { burst: 20, perSecond: 0.1 }
/** Seconds of `Retry-After` for a host that is over its allowance. */
export const overAllowanceRetryAfterSeconds = 30
