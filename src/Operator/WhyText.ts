/** An explanation for people (`nixfleet why`): the answer first, then what it rests on, then who ends it and when. Pure. */
import { DateTime } from "effect"
import type { Explanation, Standing } from "../Schema/OperatorViews.ts"
import type { Millis } from "../Schema/Primitives.ts"
import { describeAge, describeLeft, printable } from "../Schema/Words.ts"

const verdicts: Readonly<Record<Standing, string>> = {
  "at-target": "is at its target",
  held: "is held back",
  "under-way": "waits",
  stopped: "has stopped",
  "not-rolled-out": "is in no rollout"
}

type Line = readonly [name: string, text: string]

/** Times are in the zone of whoever reads; how long ago they were is by the control plane's clock. */
export function renderExplanation(view: Explanation, zone: DateTime.TimeZone): string {
  const { at, because, clearedBy, earliestAt, evidence, hostname, lastHeardAt, rollout, runs, since, standing } = view
  const point = (when: Millis) => `${local(when, zone)} (${distance(when, at)})`
  const lines: ReadonlyArray<Line> = [
    ...evidence.map(({ at: when, fact }): Line => ["evidence", when === null ? fact : `${fact}; ${point(when)}`]),
    ...(clearedBy === null ? [] : [["cleared by", clearedBy] as const]),
    ...(earliestAt === null ? [] : [["earliest", point(earliestAt)] as const]),
    ...(since === null || standing === "at-target" ? [] : [["since", point(since)] as const]),
    ["reason", view.reason],
    ...(rollout === null ? [] : rolloutLines(rollout)),
    ["runs", runs ?? "unknown"],
    ["last heard", lastHeardAt === null ? "never" : point(lastHeardAt)]
  ]
  const width = Math.max(...lines.map(([name]) => name.length)) + 2
  const there = standing === "at-target" && since !== null ? ` since ${point(since)}` : ""
  return [
    `${hostname} ${verdicts[standing]}${there}: ${because}`,
    ...lines.map(([name, text]) => `  ${name.padEnd(width)}${text}`)
  ].map(printable).join("\n")
}

function rolloutLines(
  { attempt, hostState, rolloutId, state, targetClosure, wave, waves }: NonNullable<Explanation["rollout"]>
): ReadonlyArray<Line> {
  const again = attempt === 1 ? "" : `, attempt ${attempt}`
  return [
    ["rollout", `${rolloutId} (${state}), wave ${wave + 1} of ${waves}${again}; the host is ${hostState}`],
    ["target", targetClosure]
  ]
}

/** `2026-11-21 05:12:33 +02:00`. */
function local(when: Millis, zone: DateTime.TimeZone): string {
  const text = DateTime.formatIsoOffset(DateTime.setZone(DateTime.makeUnsafe(when), zone))
  const [, day, clock, offset] = /^(.*)T(\d\d:\d\d:\d\d)[.\d]*(.*)$/.exec(text) ?? []
  return day === undefined ? text : `${day} ${clock} ${offset === "+00:00" ? "UTC" : offset}`
}

const distance = (when: Millis, now: Millis): string =>
  when > now ? `in ${describeLeft(when - now)}` : `${describeAge(now - when)} ago`
