/**
 * The decision of the control plane: state and input to new state, rows, actions and an answer (house rule 1). Pure; the two
 * clocks are arguments. One file beside this one for each kind of input; `settle` plans what the batch touched.
 */
import type { Change, Decision, Now } from "../Reducer.ts"
import { decideAction, endInterventions } from "./decide/Actions.ts"
import { decideArtifacts, refused } from "./decide/Artifacts.ts"
import { decideParked, decideSweep, decideUnparked } from "./decide/Dispatch.ts"
import { decideEvent } from "./decide/Events.ts"
import { decideHeartbeat } from "./decide/Heartbeats.ts"
import { decideEnrollment, decideIssued, decideNonces, decideRevocations } from "./decide/Identities.ts"
import { settle as settlePlan } from "./decide/Plan.ts"
import { Draft } from "./Draft.ts"
import type { Action, Answer, Input } from "./Input.ts"
import type { State } from "./State.ts"
import type { Write } from "./Write.ts"

const done: Answer = { _tag: "Done" }

export function decide(state: State, input: Input, now: Now): Decision<State, Write, Action, Answer> {
  const draft = new Draft(state, now.wall)
  const answer = answerTo(draft, input)
  return { ...draft.finish(), answer }
}

function answerTo(draft: Draft, input: Input): Answer {
  switch (input._tag) {
    case "EventReceived":
      return decideEvent(draft, input)
    case "HeartbeatReceived":
      return decideHeartbeat(draft, input)
    case "ArtifactsVerified":
      decideArtifacts(draft, input.artifacts)
      return done
    case "RevocationsVerified":
      decideRevocations(draft, input.list)
      return done
    case "NoncesVerified":
      decideNonces(draft, input.list)
      return done
    case "EnrollmentAsked":
      return decideEnrollment(draft, input)
    case "CertificateIssued":
      return decideIssued(draft, input)
    case "ArtifactRefused":
      refused(draft, input)
      return done
    case "Parked":
      decideParked(draft, input)
      return done
    case "Unparked":
      decideUnparked(draft, input)
      return done
    case "ActionAsked":
      return decideAction(draft, input)
    case "PlanTick":
      endInterventions(draft)
      draft.ticked()
      return done
    case "LeaseSweep":
      endInterventions(draft)
      decideSweep(draft)
      return done
  }
}

/** Once per batch; nothing when no channel was touched. */
export function settle(state: State, now: Now): Change<State, Write, Action> | undefined {
  if (state.dirty.size === 0) return undefined
  const draft = new Draft(state, now.wall)
  settlePlan(draft)
  return draft.finish()
}
