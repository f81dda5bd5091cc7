/**
 * How old a signed artifact may be (D14). The window is signed itself, in minutes, by channel: the agent goes by its own
 * channel, the control plane by the smallest one. A flag can only lower it.
 */
import type { FleetResolved } from "../Schema/Artifacts.ts"
import type { Millis } from "../Schema/Primitives.ts"

/** Difference between two clocks that is forgiven, both ways; boundaries count as fresh (protocol.md §8.8). */
export const clockSlackMs = 60_000

/** What is wrong with `signedAt` at `now`, or `undefined` when it may be used. */
export function staleness(signedAt: Millis, windowMs: Millis, now: Millis): "Stale" | "FutureDated" | undefined {
  if (now - signedAt > windowMs + clockSlackMs) return "Stale"
  if (signedAt - now > clockSlackMs) return "FutureDated"
  return undefined
}

/** The channel's window in ms; `undefined` when the fleet has no such channel. */
export function channelWindowMs(fleet: FleetResolved, channel: string): Millis | undefined {
  return Object.hasOwn(fleet.channels, channel) ? fleet.channels[channel]!.freshnessWindow * 60_000 : undefined
}

/** The smallest window of all channels, in ms; 0 when there is none, since nothing then says how long to believe it. */
export function smallestWindowMs(fleet: FleetResolved): Millis {
  const windows = Object.values(fleet.channels).map((channel) => channel.freshnessWindow * 60_000)
  return windows.length === 0 ? 0 : Math.min(...windows)
}

/** The window of the channel that `hostname` is on; the smallest one for a host that the fleet does not list. */
export function hostWindowMs(fleet: FleetResolved, hostname: string): Millis {
  const host = Object.hasOwn(fleet.hosts, hostname) ? fleet.hosts[hostname] : undefined
  const own = host === undefined ? undefined : channelWindowMs(fleet, host.channel)
  return own ?? smallestWindowMs(fleet)
}

/** The operator's ceiling lowers a window and never raises it. */
export function withCeiling(windowMs: Millis, ceilingMs: Millis | undefined): Millis {
  return ceilingMs === undefined ? windowMs : Math.min(windowMs, ceilingMs)
}
