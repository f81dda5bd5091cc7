/**
 * How long to wait after a failure (D9): a random time between one second and min(60 s, 2ⁿ s), so that a fleet that failed
 * together does not come back together. A server's `Retry-After` is obeyed, up to ten minutes. `Pacer.ts` waits; this file
 * says how long.
 */
import { Effect, Random } from "effect"

const leastMs = 1_000
const capMs = 60_000
/** A server in trouble may ask for more than our cap, but not send a host away for a day. */
const retryAfterCapMs = 600_000

/** The longest wait after the n-th failure in a row, ms; n from 1. */
export const ceilingMs = (failures: number): number => Math.min(capMs, leastMs * 2 ** Math.min(failures, 16))

/** The wait after the n-th failure in a row, whole ms. `askedMs`: what the server asked for, if it did. */
export const backoffMs = (failures: number, askedMs: number | undefined): Effect.Effect<number> =>
  askedMs === undefined
    ? Random.nextIntBetween(leastMs, ceilingMs(failures))
    : Effect.succeed(Math.min(retryAfterCapMs, Math.max(leastMs, Math.ceil(askedMs))))

const httpDate = /^[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT$/

/** `Retry-After` of a response, ms from now: seconds, or an HTTP date. `undefined` when absent or not readable. */
export function retryAfterMs(headers: Readonly<Record<string, string>>, nowMs: number): number | undefined {
  const text = headers["retry-after"]?.trim()
  if (text === undefined) return undefined
  if (/^[0-9]{1,9}$/.test(text)) return Number(text) * 1000
  const at = httpDate.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(at) ? undefined : Math.max(0, at - nowMs)
}
