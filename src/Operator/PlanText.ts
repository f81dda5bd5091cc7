/** A forecast and its conflicts, as text for a person and as JSON for a program. Pure. */
import type { Forecast, HostForecast, RolloutForecast, WaveForecast } from "../ControlPlane/Forecast.ts"
import { named } from "../Rollout/gates/Words.ts"
import { formatTimestamp, type Millis } from "../Schema/Primitives.ts"
import type { Conflict } from "./PlanConflicts.ts"
import { type Cell, printable } from "./Table.ts"

/** What was looked at. */
export interface PlanSource {
  /** The control plane was asked; otherwise the fleet is new. */
  readonly isLive: boolean
  /** Absent: the release in force. */
  readonly release?: { readonly directory: string; readonly isSigned: boolean }
}

/** In its two largest units. */
export function describeSpan(ms: Millis): string {
  const units = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1000]] as const
  const counts = units.map(([name, unit], index) => {
    const larger = units[index - 1]?.[1] ?? Infinity
    return { name, count: Math.floor((ms % larger) / unit) }
  })
  const largest = counts.findIndex(({ count }) => count > 0)
  if (largest < 0) return "0s"
  return counts.slice(largest, largest + 2).filter(({ count }) => count > 0).map(({ count, name }) => `${count}${name}`)
    .join(" ")
}

/** From the beginning of the forecast. */
function when(at: Millis | undefined, from: Millis): string {
  if (at === undefined) return ""
  if (at === from) return "now"
  return at < from ? `${describeSpan(from - at)} ago` : `+${describeSpan(at - from)}`
}

export function headline({ from }: Forecast, { isLive, release }: PlanSource): string {
  const what = release === undefined
    ? "the release in force"
    : `the release in ${release.directory} (${
      release.isSigned ? "signed; not verified here" : "not signed: taken as signed now"
    })`
  const where = isLive ? "the state of the control plane" : "a new fleet"
  return printable(`Forecast from ${formatTimestamp(from)}: ${what}, on ${where}`)
}

export function rolloutHeadline({ completeAt, hosts, rolloutId, state, waves }: RolloutForecast, from: Millis): string {
  const left = hosts.filter(({ before }) => before !== "Converged").length
  const size = `${counted(hosts.length, "host")} in ${counted(waves.length, "wave")}`
  const end = completeAt !== undefined
    ? `complete at ${formatTimestamp(completeAt)}, in ${describeSpan(completeAt - from)}`
    : left === 0 && state === "Terminal"
    ? "complete"
    : "never complete"
  return printable(`${rolloutId}: ${size}, ${left === hosts.length ? "" : `${counted(left, "host")} to go, `}${end}`)
}

const counted = (count: number, noun: string) => `${count} ${noun}${count === 1 ? "" : "s"}`

export const wavesHeader = ["WAVE", "HOSTS", "STARTS", "COMPLETE", "ORDER"]

/** Hosts that a line of the table names; `--hosts` has all. */
const namedHosts = 8

export function waveRow({ hosts, waves }: RolloutForecast, wave: WaveForecast, from: Millis): ReadonlyArray<Cell> {
  const ofWave = hosts.filter((one) => one.wave === wave.wave)
  return [
    { text: String(wave.wave + 1) },
    { text: String(wave.hosts) },
    { text: when(wave.startsAt, from) },
    { text: waveEnd(wave, ofWave, waves, from) },
    { text: order(ofWave) }
  ]
}

function waveEnd(
  { completeAt, wave }: WaveForecast,
  hosts: ReadonlyArray<HostForecast>,
  waves: ReadonlyArray<WaveForecast>,
  from: Millis
): string {
  if (completeAt !== undefined) return when(completeAt, from)
  const isPast = hosts.every(({ before }) => before === "Converged") &&
    waves.every((other) => other.wave >= wave || other.completeAt === undefined)
  return isPast ? "done" : "never"
}

/** Those that go in one moment side by side, the next ones behind an arrow. */
function order(hosts: ReadonlyArray<HostForecast>): string {
  const shown = hosts.slice(0, namedHosts)
  const text = shown.map(({ dispatchedAt, host }, index) => {
    const before = shown[index - 1]
    return before === undefined ? host : `${before.dispatchedAt === dispatchedAt ? ", " : " → "}${host}`
  }).join("")
  return hosts.length > namedHosts ? `${text} and ${hosts.length - namedHosts} more` : text
}

