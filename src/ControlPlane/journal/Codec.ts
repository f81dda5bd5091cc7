/**
 * The JSON of the stored rows. Writing trusts the types: what is written was made by the decision. Reading trusts nothing: a
 * row that does not decode refuses the start, by table and key.
 */
import { Schema } from "effect"
import {
  ChannelRecovery,
  DispatchRow,
  Effect as EffectPayload,
  EventOutcome,
  GateDecision,
  HostSeen,
  IdentityFact,
  type LogEntry,
  NoncesInForce,
  NonceUse,
  Overlay,
  PlanAction,
  RenewalChain,
  RevocationsInForce,
  RolloutHappening,
  RolloutPlan,
  VerifyOutcome
} from "../../Schema/ControlPlaneJournal.ts"
import { HostRecord, RolloutRecord } from "../../Schema/HostRecord.ts"
import { Intervention, RecordedAction } from "../../Schema/Interventions.ts"
import { AgentEvent } from "../../Schema/Wire.ts"

export const encodeRollout = (value: RolloutRecord): string => JSON.stringify(value)
export const encodePlan = (value: RolloutPlan): string => JSON.stringify(value)
export const encodeRecord = (value: HostRecord): string => JSON.stringify(value)
export const encodeOverlay = (value: Overlay): string => JSON.stringify(value)
export const encodeRecovery = (value: ChannelRecovery): string => JSON.stringify(value)
export const encodeDispatch = (value: DispatchRow): string => JSON.stringify(value)
export const encodeSeen = (value: HostSeen): string => JSON.stringify(value)
export const encodeRevocations = (value: RevocationsInForce): string => JSON.stringify(value)
export const encodeNonces = (value: NoncesInForce): string => JSON.stringify(value)
export const encodeNonceUse = (value: NonceUse): string => JSON.stringify(value)
export const encodeChains = (value: ReadonlyArray<RenewalChain>): string => JSON.stringify(value)
export const encodeIntervention = (value: Intervention): string => JSON.stringify(value)
export const encodeOutcome = (value: EventOutcome): string => JSON.stringify(value)
/** An agent's event is kept in the bytes it came in, never made again from what was decoded (P-29). */
export const encodePayload = (entry: LogEntry): string =>
  entry.kind === "agent_event" ? entry.canonical : JSON.stringify(entry.payload)

/** A reader of one column: total for what this program writes, throws for anything else. */
const json = <S extends Schema.ConstraintDecoder<unknown>>(schema: S) => {
  const decode = Schema.decodeUnknownSync(schema)
  return (text: unknown): S["Type"] => decode(JSON.parse(String(text)))
}

export const decodeRollout = json(RolloutRecord)
export const decodePlan = json(RolloutPlan)
export const decodeRecord = json(HostRecord)
export const decodeOverlay = json(Overlay)
export const decodeRecovery = json(ChannelRecovery)
export const decodeDispatch = json(DispatchRow)
export const decodeSeen = json(HostSeen)
export const decodeOutcome = json(EventOutcome)
export const decodeRevocations = json(RevocationsInForce)
export const decodeNonces = json(NoncesInForce)
export const decodeNonceUse = json(NonceUse)
export const decodeChains = json(Schema.Array(RenewalChain))
export const decodeIntervention = json(Intervention)
const decodeEvent = json(AgentEvent)
const decodeAction = json(PlanAction)
const decodeHappening = json(RolloutHappening)
const decodeEffect = json(EffectPayload)
const decodeGate = json(GateDecision)
const decodeVerify = json(VerifyOutcome)
const decodeIdentity = json(IdentityFact)
export const decodeRecordedAction = json(RecordedAction)

/** A row of the log as the fold takes it; `undefined` for a kind that only a newer minor version knows (D1). */
export function decodeEntry(kind: string, payload: string, outcome: unknown, numbered: boolean): LogEntry | undefined {
  switch (kind) {
    case "agent_event":
      return { kind, event: decodeEvent(payload), canonical: payload, outcome: decodeOutcome(outcome), numbered }
    case "plan_action":
      return { kind, payload: decodeAction(payload) }
    case "rollout_event":
      return { kind, payload: decodeHappening(payload) }
    case "effect":
      return { kind, payload: decodeEffect(payload) }
    case "gate_decision":
      return { kind, payload: decodeGate(payload) }
    case "verify_outcome":
      return { kind, payload: decodeVerify(payload) }
    case "identity":
      return { kind, payload: decodeIdentity(payload) }
    case "operator_action":
      return { kind, payload: decodeRecordedAction(payload) }
    default:
      return undefined
  }
}
