/**
 * What operators do, and what they did: the actions that pause, hold, freeze and clear, what is in force, the quarantine. The
 * actor is whoever the certificate names; the body cannot say otherwise.
 *
 * Failures: the body says why, for the person who asked. 503 when nothing is known to be recorded: every action may be asked
 * again.
 */
import { Effect } from "effect"
import type { ExchangeResponse } from "../../Layers/Net/Exchange.ts"
import { strictDecoder } from "../../Schema/Decode.ts"
import {
  ActionRefused,
  ActionsResponse,
  ActionTaken,
  OperatorAction,
  QuarantineResponse
} from "../../Schema/Interventions.ts"
import type { Reason } from "../../Schema/Reasons.ts"
import type { ActionAnswer } from "../Input.ts"
import { sorted } from "../State.ts"
import { body, retryLater } from "./AgentRoutes.ts"
import type { Api, Call } from "./Api.ts"
import { bare, encoded, json, refuse } from "./Reply.ts"

/** A misspelt field must not make an action that means more than its operator did. */
const decodeAction = strictDecoder(OperatorAction)
const encodeTaken = encoded(ActionTaken)
const encodeActions = encoded(ActionsResponse)
const encodeQuarantine = encoded(QuarantineResponse)

const refused = (reason: Reason, detail: string, status: number) =>
  refuse(reason, detail, json(status, ActionRefused.make({ error: detail, reason })))

const statuses = { "unknown": 404, "not-now": 409, "impossible": 422 } as const satisfies Record<
  Extract<ActionAnswer, { readonly _tag: "NotTaken" }>["because"],
  number
>

export const act = Effect.fnUntraced(function*(api: Api, call: Call) {
  const decoded = decodeAction(yield* Effect.fromResult(body(call)))
  if (!decoded.ok) return yield* refused("body-shape", decoded.problem, 422)
  const answer = yield* api.inbox.action({
    _tag: "ActionAsked",
    action: decoded.value,
    actor: call.identity.commonName
  })
  switch (answer._tag) {
    case "Busy":
      return yield* refuse("queue-full", "an operator's action", bare(503, retryLater))
    case "NotTaken":
      return yield* refused(answer.reason, answer.detail, statuses[answer.because])
    case "Taken":
      return encodeTaken(answer.taken)
  }
})

export const actions = Effect.fnUntraced(function*(api: Api) {
  const recent = yield* Effect.mapError(api.recentActions, ({ message, reason }) => refuse(reason, message, 500))
  return encodeActions({ inForce: sorted(api.state().interventions).map(([, one]) => one), recent })
})

export const quarantine = (api: Api): Effect.Effect<ExchangeResponse> =>
  Effect.sync(() =>
    encodeQuarantine({
      quarantine: api.state().quarantine.map(({ at, channel, closure, host, ref }) => ({
        rolloutId: `${channel}@${ref}`,
        closure,
        host,
        at
      }))
    })
  )
