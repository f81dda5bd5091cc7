/**
 * The operators of a virtual world: at random times they pause, hold, freeze and clear, end some of it and leave the rest to its
 * time. And whether they were obeyed: the control plane's log is read row by row, and at each lease asked what held then.
 */
import { Schema } from "effect"
import { interventionsIn } from "../ControlPlane/decide/InForce.ts"
import { foldRow } from "../ControlPlane/Fold.ts"
import { Touched } from "../ControlPlane/fold/Touched.ts"
import { at, emptyState, sorted, type State } from "../ControlPlane/State.ts"
import type { Peer } from "../Layers/Net/Exchange.ts"
import type { LogRow } from "../Schema/ControlPlaneJournal.ts"
import { operatorUnit } from "../Schema/Identity.ts"
import { ActionTaken, type HoldingAction, OperatorAction, subjectOf } from "../Schema/Interventions.ts"
import { splitRolloutId } from "../Schema/Primitives.ts"
import { encodeUtf8 } from "../Trust/CanonicalJson.ts"
import { Dice } from "./Dice.ts"
import { encodedText } from "./Encoded.ts"
import { channel } from "./Release.ts"
import { epochMs, type World } from "./World.ts"

/** Chance of an action in each tick: a few in every chapter. */
const busy = 0.06
/** Longest that anything is held, ms: every chapter must go on by itself. */
const longestMs = 4 * 60_000
/** How much later than its time something may end, ms: a control plane that crashed, or cannot write, ends nothing. */
const lateMs = 2 * 60_000

const decodeTaken = Schema.decodeUnknownSync(Schema.fromJsonString(ActionTaken))
const actionText = encodedText(OperatorAction)
const reason = "a drill"

const peer: Peer = {
  commonName: "operator-ada",
  unit: operatorUnit,
  notBefore: epochMs - 86_400_000,
  notAfter: epochMs + 86_400_000
}

export class Operators {
  /** How often each action was taken. */
  readonly counts: Record<string, number> = {}
  /** What was answered with 200. */
  readonly taken: Array<ActionTaken> = []
  readonly #dice: Dice
  readonly #world: World

  constructor(seed: string, world: World) {
    this.#dice = new Dice(`${seed}/operators`)
    this.#world = world
  }

  /** One tick; `rolloutId` is what was published last. */
  act(rolloutId: string): void {
    if (!this.#dice.chance(busy)) return
    const { network, trace } = this.#world
    const action = this.#choose(rolloutId)
    const request = {
      method: "POST",
      path: "/v1/operator/actions",
      headers: { "content-type": "application/json" },
      body: encodeUtf8(actionText(action))
    } as const
    network.tell(request, peer, ({ body, status }) => {
      trace.add("operator", `${action.action} of ${subjectOf(action)}: ${status}`)
      if (status !== 200) return
      this.counts[action.action] = (this.counts[action.action] ?? 0) + 1
      this.taken.push(decodeTaken(new TextDecoder().decode(body)))
    })
  }

  #choose(rolloutId: string): OperatorAction {
    const dice = this.#dice
    const until = epochMs + Math.floor(this.#world.timeline.now) + dice.between(5_000, longestMs)
    const host = () => dice.pick(names(this.#world))
    switch (dice.between(0, 9)) {
      case 0:
      case 1:
        return { action: "PauseRollout", rolloutId, reason, until }
      case 2:
      case 3:
        return { action: "HoldHost", host: host(), reason, until }
      case 4:
        return { action: "Freeze", channel: dice.pick([channel, null]), reason, until }
      case 5:
        return { action: "ResumeRollout", rolloutId, reason }
      case 6:
        return { action: "ReleaseHost", host: host(), reason }
      case 7:
        return { action: "Unfreeze", channel: dice.pick([channel, null]), reason }
      case 8:
        return { action: "ClearQuarantine", of: { rolloutId }, reason }
      default:
        return { action: "ClearRollout", rolloutId, reason }
    }
  }
}

function names({ hosts }: World): readonly [string, ...ReadonlyArray<string>] {
  const [first, ...others] = hosts.map(({ name }) => name)
  if (first === undefined) throw new Error("a world without hosts")
  return [first, ...others]
}

interface Books {
  readonly log: ReadonlyArray<LogRow>
  readonly state: State
  readonly forgot: boolean
}

/** Each finding is a sentence. `now`: epoch ms. */
export function operatorsDisobeyed(
  { forgot, log, state }: Books,
  { taken }: Operators,
  now: number
): ReadonlyArray<string> {
  return [
    ...neverDispatched(log, state.databaseId, forgot),
    // A disk that was lost has forgotten what was done since its backup.
    ...(forgot
      ? []
      : taken.flatMap((one) => isRecorded(log, one) ? [] : [`${one.action.action} was answered and is not on record`])),
    ...sorted(state.interventions).flatMap(([subject, { action }]) => endedInTime(subject, action, now))
  ]
}

/**
 * Nothing is leased that was held then, and nothing ends by itself before its time or long after it; what comes back with a backup
 * ends when it does.
 */
function neverDispatched(log: ReadonlyArray<LogRow>, databaseId: string, forgot: boolean): ReadonlyArray<string> {
  const problems: Array<string> = []
  let state = emptyState(databaseId)
  for (const row of log) {
    const { entry, host = "", now, rolloutId = "" } = row
    if (entry.kind === "plan_action" && entry.payload.action === "LeaseDispatch") {
      const { freezeOf, holdOf, pauseOf } = interventionsIn(state)
      const hold = freezeOf(splitRolloutId(rolloutId).channel) ?? pauseOf(rolloutId) ?? holdOf(host)
      if (hold !== undefined) problems.push(`${host} got its dispatch of ${rolloutId}, held ${JSON.stringify(hold)}`)
    }
    if (entry.kind === "operator_action" && entry.payload.by === "itself") {
      const subject = subjectOf(entry.payload.action)
      const ending = at(state.interventions, subject)?.action
      const isOver = entry.payload.action.reason !== "its time is over" || (ending !== undefined && ending.until <= now)
      if (!isOver) problems.push(`${subject} ended by itself before its time`)
      if (ending !== undefined && !forgot) problems.push(...endedInTime(subject, ending, now))
    }
    state = foldRow(state, row, new Touched())
  }
  return problems
}

const endedInTime = (subject: string, { until }: HoldingAction, now: number): ReadonlyArray<string> =>
  now - until <= lateMs ? [] : [`${subject} was held until ${now - until} ms after its time`]

const isRecorded = (log: ReadonlyArray<LogRow>, { action, at: when }: ActionTaken): boolean =>
  log.some(({ entry, now }) =>
    entry.kind === "operator_action" && entry.payload.by === "operator" && now === when &&
    actionText(entry.payload.action) === actionText(action)
  )
