/** The tables of `status`, `rollout list` and `rollout hosts` (control-plane.md §10). Pure: the time is an argument. */
import type { HostStatusEntry, RolloutHosts, RolloutList } from "../Schema/OperatorViews.ts"
import { formatTimestamp, type Millis } from "../Schema/Primitives.ts"
import type { Cell, Colour } from "./Table.ts"

export const statusHeader = ["HOST", "CHANNEL", "CURRENT", "DECLARED", "STATUS", "COMPLIANCE"]
export const rolloutListHeader = ["ROLLOUT", "STATE", "WAVE", "HOSTS", "CREATED"]
export const rolloutHostsHeader = ["WAVE", "HOST", "DISPATCHED", "TERMINAL", "AT", "STATE"]

/** Characters of a closure that are shown: enough to tell two apart at a glance. */
const shownHash = 13
/** Characters of a pinned commit. */
const shownCommit = 7

/** Longest silence of a host in flight, in freshness windows of its channel. */
const silentWindows = 2

function shorten(closure: string | null, absent: string): string {
  if (closure === null || closure === "") return absent
  return closure.length > shownHash ? `${closure.slice(0, shownHash)}…` : closure
}

/** A span of time in its largest unit. */
export function describeAge(ms: Millis): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h`
  return `${Math.floor(seconds / 86_400)}d`
}

interface Label {
  readonly text: string
  readonly colour: Colour
}

const good = (text: string): Label => ({ text, colour: "green" })
const busy = (text: string): Label => ({ text, colour: "yellow" })
const bad = (text: string): Label => ({ text, colour: "red" })

/** What a person needs to know first about a host. `windowMs` is its channel's freshness window. */
export function statusLabel(host: HostStatusEntry, windowMs: Millis | undefined, now: Millis): Label {
  const halted = host.quarantinedClosure === null ? "" : ": channel halted, push fix"
  if (host.rolloutState === "Failed") return bad(`failed${halted}`)
  if (host.rolloutState === "Reverted") return bad(`reverted${halted}`)
  if (host.quarantinedClosure !== null) return bad("quarantined")
  const inFlight = host.pendingClosureHash !== null
  if (host.lastCheckinAt === null) return inFlight ? busy("never") : bad("never")
  const silence = now - host.lastCheckinAt
  if (inFlight && windowMs !== undefined && silence > silentWindows * windowMs) {
    return bad(`stale (${describeAge(silence)})`)
  }
  return liveLabel(host)
}

function liveLabel(host: HostStatusEntry): Label {
  switch (host.rolloutState) {
    case "Activating":
      return busy("activating")
    case "Deferred":
      return busy("pending reboot")
    case "Soaking":
      return host.outstandingHealthFailures > 0 ? bad("probes failing") : busy("soaking")
    case "Converged":
      return good("converged")
    default:
      if (host.pendingReboot) return busy("pending reboot")
      return host.converged ? good("converged") : busy("in progress")
  }
}

export function statusRow(host: HostStatusEntry, windowMs: Millis | undefined, now: Millis): ReadonlyArray<Cell> {
  const label = statusLabel(host, windowMs, now)
  const waits = host.waitsFor === null ? "" : ` (waits: ${host.waitsFor.because})`
  const pin = host.pin === null ? "" : ` 🔒${host.pin.commit.slice(0, shownCommit)}`
  const outstanding = host.outstandingComplianceFailures + host.outstandingRuntimeGateErrors
    + host.outstandingHealthFailures
  return [
    { text: host.hostname },
    { text: host.channel },
    { text: shorten(host.currentClosureHash, "<unseen>") },
    { text: shorten(host.declaredClosureHash, "<unset>") },
    { text: `${label.text}${waits}${pin}`, colour: label.colour },
    { text: String(outstanding), colour: outstanding > 0 ? "red" : "green" }
  ]
}

/** `3 Converged, 1 Soaking`, in the order in which a host goes through the states. */
function countStates(states: RolloutList["rollouts"][number]["hostStates"]): string {
  const order = ["Pending", "Activating", "Deferred", "Soaking", "Converged", "Failed", "Reverted"] as const
  const counts = order.map((state) => [state, Object.values(states).filter((found) => found === state).length] as const)
  return counts.filter(([, count]) => count > 0).map(([state, count]) => `${count} ${state}`).join(", ")
}

const stateColours: Readonly<Record<string, Colour>> = {
  Converged: "green",
  Terminal: "green",
  Failed: "red",
  Reverted: "red"
}
const coloured = (state: string): Cell => ({
  text: state,
  colour: Object.hasOwn(stateColours, state) ? stateColours[state]! : "yellow"
})

export function rolloutListRow(rollout: RolloutList["rollouts"][number]): ReadonlyArray<Cell> {
  const waves = rollout.waves === undefined ? "" : ` of ${rollout.waves}`
  return [
    { text: rollout.rolloutId },
    rollout.state === undefined ? { text: "" } : coloured(rollout.state),
    { text: `${rollout.currentWave + 1}${waves}` },
    { text: countStates(rollout.hostStates) },
    { text: formatTimestamp(rollout.createdAt) }
  ]
}

export function rolloutHostRow(host: RolloutHosts["hosts"][number]): ReadonlyArray<Cell> {
  const terminal: Cell = host.terminalState === null
    ? { text: "<open>" }
    : { text: host.terminalState, colour: host.terminalState === "converged" ? "green" : "red" }
  const waits = host.waitsFor === undefined ? "" : ` (waits: ${host.waitsFor.because})`
  return [
    { text: String(host.wave + 1) },
    { text: host.host },
    { text: host.dispatchedAt },
    terminal,
    { text: host.terminalAt === null ? "" : formatTimestamp(host.terminalAt) },
    host.state === undefined ? { text: waits.trim() } : { ...coloured(host.state), text: `${host.state}${waits}` }
  ]
}
