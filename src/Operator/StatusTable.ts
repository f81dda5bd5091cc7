/** The tables of `status`, `rollout list` and `rollout hosts` (control-plane.md §10). Pure: the time is an argument. */
import type { HostStatusEntry, RolloutHosts, RolloutList, WaitsFor } from "../Schema/OperatorViews.ts"
import { formatTimestamp, type Millis } from "../Schema/Primitives.ts"
import type { HostStateName } from "../Schema/Wire.ts"
import { describeAge, describeProgress } from "../Schema/Words.ts"
import type { Unconverged } from "./Failure.ts"
import type { Standing } from "./RolloutState.ts"
import { type Cell, type Colour, printable } from "./Table.ts"

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

interface Label {
  readonly text: string
  readonly colour: Colour
}

const good = (text: string): Label => ({ text, colour: "green" })
const busy = (text: string): Label => ({ text, colour: "yellow" })
const bad = (text: string): Label => ({ text, colour: "red" })

/** What a person needs to know first about a host. `windowMs` is its channel's freshness window. */
export function statusLabel(host: HostStatusEntry, windowMs: Millis | undefined, now: Millis): Label {
  if (host.revoked !== null) return bad(revokedLabel(host.revoked, now))
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

/** It is let in again with a certificate that is issued from that time on. */
function revokedLabel({ notBefore, reason }: NonNullable<HostStatusEntry["revoked"]>, now: Millis): string {
  const because = reason === null ? "" : `: ${reason}`
  return `revoked ${notBefore <= now ? "since" : "until"} ${formatTimestamp(notBefore)}${because}`
}

/** In percent of what is to come; in bytes while nobody knows how much that is. */
function howFar({ doneBytes, expectedBytes }: NonNullable<HostStatusEntry["fetching"]>): string {
  return expectedBytes === null || expectedBytes === 0
    ? describeProgress(doneBytes, undefined)
    : `${Math.min(100, Math.floor(100 * doneBytes / expectedBytes))} %`
}

function liveLabel(host: HostStatusEntry): Label {
  switch (host.rolloutState) {
    case "Activating":
      return busy(host.fetching === null ? "activating" : `fetching ${howFar(host.fetching)}`)
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

/**
 * How one host stands. What it runs is what its last heartbeat said, so a host counts as converged at the latest with the heartbeat
 * after it has: "not yet" is the side to err on. A host that has nothing to run is where it should be.
 */
export function hostStanding(host: HostStatusEntry): "converged" | Unconverged {
  const { converged, currentClosureHash, declaredClosureHash, quarantinedClosure, revoked, rolloutState } = host
  if (rolloutState === "Failed" || rolloutState === "Reverted" || quarantinedClosure !== null) return "ended"
  if (declaredClosureHash === null) return "converged"
  if (converged && (currentClosureHash ?? declaredClosureHash) === declaredClosureHash) return "converged"
  return revoked === null ? "under-way" : "ended"
}

/** Hosts that are named when not all have converged; the table has the rest. */
const namedHosts = 5

/** How all hosts stand together: at an end that was not wanted as soon as one of them is. */
export function fleetStanding(hosts: ReadonlyArray<HostStatusEntry>): Standing {
  const standings = hosts.map((host) => ({ host: host.hostname, how: hostStanding(host) }))
  const open = standings.filter(({ how }) => how !== "converged")
  if (open.length === 0) return { how: "converged", text: "every host has converged" }
  const ended = open.filter(({ how }) => how === "ended")
  const named = ended.length > 0 ? ended : open
  const names = named.slice(0, namedHosts).map(({ host }) => host).join(", ")
  const more = named.length > namedHosts ? ` and ${named.length - namedHosts} more` : ""
  const text = ended.length > 0
    ? `${ended.length} of ${hosts.length} hosts failed, were rolled back, are revoked or in quarantine: ${names}${more}`
    : `${open.length} of ${hosts.length} hosts have not converged yet: ${names}${more}`
  return { how: ended.length > 0 ? "ended" : "under-way", text: printable(text) }
}

/** What it waits for, where its state or label does not say that already; `why` has the rest. */
function waitText(state: HostStateName | null | undefined, waitsFor: WaitsFor | null | undefined): string {
  const saysItself = state === "Activating" || state === "Deferred" || state === "Soaking" ||
    waitsFor?.gate === "certificate-revoked"
  return saysItself || waitsFor === null || waitsFor === undefined ? "" : ` (waits: ${waitsFor.because})`
}

export function statusRow(host: HostStatusEntry, windowMs: Millis | undefined, now: Millis): ReadonlyArray<Cell> {
  const label = statusLabel(host, windowMs, now)
  const waits = waitText(host.rolloutState, host.waitsFor)
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
  const waits = waitText(host.state, host.waitsFor)
  return [
    { text: String(host.wave + 1) },
    { text: host.host },
    { text: host.dispatchedAt },
    terminal,
    { text: host.terminalAt === null ? "" : formatTimestamp(host.terminalAt) },
    host.state === undefined ? { text: waits.trim() } : { ...coloured(host.state), text: `${host.state}${waits}` }
  ]
}
