/** One line for each event of a rollout, for people and for programs (control-plane.md §10). Pure. */
import type { RolloutEvents } from "../Schema/OperatorViews.ts"
import { safeJson } from "./Output.ts"
import { printable } from "./Table.ts"

export type EventRow = RolloutEvents["events"][number]

/** Characters of what happened that are shown: the rest is in the JSON. */
const shownLength = 200

/** The named member as text, if the payload has it: payloads are whatever agents sent. */
function member(payload: unknown, name: string): string | undefined {
  const found = property(payload, name)
  return typeof found === "string" || typeof found === "number" ? String(found) : undefined
}

const property = (payload: unknown, name: string): unknown =>
  typeof payload !== "object" || payload === null
    ? undefined
    : Object.getOwnPropertyDescriptor(payload, name)?.value

/** Members that tell the most, for each kind of row, in the order in which they are shown. */
function happening({ kind, payload }: EventRow): ReadonlyArray<string | undefined> {
  const of = (name: string) => member(payload, name)
  const named = (name: string) => of(name) === undefined ? undefined : `${name} ${of(name)}`
  switch (kind) {
    case "agent_event":
      return [of("kind"), of("probeName"), of("status"), of("component"), named("exitCode"), named("refused")]
    case "plan_action":
      return [of("action"), of("because")]
    case "rollout_event":
      return [of("event"), named("fromWave"), named("toWave")]
    case "effect":
      return [of("effect"), of("because")]
    case "gate_decision":
      return [of("gate"), of("because")]
    case "operator_action": {
      const action = property(payload, "action")
      return [member(action, "action"), of("actor") ?? "by itself", member(action, "reason")]
    }
    case "verify_outcome":
    case "manifest_poll":
      return [of("artifact"), of("outcome"), of("reason")]
  }
}

/** Columns are as wide as they usually need to be: a stream cannot know what comes. */
const columns = (seq: string, ts: string, kind: string, host: string, what: string): string =>
  [seq.padStart(6), ts.padEnd(24), kind.padEnd(13), host.padEnd(16), what].map(printable).join("  ").trimEnd()

export const eventHeader = columns("SEQ", "TS", "KIND", "HOST", "WHAT")

export function eventLine(event: EventRow): string {
  const what = happening(event).filter((part) => part !== undefined).join(" ")
  return columns(String(event.seq), event.ts, event.kind, event.host ?? "", what.slice(0, shownLength))
}

/** The row as the control plane wrote it, on one line. */
export const eventJson = (event: unknown): string => safeJson(event)