export const hostsHeader = ["WAVE", "HOST", "DISPATCHED", "RUNS IT", "CONVERGED", "SWITCH TAKES", "WAITS NOW"]

export function hostRow(
  { activatedAt, activation, after, convergedAt, dispatchedAt, host, stuck, waits, wave }: HostForecast,
  from: Millis
): ReadonlyArray<Cell> {
  const end = after === "Converged" ? when(convergedAt, from) : `never: ${stuck?.because ?? after}`
  return [
    { text: String(wave + 1) },
    { text: host },
    { text: when(dispatchedAt, from) },
    { text: when(activatedAt, from) },
    { text: end },
    { text: `${describeSpan(activation.ms)}${activation.basis === "host" ? "" : ` (${bases[activation.basis]})`}` },
    { text: waits === undefined ? "" : `${waits.gate}: ${waits.because}` }
  ]
}

const bases = { host: "own past", fleet: "as others", assumed: "assumed" } as const

/** What stands behind the times. */
export function assumptions({ rollouts }: Forecast): string {
  const toGo = rollouts.flatMap(({ hosts }) => hosts).filter(({ before }) => before !== "Converged")
  const groups = Map.groupBy(toGo, ({ activation }) => activation.basis)
  const said = (["host", "fleet", "assumed"] as const).flatMap((basis) => {
    const found = groups.get(basis) ?? []
    if (found.length === 0) return []
    const times = found.map(({ activation }) => activation.ms).toSorted((a, b) => a - b)
    const [least, most] = [describeSpan(times[0]!), describeSpan(times.at(-1)!)]
    return [`${least === most ? least : `${least} to ${most}`} on ${counted(found.length, "host")} (${bases[basis]})`]
  })
  return `nothing fails, nobody is away${said.length === 0 ? "" : `, and a switch takes ${said.join(", ")}`}`
}

/** Why hosts wait now, each reason once. */
export function waitingLines({ rollouts }: Forecast): ReadonlyArray<string> {
  const waiting = rollouts.flatMap(({ hosts }) => hosts).flatMap(({ host, waits }) =>
    waits === undefined ? [] : [{ host, waits }]
  )
  return [...Map.groupBy(waiting, ({ waits: { because } }) => because)].map(([because, hosts]) =>
    printable(`${named(hosts.map(({ host }) => host))}: ${because}`)
  )
}

export function conflictLines({ hosts, kind, remedy, what }: Conflict): ReadonlyArray<string> {
  return [
    printable(`${kind}: ${what}${hosts.length === 0 ? "" : ` (${named(hosts)})`}`),
    printable(`  → ${remedy}`)
  ]
}

const time = (at: Millis | undefined) => at === undefined ? null : formatTimestamp(at)

/** Times as RFC 3339; `null` where there is none. Waves count from 0. */
export function asJson(told: Forecast, source: PlanSource, conflicts: ReadonlyArray<Conflict>) {
  return {
    from: formatTimestamp(told.from),
    live: source.isLive,
    release: source.release === undefined
      ? null
      : { directory: source.release.directory, signed: source.release.isSigned },
    cut: told.isCut,
    rollouts: told.rollouts.map(({ channel, completeAt, hosts, rolloutId, state, waves }) => ({
      rolloutId,
      channel,
      state,
      completeAt: time(completeAt),
      waves: waves.map((wave) => ({ ...wave, startsAt: time(wave.startsAt), completeAt: time(wave.completeAt) })),
      hosts: hosts.map((host) => ({
        host: host.host,
        wave: host.wave,
        targetClosure: host.targetClosure,
        before: host.before,
        after: host.after,
        dispatchedAt: time(host.dispatchedAt),
        activatedAt: time(host.activatedAt),
        convergedAt: time(host.convergedAt),
        activationMs: host.activation.ms,
        activationBasis: host.activation.basis,
        waits: held(host.waits),
        stuck: held(host.stuck)
      }))
    })),
    conflicts
  }
}

function held(hold: HostForecast["waits"] | HostForecast["stuck"]) {
  return hold === undefined ? null : {
    gate: hold.gate ?? null,
    because: hold.because,
    clearedBy: hold.clearedBy ?? null,
    earliestAt: time(hold.earliestAt)
  }
}
