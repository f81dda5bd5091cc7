/**
 * The agent's decision: one input and the state become the next state, its rows, whom to wake, and an answer. Pure; each
 * phase of a rollout has its file in `Decide/`. A refused input changes nothing.
 */
import type { Decision, Now } from "../Reducer.ts"
import { answered, unanswered } from "./Decide/Contact.ts"
import { delivered, heartbeatAnswered } from "./Decide/Delivery.ts"
import { activate, guardWasStale, reject, rejectionOver, repeated } from "./Decide/Dispatch.ts"
import { Draft } from "./Decide/Draft.ts"
import type { Limits } from "./Decide/Limits.ts"
import { probeSample, topologyDeclared } from "./Decide/Probes.ts"
import { booted, leaveToRollBack, leaveToSwitch, settled } from "./Decide/Switching.ts"
import { failures, readClocks, tick } from "./Decide/Time.ts"
import { trust } from "./Decide/Trust.ts"
import type { Answer, Input } from "./Input.ts"
import type { State } from "./State.ts"
import type { Action, Write } from "./Write.ts"

export type Decide = (state: State, input: Input, now: Now) => Decision<State, Write, Action, Answer>

export const makeDecide = (limits: Limits): Decide => (state, input, now) => {
  const draft = new Draft(state, now)
  readClocks(draft)
  const answer = fold(draft, input, limits)
  return answer._tag === "Accepted" ? draft.outcome(answer) : { state, writes: [], actions: [], answer }
}

function fold(draft: Draft, input: Input, limits: Limits): Answer {
  switch (input._tag) {
    case "Activate":
      return activate(draft, input)
    case "ActivationStarted":
      return leaveToSwitch(draft, input)
    case "RollbackStarted":
      return leaveToRollBack(draft, input)
    case "Settled":
      return settled(draft, input)
    case "Booted":
      return booted(draft, input)
    case "TopologyDeclared":
      return topologyDeclared(draft, input)
    case "ProbeSample": {
      const answer = probeSample(draft, input, limits)
      if (answer._tag === "Accepted") failures(draft)
      return answer
    }
    case "Tick":
      return tick(draft, input, limits)
    case "Delivered":
      return delivered(draft, input)
    case "RejectedDispatch":
      return reject(draft, input)
    case "RejectionOver":
      return rejectionOver(draft, input)
    case "GuardWasStale":
      return guardWasStale(draft, input)
    case "DispatchRepeated":
      return repeated(draft, input)
    case "HeartbeatAnswered":
      answered(draft)
      return heartbeatAnswered(draft, input)
    case "HeartbeatFailed":
      return unanswered(draft, input)
    case "ArtifactsAccepted":
      return trust(draft, input)
  }
}
