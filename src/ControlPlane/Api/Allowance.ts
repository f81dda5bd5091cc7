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
  level: number
  at: Millis
  refused: number
}

/** Names in each of the two maps; whoever was forgotten asked long ago, and its bucket is long full again. */
const namesLimit = 32_768

export function makeAllowance({ burst, perSecond }: AllowanceRule): Allowance {
  // A name moves to the recent ones when it asks; the others are forgotten together when those have become many.
  let recent = new Map<string, Bucket>()
  let others = new Map<string, Bucket>()
  const bucketOf = (name: string, now: Millis): Bucket => {
    const known = recent.get(name)
    if (known !== undefined) return known
    if (recent.size >= namesLimit) {
      others = recent
      recent = new Map()
    }
    const bucket = others.get(name) ?? { level: burst, at: now, refused: 0 }
    recent.set(name, bucket)
    return bucket
  }
  return (name, cost, now) => {
    const bucket = bucketOf(name, now)
    const filled = Math.min(burst, bucket.level + Math.max(0, now - bucket.at) / 1000 * perSecond)
    const { refused } = bucket
    const granted = filled >= cost
    bucket.level = granted ? filled - cost : filled
    bucket.at = now
    bucket.refused = granted ? 0 : refused + 1
    return { granted, refused }
  }
}

/** Bytes of events of one host: a whole journal at once, then what two dozen probes that flap without end would send. */
export const eventBytes: AllowanceRule = { burst: 33_554_432, perSecond: 16_384 }
/** What storing an event costs beside its own bytes. */
export const eventOverheadBytes = 512
/** Every other request of one host: it polls and beats a few times a minute, and reads its manifest with each dispatch. */
export const otherRequests: AllowanceRule = { burst: 240, perSecond: 4 }
/**
 * What a view that says why a host waits counts for among these: it costs a look at the host's whole channel, tens of milliseconds
 * of ten thousand hosts. Six at once, then one in ten seconds.
 */
export const lookCost = 40
/**
 * What a share is counted by: an IPv4 address, or the network of an IPv6 one (its first 64 bits), because whoever has one of its
 * addresses has them all.
 */
export function networkOf(address: string): string {
  if (!address.includes(":") || address.includes(".")) return address
  const [before = "", after] = address.split("::")
  const groups = before === "" ? [] : before.split(":")
  if (after === undefined) return groups.slice(0, 4).join(":")
  const following = after === "" ? [] : after.split(":")
  const zeros = Array.from({ length: Math.max(0, 8 - groups.length - following.length) }, () => "0")
  return [...groups, ...zeros, ...following].slice(0, 4).join(":")
}

/** Enrollments that one address asks for: a rack behind one address at once, then one after another. */
export const enrollmentsOfAddress: AllowanceRule = { burst: 60, perSecond: 1 }
/** Enrollments that all ask for together. A flood keeps honest hosts waiting, and never the rest of the fleet. */
export const enrollmentsOfAll: AllowanceRule = { burst: 600, perSecond: 30 }
/** Certificates of one host: it renews once in half a validity; each is a row of the journal. */
export const renewals: AllowanceRule = { burst: 12, perSecond: 1 / 30 }
/** Log lines about refused requests, per peer and reason. */
export const refusalLines: AllowanceRule = { burst: 20, perSecond: 0.1 }
/** Seconds of `Retry-After` for a host that is over its allowance. */
export const overAllowanceRetryAfterSeconds = 30
